"""Sharpness-aware against plain fine-tuning: validation Dice of runs that differ in ``train.sharpness`` and seed only.

``python scripts/sharpness_table.py RUN …``

Reads run folders alone: the merged config and the last validation of the low-bit stage (integer arithmetic, whole
slices; no best one is chosen). Runs of one seed are a pair: they share everything but the method. Prints Markdown: Dice
in points of 100, mean over seeds, and the paired difference with its 95 % Student t interval over seeds. Runs that
are not finished and seeds without a plain partner are named below the table and not counted.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unetq.errors import UnetqError
from unetq.runs import CONFIG, HISTORY, read_experiment
from unetq.statistics import t_interval

PLAIN, MEAN = "none", "mean"
ONE_PARENT = (
    "All seeds tune one float network (`train.from_run`): the intervals tell how the order of the data and the crops "
    "move the difference, not how another float network would."
)


@dataclass(frozen=True)
class Trained:
    """One finished run.

    Attributes:
        setting: its config without seed and sharpness, as JSON.
        parent: the float run it was tuned from, "" where it trained its own.
        dice: 0…1 by class, and ``MEAN`` of them.
    """

    name: str
    bits: str
    method: str
    seed: int
    setting: str
    parent: str
    dice: dict[str, float]


def read(path: Path) -> Trained | None:
    """The run, None where its low-bit stage has not come to its last step."""
    experiment = read_experiment(path)
    history = path / HISTORY
    entries = (
        [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()] if history.is_file() else []
    )
    last = [entry for entry in entries if entry["stage"] == "quant" and entry["step"] == experiment.train.quant_steps]
    if not last or "dice" not in last[-1]:
        return None
    config = experiment.model_dump(mode="json")
    config.pop("seed")
    method = config["train"].pop("sharpness")["method"]
    dice = last[-1]["dice"]
    return Trained(
        path.resolve().name,
        f"W{experiment.quant.weight_bits}A{experiment.quant.act_bits}",
        method,
        experiment.seed,
        json.dumps(config, sort_keys=True),
        str(experiment.train.from_run or ""),
        {**dice, MEAN: sum(dice.values()) / len(dice)},
    )


def pairs_of(runs: Sequence[Trained]) -> tuple[dict[tuple[str, str], list[tuple[Trained, Trained]]], list[str]]:
    """(plain, other) by (bits, other method), seeds ascending; and what found no partner, in words.

    Raises:
        ValueError: two runs of one setting, method and seed.
    """
    plain: dict[tuple[str, int], Trained] = {}
    others: dict[tuple[str, int, str], Trained] = {}
    for run in runs:
        twice: Any
        if run.method == PLAIN:
            twice = plain.setdefault((run.setting, run.seed), run)
        else:
            twice = others.setdefault((run.setting, run.seed, run.method), run)
        if twice is not run:
            raise ValueError(f"{twice.name} and {run.name} are one setting and one seed; give one of them")
    found: dict[tuple[str, str], list[tuple[Trained, Trained]]] = {}
    alone = []
    for (setting, seed, method), run in sorted(others.items(), key=lambda item: (item[1].bits, item[0][1])):
        partner = plain.get((setting, seed))
        if partner is None:
            alone.append(f"{run.name} (no plain run of its setting and seed)")
        else:
            found.setdefault((run.bits, method), []).append((partner, run))
    used = {pair[0].name for pairs in found.values() for pair in pairs}
    alone += [f"{run.name} (no other method beside it)" for run in plain.values() if run.name not in used]
    return found, alone


def _difference(values: Sequence[float]) -> str:
    found = t_interval(values)
    mean = f"{100 * float(np.mean(values)):+.2f}"
    return (
        mean
        if found.low is None or found.high is None
        else f"{mean} ({100 * found.low:+.2f} to {100 * found.high:+.2f})"
    )


def table(pairs: dict[tuple[str, str], list[tuple[Trained, Trained]]]) -> str:
    """The Markdown: seeds, then their mean, for each bit width, method and class."""
    lines = ["| bits | class | seed | plain | method | Dice | difference (95 %) |", "|---|---|---|---:|---|---:|---:|"]
    decided = []
    for (bits, method), items in sorted(pairs.items(), reverse=True):
        for label in items[0][0].dice:
            columns = [[pair[place].dice[label] for pair in items] for place in (0, 1)]
            gaps = [after - before for before, after in zip(*columns, strict=True)]
            for (before, after), gap in zip(items, gaps, strict=True):
                dice = f"{100 * before.dice[label]:.2f} | {method} | {100 * after.dice[label]:.2f}"
                lines.append(f"| {bits} | {label} | {before.seed} | {dice} | {100 * gap:+.2f} |")
            mean = [f"**{100 * float(np.mean(column)):.2f}**" for column in columns]
            seeds = f"mean of {len(items)}"
            lines.append(f"| {bits} | {label} | {seeds} | {mean[0]} | {method} | {mean[1]} | **{_difference(gaps)}** |")
            interval = t_interval(gaps)
            if interval.low is not None and interval.high is not None and not interval.low <= 0 <= interval.high:
                decided.append(f"{method} {'above' if interval.low > 0 else 'below'} plain at {bits}, {label}")
    lines += ["", f"Intervals that leave 0 out: {'; '.join(decided) or 'none'}."]
    return "\n".join(lines)


def main() -> int:
    """Print the table; 2 where a run cannot be read or there is no pair."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    try:
        runs, left_out = [], []
        for path in parser.parse_args().runs:
            if not (path / CONFIG).is_file() and not path.is_dir():
                continue  # a log beside the runs, by a glob
            found = read(path)
            if found is None:
                left_out.append(f"{path.name} (not finished)")
            else:
                runs.append(found)
        pairs, alone = pairs_of(runs)
    except (UnetqError, OSError, ValueError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    left_out += alone
    if pairs:
        print(table(pairs))
        if len({run.parent for run in runs} - {""}) == 1 and all(run.parent for run in runs):
            print(f"\n{ONE_PARENT}")
    if left_out:
        print(f"\nLeft out: {', '.join(left_out)}.")
    if not pairs:
        print("error: no pair of a plain and a sharpness-aware run of one seed", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
