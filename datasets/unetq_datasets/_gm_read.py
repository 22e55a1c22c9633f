"""From a scan's files to a case: masks checked, raters joined, slices without truth found."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetq.cases import Case, Skipped
from unetq.errors import DataError
from unetq.geometry import grid_difference, orient, oriented_spacing
from unetq.imageio import Volume, read_image

from ._gm_layout import RATERS, Scan
from ._raters import majority, staple

GREY, WHITE = 1, 2
STEP_MM = 1e-3  # two grids may drift apart by this much a voxel: headers are written in single precision
Mask = NDArray[np.uint8]


def read_scan(scan: Scan, options: Mapping[str, Any]) -> tuple[Case, tuple[Skipped, ...]]:
    """One case, and what was left out of it.

    Raises:
        DataError: the case cannot be used; the message says why.
    """
    image = read_image(scan.image)
    axes, spacing = image.axes or options["axes"], tuple(image.spacing or ())
    if not axes:
        raise DataError(
            f"{scan.image.name} tells voxel sizes only, not how it lies (sform and qform codes are 0): repair it, "
            "or state the axes of such files in data.options.axes, such as LAS."
        )
    joined = _bids_label if scan.is_bids else _challenge_label
    label, drawn = joined(scan, image, options)
    data: NDArray[Any] = image.data
    if axes[2] not in "SI":  # the cord runs along the slices: labelled is one flag for each of them
        data, label, drawn = (orient(array, axes, "RAS") for array in (data, label, drawn))
        axes, spacing = "RAS", oriented_spacing(spacing, axes, "RAS")
    labelled: NDArray[np.bool_] = np.asarray(drawn.any(axis=(1, 2)))
    if not (label[labelled] == GREY).any():
        raise DataError(f"no voxel of its {len(label)} slices is marked as grey matter: a case needs a truth.")
    stray = int((label[~labelled] == GREY).sum())
    label = np.where(labelled[:, None, None], label, np.uint8(0))
    case = Case(scan.id, data, label, spacing, axes, scan.subject, scan.site, None if labelled.all() else labelled)
    return case, _left_out(scan.id, labelled, stray)


def _bids_label(scan: Scan, image: Volume, options: Mapping[str, Any]) -> tuple[Mask, NDArray[np.bool_]]:
    """Classes, and where a rater drew the cord (without a cord mask: grey matter)."""
    assert scan.grey is not None and scan.cord is not None  # what makes it a BIDS scan
    if not scan.grey.is_file():
        raise DataError(f"its grey matter mask {scan.grey} is missing: a case needs a truth.")
    grey = _read_mask(scan.grey, image, (0, 1)) == 1
    whole = options["structure"] == "gm+wm"
    if not scan.cord.is_file():
        if whole:
            raise DataError(
                f"its cord mask {scan.cord} is missing: white matter is cord that is not grey; use structure=gm."
            )
        return grey.astype(np.uint8), grey
    cord = _read_mask(scan.cord, image, (0, 1)) == 1
    label = np.where(grey, GREY, np.where(cord, WHITE, 0) if whole else 0)
    return label.astype(np.uint8), cord


def _challenge_label(scan: Scan, image: Volume, options: Mapping[str, Any]) -> tuple[Mask, NDArray[np.bool_]]:
    """Classes by the consensus, and where more than half of the raters (or the one) marked grey or white matter."""
    consensus, whole = options["consensus"], options["structure"] == "gm+wm"
    wanted = RATERS if consensus in ("majority", "staple") else (int(consensus[1:]),)
    missing = [f"r{rater}" for rater in wanted if rater not in scan.raters]
    if missing:
        there = ", ".join(f"r{rater}" for rater in scan.raters)
        raise DataError(
            f"the mask of rater {', '.join(missing)} is missing and consensus is {consensus}: "
            + (f"use one of those that are there ({there})." if there else "it has no mask at all.")
        )
    masks = [_read_mask(scan.raters[rater], image, (0, GREY, WHITE)) for rater in wanted]
    marked = np.mean([(mask > 0).any(axis=(1, 2)) for mask in masks], axis=0) > 0.5
    drawn = np.broadcast_to(marked[:, None, None], masks[0].shape)
    if not whole:  # reduced before they are joined: a vote on grey matter or not
        masks = [(mask == GREY).astype(np.uint8) for mask in masks]
    if consensus == "majority":
        return majority(masks, 3 if whole else 2), drawn
    return (staple(masks, 3 if whole else 2).labels if consensus == "staple" else masks[0]), drawn


def _read_mask(path: Path, image: Volume, values: tuple[int, ...]) -> Mask:
    """Class indices on the grid of ``image``; nothing but ``values`` is in them."""
    volume = read_image(path)
    shape = image.data.shape
    difference = grid_difference(shape, image.affine, volume.data.shape, volume.affine, STEP_MM * max(shape))
    if difference:
        raise DataError(
            f"{path.name} is not on the grid of {image.path.name}: {difference}; bring it onto the image's grid."
        )
    found = np.unique(volume.data)
    if not np.isin(found, values).all():
        odd = [value for value in found if value not in values]
        shown = ", ".join(f"{value:g}" for value in odd[:4]) + (" …" if len(odd) > 4 else "")
        raise DataError(
            f"{path.name} holds {shown}: its values are {', '.join(map(str, values))} and nothing else; "
            "make it a mask again, without interpolation."
        )
    return np.asarray(volume.data, dtype=np.uint8)


def _left_out(case: str, labelled: NDArray[np.bool_], stray: int) -> tuple[Skipped, ...]:
    """What to say of slices without truth."""
    numbers = np.flatnonzero(~labelled)
    if not len(numbers):
        return ()
    voxels = f" ({stray} grey matter voxel{'s' if stray > 1 else ''} there notwithstanding)" if stray else ""
    reason = (
        f"slices {_ranges(numbers)} of {len(labelled)} are left out: nobody drew the cord on them{voxels}. "
        "The others are used."
    )
    return (Skipped(case, reason),)


def _ranges(numbers: NDArray[np.int64]) -> str:
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
