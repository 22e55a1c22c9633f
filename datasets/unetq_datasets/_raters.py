"""One mask of several raters': the majority, or STAPLE.

Both work on counts of vote patterns, not on voxels: 4 raters and 3 classes vote in at most 81 ways, so that a
volume of any size costs one pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unetq.errors import DataError

Mask = NDArray[np.uint8]
ROUNDS = 1000
SMALLEST_CHANGE = 1e-7
_TINY = 1e-300


@dataclass(frozen=True, eq=False)
class Staple:
    """What STAPLE believes.

    Attributes:
        labels: uint8, the shape of one mask: the most probable class of each voxel, the lower one of a tie.
        probability: float64 (classes, …) of the same shape: of each class, given all raters.
        confusion: float64 (raters, classes, classes): the probability that a rater says the second index where the
            truth is the first; rows sum to 1. A rater's sensitivity to class c is ``confusion[r, c, c]``.
        rounds: EM rounds until no entry of ``confusion`` moved by more than 1e-7.
    """

    labels: Mask
    probability: NDArray[np.float64]
    confusion: NDArray[np.float64]
    rounds: int


def majority(masks: Sequence[Mask], classes: int) -> Mask:
    """The class that most raters chose, voxel by voxel; of a tie the lower class index.

    So of two classes the foreground needs more than half of the votes: 3 of 4.

    Args:
        masks: class indices below ``classes``, equal shapes.

    Raises:
        DataError: no masks, other shapes, or an index out of range.
    """
    patterns, inverse, shape = _patterns(masks, classes)
    votes = np.stack([(patterns == value).sum(axis=1) for value in range(classes)])
    return np.asarray(np.argmax(votes, axis=0).astype(np.uint8)[inverse].reshape(shape))


def staple(masks: Sequence[Mask], classes: int) -> Staple:
    """Simultaneous truth and performance level estimation by expectation maximisation.

    Warfield, Zou and Wells 2004 (IEEE Transactions on Medical Imaging 23(7): 903-921) for two classes; more, each
    rater with a confusion matrix, as Rohlfing, Russakoff and Maurer 2003 (IPMI, LNCS 2732). The prior of a class is its
    share of all votes and stays fixed; voxels are independent. The first truth is the share of the votes. Agrees with
    ITK's two filters (the tests).

    The whole volume counts: where the background is nearly all of it, every rater's specificity comes out near 1 and
    a voxel that few raters chose can still be believed. ``majority`` does not depend on the field of view.

    Args:
        masks: class indices below ``classes``, equal shapes, two or more.

    Raises:
        DataError: fewer than two masks, other shapes, or an index out of range.
    """
    if len(masks) < 2:
        raise DataError(f"STAPLE of {len(masks)} masks: it weighs raters against each other and needs 2 or more.")
    patterns, inverse, shape = _patterns(masks, classes)
    counts = np.bincount(inverse, minlength=len(patterns)).astype(np.float64)
    said = np.stack([(patterns == value) for value in range(classes)], axis=-1).astype(np.float64)  # (P, R, C)
    prior = np.einsum("p,prc->c", counts, said) / (counts.sum() * len(masks))
    truth = said.mean(axis=1)  # (P, C): the probability of each class where the raters vote so
    confusion = _performance(counts, said, truth)
    rounds = 0
    for rounds in range(1, ROUNDS + 1):  # noqa: B007  # reported
        truth = _truth(prior, said, confusion)
        updated = _performance(counts, said, truth)
        change = float(np.abs(updated - confusion).max())
        confusion = updated
        if change <= SMALLEST_CHANGE:
            break
    truth = _truth(prior, said, confusion)
    labels = np.argmax(truth, axis=1).astype(np.uint8)
    return Staple(
        labels=labels[inverse].reshape(shape),
        probability=truth.T[:, inverse].reshape(classes, *shape),
        confusion=confusion,
        rounds=rounds,
    )


def _truth(
    prior: NDArray[np.float64], said: NDArray[np.float64], confusion: NDArray[np.float64]
) -> NDArray[np.float64]:
    """E-step: (patterns, classes) posteriors, in logarithms, since products of small rates underflow."""
    with np.errstate(divide="ignore"):
        rates, start = np.log(np.maximum(confusion, _TINY)), np.log(prior)
    logs = start + np.einsum("prs,rts->pt", said, rates)
    logs -= logs.max(axis=1, keepdims=True)
    weights = np.exp(logs)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def _performance(
    counts: NDArray[np.float64], said: NDArray[np.float64], truth: NDArray[np.float64]
) -> NDArray[np.float64]:
    """M-step: (raters, truth, said) rates. A class that is nowhere believed keeps a perfect row: nothing speaks."""
    joint = np.einsum("p,pt,prs->rts", counts, truth, said)
    total = joint.sum(axis=2, keepdims=True)
    perfect = np.broadcast_to(np.eye(truth.shape[1]), joint.shape)
    return np.asarray(np.where(total > 0, joint / np.maximum(total, _TINY), perfect))


def _patterns(masks: Sequence[Mask], classes: int) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[int, ...]]:
    """The distinct votes (patterns, raters), which of them each voxel has, and the shape of a mask."""
    if not masks:
        raise DataError("a consensus of no masks: at least one rater is needed.")
    shape = masks[0].shape
    for number, mask in enumerate(masks, start=1):
        if mask.shape != shape:
            raise DataError(
                f"mask {number} is {mask.shape} and mask 1 {shape}: raters mark one grid; export them anew."
            )
        if int(mask.max(initial=0)) >= classes:
            raise DataError(f"mask {number} holds class {int(mask.max())}: classes are 0 to {classes - 1}.")
    code = np.zeros(shape, dtype=np.int64)
    for mask in masks:
        code = code * classes + mask
    codes, inverse = np.unique(code.ravel(), return_inverse=True)
    digits = classes ** np.arange(len(masks) - 1, -1, -1)
    return (codes[:, None] // digits) % classes, inverse.ravel(), shape
