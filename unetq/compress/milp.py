"""Which bits for which tensor: a mixed-integer linear program, solved to its optimum by HiGHS. No torch.

One binary variable x[v, b] for each thing v that has a width (a layer's weights, an activation tensor) and each
width b it may have; exactly one is 1::

    minimise    sum score[v, b] x[v, b]
    subject to  constant + sum cost[v, b] x[v, b] + sum pair[v, w, b, c] y[v, w, b, c] <= bound   for each limit
                sum_b x[v, b] = 1,     sum_c y[v, w, b, c] = x[v, b],     sum_b y[v, w, b, c] = x[w, c]

y is x[v, b] x[w, c] made linear: with x whole, these two sums leave nothing else. (Multiple-choice knapsack; Hubara et
al. 2020, arXiv 2006.10518, and Yao et al. 2021, HAWQ-V3, arXiv 2011.10680, allocate bits alike.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from ..errors import BudgetError, ConfigError

Key = Any
Table = Mapping[Key, Mapping[int, float]]
SECONDS = 60.0
"""After which the best choice that is known counts; one is there long before."""
OPTIMAL, INFEASIBLE = 0, 2  # of scipy.optimize.milp


@dataclass(frozen=True)
class Limit:
    """``constant + costs + pairs <= bound``, all in one unit.

    Attributes:
        name: of the budget; several limits may have one (the steps of a memory plan). bound: above 0.
        costs: by variable and width. pairs: by two variables, then by their two widths.
    """

    name: str
    bound: float
    costs: Table
    constant: float = 0.0
    pairs: Mapping[tuple[Key, Key], Mapping[tuple[int, int], float]] = field(default_factory=dict)

    def value(self, chosen: Mapping[Any, int]) -> float:
        """The left side at a choice."""
        found = self.constant + sum(table[chosen[key]] for key, table in self.costs.items())
        return found + sum(table[chosen[a], chosen[b]] for (a, b), table in self.pairs.items())


@dataclass(frozen=True)
class Solution:
    """The widths chosen, their score, and by which share the limits had to grow for them (0: they are met).

    ``proven`` is False where the time was over before it was known that no other choice scores less.
    """

    chosen: dict[Key, int]
    score: float
    excess: float = 0.0
    proven: bool = True


class _Matrix:
    """Columns are x, then y, then one more that only ``nearest`` uses."""

    def __init__(self, score: Table, limits: Sequence[Limit]) -> None:
        self.columns: dict[tuple[Any, ...], int] = {}
        for key, table in score.items():
            for bits in sorted(table):
                self.columns[key, bits] = len(self.columns)
        self.whole = len(self.columns)
        self.rows: list[tuple[dict[int, float], float, float]] = []
        for key, table in score.items():
            self.rows.append(({self.columns[key, bits]: 1.0 for bits in table}, 1.0, 1.0))
        for pair in dict.fromkeys(pair for limit in limits for pair in limit.pairs):
            self._join(*pair, score)
        self.excess = len(self.columns)
        self.limits = limits

    def _join(self, a: Key, b: Key, score: Table) -> None:
        for i in score[a]:
            for j in score[b]:
                self.columns[a, b, i, j] = len(self.columns)
        for i in score[a]:
            self.rows.append(({self.columns[a, b, i, j]: 1.0 for j in score[b]} | {self.columns[a, i]: -1.0}, 0.0, 0.0))
        for j in score[b]:
            self.rows.append(({self.columns[a, b, i, j]: 1.0 for i in score[a]} | {self.columns[b, j]: -1.0}, 0.0, 0.0))

    def limit_row(self, limit: Limit, *, grows: bool) -> tuple[dict[int, float], float, float]:
        """A limit divided by its bound, so that limits in bytes and in seconds count alike."""
        row: dict[int, float] = {}
        for key, table in limit.costs.items():
            for bits, cost in table.items():
                row[self.columns[key, bits]] = row.get(self.columns[key, bits], 0.0) + cost / limit.bound
        for (a, b), pairs in limit.pairs.items():
            for (i, j), cost in pairs.items():
                row[self.columns[a, b, i, j]] = cost / limit.bound
        if grows:
            row[self.excess] = -1.0
        return row, -np.inf, 1.0 - limit.constant / limit.bound

    def solve(self, objective: Mapping[int, float], *, grows: bool) -> tuple[np.ndarray, bool] | None:
        """The columns, and whether they are proven to be the best; None where nothing meets the rows."""
        rows = [*self.rows, *(self.limit_row(limit, grows=grows) for limit in self.limits)]
        size = self.excess + 1
        entries = [(r, c, v) for r, (row, _, _) in enumerate(rows) for c, v in row.items()]
        number, column, value = zip(*entries, strict=True)
        matrix = coo_array((value, (number, column)), shape=(len(rows), size)).tocsr()
        costs = np.zeros(size)
        for place, cost in objective.items():
            costs[place] = cost
        upper = np.ones(size)
        upper[self.excess] = np.inf if grows else 0.0
        found = milp(
            costs,
            constraints=LinearConstraint(matrix, [low for _, low, _ in rows], [high for _, _, high in rows]),
            integrality=(np.arange(size) < self.whole).astype(int),
            bounds=Bounds(0.0, upper),
            options={"time_limit": SECONDS, "mip_rel_gap": 1e-6},
        )
        if found.x is None and found.status != INFEASIBLE:
            raise BudgetError(
                f"the solver found no choice of bits in {SECONDS:g} s ({found.message}), which does not say that "
                "there is none: loosen a limit, or offer fewer widths with --bits."
            )
        return None if found.x is None else (np.asarray(found.x), found.status == OPTIMAL)


def _check(score: Table, limits: Sequence[Limit]) -> None:
    for key, table in score.items():
        if not table or not all(np.isfinite(value) for value in table.values()):
            raise ConfigError(f"{key}: its widths {dict(table)} need finite scores; measure them again.")
    for limit in limits:
        if not limit.bound > 0:
            raise ConfigError(f"limit {limit.name} = {limit.bound}: it is above 0; set another.")


def _chosen(score: Table, matrix: _Matrix, x: np.ndarray) -> dict[Key, int]:
    return {key: max(table, key=lambda bits: float(x[matrix.columns[key, bits]])) for key, table in score.items()}


def _total(score: Table, chosen: Mapping[Key, int]) -> float:
    return float(sum(table[chosen[key]] for key, table in score.items()))


def solve(score: Table, limits: Sequence[Limit]) -> Solution | None:
    """The choice of least score within all limits; None where there is none.

    Args:
        score: by variable and width; lower is better. limits: on variables of ``score``.

    Raises:
        ConfigError: a score that is not finite, or a bound that is not above 0.
        BudgetError: the time is over, and neither a choice nor that there is none is known.
    """
    _check(score, limits)
    matrix = _Matrix(score, limits)
    # The unit of a score is arbitrary and often tiny: HiGHS has absolute tolerances.
    unit = max((abs(v) for table in score.values() for v in table.values()), default=0.0) or 1.0
    objective = {matrix.columns[k, b]: v / unit for k, table in score.items() for b, v in table.items()}
    found = matrix.solve(objective, grows=False)
    if found is None:
        return None
    chosen = _chosen(score, matrix, found[0])
    return Solution(chosen, _total(score, chosen), proven=found[1])


def nearest(score: Table, limits: Sequence[Limit]) -> Solution:
    """The choice that needs all limits to grow by the least share: what to tell where ``solve`` finds none.

    Args:
        score, limits: as of ``solve``.

    Raises:
        ConfigError, BudgetError: as ``solve``.
    """
    _check(score, limits)
    matrix = _Matrix(score, limits)
    found = matrix.solve({matrix.excess: 1.0}, grows=True)
    if found is None:
        raise ConfigError("no choice of bits at all: a limit has no finite costs; measure them again.")
    chosen = _chosen(score, matrix, found[0])
    excess = max((limit.value(chosen) / limit.bound - 1.0 for limit in limits), default=0.0)
    return Solution(chosen, _total(score, chosen), max(0.0, float(excess)), found[1])
