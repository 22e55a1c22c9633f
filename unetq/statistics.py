"""How sure a mean is: bootstrap intervals over cases, and a paired test of two arithmetics. NumPy and SciPy.

Intervals are BCa (Efron 1987), or plain percentiles where BCa is not defined: all resamples alike, or a jackknife
without spread. Fewer than ``FEWEST`` values give none. The paired test is Wilcoxon's signed-rank test, two-sided,
exact for few values; the difference's interval is the same bootstrap over the differences.
Over seeds, of which there are a handful, intervals are Student's t: a bootstrap of three values has no spread to show.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special, stats

CONFIDENCE = 0.95
FEWEST = 3
FEWEST_FOR_P = 6
"""2 / 2**5 = 0.0625: with five differences no two-sided p is below 0.05."""
MOST_EXACT = 50
MOST_PERMUTED = 13
FEW = 10
TOO_NARROW = f"bootstrap intervals of fewer than {FEW} values are narrower than they should be"
ONE_PAIR = "one pair: no interval, no test"
NO_INTERVAL = f"fewer than {FEWEST} values: no interval"


@dataclass(frozen=True)
class Interval:
    """95 % of a mean; ``method`` is "BCa", "percentile" or "t", "" where there is none."""

    low: float | None
    high: float | None
    method: str


def interval(values: Sequence[float], samples: int = 2000, seed: int = 0) -> Interval:
    """The bootstrap interval of the mean of ``values`` (units, such as cases); repeatable by ``seed``."""
    data = np.asarray(values, np.float64)
    if len(data) < FEWEST:
        return Interval(None, None, "")
    if np.ptp(data) == 0:
        return Interval(float(data[0]), float(data[0]), "percentile")
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # a degenerate BCa says so and gives NaN
            found = stats.bootstrap(
                (data,),
                np.mean,
                n_resamples=samples,
                vectorized=True,
                confidence_level=CONFIDENCE,
                method=method,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        if np.isfinite(found.low) and np.isfinite(found.high):
            return Interval(float(found.low), float(found.high), method)
    return Interval(None, None, "")


def t_interval(values: Sequence[float]) -> Interval:
    """Student's 95 % interval of the mean of ``values`` (seeds), taken as normal; none of fewer than two."""
    data = np.asarray(values, np.float64)
    if len(data) < 2:
        return Interval(None, None, "")
    half = float(special.stdtrit(len(data) - 1, (1 + CONFIDENCE) / 2) * data.std(ddof=1) / np.sqrt(len(data)))
    return Interval(float(data.mean()) - half, float(data.mean()) + half, "t")


def describe_mean(values: Sequence[float | None], samples: int, seed: int) -> dict[str, Any]:
    """``{"mean", "low", "high", "cases", "undefined"}`` of what is defined of ``values``, as ``metrics.json`` has it.

    ``method`` is added where the interval is not BCa.
    """
    defined = [value for value in values if value is not None]
    found = interval(defined, samples, seed)
    record: dict[str, Any] = {
        "mean": float(np.mean(defined)) if defined else None,
        "low": found.low,
        "high": found.high,
        "cases": len(defined),
        "undefined": len(values) - len(defined),
    }
    return record | ({"method": found.method} if found.method == "percentile" else {})


def paired(a: Sequence[float], b: Sequence[float], samples: int = 2000, seed: int = 0) -> dict[str, Any]:
    """``a - b`` over matched units: mean difference with its interval, and Wilcoxon's two-sided p.

    Returns:
        {"difference", "low", "high", "p", "test", "n"} and "note" where something is to be said of it. All numbers
        None where there are no pairs, p None of a single one.
    """
    differences = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    n = len(differences)
    if n == 0:
        return {"difference": None, "low": None, "high": None, "p": None, "test": "", "n": 0, "note": "no pairs"}
    found = interval(differences.tolist(), samples, seed)
    p: float | None
    p, test, notes = (None, "", [ONE_PAIR]) if n == 1 else _wilcoxon(differences)
    if 1 < n < FEWEST:
        notes.append(NO_INTERVAL)
    record = {
        "difference": float(differences.mean()),
        "low": found.low,
        "high": found.high,
        "p": p,
        "test": test,
        "n": n,
    }
    return record | ({"note": "; ".join(notes)} if notes else {})


def _wilcoxon(differences: Any) -> tuple[float, str, list[str]]:
    """p, the name of the test, and remarks; zeros are left out, as Wilcoxon did."""
    moved = differences[differences != 0]
    left_out = len(differences) - len(moved)
    notes = [f"{left_out} of {len(differences)} differences are zero and left out of the test"] if left_out else []
    name = "Wilcoxon signed-rank, two-sided"
    if len(moved) == 0:
        return 1.0, f"{name}, exact", notes
    if len(moved) < FEWEST_FOR_P:
        smallest = 2.0 ** (1 - len(moved))
        notes.append(f"n = {len(moved)}: p cannot be below {smallest:g}, so it cannot reach 0.05")
    ties = len(np.unique(np.abs(moved))) < len(moved)
    method: Any
    if not ties and len(moved) <= MOST_EXACT:
        method, how = "exact", "exact"
    elif len(moved) <= MOST_PERMUTED:
        method, how = stats.PermutationMethod(n_resamples=np.inf), "exact by permutation (ties)"
    else:
        method, how = "asymptotic", "normal approximation"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        p = float(stats.wilcoxon(moved, method=method).pvalue)
    return min(p, 1.0), f"{name}, {how}", notes
