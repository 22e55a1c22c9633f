"""The chosen widths as a run folder: made, fine-tuned where there is time, checked, moved in place."""

import shutil
import time
from pathlib import Path
from typing import Any

from .. import files
from ..errors import BudgetError, OutputError
from ..export.modelfile import load
from ..export.program import ModelMeta
from ..ptq.run import ptq
from .finetune import FineTuning, Tuned
from .finished import MODEL, Finished, finished
from .job import Job
from .milp import SECONDS
from .planner import Planner, amount
from .search import Search
from .size import SizeModel
from .space import Allocation

RECORD = "compress.json"


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
        if self.job.level.attempts:
            tuning = FineTuning(self.job, search, self.data, self.command)
            best = tuning.run(chosen)
            record = {**record, "tuning": tuning.record, "tried": search.tried}
            if best is not None:
                plain = self._plain(best.allocation) if self._needless(search, best) else best.result
                result = best.result if plain.missing(self.job) else plain
                return self._finish(result, best.allocation, search.planner, record)
            chosen = self._untuned(search, tuning, record)  # what needs no tuning to keep the floors, or the refusal
        return self._finish(self._plain(chosen), chosen, search.planner, record)

    def _needless(self, search: Search, best: Tuned) -> bool:
        """Whether the same widths are better, and inside the budget, without fine-tuning."""
        score, budget = search.judge(best.allocation), self.job.budget
        kept = not budget.shortfall(score.dice, score.mean, self.job.reference.mean)
        return kept and score.mean > best.result.mean

    def _untuned(self, search: Search, tuning: FineTuning, record: dict[str, Any]) -> Allocation:
        safe = self.job.search(search.planner, 0.0)
        try:
            chosen = safe.run()
        except BudgetError as error:
            miss = tuning.misses
            assert miss is not None  # as every attempt was
            by = ", ".join(
                f"{name} by {amount(name, value) if name in miss.result.takes else f'{100 * value:.2f} points'}"
                for name, value in miss.missing.items()
            )
            raise BudgetError(
                f"{error} Fine-tuned for {miss.steps} steps, the nearest ({miss.size} bytes) misses {by}. What was "
                f"measured is kept in {self.job.work}."
            ) from None
        record["tried"] = [*search.tried, *safe.tried]
        return chosen

    def _plain(self, chosen: Allocation) -> Finished:
        """``chosen`` as it is without fine-tuning."""
        return finished(self.job, self._quantised(chosen), self.data)

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

    def _finish(self, result: Finished, chosen: Allocation, planner: Planner, record: dict[str, Any]) -> dict[str, Any]:
        _, meta = load(result.folder / MODEL)
        predicted = planner.takes(chosen)
        predicted["size"] = float(self._size_of(chosen, meta))
        record["chosen"] = {
            "bits": chosen.record(),
            "predicted": predicted,
            "measured": dict(result.takes),
            "dice": dict(result.dice),
            "mean_dice": result.mean,
            "fine_tuned_steps": int(meta.provenance["step"]),
            "uniform": self._uniform(),
        }
        if planner.latency is not None:  # "predicted" is of the packed file before fine-tuning, this of its layers
            record["chosen"]["modelled"] = {"latency": planner.latency.predict(chosen)}
        record["unproven_choices"] = planner.unproven
        if planner.unproven:
            self.job.tell(
                f"the solver's time ({SECONDS:g} s) was over {planner.unproven} times: what it knew then is not "
                "proven to be the best; fewer widths (--bits) make it faster"
            )
        record["seconds"] = round(time.monotonic() - self.job.began, 1)
        missing = result.missing(self.job)
        if missing:
            raise BudgetError(
                f"the finished model misses {', '.join(missing)}: it takes "
                f"{', '.join(f'{name} {value:g}' for name, value in result.takes.items())} at Dice {result.mean:.4f}. "
                f"Widen the budget or give more --effort; what was measured is kept in {self.job.work}."
            )
        files.write_json(result.folder / RECORD, record)
        self._move(result.folder)
        return record

    def _size_of(self, chosen: Allocation, meta: ModelMeta) -> int:
        """The predicted bytes, once a run's Dice and step are known: they stand in its file too."""
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
