"""One table of the folds of a cross-validation: every held-out volume once, and the mean over persons.

``python scripts/folds_table.py RUN … [--reference RUN …] [--label "grey matter"]``

Each RUN is one fold, evaluated (``unetq evaluate RUN``). Its validation split is the fold that it never trained on.
Reads ``metrics.json`` alone and prints Markdown: volume Dice (voxels of all slices pooled) in points of 100 of the
float network and of the low-bit one in integer arithmetic. A person's volumes are averaged before persons are:
scans of one person resemble each other. With ``--reference``, float runs of the same folds stand in for the float
networks that the low-bit ones were tuned from. Intervals are bootstraps over persons (``unetq.statistics``).
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unetq.statistics import describe_mean, paired

SAMPLES, SEED = 10_000, 0


@dataclass(frozen=True)
class Volume:
    """One held-out volume: Dice 0…1 of both networks, millilitres of the truth and of the low-bit mask."""

    id: str
    subject: str
    site: str
    slices: int
    low: float
    reference: float
    truth_ml: float
    mask_ml: float


def _records(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["splits"]["validation"]
    return found


def _dice(record: dict[str, Any], label: str) -> dict[str, float]:
    """Volume Dice by volume."""
    if record["unit"] == "case":
        return {case["volume"]: case["classes"][label]["dice"] for case in record["cases"]}
    return {record["cases"][0]["volume"]: record["volume_dice"][label]}  # slices of one volume: their voxels pooled


def _volumes(run: Path, label: str, references: dict[str, float] | None) -> list[Volume]:
    records = _records(run)
    low = records["integer"]
    others = _dice(records["float_reference"], label) if references is None else references
    found = []
    for name, dice in _dice(low, label).items():
        cases = [case for case in low["cases"] if case["volume"] == name]
        ml = [sum(case["classes"][label][key] for case in cases) for key in ("true_volume_ml", "volume_ml")]
        number = sum(case["slices"] for case in cases)
        found.append(Volume(name, cases[0]["subject"], cases[0]["site"], number, dice, others[name], ml[0], ml[1]))
    return found


def _by_person(volumes: Sequence[Volume]) -> tuple[list[float], list[float]]:
    people = sorted({volume.subject for volume in volumes})
    means = [
        [float(np.mean([getattr(v, key) for v in volumes if v.subject == who])) for who in people]
        for key in ("low", "reference")
    ]
    return means[0], means[1]


def _mean(values: Sequence[float]) -> str:
    found = describe_mean(values, SAMPLES, SEED)
    if found["low"] is None:
        return f"**{100 * found['mean']:.2f}**"
    return f"**{100 * found['mean']:.2f}** ({100 * found['low']:.2f} to {100 * found['high']:.2f})"


def table(volumes: Sequence[Volume]) -> str:
    """The Markdown."""
    lines = [
        "| volume | person | site | slices | float | low-bit | difference | true ml | low-bit ml |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for v in volumes:
        dice = f"{100 * v.reference:.2f} | {100 * v.low:.2f} | {100 * (v.low - v.reference):+.2f}"
        lines.append(f"| {v.id} | {v.subject} | {v.site} | {v.slices} | {dice} | {v.truth_ml:.3f} | {v.mask_ml:.3f} |")
    low, reference = _by_person(volumes)
    test: dict[str, Any] = paired(low, reference, SAMPLES, SEED)
    gap = f"**{100 * test['difference']:+.2f}**"
    if test["low"] is not None:
        gap += f" ({100 * test['low']:+.2f} to {100 * test['high']:+.2f})"
    lines.append(f"| mean of {len(low)} persons | | | | {_mean(reference)} | {_mean(low)} | {gap} | | |")
    remark = test.get("note", "")
    if test["p"] is not None:
        remark = f"p = {test['p']:.3g} ({'; '.join(filter(None, (test['test'], remark)))})"
    lines += ["", f"Low-bit against float over persons: {remark}."]
    return "\n".join(lines)


def main() -> int:
    """Print the table; 2 where a run cannot be read or a volume comes twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--label", default="grey matter", help="the class that is tabled")
    parser.add_argument("--reference", nargs="+", type=Path, help="evaluated float runs of the same folds")
    given = parser.parse_args()
    try:
        other: dict[str, float] | None = None if given.reference is None else {}
        for run in given.reference or ():
            other = {**(other or {}), **_dice(_records(run)["float"], given.label)}
        volumes = [volume for run in given.runs for volume in _volumes(run, given.label, other)]
    except (OSError, ValueError, KeyError) as error:
        print(f"error: not an evaluated run of both networks with class {given.label!r}: {error!r}", file=sys.stderr)
        return 2
    twice = sorted({v.id for v in volumes if sum(v.id == other.id for other in volumes) > 1})
    if twice:
        print(f"error: {', '.join(twice)} held out by two of the runs; give each fold once.", file=sys.stderr)
        return 2
    print(table(sorted(volumes, key=lambda v: (v.subject, v.id))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
