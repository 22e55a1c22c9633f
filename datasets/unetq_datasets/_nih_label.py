"""A label onto its image: by the affines where they agree, else by what the labelled voxels look like.

Labels of Pancreas-CT are NIfTI files beside DICOM series, made by other software: their affine may put them at
another origin, or their rows or slices may run the other way. A wrong flip trains a network on fat and bowel
without any error, so that every placement that the affines do not settle is tested against the Hounsfield units
under it: the pancreas is soft tissue, even, and brighter than the fat around it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unetq.errors import DataError
from unetq.geometry import grid_difference, orient
from unetq.nifti import read_nifti

FLIPS = ("auto", "affine", "none", "rows", "slices", "rows+slices")
TURNS: dict[str, tuple[int, ...]] = {"none": (), "rows": (2,), "slices": (0,), "rows+slices": (0, 2)}
SOFT_TISSUE = (0.0, 200.0)  # HU, the median of labelled voxels
AIR, BONE = -150.0, 300.0  # HU beyond which a voxel is neither pancreas nor fat at its border
FOREIGN = 0.05  # share of such voxels that a hand-drawn outline may hold
MARGIN = 10.0  # HU by which a placement has to be better than any other
Mask = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Scan:
    """An image with its place: data (slices, columns, rows) in HU, affine RAS mm, axes code, spacing in mm."""

    data: NDArray[Any]
    affine: NDArray[np.float64]
    axes: str
    spacing: tuple[float, ...]


@dataclass(frozen=True)
class Evidence:
    """What lies under a label: median HU, share of air and bone, and a score in HU, higher is better.

    The score is the mean inside minus the mean of a ring around it (2 to 4 voxels off), both clipped to the range
    of soft tissue, minus the interquartile range inside.
    """

    median: float
    foreign: float
    score: float

    @property
    def plausible(self) -> bool:
        return SOFT_TISSUE[0] <= self.median <= SOFT_TISSUE[1] and self.foreign <= FOREIGN


def place_label(path: Path, scan: Scan, flip: str) -> tuple[Mask, str]:
    """The label on the grid of ``scan``, 0 and 1, and a sentence where its place had to be found ("" otherwise).

    Args:
        path: a NIfTI file with the values 0 and 1 (or 255).
        flip: "auto": by the affines, and where these disagree by the voxels' HU; "affine": by the affines only;
            "none", "rows", "slices", "rows+slices": the voxels in the image's order, flipped so.

    Raises:
        DataError: damaged, other values, empty, another grid, or a place that cannot be decided.
    """
    voxels, _, place = read_nifti(path)
    mask = _classes(path, voxels)
    if flip in TURNS:
        _check_shape(path, mask, scan)
        return np.ascontiguousarray(np.flip(mask, TURNS[flip])), ""
    turned = orient(mask, place.axes, scan.axes) if place.axes else mask
    _check_shape(path, turned, scan)
    affine = _turned_affine(place.affine, mask.shape, place.axes, scan.axes) if place.axes else None
    half = min(scan.spacing) / 2
    difference = "it tells no directions" if affine is None else grid_difference(
        scan.data.shape, scan.affine, turned.shape, affine, half
    )  # fmt: skip
    if flip == "affine":
        if difference:
            raise DataError(
                f"{path.name} and its image lie apart by their affines ({difference}): option flip = affine takes "
                "nothing else into account; use flip: auto, or repair the file."
            )
        return np.ascontiguousarray(turned), ""
    found = {name: evidence(np.flip(turned, axes), scan.data) for name, axes in TURNS.items()}
    if not difference:
        _check_content(path, found)
        return np.ascontiguousarray(turned), ""
    best = _decide(path, found, difference)
    how = "as they are" if best == "none" else f"with {best.replace('+', ' and ')} flipped"
    told = found[best]
    return np.ascontiguousarray(np.flip(turned, TURNS[best])), (
        f"the label's affine disagrees with the image's ({difference}); its voxels were taken {how}, where the "
        f"labelled ones have a median of {told.median:.0f} HU and {100 * told.foreign:.1f} % air or bone."
    )


def evidence(mask: Mask, data: NDArray[Any]) -> Evidence:
    """What lies under ``mask``, both (slices, columns, rows); the mask is not empty."""
    where = ndimage.find_objects(mask.astype(np.int8))[0]
    window = (
        where[0],
        *(
            slice(max(axis.start - 6, 0), min(axis.stop + 6, size))
            for axis, size in zip(where[1:], mask.shape[1:], strict=True)
        ),
    )
    inside, values = mask[window] > 0, data[window].astype(np.float32)
    disc = ndimage.generate_binary_structure(2, 1)[None]
    ring = ndimage.binary_dilation(inside, disc, iterations=4) & ~ndimage.binary_dilation(inside, disc)
    voxels = values[inside]
    clipped = np.clip(values, AIR, BONE)
    contrast = float(clipped[inside].mean()) - (float(clipped[ring].mean()) if ring.any() else 0.0)
    low, high = np.percentile(voxels, (25, 75))
    foreign = float(((voxels < AIR) | (voxels > BONE)).mean())
    return Evidence(float(np.median(voxels)), foreign, contrast - float(high - low))


def _decide(path: Path, found: dict[str, Evidence], difference: str) -> str:
    ranked = sorted((name for name in found if found[name].plausible), key=lambda name: -found[name].score)
    if ranked and (len(ranked) == 1 or found[ranked[0]].score - found[ranked[1]].score >= MARGIN):
        return ranked[0]
    told = ", ".join(f"{name}: median {e.median:.0f} HU, score {e.score:.0f}" for name, e in found.items())
    raise DataError(
        f"{path.name}: its affine disagrees with the image's ({difference}), and no flip is clearly the right one by "
        f"the voxels under it ({told}); look at it and set data.options.flip to none, rows, slices or rows+slices."
    )


def _check_content(path: Path, found: dict[str, Evidence]) -> None:
    """Affines that agree are believed unless the content says that they lie."""
    here = found["none"]
    if not here.plausible:
        better = [name for name, e in found.items() if e.plausible and e.score >= here.score + MARGIN]
        hint = f"with {better[0]} flipped it would look right" if better else "no flip makes it look right"
        raise DataError(
            f"{path.name}: the labelled voxels have a median of {here.median:.0f} HU and {100 * here.foreign:.1f} % "
            f"air or bone; a pancreas has {SOFT_TISSUE[0]:.0f} to {SOFT_TISSUE[1]:.0f} HU and none of these ({hint}): "
            "image and label do not fit, or the image is not in Hounsfield units; look, and set data.options.flip."
        )


def _classes(path: Path, voxels: NDArray[Any]) -> Mask:
    values = np.unique(voxels)
    if not (np.isin(values, (0, 1)).all() or np.isin(values, (0, 255)).all()):
        shown = ", ".join(f"{value:g}" for value in values[:5]) + (", …" if len(values) > 5 else "")
        raise DataError(f"{path.name} holds the values {shown}: a label is 0 and 1 (pancreas); map them first.")
    if not values.any():
        raise DataError(f"{path.name} marks no voxel: every patient of this collection has a pancreas; copy it again.")
    return np.asarray(voxels != 0, dtype=np.uint8)


def _check_shape(path: Path, mask: Mask, scan: Scan) -> None:
    if mask.shape != scan.data.shape:
        raise DataError(
            f"{path.name} is on another grid than its image: {_size(mask.shape)} and {_size(scan.data.shape)} "
            "(slices x columns x rows): one of them lacks slices, or it is another patient's; fetch both again."
        )


def _turned_affine(affine: NDArray[Any], shape: tuple[int, ...], axes: str, wanted: str) -> NDArray[np.float64]:
    """The affine of an array (slices, i, j) after ``orient`` from ``axes`` to ``wanted``."""
    tools: Any = nibabel.orientations  # not typed
    turn = tools.ornt_transform(tools.axcodes2ornt(axes), tools.axcodes2ornt(wanted))
    return np.asarray(affine @ tools.inv_ornt_aff(turn, (shape[1], shape[2], shape[0])), dtype=np.float64)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in shape)
