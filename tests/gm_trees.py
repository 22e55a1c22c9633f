"""Grey matter folders in both layouts, written with nibabel, with every way in which real ones are odd."""

import gzip
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from unetq_datasets import phantom

from unetq.cases import Case, Cases
from unetq.data import resolve_dataset

SIZE = (48, 40)  # rows, columns as stored: the first two axes of the file
GREY, WHITE = 1, 2


def cord_volume(seed: int, slices: int, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Image int16 and classes uint8 (0, 1 grey, 2 white), both (rows, columns, slices) as NIfTI stores them."""
    pairs = [phantom.make("cord", seed, index, size) for index in range(slices)]
    return (np.stack([pair[part] for pair in pairs], axis=2) for part in (0, 1))  # type: ignore[return-value]


def affine(zooms: tuple[float, float, float] = (0.5, 0.5, 5.0), signs: tuple[int, int, int] = (-1, 1, 1)) -> np.ndarray:
    """Axes along the body's, LAS by default, with an origin of its own."""
    matrix = np.diag([*(zoom * sign for zoom, sign in zip(zooms, signs, strict=True)), 1.0])
    matrix[:3, 3] = (12.5, -30.25, 7.75)
    return matrix


def save(path: Path, voxels: np.ndarray, place: np.ndarray, sform: int = 1, qform: int = 1, slope: Any = None) -> None:
    """One NIfTI file; codes 0 leave a form out, ``slope`` is written as stored (0: none)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(voxels, place)
    image.set_qform(place, qform)
    image.set_sform(place, sform)
    content = bytearray(image.to_bytes())
    if slope is not None:
        content[112:116] = np.float32(slope).tobytes()  # scl_slope; nibabel itself would not write 0
    nib.Nifti1Image.from_bytes(bytes(content)).to_filename(path) if slope is None else _raw(path, bytes(content))


def _raw(path: Path, content: bytes) -> None:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@dataclass
class BidsScan:
    """One scan as ``bids_tree`` writes it; fields can be changed before."""

    participant: str
    run: str = "run-1"
    site: str = "Here"
    slices: int = 4
    seed: int = 0
    place: np.ndarray = field(default_factory=affine)
    sform: int = 1
    undrawn: tuple[int, ...] = ()  # slices without any mask
    stray: tuple[int, int, int] | None = None  # a grey voxel outside the cord

    @property
    def stem(self) -> str:
        return f"{self.participant}_{self.run}_T2starw" if self.run else f"{self.participant}_T2starw"

    def content(self) -> tuple[np.ndarray, np.ndarray]:
        """Image and classes of all slices, as stored, before slices lose their masks."""
        return tuple(cord_volume(self.seed, self.slices))  # type: ignore[return-value]


def scan_files(root: Path, scan: BidsScan) -> tuple[Path, Path, Path]:
    """Image, grey matter mask, cord mask."""
    labels = root / "derivatives" / "labels" / scan.participant / "anat"
    image = root / scan.participant / "anat" / f"{scan.stem}.nii.gz"
    return image, labels / f"{scan.stem}_gmseg-manual.nii.gz", labels / f"{scan.stem}_seg-manual.nii.gz"


def bids_tree(root: Path, scans: list[BidsScan]) -> Path:
    """A BIDS folder with ``derivatives/labels`` and ``participants.tsv``."""
    for scan in scans:
        image, classes = scan.content()
        classes[:, :, list(scan.undrawn)] = 0
        grey, cord = (classes == GREY).astype(np.float64), (classes > 0).astype(np.float64)
        if scan.stray:
            grey[scan.stray] = 1
        files = scan_files(root, scan)
        for path, voxels, sform in zip(files, (image, grey, cord), (scan.sform, 1, 1), strict=True):
            save(path, voxels, scan.place, sform)
    rows = {scan.participant: scan.site for scan in scans}
    table = ["participant_id\tsex\tage\tSite\tField Strength [T]", *(f"{p}\tF\tn/a\t{s}\t3" for p, s in rows.items())]
    (root / "participants.tsv").write_text("\n".join(table), encoding="utf-8")
    return root


def standard_scans() -> list[BidsScan]:
    """Five persons at four sites: two sessions of one, two runs of another, one lying otherwise and drawn in part."""
    return [
        BidsScan("sub-7", seed=1, site="Rome"),
        BidsScan("sub-11", run="run-1", seed=2, site="Lyon"),
        BidsScan("sub-11", run="run-2", seed=3, site="Lyon"),
        BidsScan(
            "sub-12", seed=4, slices=6, site="Kyoto", place=affine((0.6, 0.6, 3.0), (-1, -1, 1)), sform=0,
            undrawn=(3, 4, 5), stray=(4, 5, 4),
        ),
        BidsScan("sub-20Ses1", seed=5, site="Rome"),
        BidsScan("sub-20Ses2", seed=6, site="Rome", place=affine((0.8, 0.8, 3.0))),
        BidsScan("sub-100", seed=7, site="Quito"),
    ]  # fmt: skip


def rater_masks(classes: np.ndarray, seed: int) -> dict[int, np.ndarray]:
    """Four raters' masks: the truth, each with a few voxels changed to another class."""
    masks = {}
    for rater in (1, 2, 3, 4):
        rng = np.random.default_rng([seed, rater])
        mask = classes.copy()
        wrong = (rng.random(classes.shape) < 0.03 * rater) & (classes > 0)
        mask[wrong] = rng.integers(0, 3, int(wrong.sum()))
        masks[rater] = mask
    return masks


def challenge_tree(root: Path, sites: int = 2, subjects: int = 10, slices: int = 2) -> Path:
    """siteS-scNN-image.nii.gz with four masks and a levels file each."""
    for site in range(1, sites + 1):
        for number in range(1, subjects + 1):
            stem = f"site{site}-sc{number:02d}"
            image, classes = cord_volume(100 * site + number, slices)
            place = affine((0.25 * site, 0.25 * site, 5.0))
            save(root / f"{stem}-image.nii.gz", image, place)
            for rater, mask in rater_masks(classes, 100 * site + number).items():
                save(root / f"{stem}-mask-r{rater}.nii.gz", mask, place)
            (root / f"{stem}-levels.txt").write_text("slice level\n0 5\n", encoding="utf-8")
    return root


def cases(root: Path, split: str = "train", **options: object) -> Cases:
    """What the loader finds, before it is cut into slices."""
    spec = resolve_dataset("gm", options)
    found = spec.loader(root, split, spec.complete_options(options))
    assert isinstance(found, Cases)
    return found


def by_id(root: Path, split: str = "train", **options: object) -> dict[str, Case]:
    """The cases of a split by their ids."""
    return {case.id: case for case in cases(root, split, **options).cases}
