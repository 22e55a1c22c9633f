"""Dice a class, a slice and a volume, with a written policy for empty slices. NumPy only.

``Dice = 2 |P and T| / (|P| + |T|)`` for the pixels P predicted and T labelled as a class. Where both are
empty there is nothing to miss and nothing to invent: the class scores 1 there, and the slice is counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError

EMPTY_POLICY = (
    "A class absent from both truth and prediction of a slice scores 1 there and the slice is counted as empty; "
    "a class absent from only one of them scores 0. Volume Dice pools the pixels of all slices of a volume, "
    "under the same rule, and is then averaged over volumes."
)


@dataclass(frozen=True)
class Counts:
    """Pixels a class of one slice or volume; each array is int64 (classes,)."""

    intersection: NDArray[np.int64]
    predicted: NDArray[np.int64]
    true: NDArray[np.int64]

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.intersection + other.intersection, self.predicted + other.predicted, self.true + other.true)

    @property
    def empty(self) -> NDArray[np.bool_]:
        """Classes absent from truth and prediction, bool (classes,)."""
        absent: NDArray[np.bool_] = (self.predicted + self.true) == 0
        return absent

    @property
    def dice(self) -> NDArray[np.float64]:
        """Dice a class under the empty policy, float64 (classes,) in 0…1."""
        total = self.predicted + self.true
        return np.where(total == 0, 1.0, 2.0 * self.intersection / np.maximum(total, 1))


def count(prediction: NDArray[Any], truth: NDArray[Any], classes: int) -> Counts:
    """Compare two arrays of class indices 0…classes-1 of one shape.

    Raises:
        DataError: different shapes, or an index outside the range.
    """
    if prediction.shape != truth.shape:
        raise DataError(
            f"prediction of shape {prediction.shape}, truth of {truth.shape}: they must agree; check the geometry."
        )
    for what, values in (("prediction", prediction), ("truth", truth)):
        if values.size and not 0 <= int(values.min()) <= int(values.max()) < classes:
            raise DataError(
                f"{what} holds class {int(values.min())} to {int(values.max())}: "
                f"allowed are 0 to {classes - 1}; check the labels."
            )
    pairs = truth.astype(np.int64).ravel() * classes + prediction.astype(np.int64).ravel()
    confusion = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    return Counts(np.diag(confusion).copy(), confusion.sum(axis=0), confusion.sum(axis=1))


@dataclass(frozen=True)
class SliceScore:
    """One slice's identity and pixel counts."""

    id: str
    volume: str
    counts: Counts

    @property
    def mean_dice(self) -> float:
        """Mean Dice over classes, in 0…1."""
        return float(self.counts.dice.mean())


def volume_dice(scores: Sequence[SliceScore], labels: Sequence[str]) -> dict[str, float]:
    """Dice a label with all pixels of a volume pooled, then the mean over volumes, in 0…1."""
    pooled: dict[str, Counts] = {}
    for score in scores:
        pooled[score.volume] = pooled[score.volume] + score.counts if score.volume in pooled else score.counts
    mean = np.mean([counts.dice for counts in pooled.values()], axis=0)
    return {label: float(value) for label, value in zip(labels, mean, strict=True)}


def summarize(scores: Sequence[SliceScore], labels: Sequence[str]) -> dict[str, Any]:
    """The scores as ``metrics.json`` holds them: volume, mean-slice and per-slice Dice and the empty policy.

    Raises:
        DataError: there are no slices.
    """
    if not scores:
        raise DataError(
            "there are no slices to score; a split must hold at least one labelled slice. Check the data set."
        )
    mean = np.mean([score.counts.dice for score in scores], axis=0)
    empty = np.sum([score.counts.empty for score in scores], axis=0)
    return {
        "volume_dice": volume_dice(scores, labels),
        "mean_slice_dice": {label: float(v) for label, v in zip(labels, mean, strict=True)},
        "slices": [
            {
                "id": score.id,
                "volume": score.volume,
                "dice": {label: float(v) for label, v in zip(labels, score.counts.dice, strict=True)},
            }
            for score in scores
        ],
        "empty_policy": EMPTY_POLICY,
        "empty_slices": {label: int(v) for label, v in zip(labels, empty, strict=True)},
    }


def headline(dice: dict[str, float]) -> float:
    """The one number a run is steered by: mean Dice over the labels, a label named "background" left out."""
    counted = [value for label, value in dice.items() if label != "background"] or list(dice.values())
    return float(np.mean(counted))
