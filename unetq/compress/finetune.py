"""Which allocations are fine-tuned, one after the other, and which of them is delivered.

Where the file is to be small, sizes are searched: after one that keeps the budget a smaller one is tried, after one
that misses it a larger one, between what is known of both sides. Else the first one is it, and equal widths are tried
beside it: what is apart before fine-tuning can be alike after it. With time left, or where nothing kept the budget, the
best widths are fine-tuned once more for longer; the better of both is delivered. What was fine-tuned is remembered by
its widths and steps, and a fine-tuning that was interrupted goes on.
"""

import hashlib
import json
import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..runs import CONFIG
from .baselines import equal_within
from .finished import Finished, finished
from .job import Job
from .search import Search
from .space import Allocation
from .tune import tune

SMALLER, BOLDLY, LARGER = 0.8, 0.65, 7 / 6
"""The next size, where only one side of the border is known; boldly where a file is as good as float."""
NEAR = 0.02  # sizes that lie nearer than this share are alike


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned allocation; ``size`` is its predicted bytes, ``missing`` by how much each limit is missed."""

    allocation: Allocation
    steps: int
    size: int
    result: Finished
    missing: dict[str, float]


class FineTuning:
    """Fine-tunes allocations.

    Args:
        job: with its effort. search: that chose the first. data: folder of the data set. command: for ``run.json``.
    """

    def __init__(self, job: Job, search: Search, data: Path | None, command: str) -> None:
        self.job, self.search, self.data, self.command = job, search, data, command
        self.smallest = job.budget.is_for_smallest
        self.record: list[dict[str, Any]] = []
        self.misses: Tuned | None = None
        self._reused = 0.0

    def run(self, chosen: Allocation) -> Tuned | None:
        """The best that keeps the budget; None where nothing does, and ``misses`` is then the one that is nearest."""
        level, best, lost = self.job.level, None, 0
        following: Allocation | None = chosen
        for _ in range(level.attempts):
            if following is None or (best is not None and not self._time_for(level.tuning)):
                break
            tuned = self._tuned(following, level.tuning)
            if tuned.missing:
                lost = max(lost, tuned.size)
            elif best is None or self._better(tuned, best):
                best = tuned
            following = self._next(best, lost)
        again = best or self.misses
        if again is not None and level.last and (best is None or self._time_for(level.last)):
            longer = self._tuned(again.allocation, level.last)
            if not longer.missing and (best is None or self._better(longer, best)):
                best = longer
        return best

    def _better(self, one: Tuned, other: Tuned) -> bool:
        if self.smallest and one.size != other.size:
            return one.size < other.size
        return one.result.mean > other.result.mean

    def _next(self, best: Tuned | None, lost: int) -> Allocation | None:
        """The allocation to try now; None where none promises anything."""
        planner = self.search.planner
        if not self.smallest and (equal := self._equal()) is not None:
            return equal
        if best is None:
            found = planner.plan(min(round(lost * LARGER), self.job.budget.size or 1 << 60))
        elif not self.smallest:
            return None
        else:
            known = lost or self.job.size.predict(planner.space.nearest(1))
            size = max(round(math.sqrt(known * best.size)), 0 if lost else round(best.size * self._step(best)))
            found = planner.plan(size) if size < best.size * (1 - NEAR) else None
        if found is None:
            return None
        size = self.job.size.predict(found)
        if size <= lost * (1 + NEAR / 2) or (best is not None and size >= best.size):
            return None
        self.search.look(found)
        return self.job.polished(self.search, found)

    def _equal(self) -> Allocation | None:
        """The widest equal widths inside the limits; once."""
        found = equal_within(self.job.bench, self.search.planner)
        if found is None or any(record["bits"] == found.record() for record in self.record):
            return None
        self.search.look(found)
        return found

    def _step(self, best: Tuned) -> float:
        return BOLDLY if best.result.mean >= self.job.reference.mean else SMALLER

    def _time_for(self, steps: int) -> bool:
        """Whether a fine-tuning of so many steps would end in time, by how long those before took."""
        spent = time.monotonic() - self.job.began + self._reused
        a_step = max((float(r["seconds"]) / int(r["steps"]) for r in self.record), default=0.0)
        return spent + a_step * steps <= self.job.level.seconds

    def name_of(self, allocation: Allocation, steps: int) -> str:
        """Of a fine-tuning of this source with these settings: what another one left behind is not gone on with."""
        known_by = json.dumps([self.job.kept.identity, allocation.key, steps], sort_keys=True)
        return hashlib.sha256(known_by.encode()).hexdigest()[:16]

    def _tuned(self, allocation: Allocation, steps: int) -> Tuned:
        job, kept = self.job, self.job.kept
        name = self.name_of(allocation, steps)
        folder = job.work / f"tuned-{name}" / job.out.name
        known = kept.tuned.get(name)
        if known is None or not folder.is_dir():
            known = kept.tuned[name] = self._train(allocation, steps, folder)
            kept.save()
        else:
            self._reused += float(known["seconds"])
        result = Finished(folder, known["dice"], known["mean"], known["takes"])
        if job.budget.latency is not None and "latency" not in result.takes:
            result = finished(job, folder, self.data)  # was measured for another budget
        tuned = Tuned(allocation, steps, job.size.predict(allocation), result, result.missing(job))
        if tuned.missing:
            job.tell("fine-tuned, it misses " + ", ".join(tuned.missing))
            if self.misses is None or _shortfall(tuned) < _shortfall(self.misses):
                self.misses = tuned
        else:
            job.tell(f"fine-tuned, {tuned.size} bytes: Dice {result.mean:.4f}")
        self.record.append(
            {
                "bits": allocation.record(), "steps": steps, "seconds": known["seconds"], **result.takes,
                "dice": dict(result.dice), "mean_dice": result.mean, "missing": sorted(tuned.missing),
            }
        )  # fmt: skip
        return tuned

    def _train(self, allocation: Allocation, steps: int, folder: Path) -> dict[str, Any]:
        job, began = self.job, time.monotonic()
        if not (folder / CONFIG).is_file():
            shutil.rmtree(folder, ignore_errors=True)  # stopped before it was a run
        tune(job.start, job.bench.space.layers(allocation), folder, steps, self.command, job.tell)
        result = finished(job, folder, self.data)
        return {
            "dice": dict(result.dice), "mean": result.mean, "takes": dict(result.takes),
            "seconds": round(time.monotonic() - began, 1),
        }  # fmt: skip


def _shortfall(tuned: Tuned) -> float:
    """Dice that is missed, the worst of it; a limit that is missed is worse than any of it."""
    return max(2.0 if name in ("size", "memory", "latency") else value for name, value in tuned.missing.items())
