"""How much scores vary over slices: what a difference of two runs has to exceed to mean anything."""

from dataclasses import dataclass
from statistics import stdev

from .schema import Evaluation


@dataclass(frozen=True)
class Spread:
    """Scores of several slices, 0…1 (differences: -1…1).

    Attributes:
        low, high: the smallest and the largest.
        deviation: sample standard deviation (n - 1), None for a single slice.
    """

    low: float
    high: float
    deviation: float | None


def slice_spread(evaluation: Evaluation, label: str) -> Spread | None:
    """Dice of ``label`` over the slices; None where no slice has one."""
    return _spread([value for score in evaluation.slices if (value := score.dice.get(label)) is not None])


def change_spread(evaluation: Evaluation, reference: Evaluation, label: str) -> Spread | None:
    """Dice minus the reference's on the same slice, over the slices that both scored; None where there is none.

    Pairing takes out what both networks find hard about a slice, so this is narrower than either's own spread.
    """
    theirs = {score.id: score.dice.get(label) for score in reference.slices}
    return _spread(
        [
            mine - other
            for score in evaluation.slices
            if (mine := score.dice.get(label)) is not None and (other := theirs.get(score.id)) is not None
        ]
    )


def _spread(values: list[float]) -> Spread | None:
    if not values:
        return None
    return Spread(min(values), max(values), stdev(values) if len(values) > 1 else None)
