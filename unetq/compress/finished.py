"""What a finished run folder reaches and takes: as the integer arithmetic, the packed file and the runtime show it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..evaluate import evaluate
from ..export.modelfile import load
from ..export.run import export
from ..metrics import headline
from ..runtime import Runtime
from .job import Job
from .latency import RUNS, layer_times
from .workbench import Packed

MODEL = "model.uqm"
TIMES = 3


@dataclass(frozen=True)
class Finished:
    """Validation Dice, 0…1, by class and as the headline; bytes of ``size`` and ``memory``, seconds of ``latency``."""

    folder: Path
    dice: Mapping[str, float]
    mean: float
    takes: Mapping[str, float]

    def missing(self, job: Job) -> dict[str, float]:
        """By how much each limit and floor of the budget is missed: bytes, seconds, or Dice of 0…1."""
        bounds = job.budget.resources
        over = {name: self.takes[name] - bound for name, bound in bounds.items() if self.takes[name] > bound}
        return over | job.budget.shortfall(self.dice, self.mean, job.reference.mean)


def least_time(packed: Packed, size: Sequence[int], bound: float) -> float:
    """Seconds of an image; a time above ``bound`` is taken again, since what else runs here only adds to it."""
    found = math.inf
    for _ in range(TIMES):
        found = min(found, layer_times(packed, size, 2 * RUNS)[1])
        if found <= bound:
            break
    return found


def finished(job: Job, folder: Path, data: Path | None) -> Finished:
    """Evaluate and export the run ``folder``, and measure its file; the latency only where the budget limits it.

    Raises:
        As ``evaluate`` and ``export``.
    """
    dice = evaluate(folder, data=data)["splits"]["validation"]["integer"]["volume_dice"]
    model = folder / MODEL
    if not model.is_file():
        export(folder, model)
    with Runtime(model) as runtime:
        takes = {"size": float(model.stat().st_size), "memory": float(runtime.plan(job.start.size).arena_bytes)}
    if job.budget.latency is not None:
        with Packed(*load(model)) as packed:
            takes["latency"] = least_time(packed, job.start.size, job.budget.latency)
    return Finished(folder, dice, headline(dice), takes)
