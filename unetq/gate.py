"""The gate: is the low-bit network no worse than its float one, by more than a stated margin of Dice?

A non-inferiority test, a class at a time, over the units of ``metrics.json`` (cases; slices where a split has one
volume). With d the integer Dice less the float reference's of a unit, in points (hundredths), and [low, high] the
95 % interval of its mean:

    pass          low > -margin        (one-sided at 97.5 %)
    fail          high <= -margin
    cannot tell   the margin lies within the interval, or fewer than ``FEWEST`` units

The interval is the wider of two: the BCa bootstrap of ``unetq.statistics`` (percentiles where BCa is not defined),
which follows skewed differences, and below ``SMALL`` units Student's t, since a bootstrap of few units is too narrow
(simulated, normal differences on the margin: 10 units pass BCa alone in 5 % of trials, both in 2.3 %). A few large
losses among small differences remain the hard case (gamma of shape 1.5: 11 % at 6 units, 6 % at 20, 4 % at 50), which
is why the worst units are shown. No test without a model of the distribution can reach 97.5 % with five units, since
2**-5 > 0.025: six are the fewest. All classes have to pass, so nothing is corrected for their number (an
intersection-union test: Berger 1982, Technometrics 24, 295).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from scipy import stats

from .errors import ConfigError, DataError
from .gate_input import Pair, Pairs, read_pairs
from .statistics import CONFIDENCE, interval

FEWEST = 6
SMALL = 50
RESAMPLES = 10_000
POWER = 0.8
SHOWN = 5
MOST = 1_000_000
PASS, FAIL, UNKNOWN = "pass", "fail", "cannot tell"
EXIT_CODES = {PASS: 0, FAIL: 1, UNKNOWN: 2}
"""What ``unetq gate`` leaves with. Errors have the codes of ``unetq.errors``; those are no verdict either."""


@dataclass(frozen=True)
class Bounds:
    """The 95 % interval of a mean, and how it was made."""

    low: float
    high: float
    method: str


def bounds(values: Sequence[float], seed: int = 0) -> Bounds | None:
    """The interval of the mean of ``values``, at least two; None where there is none. Repeatable by ``seed``."""
    found = interval(values, RESAMPLES, seed)
    if found.low is None or found.high is None:
        return None
    if len(values) >= SMALL:
        return Bounds(found.low, found.high, found.method)
    data = np.asarray(values, np.float64)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(data) - 1) * data.std(ddof=1) / math.sqrt(len(data)))
    mean = float(data.mean())
    method = f"the wider of {found.method} and Student's t"
    return Bounds(min(found.low, mean - reach), max(found.high, mean + reach), method)


def units_needed(values: Sequence[float], margin: float) -> int | None:
    """How many units would tell, were their mean and spread those of ``values``; None where none would.

    The usual normal formula, n = ((z_0.975 + z_0.8) sd / |mean + margin|)**2: four times of five it then does.
    """
    if len(values) < 2:
        return FEWEST
    data = np.asarray(values, np.float64)
    gap, spread = abs(float(data.mean()) + margin), float(data.std(ddof=1))
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) + NormalDist().inv_cdf(POWER)
    if spread == 0:
        return FEWEST
    if gap * math.sqrt(MOST) < z * spread:
        return None
    return max(FEWEST, math.ceil((z * spread / gap) ** 2))


def judge(pairs: Sequence[Pair], margin: float, unit: str = "case", seed: int = 0) -> dict[str, Any]:
    """One class's verdict.

    Args:
        pairs: Dice of a unit in both arithmetics, 0 to 1.
        margin: points of Dice, above 0.
        unit: what a pair is, "case" or "slice".

    Returns:
        {"verdict", "reason", "units", "integer", "float_reference", "difference", "low", "high", "method", "needed",
        "worst"}: all Dice in points, None where there is none; ``needed`` is the number of units that would tell.
    """
    changes = [100 * (pair.integer - pair.reference) for pair in pairs]
    n = len(changes)
    found = bounds(changes, seed) if n >= FEWEST else None
    verdict, reason, needed = UNKNOWN, "", None
    if n < FEWEST or found is None:
        needed = units_needed(changes, margin)
        reason = f"{_count(n, unit)}: at least {FEWEST} are needed"
        if needed is None:
            reason += "; the mean lies on the margin, so that no number of them may tell"
        elif needed > FEWEST:
            reason += f", and about {needed} with this mean and spread"
    elif found.low > -margin:
        verdict, reason = PASS, f"the mean is above {-margin:g} with 97.5 % confidence"
    elif found.high <= -margin:
        verdict, reason = FAIL, f"the mean is not above {-margin:g}, with 97.5 % confidence"
    else:
        needed = units_needed(changes, margin)
        needed = None if needed is None else max(needed, n + 1)
        told = (
            "no number of them may tell" if needed is None else f"about {needed} would tell with this mean and spread"
        )
        reason = f"the interval spans {-margin:g}: {_count(n, unit)} do not tell; {told}"
    worst = sorted(pairs, key=lambda pair: pair.integer - pair.reference)[:SHOWN]
    return {
        "verdict": verdict,
        "reason": reason,
        "units": n,
        "integer": _points([pair.integer for pair in pairs]),
        "float_reference": _points([pair.reference for pair in pairs]),
        "difference": float(np.mean(changes)) if changes else None,
        "low": None if found is None else found.low,
        "high": None if found is None else found.high,
        "method": "" if found is None else found.method,
        "needed": needed,
        "worst": [
            {
                "id": pair.id,
                "site": pair.site,
                "integer": 100 * pair.integer,
                "float_reference": 100 * pair.reference,
                "difference": 100 * (pair.integer - pair.reference),
            }
            for pair in worst
        ],
    }


def gate(
    run: Path,
    margin: float,
    classes: Sequence[str] = (),
    split: str = "validation",
    *,
    evaluate: bool = False,
    data: Path | None = None,
) -> dict[str, Any]:
    """Judge a run by its ``metrics.json``; with ``evaluate`` that file is made anew first, from ``data``.

    Args:
        margin: points of Dice, above 0 and at most 100.
        classes: labels to be judged; none means all but the background.

    Returns:
        {"schema", "run", "split", "unit", "margin", "verdict", "exit_code", "classes", "notes"}, plain JSON: the
        verdict is the worst of the classes', "fail" before "cannot tell" before "pass"; ``classes`` as ``judge``.

    Raises:
        ConfigError: a margin out of range, or a class or split that there is not.
        CheckpointError: not a run folder, or a ``metrics.json`` that is damaged, of another checkpoint than the
            run's, of an earlier version, or without the float reference.
        DataError: an evaluation of no cases; with ``evaluate`` also what ``unetq.evaluate`` raises.
    """
    if not 0 < margin <= 100:
        raise ConfigError(f"--margin {margin:g}: a margin is in points of Dice, above 0 and at most 100; write 0.5.")
    if data is not None and not evaluate:
        raise ConfigError("--data is where an evaluation takes its images from; add --evaluate, or leave it out.")
    if evaluate:
        from .evaluate import evaluate as score

        score(run, split, "integer", data)
    found = read_pairs(run, split, classes)
    if not any(found.classes.values()):
        raise DataError(f"{found.path} has no {found.unit} with a Dice in split {split!r}: there is nothing to judge.")
    judged = {label: judge(pairs, margin, found.unit, found.seed) for label, pairs in found.classes.items()}
    verdicts = {result["verdict"] for result in judged.values()}
    verdict = next(word for word in (FAIL, UNKNOWN, PASS) if word in verdicts)
    return {
        "schema": 1,
        "run": found.run,
        "split": split,
        "unit": found.unit,
        "margin": margin,
        "verdict": verdict,
        "exit_code": EXIT_CODES[verdict],
        "classes": judged,
        "notes": _notes(found),
    }


def describe(found: dict[str, Any]) -> str:
    """``gate``'s result as plain text: a row a class, its reason, its worst units."""
    unit = found["unit"]
    head = (
        f"{found['run']}: integer against float32 on split {found['split']}, margin {found['margin']:g} points of Dice"
    )
    rows = [["class", f"{unit}s", "float32", "integer", "difference [95 %]", "verdict"]]
    for label, result in found["classes"].items():
        cells = [label, str(result["units"]), _number(result["float_reference"]), _number(result["integer"])]
        rows.append([*cells, _difference(result), result["verdict"]])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [f"{head}: {found['verdict'].upper()}"]
    lines += ["  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    for label, result in found["classes"].items():
        lines.append(f"  {label}: {result['verdict']}, {result['reason']}")
        worst = (f"{item['id']} {item['difference']:+.2f}" for item in result["worst"])
        if result["worst"]:
            lines.append(f"    worst {unit}s: {', '.join(worst)}")
    return "\n".join([*lines, *(f"  note: {note}" for note in found["notes"])])


def _notes(found: Pairs) -> list[str]:
    notes = list(found.notes)
    for label, count in found.undefined.items():
        if count:
            notes.append(f"{label}: {_count(count, found.unit)} without it in truth and both masks, left out")
    return notes


def _count(n: int, unit: str) -> str:
    return f"{n} {unit}{'' if n == 1 else 's'}"


def _points(values: Sequence[float]) -> float | None:
    return 100 * float(np.mean(values)) if values else None


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _difference(result: dict[str, Any]) -> str:
    if result["difference"] is None:
        return "–"
    text = f"{result['difference']:+.2f}"
    return text if result["low"] is None else f"{text} [{result['low']:+.2f}, {result['high']:+.2f}]"
