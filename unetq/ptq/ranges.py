"""Step sizes from values: min-max, percentile, least squared error and Kullback-Leibler divergence. NumPy only.

A step is the distance of two neighbouring levels of a grid of codes ``low … high`` around the value 0, or
of the two levels -step and +step where ``low`` and ``high`` are -1 and 1 and the grid is binary.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DataError

RULES = ("minmax", "percentile", "mse", "kl")
BINS = 2048
F64 = NDArray[np.float64]
FINER = 10  # power-of-two candidates for one row, the largest of which saturates nothing
CANDIDATES = 100  # float candidates, as hundredths of that


@dataclass(frozen=True)
class Levels:
    """The codes of a grid, and whether its steps are powers of two."""

    low: int
    high: int
    binary: bool = False
    power_of_two: bool = True

    @property
    def count(self) -> int:
        """Levels on the larger side of 0, which is one of them."""
        return max(self.high, -self.low) + 1

    def nearest(self, values: F64, step: F64) -> F64:
        """The nearest level of each value; ``step`` broadcasts."""
        if self.binary:
            return np.where(values >= 0, step, -step)
        return np.clip(np.rint(values / step), self.low, self.high) * step


def covering_step(smallest: F64, largest: F64, levels: Levels) -> F64:
    """The smallest step whose grid holds ``smallest … largest`` without saturation; 0 where both are 0.

    Values on a side that the grid does not have (negative ones on an unsigned grid) are not counted.
    """
    if levels.binary:
        step = np.maximum(np.abs(smallest), np.abs(largest))
    else:
        above = np.maximum(largest, 0.0) / max(levels.high, 1)
        below = np.maximum(-smallest, 0.0) / -levels.low if levels.low < 0 else np.zeros_like(above)
        step = np.maximum(above, below)
    return _power_of_two_above(step) if levels.power_of_two else step


def _power_of_two_above(step: F64) -> F64:
    """The smallest power of two that is at least ``step``; 0 stays 0."""
    mantissa, exponent = np.frexp(step)
    return np.where(step > 0, np.ldexp(1.0, np.where(mantissa == 0.5, exponent - 1, exponent)), 0.0)


def choose_steps(values: NDArray[Any], levels: Levels, rule: str, percentile: float = 99.99) -> F64:
    """A step for each row.

    * ``minmax``: nothing of the row saturates.
    * ``percentile``: the ``percentile`` of the row does not saturate, on signed grids on either side.
    * ``mse``: least squared error of the row (Shin et al. 2016, arXiv 1512.01322, and many since), among ten
      power-of-two steps or a hundred steps of float32.
    * ``kl``: least Kullback-Leibler divergence of the histogram of magnitudes, with the outliers at its end, from
      that of the levels (Migacz 2017, "8-bit inference with TensorRT"). Zeros, which every grid holds, are left out.

    Args:
        values: (rows, n), finite. levels: of the grid. percentile: above 50, at most 100.

    Returns:
        (rows,) positive float64; 1 for a row of zeros. Powers of two where ``levels`` asks for them, else float32.

    Raises:
        ConfigError: an unknown rule or percentile. DataError: no values, or values that are not finite.
    """
    if rule not in RULES:
        raise ConfigError(f"range = {rule!r}: choose one of {', '.join(RULES)}.")
    if not 50.0 < percentile <= 100.0:
        raise ConfigError(f"percentile = {percentile}: it is above 50 and at most 100; 99.99 is usual.")
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 2 or data.shape[1] == 0 or not np.isfinite(data).all():
        raise DataError(f"values of shape {data.shape}: rows of one or more finite numbers are needed; calibrate anew.")
    widest = covering_step(data.min(axis=1), data.max(axis=1), levels)
    steps = widest
    if rule == "percentile":
        low, high = np.percentile(data, [100.0 - percentile, percentile], axis=1)
        found = covering_step(low, high, levels)
        steps = np.where(found > 0, found, widest)
    elif rule == "mse" or (rule == "kl" and levels.binary):
        steps = _least_squares(data, levels, widest)
    elif rule == "kl":
        steps = np.array([_least_divergence(row, levels, step) for row, step in zip(data, widest, strict=True)])
    steps = np.where(steps > 0, steps, 1.0)
    return steps if levels.power_of_two else steps.astype(np.float32).astype(np.float64)


def candidates(widest: F64, levels: Levels) -> list[F64]:
    """Steps to try for each row, the widest first."""
    if levels.power_of_two:
        return [widest / 2.0**finer for finer in range(FINER)]
    return [widest * (part / CANDIDATES) for part in range(CANDIDATES, 2, -1)]


def _least_squares(data: F64, levels: Levels, widest: F64) -> F64:
    best, choice = np.full(len(data), np.inf), widest.copy()
    for steps in candidates(widest, levels):
        usable = np.where(steps > 0, steps, 1.0)[:, None]
        error = np.square(levels.nearest(data, usable) - data).sum(axis=1)
        better = error < best
        best, choice = np.where(better, error, best), np.where(better, steps, choice)
    return choice


def _least_divergence(row: F64, levels: Levels, widest: float) -> float:
    magnitudes = np.abs(row if levels.low < 0 else np.maximum(row, 0.0))
    magnitudes = magnitudes[magnitudes > 0]
    if magnitudes.size == 0 or widest == 0:
        return float(widest)
    largest = float(magnitudes.max())
    counts = np.histogram(magnitudes, bins=BINS, range=(0.0, largest))[0].astype(np.float64)
    width, reach = largest / BINS, levels.count - 1
    best, choice = np.inf, float(widest)
    for step in candidates(np.array([widest]), levels):
        bins = round(float(step[0]) * max(reach, 1) / width)
        if bins < levels.count:
            break  # fewer bins than levels: nothing to compare
        found = divergence(counts, bins, levels.count)
        if found < best:
            best, choice = found, float(step[0])
    return choice


def divergence(counts: F64, bins: int, levels: int) -> float:
    """The divergence of a histogram that is cut after ``bins`` bins from what ``levels`` levels keep of it.

    The reference is the first ``bins`` counts with all later ones added to the last; the kept one is the first
    ``bins`` counts, averaged over the bins that are not empty within each of ``levels`` equal parts.
    """
    head = np.zeros(bins)
    inside = min(bins, len(counts))
    head[:inside] = counts[:inside]
    reference = head.copy()
    reference[-1] += counts[inside:].sum()
    part = np.minimum(np.arange(bins) * levels // bins, levels - 1)
    filled = (reference > 0).astype(np.float64)
    total = np.bincount(part, weights=head, minlength=levels)
    share = np.bincount(part, weights=filled, minlength=levels)
    kept = filled * (total / np.maximum(share, 1.0))[part]
    p, q = reference / reference.sum(), kept / max(kept.sum(), 1e-300)
    used = p > 0
    return float(np.sum(p[used] * np.log(p[used] / np.maximum(q[used], 1e-12))))
