"""How well membranes part cells: the foreground-restricted Rand and information scores of the ISBI 2012 EM challenge.

Arganda-Carreras et al. 2015, Front. Neuroanat. 9:142, with equal weights of splits and mergers (alpha = 0.5). Of a
slice, S are the cells of the prediction and T those of the truth, ``p_ij`` the share of pixels in cells i of S and j of
T::

    V_Rand = sum_ij p_ij^2 / (0.5 sum_i s_i^2 + 0.5 sum_j t_j^2)
    V_Info = I(S; T) / (0.5 H(S) + 0.5 H(T))

Both are F-scores in 0…1, 1 is perfect. Cells are 4-connected components of the pixels that are no membrane. Only
pixels inside true cells count; each predicted membrane pixel among them is a cell of its own. Rand counts pairs of
two different pixels, as scikit-image's ``adapted_rand_error`` and the challenge's own program do.

What differs from the challenge's published figures: membranes are scored as predicted, where it thins them first; and
one mask is scored, where it takes the best of all thresholds of a probability map.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import entropy
from skimage.measure import label as components
from skimage.metrics import adapted_rand_error, variation_of_information

_components: Any = components  # scikit-image has no annotations
_variation_of_information: Any = variation_of_information
_adapted_rand_error: Any = adapted_rand_error

MEMBRANE = "membrane"
METHOD = (
    "Foreground-restricted Rand and information F-scores (Arganda-Carreras et al. 2015) of 4-connected cells, slice by "
    "slice. Borders are not thinned and one mask is scored, not the best of all thresholds: the challenge's own "
    "program gives other, mostly higher figures."
)


@dataclass(frozen=True)
class BoundaryScores:
    """Of a slice, or the means over some: both 0…1."""

    rand: float
    information: float


def membrane_class(labels: Sequence[str]) -> int | None:
    """The class that parts cells; None where the data set has none, and these scores do not apply."""
    return list(labels).index(MEMBRANE) if MEMBRANE in labels else None


def boundary_scores(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> BoundaryScores | None:
    """Scores of one slice; None where the truth has no cell.

    Args:
        prediction, truth: bool (H, W), True inside cells.
    """
    true_cells = _components(truth, connectivity=1)
    inside = true_cells > 0
    if not inside.any():
        return None
    cells = _components(prediction, connectivity=1)
    lone = (cells == 0) & inside
    cells[lone] = cells.max() + 1 + np.arange(np.count_nonzero(lone))
    of_truth, of_prediction = true_cells[inside], cells[inside]
    total = _entropy(of_truth) + _entropy(of_prediction)
    variation = float(np.sum(_variation_of_information(of_truth, of_prediction)))  # H(S) + H(T) - 2 I(S; T)
    # One cell in both has no entropy, and there is nothing to tell them apart.
    information = float(np.clip(1.0 - variation / total, 0.0, 1.0)) if total > 0 else 1.0
    return BoundaryScores(_rand(of_truth, of_prediction), information)


def _entropy(cells: NDArray[np.integer[Any]]) -> float:
    sizes = np.bincount(cells)
    return float(entropy(sizes[sizes > 0], base=2))


def _rand(truth: NDArray[np.integer[Any]], prediction: NDArray[np.integer[Any]]) -> float:
    with np.errstate(invalid="ignore", divide="ignore"):
        score = 1.0 - float(_adapted_rand_error(truth, prediction, ignore_labels=())[0])
    return score if np.isfinite(score) else 1.0  # no cell of either has two pixels: they are the same


def mean_scores(prediction: NDArray[np.uint8], truth: NDArray[np.uint8], membrane: int) -> BoundaryScores | None:
    """The mean over the slices that have cells; None where none has.

    Args:
        prediction, truth: class indices, (H, W) or (slices, H, W); slices are scored one by one.
        membrane: the class that is no cell.
    """
    shape = (-1, *truth.shape[-2:])
    pairs = zip(prediction.reshape(shape), truth.reshape(shape), strict=True)
    scored = [boundary_scores(p != membrane, t != membrane) for p, t in pairs]
    found = [scores for scores in scored if scores is not None]
    if not found:
        return None
    return BoundaryScores(
        float(np.mean([scores.rand for scores in found])), float(np.mean([scores.information for scores in found]))
    )
