"""A table of runs that differ in their quantiser: validation Dice, file size, speed.

``python scripts/methods_table.py RUN …``

Reads run folders alone: the merged config, the last validation of the low-bit stage (integer arithmetic, whole slices)
and, for its size, the model file that the run exports to. Prints Markdown.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from unetq.errors import UnetqError
from unetq.export.run import export
from unetq.runs import open_run


def _history(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text(encoding="utf-8").splitlines() if line]


def _row(path: Path) -> tuple[tuple[Any, ...], list[str], list[str]]:
    """A sort key, the labels, and the cells of a run."""
    experiment = open_run(path).experiment
    steps = [entry for entry in _history(path) if entry["stage"] == "quant"]
    dice = max((entry["dice"] for entry in steps if "dice" in entry), key=lambda found: sum(found.values()))
    with tempfile.TemporaryDirectory() as folder:
        size = export(path, Path(folder) / "m.uqm")["bytes"]
    quant, train = experiment.quant, experiment.train
    name = quant.title if hasattr(quant, "title") else quant.method
    if train.distill.is_on:
        name += ", distilled"
    seconds = steps[-1]["seconds"] / steps[-1]["step"]
    cells = [name, f"W{quant.weight_bits}A{quant.act_bits}", *(f"{100 * value:.2f}" for value in dice.values())]
    cells += [f"{100 * sum(dice.values()) / len(dice):.2f}", f"{size:,}", str(steps[-1]["step"]), f"{seconds:.2f}"]
    return (name, -quant.weight_bits, -quant.act_bits), list(dice), cells


def main() -> int:
    """Print the table; 2 where a run cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    try:
        rows = sorted(_row(path) for path in parser.parse_args().runs)
    except (UnetqError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    head = ["method", "bits", *rows[0][1], "mean", "file bytes", "steps", "s a step"]
    print("| " + " | ".join(head) + " |")
    print("|---|---|" + "---:|" * (len(head) - 2))
    for _, _, cells in rows:
        print("| " + " | ".join(cells) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
