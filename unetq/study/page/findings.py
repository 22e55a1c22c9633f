"""One claim put to one arm: a statistic over seeds, its interval, what it is at each width, and the verdict."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...experiment import FLOAT_BITS
from .figures import LOW_ONLY, Figure, factor
from .record import TITLES, Study
from .statistics import Mean, Verdict, mean_of, order_of, order_verdict, p_of, sign_verdict

ALL_NETWORKS = "all networks"
DRAWS_OFF = 2.0
"""Standard deviations of noise's single draws within which rounding counts as one of them."""
TABLED = tuple(TITLES)
APART = 1 / 3
"""|a − b| / (|a| + |b|) of two figures that are a factor of 2 apart: closer, and one predicts the other."""


@dataclass(frozen=True)
class Finding:
    """One claim on one arm, by one figure.

    Attributes:
        who, what: the networks, and the statistic in words.
        estimate: its mean with the interval, or the correlation with its range over seeds.
        p: of the limit; None where there is none, as of a single seed.
        seeds: how many it is from.
        parts: the same at each width (or for each distortion), in words.
        stands: also when all findings of the page together may err with 5 %.
    """

    who: str
    what: str
    estimate: str
    p: float | None
    seeds: int
    verdict: Verdict
    parts: tuple[tuple[str, str], ...] = ()
    stands: bool = False


def with_interval(mean: Mean, text: Callable[[float], str]) -> str:
    """``−0.012 (−0.020 to −0.004)``."""
    if mean.low is None or mean.high is None:
        return text(mean.value)
    return f"{text(mean.value)} ({text(mean.low)} to {text(mean.high)})"


def _by_width(study: Study, arm: str, figure: Figure, ratio: bool = False) -> tuple[tuple[str, str], ...]:
    """The arm less float (or their ratio) at each width."""
    get = (lambda run: None if (value := figure.get(run)) is None else math.log(value)) if ratio else figure.get
    text = factor if ratio else figure.difference
    found = [(bits, study.differences(arm, bits, get)) for bits in study.bits(arm)]
    return tuple((f"{bits} bits", with_interval(mean_of(values), text)) for bits, values in found if values)


def _all_positive(study: Study, figure: Figure) -> bool:
    values = [value for run in study.record.runs if (value := figure.get(run)) is not None]
    return bool(values) and min(values) > 0


def against_float(study: Study, arm: str, figure: Figure, claimed: int) -> Finding | None:
    """The mean over all widths of the arm less float; of a logarithmic figure their ratio."""
    grid = study.grid(arm, figure.get)
    if grid is None:
        return None
    ratio = figure.log and _all_positive(study, figure)
    low, reference = (np.log(grid.low), np.log(grid.float)) if ratio else (grid.low, grid.float)
    mean = mean_of((low - reference[:, None]).mean(axis=1))
    return Finding(
        TITLES[arm],
        f"{figure.change}, {'ratio to' if ratio else 'less'} float, mean over widths",
        with_interval(mean, factor if ratio else figure.difference),
        p_of(mean),
        mean.seeds,
        sign_verdict(mean, claimed),
        _by_width(study, arm, figure, ratio),
    )


def trend(study: Study, arm: str, figure: Figure, claimed: int) -> Finding | None:
    """The least-squares slope over log2 of the widths, float at 32, as change a halving of the bits."""
    grid = study.grid(arm, figure.get)
    if grid is None:
        return None
    x = -np.log2(np.array([FLOAT_BITS, *grid.bits], np.float64))
    y = np.concatenate([grid.float[:, None], grid.low], axis=1)
    mean = mean_of(y @ (x - x.mean()) / ((x - x.mean()) ** 2).sum())
    order = order_of(np.tile(x, (len(y), 1)), y)
    what = f"{figure.change}, change with each halving of the bits"
    if order is not None:
        what += f" (Spearman with fewer bits {number(order.value)}, p = {order.p:.2g})"
    return Finding(
        TITLES[arm], what, with_interval(mean, figure.difference), p_of(mean), mean.seeds, sign_verdict(mean, claimed),
        _by_width(study, arm, figure),
    )  # fmt: skip


def ordered(study: Study, one: Figure, other: Figure, arms: Sequence[str] = TABLED) -> Finding | None:
    """Whether two figures order all networks of ``arms`` alike."""
    low_only = one in LOW_ONLY or other in LOW_ONLY
    table = study.table((one.get, other.get), [arm for arm in arms if arm != "float" or not low_only])
    order = None if table is None else order_of(table[0], table[1])
    if order is None:
        return None
    return Finding(
        ALL_NETWORKS,
        f"Spearman of {one.title} and {other.title}, {order.networks} networks a seed",
        f"{number(order.value)} (seeds {number(order.low)} to {number(order.high)})",
        order.p,
        order.seeds,
        order_verdict(order, 1),
    )


def number(value: float) -> str:
    """Two decimals."""
    return f"{value:.2f}".replace("-", "−")


def within_draws(study: Study, arm: str, off: Figure, what: str) -> Finding | None:
    """Whether rounding is like one draw of noise: how far off the mean it is, in spreads of single draws.

    Of normal draws one in twenty is beyond two.
    """
    found = [(bits, study.values(arm, bits, off.get)) for bits in study.bits(arm)]
    seeds = [seed for seed in study.seeds if all(seed in values for _, values in found)]
    if not seeds or not found:
        return None
    mean = mean_of([sum(values[seed] for _, values in found) / len(found) for seed in seeds])
    return Finding(
        TITLES[arm],
        f"{what}, mean over widths, below {DRAWS_OFF:g}",
        with_interval(mean, number),
        p_of(mean, DRAWS_OFF),
        mean.seeds,
        sign_verdict(mean, -1, DRAWS_OFF),
        tuple((f"{bits} bits", with_interval(mean_of(list(values.values())), number)) for bits, values in found),
    )


def predicts(study: Study, arm: str, by: Figure, of: Figure) -> Finding | None:
    """How far apart two figures are: |a − b| / (|a| + |b|), the mean over the widths of a seed.

    A third is a factor of 2, 1 is the other sign; nothing is left out where a figure is not positive.
    """
    apart: dict[int, list[float]] = {}
    parts = []
    for bits in study.bits(arm):
        one, other = study.values(arm, bits, by.get), study.values(arm, bits, of.get)
        seeds = [seed for seed in one if seed in other]
        for seed in seeds:
            size = abs(one[seed]) + abs(other[seed])
            apart.setdefault(seed, []).append(abs(one[seed] - other[seed]) / size if size else 0.0)
        if seeds:
            means = [by.text(sum(found[seed] for seed in seeds) / len(seeds)) for found in (one, other)]
            parts.append((f"{bits} bits", f"{means[0]} against {means[1]}"))
    whole = [values for values in apart.values() if len(values) == len(parts)]
    if not whole:
        return None
    mean = mean_of([sum(values) / len(values) for values in whole])
    return Finding(
        TITLES[arm],
        f"{by.title} against {of.title}: |a − b| / (|a| + |b|), mean over widths, below ⅓",
        with_interval(mean, number),
        p_of(mean, APART),
        mean.seeds,
        sign_verdict(mean, -1, APART),
        tuple(parts),
    )
