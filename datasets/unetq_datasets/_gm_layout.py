"""Which scans a grey matter folder holds: by file names alone, nothing is opened but ``participants.tsv``."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from unetq.cases import Skipped
from unetq.errors import DataError

RATERS = (1, 2, 3, 4)
LABELS_FOLDER = Path("derivatives") / "labels"
_CHALLENGE = re.compile(r"(?P<subject>(?P<site>site\d+)-sc(?P<number>\d+))-image\.nii(\.gz)?")
_SESSION = re.compile(r"(?P<person>.+?)[-_]?ses-?[A-Za-z0-9]+", re.IGNORECASE)


@dataclass(frozen=True)
class Scan:
    """One image and the masks that belong to it.

    Attributes:
        id: the file's name without contrast and extension: "site1-sc01", "sub-9418_run-1".
        subject: the person, without a session: "sub-10062" of sub-10062Ses1.
        site: "site1", or the column Site of participants.tsv; "" where it is not said.
        image: the file.
        raters: challenge: the masks that are there, by rater.
        grey, cord: BIDS: where the two masks are expected; None in the challenge layout.
        number: the challenge's number of the subject; 0 in BIDS.
    """

    id: str
    subject: str
    site: str
    image: Path
    raters: dict[int, Path] = field(default_factory=dict)
    grey: Path | None = None
    cord: Path | None = None
    number: int = 0

    @property
    def is_bids(self) -> bool:
        """Laid out by BIDS, not by the challenge."""
        return self.grey is not None


@dataclass(frozen=True)
class Found:
    """All scans of a folder, sorted by subject, and the files that belong to no scan."""

    scans: tuple[Scan, ...]
    skipped: tuple[Skipped, ...] = ()


def find_scans(root: Path, contrast: str, layout: str) -> Found:
    """The scans of ``root``, whichever layout it has; ``contrast`` is the BIDS suffix of the images.

    Raises:
        DataError: neither layout, or both at once; ``layout`` then says what to put there.
    """
    challenge = tuple(_challenge_scans(root))
    bids = tuple(_bids_scans(root, contrast))
    if challenge and bids:
        raise DataError(
            f"{root} holds both {challenge[0].image.name} (challenge) and {bids[0].image.name} (BIDS): a folder has "
            "one layout; give each a folder of its own."
        )
    if not challenge and not bids:
        others = sorted({path.name.split(".")[0].rpartition("_")[2] for path in _bids_images(root, "*")})
        hint = f" Its BIDS images are of {', '.join(others)}: set data.options.contrast." if others else ""
        raise DataError(f"{root} holds no grey matter data.{hint} {layout}")
    scans = sorted(challenge or bids, key=lambda scan: (natural(scan.subject), natural(scan.id), scan.image.name))
    unique: dict[str, Scan] = {}
    skipped = list(_orphans(root, bids)) if bids else []
    for scan in scans:
        first = unique.setdefault(scan.id, scan)
        if first is not scan:
            skipped.append(
                Skipped(scan.id, f"{scan.image.name} is there beside {first.image.name}: only the latter is read.")
            )
    return Found(tuple(unique.values()), tuple(skipped))


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sorting key by which 2 comes before 10."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)


def person(participant: str) -> str:
    """The person behind a participant's name: sessions that are named as participants fall together."""
    match = _SESSION.fullmatch(participant)
    return match["person"] if match else participant


def _challenge_scans(root: Path) -> Iterator[Scan]:
    files = {path.name: path for pattern in ("*.nii*", "*/*.nii*") for path in sorted(root.glob(pattern))}
    for name, path in files.items():
        if match := _CHALLENGE.fullmatch(name):
            stem = match["subject"]
            masks = {r: files.get(f"{stem}-mask-r{r}.nii.gz") or files.get(f"{stem}-mask-r{r}.nii") for r in RATERS}
            raters = {rater: mask for rater, mask in masks.items() if mask}
            yield Scan(stem, stem, match["site"], path, raters, number=int(match["number"]))


def _bids_images(root: Path, contrast: str) -> list[Path]:
    patterns = (f"sub-*/anat/*_{contrast}.nii*", f"sub-*/ses-*/anat/*_{contrast}.nii*")
    return [path for pattern in patterns for path in sorted(root.glob(pattern))]


def _bids_scans(root: Path, contrast: str) -> Iterator[Scan]:
    sites = _sites(root / "participants.tsv")
    for path in _bids_images(root, contrast):
        stem = path.name.removesuffix(".gz").removesuffix(".nii")
        participant = stem.partition("_")[0]
        masks = root / LABELS_FOLDER / path.parent.relative_to(root)
        yield Scan(
            id=stem.removesuffix(f"_{contrast}"),
            subject=person(participant),
            site=sites.get(participant, ""),
            image=path,
            grey=_mask(masks / f"{stem}_gmseg-manual"),
            cord=_mask(masks / f"{stem}_seg-manual"),
        )


def _mask(stem: Path) -> Path:
    plain = stem.with_name(f"{stem.name}.nii")
    return plain if plain.exists() else stem.with_name(f"{stem.name}.nii.gz")


def _orphans(root: Path, scans: tuple[Scan, ...]) -> Iterator[Skipped]:
    """Grey matter masks that no image asks for."""
    known = {scan.grey for scan in scans}
    for path in sorted((root / LABELS_FOLDER).glob("sub-*/**/*_gmseg-manual.nii*")):
        if path not in known:
            case = path.name.partition("_gmseg-manual")[0]
            yield Skipped(case, f"{path.name} has no image of its name: copy it, or remove the mask.")


def _sites(path: Path) -> dict[str, str]:
    """Participant to site; empty where the file is missing or has no such columns."""
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            rows = list(csv.DictReader(handle, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read ({error}): a table in UTF-8, parted by tabs, is expected.") from error
    columns = {(name or "").strip().lower(): name for name in (rows[0] if rows else {})}
    if "site" not in columns or "participant_id" not in columns:
        return {}
    pairs = ((row.get(columns["participant_id"]), row.get(columns["site"])) for row in rows)
    return {(who or "").strip(): (site or "").strip() for who, site in pairs if site and site.strip() != "n/a"}
