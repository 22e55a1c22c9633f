"""Allocations inside the limits on size, memory and latency, of least score; or the nearest one that there is.

Size is linear in the widths, so that the solver's optimum is exact. Memory and latency are linear only nearly: what
the solver chooses is planned and timed on its packed file, and where that exceeds a limit, the solver is asked again
with as much more counted. Where its first choice exceeds a memory, that one is also narrowed by exact plans, its last
one widened (``repair``), and the better one taken; where it finds nothing, equal widths are tried too, before a budget
is refused. What comes back meets every limit as measured, not as modelled.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import BudgetError
from .budget import Budget
from .latency import LatencyModel
from .memory import MemoryModel
from .milp import Limit, nearest, solve
from .repair import repaired, widened
from .sensitivity import Table
from .size import SizeModel
from .space import TENSOR, WEIGHT, Allocation, Space, Variable

ROUNDS = 24
KINDS = (WEIGHT, TENSOR)
TO_SPARE = 0.97  # of a latency
SURELY = 1.25  # times a limit: a modelled latency above it need not be measured
TIE = 1e-6  # of the largest score, a bit: decides between choices that measure alike


@dataclass
class Planner:
    """See the module. ``latency`` is there where the budget limits it; ``memory`` may be there to be told only.

    ``score`` is by variable and width, lower is better. Of widths that measure alike the narrower one is taken where
    the file is to be small, and else the wider one: what a budget allows is used.
    """

    space: Space
    score: Table
    size: SizeModel
    budget: Budget
    memory: MemoryModel | None = None
    latency: LatencyModel | None = None
    unproven: int = 0
    """Choices that the solver's time was over for before they were known to be the best."""
    _factor: float = field(default=1.0, repr=False)
    _timed: dict[str, float] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        largest = max((value for table in self.score.values() for value in table.values()), default=0.0) or 1.0
        tie = TIE * largest if self.budget.is_for_smallest else -TIE * largest
        self._tied = {v: {b: s + tie * b for b, s in table.items()} for v, table in self.score.items()}
        self._some = self.space.nearest(8)
        limited = self.memory is not None and self.budget.memory is not None
        self._slack = self.memory.least_slack() if limited and self.memory is not None else 0.0

    def takes(self, allocation: Allocation) -> dict[str, float]:
        """What the packed file of ``allocation`` takes: ``size``, and ``memory`` and ``latency`` where modelled."""
        found = {"size": float(self.size.predict(allocation))}
        if self.memory is not None:
            found["memory"] = float(self.memory.predict(allocation))
        if self.latency is not None:
            if allocation.key not in self._timed:
                self._timed[allocation.key] = self.latency.measured(allocation)
            found["latency"] = self._timed[allocation.key]
        return found

    def exceeded(self, allocation: Allocation) -> str | None:
        """One of the budget's limits that ``allocation`` exceeds, the one that is quickest to tell; None: none."""
        bounds = self.budget.resources
        if "size" in bounds and self.size.predict(allocation) > bounds["size"]:
            return "size"
        modelled = self.latency.predict(allocation) if "latency" in bounds and self.latency is not None else 0.0
        if modelled > SURELY * bounds.get("latency", 0.0):
            return "latency"
        takes = self.takes(allocation) if len(bounds) > ("size" in bounds) else {}
        return next((name for name in takes if name in bounds and takes[name] > bounds[name]), None)

    def plan(self, size: int | None = None) -> Allocation | None:
        """The allocation of least score within the budget's limits, its size within ``size`` if given; or None."""
        return self._within(self.budget.resources | ({"size": float(size)} if size is not None else {}))

    def has_room(self) -> bool:
        """True where the solver finds a choice inside the limits by itself, without what is tried where it does not."""
        try:
            return self._solved(self.budget.resources)[0] is not None
        except BudgetError:  # its time was over
            return False

    def _within(self, bounds: Mapping[str, float]) -> Allocation | None:
        if "size" in bounds and solve(self._tied, self._limits({"size": bounds["size"]}, 0.0, 1.0)) is None:
            return None  # exact, and nothing else helps
        found, proposed = self._solved(bounds)
        if found is not None and found is proposed[0]:
            return found
        # What the solver finds with more counted is not the best any more, and where it finds nothing, something may
        # fit all the same: working memory and kernels' speed are not monotonous in the widths.
        every = [self._repaired(proposed[0] if proposed else None, bounds)]
        if found is not None:
            every.append(self._filled(found, bounds))
        else:
            every += [self._repaired(last, bounds) for last in proposed[1:][-1:]]
            every += [a for a, excess in self._equal_widths(bounds) if excess <= 0.0]
        return min((a for a in every if a is not None), key=self._total, default=None)

    def _solved(self, bounds: Mapping[str, float]) -> tuple[Allocation | None, list[Allocation]]:
        """What the solver finds inside ``bounds``, or None, and all that it proposed on the way, in order."""
        slack, factor, asked, proposed = self._slack, self._factor, dict(bounds), list[Allocation]()
        for _ in range(ROUNDS):
            found = solve(self._tied, self._limits(asked, slack, factor))
            if found is None:
                break
            self.unproven += not found.proven
            allocation = Allocation(found.chosen)
            proposed.append(allocation)
            takes = self.takes(allocation)
            over = [name for name, bound in bounds.items() if takes[name] > bound]
            if not over:
                return allocation, proposed
            if "size" in over:  # the solver is exact to a millionth of a limit only
                asked["size"] -= takes["size"] - bounds["size"]
            if "memory" in over and self.memory is not None:
                slack = self.memory.more_slack(slack, allocation, int(bounds["memory"]))
            if "latency" in over and self.latency is not None:
                factor = max(factor * 1.01, takes["latency"] / self.latency.predict(allocation))
        return None, proposed

    def _filled(self, found: Allocation, bounds: Mapping[str, float]) -> Allocation:
        """``found`` with tensors as wide as exact plans allow: the solver's form of memory is a careful one."""
        memory = self.memory
        if memory is None or "memory" not in bounds:
            return found
        wider = widened(found, self._tied, self._tensors, lambda a: memory.predict(a) / bounds["memory"] - 1.0)
        if wider.key == found.key:
            return found
        takes = self.takes(wider)
        return wider if all(takes[name] <= bound for name, bound in bounds.items()) else found

    @property
    def _tensors(self) -> list[Variable]:
        return [variable for variable in self.space.choices if variable[0] == TENSOR]

    def _repaired(self, start: Allocation | None, bounds: Mapping[str, float]) -> Allocation | None:
        """``start``, or the choice without working memory, with tensors narrowed by exact plans; or None.

        Size holds already: tensors take nothing in a file. The latency is measured in the end.
        """
        memory = self.memory
        if memory is None or "memory" not in bounds:
            return None
        others = {name: bound for name, bound in bounds.items() if name != "latency"}
        least = solve(self._tied, self._limits(others, min(0.0, self._slack), 1.0))
        if least is None:
            return None  # what is alive at once is more already
        start = start or Allocation(least.chosen)
        found = repaired(start, self._tied, self._tensors, lambda a: memory.predict(a) / bounds["memory"] - 1.0)
        if found is None:
            return None
        takes = self.takes(found)
        return found if all(takes[name] <= bound for name, bound in bounds.items()) else None

    def _total(self, allocation: Allocation) -> float:
        return sum(table[allocation[variable]] for variable, table in self._tied.items())

    def _equal_widths(self, bounds: Mapping[str, float]) -> list[tuple[Allocation, float]]:
        """Every pair of widths for all weights and all tensors, with the share by which it exceeds ``bounds``.

        Only where something was not linear; then a pair is measured once.
        """
        if not {"memory", "latency"} & set(bounds):
            return []
        widths = {kind: sorted({b for v, t in self.score.items() if v[0] == kind for b in t}) for kind in KINDS}
        found = []
        for weight_bits in widths[WEIGHT] or [8]:
            for act_bits in widths[TENSOR] or [8]:
                allocation = self.space.uniform(weight_bits, act_bits)
                takes = self.takes(allocation)
                found.append((allocation, max(takes[name] / bound - 1.0 for name, bound in bounds.items())))
        return found

    def _limits(self, bounds: Mapping[str, float], slack: float, factor: float) -> list[Limit]:
        limits: list[Limit] = []
        if "size" in bounds:
            limits.append(self.size.limit(int(bounds["size"]), self._some))
        if "memory" in bounds and self.memory is not None:
            limits += self.memory.limits(int(bounds["memory"]), slack)
        if "latency" in bounds and self.latency is not None:
            limits.append(self.latency.limit(bounds["latency"], factor))
        return limits

    def require_resources(self) -> None:
        """Refuse limits that no allocation meets.

        Raises:
            BudgetError: with the limits that cannot be met, alone or together, and the nearest point there is.
        """
        bounds = self.budget.resources
        if not bounds or self.plan() is not None:
            return
        alone = [name for name, bound in bounds.items() if self._within({name: bound}) is None]
        points = [Allocation(nearest(self._tied, self._limits(bounds, self._slack, self._factor)).chosen)]
        points += [allocation for allocation, _ in self._equal_widths(bounds)]
        point = min(points, key=lambda a: max(self.takes(a)[name] / bound for name, bound in bounds.items()))
        takes = self.takes(point)
        listed = ", ".join(f"{FLAGS[name]} {amount(name, bound)}" for name, bound in bounds.items())
        which = (
            f"{' and '.join(FLAGS[name] for name in alone)} cannot be met by any choice of bits"
            if alone
            else "they cannot be met together"
        )
        reached = ", ".join(
            f"{name} {amount(name, takes[name])} ({takes[name] / bounds[name]:.2f} of the limit)" for name in bounds
        )
        raise BudgetError(f"budget {listed}: {which}. The nearest point has {reached}; allow that, or a smaller image.")


def with_spare(budget: Budget, planner: Callable[[Budget], Planner]) -> Budget:
    """``budget`` with a little of its latency left to spare, since a finished file is timed again.

    As it is where it has no latency, or where the solver finds nothing inside that.

    Args:
        planner: for a budget.
    """
    if budget.latency is None:
        return budget
    spared = replace(budget, latency=TO_SPARE * budget.latency)
    return spared if planner(spared).has_room() else budget


FLAGS = {"size": "--target-size", "memory": "--max-memory", "latency": "--max-latency"}


def amount(name: str, value: Any) -> str:
    """A limit or what is taken of it, for people."""
    if name == "latency":
        return f"{1000 * float(value):.1f} ms"
    return f"{int(value)} bytes"
