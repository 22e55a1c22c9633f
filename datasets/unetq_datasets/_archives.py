"""Zip files from elsewhere: only plain files, only below the folder, every one whole."""

import csv
import hashlib
import io
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from unetq.errors import DataError
from unetq.files import atomic_folder

HASHES = "md5hashes.csv"
LARGEST = 8 << 30  # bytes that one archive may unpack to


def unpack(archive: Path, folder: Path, *, hashes: bool = False) -> list[Path]:
    """Unpack into the new ``folder``, all of it or nothing.

    Args:
        archive: a zip file; members' checksums are verified.
        folder: does not exist or is empty.
        hashes: the archive holds ``md5hashes.csv`` (columns Filename, MD5Hash), as TCIA's getImageWithMD5Hash sends
            it: every DICOM file is in the list and every listed file is there with that MD5.

    Raises:
        DataError: not a zip, damaged, unsafe names, links, encryption, too large, or not what the list says.
        OutputError: ``folder`` cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = _members(archive, zipped)
            listed = _listed(archive, zipped) if hashes else None
            with atomic_folder(folder) as temporary:
                found = {name: _extract(zipped, info, temporary / name) for name, info in members.items()}
                if listed is not None:
                    _compare(archive, listed, found)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise DataError(f"{archive.name} is not a whole zip file ({error}): fetch it again.") from error
    return [folder / name for name in members]


def _members(archive: Path, zipped: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    size = 0
    for info in zipped.infolist():
        if info.is_dir():
            continue
        path = PurePosixPath(info.filename)
        mode = info.external_attr >> 16
        plain = not mode or not stat.S_IFMT(mode) or stat.S_ISREG(mode)
        unsafe = path.is_absolute() or ".." in path.parts or "\\" in info.filename or ":" in info.filename
        if unsafe or not plain or not path.parts or info.flag_bits & 1:
            raise DataError(
                f"{archive.name} holds {info.filename!r}: an archive has plain files below its own folder only; "
                "nothing was unpacked; do not trust this file."
            )
        if str(path) in members:
            raise DataError(f"{archive.name} holds {path} twice: nothing was unpacked; fetch it again.")
        members[str(path)] = info
        size += info.file_size
    if size > LARGEST:
        raise DataError(
            f"{archive.name} would unpack to {size / (1 << 30):.0f} GiB and {LARGEST >> 30} are allowed: "
            "nothing was unpacked; do not trust this file."
        )
    if not members:
        raise DataError(f"{archive.name} holds no file: nothing was unpacked; fetch it again.")
    return members


def _extract(zipped: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path) -> str:
    """Write one member; its MD5."""
    target.parent.mkdir(parents=True, exist_ok=True)
    summed = hashlib.md5(usedforsecurity=False)
    with zipped.open(info) as source, open(target, "wb") as handle:
        while block := source.read(1 << 20):
            summed.update(block)
            handle.write(block)
    return summed.hexdigest()


def _listed(archive: Path, zipped: zipfile.ZipFile) -> dict[str, str]:
    try:
        text = zipped.read(HASHES).decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text)))
        return {row["Filename"].strip(): row["MD5Hash"].strip().lower() for row in rows}
    except (KeyError, UnicodeDecodeError, AttributeError, csv.Error) as error:
        raise DataError(f"{archive.name} has no list of checksums ({HASHES}): fetch it again.") from error


def _compare(archive: Path, listed: Mapping[str, str], found: Mapping[str, str]) -> None:
    for name, expected in listed.items():
        if name not in found:
            raise DataError(f"{archive.name} lacks {name}, which its list names: nothing was kept; fetch it again.")
        if found[name] != expected:
            raise DataError(
                f"{archive.name}: {name} has the MD5 {found[name]} and {expected} is expected: nothing was kept; "
                "fetch it again."
            )
    unknown = [name for name in found if name.lower().endswith(".dcm") and name not in listed]
    if unknown:
        raise DataError(f"{archive.name} holds {unknown[0]}, which its list does not name: nothing was kept.")
