"""``python scripts/compress_acceptance.py RUN OUT``: budgets on a trained float run, against equal and random widths.

RUN is a float run (such as of ``unetq train em --weight-bits 32 --act-bits 32``). In OUT it makes, part by part
(``--only``; a part that is there is not made again, and one that was interrupted goes on):

- ``refusal``: what is said of a pair of budgets that no choice meets;
- ``drop``: the smallest file within ``--max-dice-drop`` points of float; ``size``: the best file of ``--target-size``;
- ``joint``: the best file of that size within ``--max-memory`` and ``--max-latency``; where neither is given, 0.9 of
  what 8 bits everywhere take of both;
- ``untuned``: in the budgets of ``drop`` (its size), ``size`` and ``joint`` (without its latency), and for W4A6, the
  validation Dice before fine-tuning of the chosen widths, of equal widths inside and above, and of ``--draws`` random
  allocations;
- ``tuned``: of these the ones whose names begin with one of ``--tune``, fine-tuned by as many steps as the file that
  they are compared with.

``acceptance.json`` and standard output have it all: files with what was predicted of them against what they take, and
the criteria, met or not.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unetq import files
from unetq.compress.baselines import equal_within, ordinary, random_within, uniform_above
from unetq.compress.budget import Budget, parse_bytes
from unetq.compress.finished import finished
from unetq.compress.job import Job
from unetq.compress.latency import RUNS, layer_times
from unetq.compress.memory import MemoryModel
from unetq.compress.options import EFFORTS, Wishes, parse_widths
from unetq.compress.planner import Planner
from unetq.compress.run import compress
from unetq.compress.source import open_start
from unetq.compress.space import Allocation
from unetq.compress.tune import tune
from unetq.compress.workbench import Packed
from unetq.errors import BudgetError, ConfigError, UnetqError
from unetq.ptq.network import Options

PARTS = ("refusal", "drop", "size", "joint", "untuned", "tuned")
COMPARED = ("drop", "size", "joint")
TUNED = "W4A6,drop: equal,size: equal,joint: equal"
JOINT = 0.9
LATENCY_WITHIN = 0.15
SMALLER = 1.3


def tell(line: str) -> None:
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


@dataclass
class Acceptance:
    """One call of the script; ``found`` is what ``acceptance.json`` holds."""

    given: argparse.Namespace
    found: dict[str, Any]

    def keep(self) -> None:
        """Write what there is so far."""
        files.write_json(self.given.out / "acceptance.json", self.found)

    def job(self) -> Job:
        """A job that measures allocations alone."""
        given, level = self.given, EFFORTS[self.given.effort]
        start = open_start(
            given.run,
            {},
            Options(seed=given.seed),
            level.samples if given.samples is None else given.samples,
            given.data,
        )
        out = given.out / "baselines" / "model"
        return Job(start, Budget(size=self.target), level, out, parse_widths(given.bits), "divergence", tell)

    @property
    def target(self) -> int:
        """Bytes of ``--target-size``."""
        return parse_bytes(self.given.target_size, "--target-size")

    @property
    def tune(self) -> tuple[str, ...]:
        """The beginnings of names in ``--tune``."""
        return tuple(start.strip() for start in self.given.tune.split(",") if start.strip())

    def compressed(self, name: str, wishes: Callable[[], Wishes], effort: str | None = None) -> dict[str, Any]:
        """``OUT/name``, made unless it is there: the record of it."""
        given, out = self.given, self.given.out / name
        record = out / "compress.json"
        if not record.is_file():
            tell(f"== {name}")
            compress(
                given.run, out, wishes(), effort=effort or given.effort, widths=parse_widths(given.bits),
                seed=given.seed, samples=given.samples, data=given.data, tell=tell,
                command=" ".join(["python scripts/compress_acceptance.py", *sys.argv[1:]]),
            )  # fmt: skip
        kept: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        return kept

    def refusal(self) -> None:
        """A pair of budgets that no choice meets, in the words that it is refused with."""
        try:
            self.compressed("impossible", lambda: Wishes(target_size="10KB", max_memory="10KB"))
        except BudgetError as error:
            self.found["refusal"] = str(error)
            return
        raise SystemExit("10 KB of file and of memory were met: this network is too small for this script.")

    def _file(self, name: str, record: dict[str, Any]) -> None:
        self.found[name] = record["chosen"] | {"float": record["float"], "seconds": record["seconds"]}

    def drop(self) -> None:
        """The smallest file within a drop."""
        self._file("drop", self.compressed("drop", lambda: Wishes(max_dice_drop=self.given.max_dice_drop)))

    def size(self) -> None:
        """The best file of a size."""
        self._file("size", self.compressed("size", lambda: Wishes(target_size=self.given.target_size)))

    def joint(self) -> None:
        """The best file within a size, a memory and a time."""

        given = self.given

        def wishes() -> Wishes:
            if given.max_memory or given.max_latency:
                return Wishes(target_size=given.target_size, max_memory=given.max_memory, max_latency=given.max_latency)
            job = self.job()
            with Packed(job.bench.program(job.bench.space.nearest(8))) as packed:
                memory = packed.arena_bytes(job.start.size)
                seconds = layer_times(packed, job.start.size, RUNS)[1]
            return Wishes(
                target_size=given.target_size,
                max_memory=f"{int(JOINT * memory)}B",
                max_latency=f"{JOINT * seconds * 1e6:.0f}us",
            )

        self._file("joint", self.compressed("joint", wishes))

    # -- baselines ---------------------------------------------------------------------------------

    def _budget(self, name: str, taken: int) -> Budget | None:
        """Of the part ``name``, as it was made, for others to fill; ``drop`` has its file's size as the limit.

        None where a latency was limited: nothing is timed here.
        """
        kept = json.loads((self.given.out / name / "compress.json").read_text(encoding="utf-8"))["budget"]
        if kept["max_latency_seconds"] is not None:
            return None
        return Budget(size=kept["target_size_bytes"] or taken, memory=kept["max_memory_bytes"])

    def _baselines(self, job: Job) -> dict[str, Allocation]:
        space, every = job.bench.space, {"W4A6": ordinary(job.bench, 4, 6)}
        nothing = {v: dict.fromkeys(widths, 0.0) for v, widths in space.choices.items()}
        for name in COMPARED:
            if name not in self.found:
                continue
            bits = self.found[name]["bits"]
            ours = Allocation({v: bits[v[0]][v[1]] for v in space.choices})
            every[f"{name}: chosen"] = ours
            budget = self._budget(name, job.size.predict(ours))
            if budget is None:
                continue
            planner = Planner(space, nothing, job.size, budget, MemoryModel(job.bench, job.start.size))
            equal = {"equal inside": equal_within(job.bench, planner)}
            if name != "joint":
                equal["equal above"] = uniform_above(space, job.size, budget.size or 0)
            every |= {f"{name}: {which}": a for which, a in equal.items() if a is not None}
            if name != "drop":
                every |= {f"{name}: random {seed}": random_within(planner, seed) for seed in range(self.given.draws)}
        return every

    def untuned(self) -> None:
        """Dice and bytes of all baselines before fine-tuning."""
        job = self.job()
        every = self._baselines(job)
        known = self.found["untuned"] = _only(self.found.get("untuned", {}), every)
        for name, allocation in every.items():
            if known.get(name, {}).get("bits") == allocation.record():
                continue
            score = job.score(allocation)
            known[name] = {
                "bytes": job.size.predict(allocation), "mean_dice": score.mean, "dice": dict(score.dice),
                "bits": allocation.record(),
            }  # fmt: skip
            tell(f"{name}: {known[name]['bytes']} bytes, Dice {score.mean:.4f}")
            self.keep()

    def tuned(self) -> None:
        """Dice and bytes of those that ``--tune`` names, fine-tuned like the file that each is compared with."""
        job = self.job()
        every = self._baselines(job)
        known = self.found["tuned"] = _only(self.found.get("tuned", {}), every)
        rivals = [name for name in every if not name.endswith(": chosen")]
        for start in self.tune:
            if self.given.tune != TUNED and not any(name.startswith(start) for name in rivals):
                raise ConfigError(f"--tune {start!r}: no name begins so; there are {', '.join(rivals)}.")
        for name, allocation in every.items():
            wanted = name in rivals and name.startswith(self.tune)
            if not wanted or known.get(name, {}).get("bits") == allocation.record():
                continue
            steps = self.given.steps or self._steps(name.split(":")[0])
            folder = self.given.out / "baselines" / name.replace(": ", "-").replace(" ", "-")
            tell(f"== {name}")
            tune(job.start, job.bench.space.layers(allocation), folder, steps, tell=tell)
            result = finished(job, folder, self.given.data)
            known[name] = {
                "bytes": int(result.takes["size"]), "mean_dice": result.mean, "dice": dict(result.dice),
                "steps": steps, "bits": allocation.record(),
            }  # fmt: skip
            tell(f"{name}, fine-tuned: {known[name]['bytes']} bytes, Dice {result.mean:.4f}")
            self.keep()

    def _steps(self, name: str) -> int:
        """Of the fine-tuning whose result was delivered; W4A6 is compared with ``drop``."""
        folder = self.given.out / {"W4A6": "drop"}.get(name, name)
        record = json.loads((folder / "compress.json").read_text(encoding="utf-8"))
        for attempt in record.get("tuning", []):
            if attempt["mean_dice"] == record["chosen"]["mean_dice"]:
                return int(attempt["steps"])
        return EFFORTS[self.given.effort].tuning or EFFORTS["hour"].tuning

    # -- criteria ----------------------------------------------------------------------------------

    def criteria(self) -> dict[str, bool]:
        """What was to be shown, as far as its parts were made."""
        found, met = self.found, {}
        for name in COMPARED:
            if name not in found:
                continue
            predicted, measured = found[name]["predicted"], found[name]["measured"]
            for cost in ("size", "memory"):
                met[f"{name}: {cost} as predicted, to the byte"] = predicted[cost] == measured[cost]
            if "latency" in predicted:
                share = measured["latency"] / predicted["latency"] - 1.0
                met[f"{name}: latency within 15 % of the prediction"] = abs(share) <= LATENCY_WITHIN
        if "size" in found:
            met["size: met to the byte"] = found["size"]["measured"]["size"] <= self.target
        four = found.get("tuned", {}).get("W4A6")
        if four and "drop" in found:
            drop = found["drop"]
            met["drop: 1.3 times smaller than W4A6"] = SMALLER * drop["measured"]["size"] <= four["bytes"]
            met["drop: Dice no lower than W4A6's, fine-tuned alike"] = drop["mean_dice"] >= four["mean_dice"]
        return met | self._against()

    def _against(self) -> dict[str, bool]:
        """The chosen widths against others in the same budget, before and after fine-tuning."""
        met = {}
        for name in COMPARED:
            made = self.found.get(name, {})
            ours = {
                "untuned": self.found.get("untuned", {}).get(f"{name}: chosen", {}).get("mean_dice"),
                "tuned": made["mean_dice"] if made.get("fine_tuned_steps") else None,
            }
            for when, mean in ours.items():
                for which in ("equal inside", "random"):
                    every = self.found.get(when, {}).items()
                    rivals = [r["mean_dice"] for key, r in every if key.startswith(f"{name}: {which}")]
                    if rivals and mean is not None:
                        met[f"{name}: better than {which} ({len(rivals)}), {when}"] = mean > max(rivals)
        return met


def _only(known: dict[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``known`` still has a name: other draws are no rivals any more."""
    return {name: record for name, record in known.items() if name in names}


def main() -> None:
    """Make the parts asked for, write ``acceptance.json`` after each, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--max-dice-drop", type=float, default=0.5)
    parser.add_argument("--target-size", default="0.8MB")
    parser.add_argument("--effort", choices=sorted(EFFORTS), default="minutes")
    parser.add_argument("--bits", default="1,2,3,4,5,6,8")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--max-memory", help="of the part joint")
    parser.add_argument("--max-latency", help="of the part joint")
    parser.add_argument("--tune", default=TUNED, help="beginnings of names")
    parser.add_argument("--steps", type=int, help="of the baselines' fine-tuning; those of the file by default")
    parser.add_argument("--tuning", type=int, help="steps of every fine-tuning, of which none is longer; the effort's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path)
    given = parser.parse_args()
    parts = given.only.split(",")
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        parser.error(f"--only {unknown[0]}: choose of {', '.join(PARTS)}")
    if given.tuning is not None:
        EFFORTS[given.effort] = replace(EFFORTS[given.effort], tuning=given.tuning, last=0)
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / "acceptance.json"
    acceptance = Acceptance(given, json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {})
    for part in parts:
        getattr(acceptance, part)()
        acceptance.found["criteria"] = acceptance.criteria()
        acceptance.keep()
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    try:
        main()
    except UnetqError as error:
        sys.exit(f"error: {error}")
