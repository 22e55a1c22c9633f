"""What the page concludes from numbers, and how: intervals over seeds, orders by permutation, verdicts by rule.

Seeds are the sample: a statistic is computed in each seed and its mean has Student's 95 % interval. The verdict is
"supported" or "contradicted" where the interval lies wholly on one side of a limit, else "undecided". ``p`` is that of
the two-sided test of the limit: it is below 0.05 exactly where the 95 % interval leaves the limit out.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from ...statistics import t_interval

Array = npt.NDArray[np.float64]
Verdict = Literal["supported", "contradicted", "undecided"]
VERDICTS: tuple[Verdict, ...] = ("supported", "contradicted", "undecided")
LEVEL = 0.05
DRAWS, SEED = 10_000, 0
MOST_EXACT = 7
"""All 5,040 orders of so many networks are tried; of more, ``DRAWS`` random ones."""


@dataclass(frozen=True)
class Mean:
    """Of one value a seed; no interval of a single seed."""

    value: float
    low: float | None
    high: float | None
    seeds: int
    deviation: float


def mean_of(values: Sequence[float] | Array) -> Mean:
    """The mean over seeds (at least one) with Student's interval."""
    data = np.asarray(values, np.float64)
    found = t_interval(data.tolist())
    return Mean(float(data.mean()), found.low, found.high, len(data), float(data.std(ddof=1)) if len(data) > 1 else 0.0)


def p_of(mean: Mean, limit: float = 0.0) -> float | None:
    """Two-sided p of the t test that the mean is ``limit``; None of a single seed."""
    if mean.seeds < 2:
        return None
    error = mean.deviation / math.sqrt(mean.seeds)
    if error == 0.0:
        return 1.0 if mean.value == limit else 0.0
    return float(2 * special.stdtr(mean.seeds - 1, -abs(mean.value - limit) / error))


def sign_verdict(mean: Mean, claimed: int, limit: float = 0.0) -> Verdict:
    """Whether the mean lies on the claimed side (+1 above, -1 below) of ``limit``."""
    if mean.low is None or mean.high is None or mean.low <= limit <= mean.high:
        return "undecided"
    return "supported" if (mean.low > limit) == (claimed > 0) else "contradicted"


def within_verdict(mean: Mean, margin: float) -> tuple[Verdict, float | None]:
    """Whether the mean lies within ±``margin``, with the p of the limit that decides."""
    low, high = p_of(mean, -margin), p_of(mean, margin)
    if mean.low is None or mean.high is None or low is None or high is None:
        return "undecided", None
    if -margin < mean.low and mean.high < margin:
        return "supported", max(low, high)
    outside = mean.low > margin or mean.high < -margin
    return ("contradicted" if outside else "undecided"), (high if mean.value > 0 else low)


@dataclass(frozen=True)
class Order:
    """Spearman's rank correlation within each seed: mean, lowest and highest, and the permutation's p."""

    value: float
    low: float
    high: float
    p: float
    orders: int
    seeds: int
    networks: int


def order_of(x: Array, y: Array) -> Order | None:
    """How alike two figures (seeds, networks) order the networks; None where one of them is the same for all.

    The null: networks are interchangeable. They are permuted in all seeds alike, since what a width does is common to
    all seeds; the statistic is the mean of the seeds' correlations, two-sided. All orders of up to ``MOST_EXACT``
    networks, else ``DRAWS`` random ones with the observed one counted in.
    """
    ranks = [stats.rankdata(values, axis=1) for values in (x, y)]
    centred = [values - values.mean(axis=1, keepdims=True) for values in ranks]
    lengths = [np.sqrt((values**2).sum(axis=1, keepdims=True)) for values in centred]
    if any((length == 0).any() for length in lengths):
        return None
    a, b = (values / length for values, length in zip(centred, lengths, strict=True))
    rho = (a * b).sum(axis=1)
    networks = a.shape[1]
    if networks <= MOST_EXACT:
        permutations = np.array(list(itertools.permutations(range(networks))))
    else:
        rng = np.random.default_rng(SEED)
        permutations = rng.permuted(np.tile(np.arange(networks), (DRAWS - 1, 1)), axis=1)
        permutations = np.concatenate([np.arange(networks)[None], permutations])
    products = a.T @ b / len(rho)  # (networks, networks): the statistic of an order is a sum of its entries
    drawn = products[np.arange(networks), permutations].sum(axis=1)
    p = float(np.mean(np.abs(drawn) >= abs(rho.mean()) - 1e-12))
    return Order(float(rho.mean()), float(rho.min()), float(rho.max()), p, len(permutations), len(rho), networks)


def order_verdict(order: Order, claimed: int) -> Verdict:
    """Decided where p < 0.05."""
    if order.p >= LEVEL:
        return "undecided"
    return "supported" if (order.value > 0) == (claimed > 0) else "contradicted"


def holm(ps: Sequence[float | None]) -> list[bool]:
    """Which tests stand when all of them together may err with 5 % (Holm 1979)."""
    known = sorted((p, index) for index, p in enumerate(ps) if p is not None)
    stands = [False] * len(ps)
    for rank, (p, index) in enumerate(known):
        if p >= LEVEL / (len(known) - rank):
            break
        stands[index] = True
    return stands
