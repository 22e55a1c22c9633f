"""What counts of pixels tell: Dice, IoU and volumes a class, with a written policy for empty ones. NumPy only.

For the pixels P predicted and T labelled as a class::

    Dice = 2 |P and T| / (|P| + |T|)        IoU = |P and T| / |P or T|
    volume (ml) = |P| * mm3 of a voxel / 1000
    volume error = (|P| - |T|) / |T|        signed: above 0 where too much was predicted; none where T is empty

Where both are empty there is nothing to miss and nothing to invent: the class scores 1 there ("one"), or is left
out of every mean ("skip"). Where one alone is empty, Dice and IoU are 0. Distances between surfaces are in
``unetq.surface``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import DataError

Empty = Literal["one", "skip"]
BACKGROUND = "background"
"""The class that is everything else: no headline counts it, and it has no surface of its own."""
BOTH_EMPTY = {
    "one": "scores 1 there and the slice is counted as empty",
    "skip": "is left out of every mean there and the slice is counted as empty",
}


def empty_policy(empty: Empty) -> str:
    """The policy in words, as ``metrics.json`` and reports quote it."""
    return (
        f"A class absent from both truth and prediction of a slice {BOTH_EMPTY[empty]}; "
        "a class absent from only one of them scores 0. Volume Dice pools the pixels of all slices of a volume, "
        "under the same rule, and is then averaged over volumes. Surface Dice follows the same rule; "
        "a Hausdorff distance or a relative volume error that is not defined is counted as undefined, never as 0."
    )


EMPTY_POLICY = empty_policy("one")
"""What holds unless ``evaluation.empty`` says otherwise."""


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
        """Dice a class, 1 where empty, float64 (classes,) in 0…1."""
        total = self.predicted + self.true
        return np.where(total == 0, 1.0, 2.0 * self.intersection / np.maximum(total, 1))

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union a class, 1 where empty, float64 (classes,) in 0…1."""
        union = self.predicted + self.true - self.intersection
        return np.where(union == 0, 1.0, self.intersection / np.maximum(union, 1))

    def scored(self, values: NDArray[np.float64], empty: Empty) -> NDArray[np.float64]:
        """``values`` (classes,) under a policy: NaN where a class is empty and empty ones are skipped."""
        return np.where(self.empty, np.nan, values) if empty == "skip" else values

    def volume_errors(self) -> NDArray[np.float64]:
        """Signed relative volume error a class, float64 (classes,), -1 and up; NaN where there is no truth."""
        return np.where(self.true == 0, np.nan, (self.predicted - self.true) / np.maximum(self.true, 1))


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
        """Mean Dice over classes, in 0…1; empty ones count 1."""
        return float(self.counts.dice.mean())


def number(value: float) -> float | None:
    """A value as JSON takes it: None for NaN and the infinities."""
    return float(value) if np.isfinite(value) else None


def mean_of(values: Sequence[float | None]) -> float | None:
    """The mean of the values that are defined; None where none is."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def by_label(values: NDArray[np.float64], labels: Sequence[str]) -> dict[str, float | None]:
    """A number, or None for NaN, by label."""
    return {label: number(value) for label, value in zip(labels, values, strict=True)}


def voxel_ml(spacing: Sequence[float]) -> float | None:
    """Millilitres of a voxel with edges of ``spacing`` mm (slice, row, column); None where that is not known."""
    return prod(float(edge) for edge in spacing) / 1000.0 if len(spacing) == 3 else None


def class_scores(
    counts: Counts, labels: Sequence[str], spacing: Sequence[float] = (), empty: Empty = "one"
) -> dict[str, dict[str, float | None]]:
    """What counts tell of a slice or volume, by label: Dice, IoU, both volumes in ml, relative volume error.

    Args:
        counts: of one slice or volume.
        labels: a name a class.
        spacing: mm (slice, row, column); () leaves the volumes None.
        empty: the policy for classes that are neither there nor predicted.
    """
    ml = voxel_ml(spacing)
    scale = np.nan if ml is None else ml
    columns = {
        "dice": counts.scored(counts.dice, empty),
        "iou": counts.scored(counts.iou, empty),
        "volume_ml": counts.predicted * scale,
        "true_volume_ml": counts.true * scale,
        "volume_error": counts.volume_errors(),
    }
    return {label: {name: number(values[i]) for name, values in columns.items()} for i, label in enumerate(labels)}


def correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's r of paired values; None for fewer than three pairs, or where one side never changes."""
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return number(float(np.clip(np.corrcoef(x, y)[0, 1], -1.0, 1.0)))


def _volume_counts(scores: Sequence[SliceScore]) -> list[Counts]:
    pooled: dict[str, Counts] = {}
    for score in scores:
        pooled[score.volume] = pooled[score.volume] + score.counts if score.volume in pooled else score.counts
    return list(pooled.values())


def _mean_dice(counts: Sequence[Counts], empty: Empty) -> NDArray[np.float64]:
    values = np.array([each.scored(each.dice, empty) for each in counts])
    defined = np.isfinite(values).sum(axis=0)
    return np.where(defined == 0, np.nan, np.nansum(values, axis=0) / np.maximum(defined, 1))


def volume_dice(scores: Sequence[SliceScore], labels: Sequence[str]) -> dict[str, float]:
    """Dice a label with all pixels of a volume pooled, then the mean over volumes, in 0…1; empty ones count 1.

    This is what training is steered by, whatever ``evaluation.empty`` says.
    """
    mean = _mean_dice(_volume_counts(scores), "one")
    return {label: float(value) for label, value in zip(labels, mean, strict=True)}


def summarize(scores: Sequence[SliceScore], labels: Sequence[str], empty: Empty = "one") -> dict[str, Any]:
    """The scores as ``metrics.json`` holds them: volume, mean-slice and per-slice Dice and the empty policy.

    Dice is None where ``empty`` is "skip" and nothing is left to score.

    Raises:
        DataError: there are no slices.
    """
    if not scores:
        raise DataError(
            "there are no slices to score; a split must hold at least one labelled slice. Check the data set."
        )
    absent = np.sum([score.counts.empty for score in scores], axis=0)
    return {
        "volume_dice": by_label(_mean_dice(_volume_counts(scores), empty), labels),
        "mean_slice_dice": by_label(_mean_dice([score.counts for score in scores], empty), labels),
        "slices": [
            {
                "id": score.id,
                "volume": score.volume,
                "dice": by_label(score.counts.scored(score.counts.dice, empty), labels),
            }
            for score in scores
        ],
        "empty": empty,
        "empty_policy": empty_policy(empty),
        "empty_slices": {label: int(v) for label, v in zip(labels, absent, strict=True)},
    }


def headline(dice: dict[str, float]) -> float:
    """The one number a run is steered by: mean Dice over the labels, ``BACKGROUND`` left out."""
    counted = [value for label, value in dice.items() if label != BACKGROUND] or list(dice.values())
    return float(np.mean(counted))
