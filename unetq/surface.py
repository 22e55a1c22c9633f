"""Distances between the surfaces of two masks, by MONAI: HD95 and the normalised surface Dice.

- **HD95**: the larger of the two 95th percentiles of the distances from each surface voxel of one mask to the nearest
  one of the other (MONAI ``compute_hausdorff_distance``, ``percentile=95``; surface voxels are those that binary
  erosion takes away; the image's border counts as outside).
- **NSD**: the share of both surfaces, by area, that lies within a tolerance of the other (Nikolov et al. 2018,
  arXiv 1809.04430; MONAI ``compute_surface_dice`` with ``use_subvoxels``, whose areas follow the spacing, so that thick
  slices weigh as they should).

Units are those of ``spacing``: mm, or pixels where it is not known.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from numpy.typing import NDArray

from .metrics import Empty, number

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Distances:
    """Of one class: ``hd95`` in the units of the spacing, 0 and up; ``nsd`` in 0…1. None where not defined."""

    hd95: float | None
    nsd: float | None


def distances(
    prediction: Mask, truth: Mask, spacing: Sequence[float] = (), tolerance: float = 1.0, empty: Empty = "one"
) -> Distances:
    """HD95 and NSD of two masks of one shape.

    Where both are empty NSD is 1, or not defined with ``empty`` "skip"; where one is, NSD is 0. HD95 is then not
    defined: there is no surface to measure to.

    Args:
        prediction, truth: bool (H, W) or (D, H, W). Of a volume of one slice the slice alone is measured: caps above
            and below it would only dilute its outline.
        spacing: an entry an axis; () is 1 everywhere, which measures in pixels.
        tolerance: what NSD accepts, in the units of ``spacing``.
        empty: the policy where both masks are empty.
    """
    if prediction.ndim == 3 and len(prediction) == 1:
        prediction, truth, spacing = prediction[0], truth[0], tuple(spacing)[1:]
    if not prediction.any() and not truth.any():
        return Distances(None, 1.0 if empty == "one" else None)
    if not prediction.any() or not truth.any():
        return Distances(None, 0.0)
    box = _bounding_box(prediction | truth)
    found, true = (torch.from_numpy(np.ascontiguousarray(mask[box]))[None, None] for mask in (prediction, truth))
    edges = [float(edge) for edge in spacing] or [1.0] * prediction.ndim
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of MONAI's own call to itself
        hd95 = compute_hausdorff_distance(found, true, include_background=True, percentile=95, spacing=edges)
        nsd = compute_surface_dice(
            found, true, [float(tolerance)], include_background=True, spacing=edges, use_subvoxels=True
        )
    return Distances(number(float(hd95)), number(float(nsd)))


def _bounding_box(mask: Mask) -> tuple[slice, ...]:
    """Where a mask that is not empty has something."""
    where = []
    for axis in range(mask.ndim):
        found = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        where.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(where)
