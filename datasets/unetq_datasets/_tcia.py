"""Public collections of The Cancer Imaging Archive over NBIA's REST interface, series by series.

``getSeries?Collection=C`` lists the series as JSON; ``getImageWithMD5Hash?SeriesInstanceUID=U`` sends one as a zip with
``md5hashes.csv`` (TCIA wiki, "NBIA Search REST API Guide"). A series' folder appears once it is whole and every file
has its MD5, so that an interrupted download goes on where it was.
"""

import json
import re
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetq.errors import DataError, OutputError

from ._archives import HASHES, unpack
from ._http import Tell, download, read_address, writing

SERVER = "https://services.cancerimagingarchive.net/nbia-api/services/v1"
PARTS = ".download"
SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
ATTEMPTS = 3


@dataclass(frozen=True)
class Listed:
    """A series as the server lists it: its UID, its patient's id, and its number of images (0: not stated)."""

    uid: str
    patient: str
    images: int


def fetch_collection(
    folder: Path,
    collection: str,
    *,
    server: str = SERVER,
    modality: str = "CT",
    without: Sequence[str] = (),
    tell: Tell = lambda line: None,
    wait: float = 5.0,
) -> list[Path]:
    """Bring the series of a public collection to ``folder/PATIENT/SERIES``; return these folders.

    Series that are there are not fetched again. A series that fails is tried three times, ``wait`` seconds apart, and
    the others go on without it.

    Args:
        without: patients to leave out.
        tell: called with a line for each series.

    Raises:
        DataError: the list cannot be had, or series are missing at the end; the message says how many.
        OutputError: ``folder`` cannot be written.
    """
    listed = [s for s in list_series(collection, server=server, modality=modality) if s.patient not in without]
    try:
        (folder / PARTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}; choose another place.") from error
    failed: list[str] = []
    for number, series in enumerate(listed, start=1):
        place = folder / series.patient / series.uid
        head = f"{number} of {len(listed)}: {series.patient}"
        if _is_there(place):
            tell(f"{head} is there")
            continue
        tell(f"{head}, {series.images or 'some'} images")
        try:
            with writing(place):
                _fetch_series(folder, series, place, server, tell, wait)
        except DataError as error:
            failed.append(f"{series.patient}: {error}")
            tell(f"{head} failed: {error}")
    if failed:
        raise DataError(
            f"{len(failed)} of {len(listed)} series of {collection} did not come; the others are in {folder}; run the "
            f"same command again to go on. The first: {failed[0]}"
        )
    with writing(folder):
        _tidy(folder / PARTS)
    return [folder / series.patient / series.uid for series in listed]


def list_series(collection: str, *, server: str = SERVER, modality: str = "CT") -> list[Listed]:
    """The series of a collection, ordered by patient.

    Raises:
        DataError: the server does not answer, or answers with something else.
    """
    url = f"{server}/getSeries?{urllib.parse.urlencode({'Collection': collection})}"
    content = read_address(url)
    try:
        rows: list[Mapping[str, Any]] = json.loads(content or b"[]")
        found = [
            Listed(str(row["SeriesInstanceUID"]), str(row["PatientID"]), int(row.get("ImageCount") or 0))
            for row in rows
            if row.get("Modality", modality) == modality
        ]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{url} did not answer with a list of series ({type(error).__name__}): the interface may have changed; "
            "see the collection's page at https://www.cancerimagingarchive.net."
        ) from error
    for series in found:
        if not (SAFE.fullmatch(series.uid) and SAFE.fullmatch(series.patient)):
            raise DataError(f"{url} lists {series.uid!r} of {series.patient!r}: ids that cannot be names of folders.")
    if not found:
        raise DataError(f"{url} lists no {modality} series: the collection {collection} is not there; check its name.")
    return sorted(found, key=lambda series: (series.patient, series.uid))


def _is_there(place: Path) -> bool:
    """Folders appear whole; one that somebody took files out of is fetched again."""
    try:
        lines = (place / HASHES).read_text(encoding="utf-8-sig").splitlines()[1:]
    except OSError:
        return False
    return all((place / line.split(",")[0].strip().strip('"')).is_file() for line in lines if line.strip())


def _fetch_series(folder: Path, series: Listed, place: Path, server: str, tell: Tell, wait: float) -> None:
    if place.exists() and any(place.iterdir()):
        raise DataError(
            f"{place} is there and not whole: it was not written by this command or files were taken out; move it "
            "away and run the command again."
        )
    url = f"{server}/getImageWithMD5Hash?{urllib.parse.urlencode({'SeriesInstanceUID': series.uid})}"
    archive = folder / PARTS / f"{series.uid}.zip"
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if not archive.exists():
                download(url, archive, tell)
            place.parent.mkdir(parents=True, exist_ok=True)
            files = unpack(archive, place, hashes=True)
            break
        except DataError as error:
            archive.unlink(missing_ok=True)  # came whole and is not right: all of it again
            if attempt == ATTEMPTS:
                raise
            tell(f"  {error} Attempt {attempt + 1} of {ATTEMPTS}.")
            time.sleep(wait)
    archive.unlink(missing_ok=True)
    images = sum(file.suffix.lower() == ".dcm" for file in files)
    if series.images and images != series.images:
        tell(f"  the server lists {series.images} images and sent {images}")


def _tidy(parts: Path) -> None:
    for file in parts.iterdir():
        file.unlink()
    parts.rmdir()
