"""``python scripts/compress_acceptance.py RUN OUT``: budgets on a trained float run, against equal and random widths.

RUN is a float run (such as of ``unetq train em --weight-bits 32 --act-bits 32``). In OUT it makes

- ``drop``: the smallest file within ``--max-dice-drop`` points of float;
- ``size``: the best file within ``--target-size``;
- ``acceptance.json``: both, the refusal of a pair of budgets that cannot be, and at the size of ``size`` the validation
  Dice of equal widths and of ``--draws`` random ones, packed and scored alike, without fine-tuning.

With ``--effort hour`` the first two are fine-tuned; the baselines stay as they are, and are compared with the choice
before its fine-tuning.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from unetq import files
from unetq.compress.baselines import random_within, uniform_within
from unetq.compress.budget import Budget, BudgetError, parse_bytes
from unetq.compress.job import Job
from unetq.compress.options import EFFORTS, Wishes, parse_widths
from unetq.compress.run import compress
from unetq.compress.source import open_start
from unetq.compress.space import Allocation
from unetq.errors import UnetqError
from unetq.ptq.network import Options


def tell(line: str) -> None:
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


def refusal(run: Path, out: Path, options: dict[str, Any]) -> str:
    """What is said of a pair of budgets that no choice meets."""
    try:
        compress(run, out, Wishes(target_size="10KB", max_memory="10KB"), **options)
    except BudgetError as error:
        return str(error)
    raise SystemExit("10 KB of file and of memory were met: this network is too small for this script.")


def baselines(run: Path, out: Path, target: int, chosen: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    """Dice and bytes at one target: the solver's choice, equal widths, and random ones."""
    level = EFFORTS[given.effort]
    start = open_start(run, {}, Options(seed=given.seed), given.samples or level.samples, given.data)
    job = Job(start, Budget(size=target), EFFORTS["minutes"], out, parse_widths(given.bits), "divergence", tell)
    space = job.bench.space
    ours = Allocation({v: chosen["bits"][v[0]][v[1]] for v in space.choices})
    every = {"chosen": ours, "uniform": uniform_within(space, job.size, target)}
    every |= {f"random {seed}": random_within(space, job.size, target, seed) for seed in range(given.draws)}
    found: dict[str, Any] = {}
    for name, allocation in every.items():
        if allocation is not None:
            score = job.score(allocation)
            found[name] = {"bytes": job.size.predict(allocation), "mean_dice": score.mean, "dice": dict(score.dice)}
            tell(f"{name}: {found[name]['bytes']} bytes, Dice {score.mean:.4f}")
    return found


def main() -> None:
    """Make everything, write ``acceptance.json``, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--max-dice-drop", type=float, default=0.5)
    parser.add_argument("--target-size", default="0.8MB")
    parser.add_argument("--effort", choices=sorted(EFFORTS), default="minutes")
    parser.add_argument("--bits", default="1,2,3,4,5,6,8")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path)
    given = parser.parse_args()
    options = {
        "effort": given.effort, "widths": parse_widths(given.bits), "seed": given.seed, "samples": given.samples,
        "data": given.data, "tell": tell,
    }  # fmt: skip
    given.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"refusal": refusal(given.run, given.out / "impossible", options)}
    drop = compress(given.run, given.out / "drop", Wishes(max_dice_drop=given.max_dice_drop), **options)
    size = compress(given.run, given.out / "size", Wishes(target_size=given.target_size), **options)
    found |= {name: record["chosen"] | {"float": record["float"]} for name, record in (("drop", drop), ("size", size))}
    target = parse_bytes(given.target_size, "--target-size")
    found["baselines"] = baselines(given.run, given.out / "none", target, size["chosen"], given)
    files.write_json(given.out / "acceptance.json", found)
    print((given.out / "acceptance.json").read_text())


if __name__ == "__main__":
    try:
        main()
    except UnetqError as error:
        sys.exit(f"error: {error}")
