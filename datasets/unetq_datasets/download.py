"""Fetching data sets: downloads with checksums where that is possible, instructions where it is not.

A file is listed here with its address only if its SHA-256 is known; series of The Cancer Imaging Archive come with
their own checksums. Data behind a registration, or without a published checksum, come with instructions instead.
None of these servers could be reached from where this was written: the code is tested against a server on the spot.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pooch
import requests

from unetq.errors import ConfigError, DataError, OutputError

from . import em, gm, nih
from ._archives import unpack
from ._http import Tell, writing
from ._nih_layout import WITHDRAWN, name_of
from ._tcia import fetch_collection


@dataclass(frozen=True)
class RemoteFile:
    """One file: where it is, and the SHA-256 (64 hexadecimal digits) that it must have."""

    url: str
    sha256: str


@dataclass(frozen=True)
class Source:
    """How one data set is obtained.

    Attributes:
        files: what can be downloaded, by the name it gets in the destination folder.
        expected: the names that show that a folder already holds the data (default: ``files``).
        fetcher: for data that are more than files: ``(folder, tell) -> what it brought``.
        instructions: what a person has to do where nothing can be downloaded.
        terms: licence and citation.
    """

    files: Mapping[str, RemoteFile] = field(default_factory=dict)
    expected: tuple[str, ...] = ()
    fetcher: Callable[[Path, Tell], list[Path]] | None = None
    instructions: str = ""
    terms: str = ""


# As torch-em (github.com/constantinpape/torch-em) records it; not checked here.
PANCREAS_LABELS = RemoteFile(
    "https://www.cancerimagingarchive.net/wp-content/uploads/TCIA_pancreas_labels-02-05-2017-1.zip",
    "cf8a553c37c80e3840ce7392987b308f7a98cd5f50019511b2ac0f3a54b0934b",
)


def fetch_pancreas(folder: Path, tell: Tell, *, labels: RemoteFile = PANCREAS_LABELS, **options: Any) -> list[Path]:
    """Pancreas-CT: the labels, then its series (about 10 GB); ``options`` go to ``fetch_collection``.

    Raises:
        DataError, OutputError: as ``fetch``.
    """
    place = folder / "labels"
    with writing(folder):
        if not place.exists():
            parts = folder / ".labels"
            parts.mkdir(parents=True, exist_ok=True)
            archive = _fetch_file(parts, "labels.zip", labels)
            unpack(archive, place)
            archive.unlink()
            parts.rmdir()
            tell("the labels are there")
    without = [name_of(number) for number in WITHDRAWN]
    return [place, *fetch_collection(folder, "Pancreas-CT", without=without, tell=tell, **options)]


REGISTRY: dict[str, Source] = {
    "em": Source(
        expected=("train-volume.tif", "train-labels.tif"),
        instructions=(
            "The ISBI 2012 EM challenge asks its users to register, so the files cannot be fetched for you. "
            "1. Open the challenge page, http://brainiac2.mit.edu/isbi_challenge/ "
            "(if it has moved: 'ISBI 2012 segmentation challenge' on https://imagej.net). "
            "2. Register and download train-volume.tif, train-labels.tif and test-volume.tif. "
            "3. Put them into {dest}."
        ),
        terms=em.CITATION,
    ),
    "gm": Source(
        instructions=(
            "There are two sets. The 2017 challenge (4 sites, 4 raters) asks its users to register: open "
            "http://niftyweb.cs.ucl.ac.uk/challenge/index.php (if it has moved: 'spinal cord grey matter segmentation "
            "challenge'), register, and put the siteS-scNN files into {dest}. The BIDS set is public (CC0) and has no "
            "published checksum: git clone https://github.com/sct-pipeline/gm-challenge-data.git {dest}"
        ),
        terms=gm.CITATION,
    ),
    "nih": Source(fetcher=fetch_pancreas, terms=nih.CITATION),
    "phantom": Source(instructions="It is computed, so there is nothing to fetch: use it with `unetq train phantom`."),
}


def fetch(
    name: str,
    dest: str | Path,
    *,
    registry: Mapping[str, Source] | None = None,
    tell: Tell = lambda line: None,
) -> list[Path]:
    """Bring the data set ``name`` into the folder ``dest`` (made if need be); return its files or folders.

    What is already there, whole, is kept. Nothing that exists is overwritten. A download goes to a temporary place
    first and is moved only when its checksum is right; started again after a cut, it goes on.

    Args:
        tell: called with lines on the progress of long downloads.

    Raises:
        ConfigError: no such data set (the message names the nearest).
        DataError: it cannot be downloaded (the message holds the instructions); a checksum is wrong; an
            existing file differs; the server does not answer.
        OutputError: ``dest`` cannot be written.
    """
    sources = REGISTRY if registry is None else registry
    if name not in sources:
        close = difflib.get_close_matches(name, sources, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigError(f"there is no download called {name!r}; {hint}Known: {', '.join(sorted(sources))}.")
    source, folder = sources[name], Path(dest)
    if source.fetcher is not None:
        tell(source.terms)
        return source.fetcher(folder, tell)
    if not source.files:
        present = [folder / file for file in source.expected]
        if present and all(path.is_file() for path in present):
            return present
        raise DataError(
            f"{name} cannot be downloaded. {source.instructions.format(dest=folder)} {source.terms}".strip()
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}; choose another place.") from error
    return [_fetch_file(folder, file, remote) for file, remote in source.files.items()]


def _fetch_file(folder: Path, file: str, remote: RemoteFile) -> Path:
    target = folder / file
    if target.exists():
        try:
            found = pooch.file_hash(str(target), alg="sha256")
        except OSError as error:
            raise DataError(
                f"{target} cannot be read ({error.strerror}): the file itself is expected there; move it away and "
                "try again."
            ) from error
        if found != remote.sha256.lower():
            raise DataError(
                f"{target} has the SHA-256 {found} and {remote.sha256} is expected: it is another or a damaged file, "
                "and nothing is overwritten; move it away and try again."
            )
        return target
    try:
        fetched = pooch.retrieve(
            remote.url,
            known_hash=f"sha256:{remote.sha256.lower()}",
            fname=file,
            path=folder,
            downloader=pooch.HTTPDownloader(timeout=30),
        )
    except ValueError as error:  # what pooch raises for a wrong checksum, after removing the download
        raise DataError(
            f"{remote.url} is not the file it should be (SHA-256 {remote.sha256} expected): nothing was kept; "
            f"try again, or tell the maintainers if it stays so. {error}"
        ) from error
    except requests.RequestException as error:  # which is an OSError, too
        raise DataError(
            f"{remote.url} could not be downloaded ({error}): the server must be reachable; "
            f"check the connection, or put the file into {folder} by hand."
        ) from error
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}; choose another place.") from error
    return Path(fetched)
