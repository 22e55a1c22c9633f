"""The chosen widths as a run folder: made, fine-tuned where there is time, checked, moved in place."""

import shutil
import time
from pathlib import Path
from typing import Any

from .. import files
from ..errors import OutputError
from ..evaluate import evaluate
from ..export.modelfile import load
from ..export.program import ModelMeta
from ..export.run import export
from ..metrics import headline
from ..ptq.run import ptq
from ..runtime import Runtime
from .budget import BudgetError
from .job import Job
from .latency import layer_times
from .planner import Planner
from .search import Search
from .size import SizeModel
from .space import Allocation
from .tune import tune
from .workbench import Packed

RECORD, MODEL = "compress.json", "model.uqm"


class Delivery:
    """Makes the run of what a job chose.

    Args:
        job: with its measurements. source: the run folder or checkpoint that the user named.
        data: folder of the data set. command: for ``run.json``.
    """

    def __init__(self, job: Job, source: Path, data: Path | None, command: str) -> None:
        self.job, self.source, self.data, self.command = job, source, data, command

    def deliver(self, search: Search, chosen: Allocation, record: dict[str, Any]) -> dict[str, Any]:
        """Write the run folder with ``record`` completed, and return it.

        Raises:
            BudgetError: the finished model misses the budget. OutputError: it cannot be written.
        """
        job, planner, attempts = self.job, search.planner, []
        for number in range(job.level.attempts):
            folder = job.work / f"tuned-{number}" / job.out.name
            tune(job.start, job.bench.space.layers(chosen), folder, job.level.tuning, self.command, job.tell)
            missing = self._missing(folder)
            attempts.append({"bits": chosen.record(), "missing": missing})
            if not missing:
                return self._finish(folder, chosen, planner, record | {"tuning": attempts})
            job.tell("fine-tuned, it misses " + ", ".join(missing))
            wider = self._wider(planner, chosen)
            if wider is None:
                break
            search.look(wider)
            chosen = wider
        if attempts:  # what needs no tuning to keep the floors, or the refusal
            safe = job.search(planner, 0.0)
            chosen = safe.run()
            record |= {"tuning": attempts, "tried": [*search.tried, *safe.tried]}
        return self._finish(self._quantised(chosen), chosen, planner, record)

    def _wider(self, planner: Planner, chosen: Allocation) -> Allocation | None:
        """The next larger choice, a sixth more bytes; None where the budget has no room for one."""
        size = self.job.size.predict(chosen)
        found = planner.plan(min(size + size // 6, self.job.budget.size or 1 << 60))
        return None if found is None or self.job.size.predict(found) <= size else found

    def _missing(self, folder: Path) -> list[str]:
        """Names of what a tuned run misses."""
        metrics = evaluate(folder, data=self.data)
        found = metrics["splits"]["validation"]["integer"]["volume_dice"]
        taken = self._takes(folder)
        over = [name for name, bound in self.job.budget.resources.items() if taken[name] > bound]
        return [*over, *self.job.budget.shortfall(found, headline(found), self.job.reference.mean)]

    def _takes(self, folder: Path) -> dict[str, float]:
        """What the packed file of a run takes, as the file and the runtime show it."""
        model = folder / MODEL
        if not model.is_file():
            export(folder, model)
        with Runtime(model) as runtime:
            found = {
                "size": float(model.stat().st_size),
                "memory": float(runtime.plan(self.job.start.size).arena_bytes),
            }
        if self.job.budget.latency is not None:
            program, meta = load(model)
            with Packed(program, meta) as packed:
                found["latency"] = layer_times(packed, self.job.start.size)[1]
        return found

    def _quantised(self, chosen: Allocation) -> Path:
        folder = self.job.work / "quantised" / self.job.out.name
        shutil.rmtree(folder, ignore_errors=True)
        quant = {**self.job.start.quant, "layers": self.job.bench.space.layers(chosen)}
        options, samples = self.job.start.options, self.job.start.samples
        ptq(
            self.source, folder, quant, options, samples=samples, data=self.data, command=self.command,
            tell=self.job.tell,
        )  # fmt: skip
        return folder

    def _finish(self, folder: Path, chosen: Allocation, planner: Planner, record: dict[str, Any]) -> dict[str, Any]:
        metrics = evaluate(folder, data=self.data)
        dice = metrics["splits"]["validation"]["integer"]["volume_dice"]
        taken = self._takes(folder)
        _, meta = load(folder / MODEL)
        predicted = planner.takes(chosen)
        predicted["size"] = float(self._size_of(chosen, meta))
        record["chosen"] = {
            "bits": chosen.record(),
            "predicted": predicted,
            "measured": taken,
            "dice": dice,
            "mean_dice": headline(dice),
            "fine_tuned_steps": int(meta.provenance["step"]),
            "uniform": self._uniform(),
        }
        record["seconds"] = round(time.monotonic() - self.job.began, 1)
        missing = self.job.budget.shortfall(dice, headline(dice), self.job.reference.mean)
        over = [name for name, bound in self.job.budget.resources.items() if taken[name] > bound]
        if missing or over:
            raise BudgetError(
                f"the finished model misses {', '.join([*missing, *over])}: it takes "
                f"{', '.join(f'{name} {value:g}' for name, value in taken.items())} at Dice {headline(dice):.4f}. "
                f"Widen the budget or give more --effort; what was measured is kept in {self.job.work}."
            )
        files.write_json(folder / RECORD, record)
        self._move(folder)
        return record

    def _size_of(self, chosen: Allocation, meta: ModelMeta) -> int:
        """The predicted bytes, once a tuned run's Dice and step are known: they stand in its file too."""
        if not self.job.level.tuning:
            return self.job.size.predict(chosen)
        return SizeModel(self.job.bench, lambda _: meta).predict(chosen)

    def _uniform(self) -> dict[str, int]:
        """Bytes of the file at equal widths, for comparison."""
        widths = [bits for bits in (2, 3, 4, 6, 8) if bits in self.job.identity["widths"]]
        return {f"W{bits}": self.job.size.predict(self.job.bench.space.uniform(bits, 8)) for bits in widths}

    def _move(self, folder: Path) -> None:
        try:
            if self.job.out.is_dir():
                self.job.out.rmdir()  # empty, as was checked
            folder.rename(self.job.out)
        except OSError as error:
            raise OutputError(
                f"cannot move {folder} to {self.job.out}: {error.strerror or error}; it is there."
            ) from None
        shutil.rmtree(self.job.work, ignore_errors=True)
