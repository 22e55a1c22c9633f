"""From limits to one allocation: the best inside them, or the smallest that keeps the Dice.

Without a floor on the Dice: the solver's choice. With a floor and a size: the choice at that size, checked. With a
floor alone: the smallest file that keeps it, by bisection over sizes; each size's choice is packed and scored on the
validation split. Quality hardly falls where a file grows, which bisection needs; where it does by chance, the result
still keeps the floor, as all that is returned was scored itself.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import BudgetError
from .budget import Budget
from .planner import Planner, amount
from .sensitivity import Measured
from .space import Allocation, Variable

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Score:
    """Validation Dice of the packed file, 0…1: by class, and the mean a run is steered by."""

    dice: Mapping[str, float]
    mean: float


Judge = Callable[[Allocation], Score]


@dataclass
class Search:
    """Finds an allocation.

    Args:
        planner: proposes them. budget: with its floors. judge: packs and scores one. reference: the float network's.
        steps: sizes that are tried. slack: points by which a floor is lowered, for what fine-tuning brings back.
        tell: called with a line of progress. mend: looks for a better one of what misses a floor within all limits.
    """

    planner: Planner
    budget: Budget
    judge: Judge
    reference: Score
    steps: int = 7
    slack: float = 0.0
    tell: Tell = lambda text: None
    tried: list[dict[str, Any]] = field(default_factory=list)
    mend: Callable[["Search", Allocation], Allocation] = lambda search, found: found

    def run(self) -> Allocation:
        """The allocation.

        Raises:
            BudgetError: a floor that cannot be kept within the limits; with the nearest point.
        """
        self.planner.require_resources()
        if not self.budget.has_floor:
            found = self.planner.plan()
            assert found is not None  # as was required
            self.look(found)
            return found
        return self._smallest() if self.budget.size is None else self._best()

    def look(self, allocation: Allocation) -> bool:
        """Score an allocation, note it, and say whether it keeps the floors, less the slack; the note is without it."""
        score = self.judge(allocation)
        kept = not self.budget.shortfall(score.dice, score.mean, self.reference.mean)
        missing = self._missing(score)
        takes = self.planner.takes(allocation)
        self.tried.append(
            {
                **{f"{name}": value for name, value in takes.items()},
                "mean_dice": score.mean,
                "dice": dict(score.dice),
                "bits": allocation.record(),
                "kept": kept,
            }
        )
        told = "kept" if kept else "too low" if missing else "too low, but for fine-tuning"
        self.tell(f"{int(takes['size'])} bytes: Dice {score.mean:.4f} ({told})")
        return not missing

    def keeps(self, allocation: Allocation) -> bool:
        """Whether an allocation keeps the floors."""
        return not self._missing(self.judge(allocation))

    def _missing(self, score: Score) -> dict[str, float]:
        found = self.budget.shortfall(score.dice, score.mean, self.reference.mean)
        return {name: value for name, value in found.items() if value > self.slack / 100.0 + 1e-9}

    def _best(self) -> Allocation:
        found = self.planner.plan()
        assert found is not None  # as was required
        if not self.look(found):
            found = self.mend(self, found)
            if not self.keeps(found):
                raise self._refusal(found)
        return found

    def _smallest(self) -> Allocation:
        best = self._best()
        high = self.planner.size.predict(best)
        low = self.planner.size.predict(self.planner.space.nearest(1))
        for _ in range(self.steps):
            middle = round(math.sqrt(low * high))
            if high <= low + 64 or middle >= high:
                break
            found = self.planner.plan(middle)
            if found is None or not self.look(found):
                low = middle
                continue
            best, high = found, self.planner.size.predict(found)
        return best

    def _refusal(self, found: Allocation) -> BudgetError:
        score = self.judge(found)
        missing = ", ".join(f"{name} by {100 * value:.2f} points" for name, value in self._missing(score).items())
        takes = self.planner.takes(found)
        held = ", ".join(f"{name} {amount(name, value)}" for name, value in takes.items())
        wider = self._wider(found) if self.budget.resources else ""
        return BudgetError(
            f"the best that was found within the limits misses {missing}: Dice {score.mean:.4f} ({held}), float "
            f"{self.reference.mean:.4f}.{wider} Allow that, lower the floor, or give more --effort."
        )

    def _wider(self, found: Allocation) -> str:
        """The nearest point on the other side: the smallest file that keeps the floors, other limits left out."""
        free = Planner(
            self.planner.space, self.planner.score, self.planner.size, Budget(max_dice_drop=self.budget.max_dice_drop,
            min_dice=self.budget.min_dice),
        )  # fmt: skip
        other = Search(free, free.budget, self.judge, self.reference, self.steps, 0.0, self.tell, self.tried)
        try:
            kept = other.run()
        except BudgetError:
            return " No choice of bits keeps the Dice without fine-tuning."
        return f" The smallest file found that keeps the Dice without fine-tuning has {free.size.predict(kept)} bytes."


def polish(
    planner: Planner,
    start: Allocation,
    measure: Callable[[Allocation], Measured],
    tries: int,
    tell: Tell = lambda text: None,
) -> Allocation:
    """Move bits between variables while that brings the network nearer to float, all limits kept.

    The solver adds up what layers cost one by one; together they cost more or less than that. A move widens the
    variable whose next bit gains most by its score and narrows another one to pay for it; it is kept where the
    measured divergence falls. The order is that of the scores' promises, so that equal calls give equal results.

    Args:
        measure: of the packed allocation, on the crops. tries: measurements to spend.
    """
    bounds = planner.budget.resources
    bounds.setdefault("size", float(planner.size.predict(start)))
    best, least = start, measure(start).divergence if tries else 0.0
    refused: set[str] = set()
    for number in range(tries):
        moved = next((m for m in _moves(planner, best) if m.key not in refused and _fits(planner, m, bounds)), None)
        if moved is None:
            break
        refused.add(moved.key)
        found = measure(moved).divergence
        if found < least:
            best, least = moved, found
            tell(f"polish: divergence {found:.5f} after {number + 1} moves")
    return best


def _fits(planner: Planner, allocation: Allocation, bounds: Mapping[str, float]) -> bool:
    if planner.size.predict(allocation) > bounds["size"]:
        return False
    if not {"memory", "latency"} & set(bounds):
        return True
    takes = planner.takes(allocation)
    return all(takes[name] <= bound for name, bound in bounds.items() if name in takes)


def _moves(planner: Planner, at: Allocation) -> list[Allocation]:
    """Neighbours, the most promising first: one variable a width up, and none or one other a width down."""
    up: list[tuple[float, Variable, int]] = []
    down: list[tuple[float, Variable, int]] = []
    for variable, widths in planner.space.choices.items():
        place, table = widths.index(at[variable]), planner.score[variable]
        if place + 1 < len(widths):
            up.append((table[widths[place + 1]] - table[at[variable]], variable, widths[place + 1]))
        if place:
            down.append((table[widths[place - 1]] - table[at[variable]], variable, widths[place - 1]))
    up.sort()
    down.sort()
    found = [(gain, at.having(v, bits)) for gain, v, bits in up]
    for gain, v, bits in up[:8]:
        found += [(gain + loss, at.having(v, bits).having(w, less)) for loss, w, less in down[:8] if w != v]
    found.sort(key=lambda item: item[0])
    return [allocation for _, allocation in found]
