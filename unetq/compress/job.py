"""One compression on its way: what is measured, what is chosen."""

import shutil
import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import torch

from ..bench.caps import processor_name
from ..errors import BudgetError
from ..metrics import headline, volume_dice
from ..scoring import Forward
from ..sweep_process import locked
from .baselines import equal_within
from .budget import Budget
from .hessian import traces, weight_scores
from .latency import LatencyModel
from .memory import MemoryModel
from .options import Effort
from .planner import Planner, with_spare
from .search import Score, Search, Tell, polish
from .sensitivity import Measured, Table, measure, order, scores, with_hessian
from .size import SizeModel
from .source import Start
from .space import WEIGHT, Allocation
from .state import Measurements, open_measurements
from .workbench import Packed, Workbench

WORK = ".work"


class Job:
    """Measures and chooses.

    Args:
        start: the float network and its data. budget: the limits. level: how much is spent.
        out: where the run will be; what is measured is kept beside it in ``OUT.work``.
        widths: to choose from. by: what sensitivity is. tell: called with a line of progress.

    Raises:
        BudgetError: floors above what the float network reaches.
    """

    def __init__(
        self, start: Start, budget: Budget, level: Effort, out: Path, widths: tuple[int, ...], by: str, tell: Tell
    ) -> None:
        self.start, self.budget, self.level, self.out, self.by, self.tell = start, budget, level, out, by, tell
        self.began = time.monotonic()
        self.reference = self._score(start.network)
        budget.check_reachable(self.reference.dice)
        self.bench: Workbench = start.bench(widths, tell)
        self.crops = start.crops()
        self.held = ExitStack()  # whoever calls ``choose`` closes it: it keeps others off ``OUT.work``
        self.work = out.absolute().parent / (out.name + WORK)
        self.identity = start.identity(widths)
        self.kept = Measurements(self.work, self.identity)
        self.size = SizeModel(self.bench, start.meta(out.name, self.bench, level.tuning))
        self.latency: LatencyModel | None = None
        self.planned = budget  # what is planned for, once latencies are known
        self.table: Table = {}

    def choose(self) -> tuple[Search, Allocation]:
        """The search that was made, and what it chose.

        Raises:
            BudgetError: no choice of bits meets the budget; with the nearest point.
        """
        self._zero_planner().require_resources()  # what no widths can meet is told before anything is measured
        plans, is_new = self.kept.plans, not self.work.exists()
        self.kept, found = open_measurements(self.work, self.identity)
        self.kept.plans = {**plans, **self.kept.plans}
        self.held.enter_context(locked(self.work, "compression"))
        if found:
            self.tell(f"going on with what {self.work} holds")
        elif self.kept.path.is_file():
            self.tell(f"{self.work} was of another source, effort or choice of bits: all is measured anew")
        if self.budget.latency is not None:
            self._time()
            try:
                self._zero_planner().require_resources()
            except BudgetError:
                if is_new:
                    shutil.rmtree(self.work, ignore_errors=True)
                raise
            self.planned = with_spare(self.budget, self._zero_planner)
        self.table = self._sensitivity()
        search = self.search(self._planner(self.table, self.planned), self.level.slack)
        chosen = self.polished(search, search.run())
        # What is fine-tuned is compared after it: there equal widths come beside the choice, not in its place.
        return search, chosen if self.level.attempts else self._equal_or(search, chosen)

    def search(self, planner: Planner, slack: float) -> Search:
        """A search with floors lowered by ``slack`` points."""
        return Search(
            planner, self.budget, self._judge, self.reference, self.level.steps, slack, self.tell,
            mend=lambda search, found: self._equal_or(search, self.polished(search, found)),
        )  # fmt: skip

    # -- measuring ---------------------------------------------------------------------------------

    def score(self, allocation: Allocation) -> Score:
        """Validation Dice of an allocation, packed, without fine-tuning."""
        with Packed(self.bench.program(allocation)) as packed:
            return self._score(packed)

    def _score(self, forward: Forward) -> Score:
        scorer, labels = self.start.scorer, self.start.spec.labels
        found = volume_dice([scorer.score(s, mask) for s, mask in scorer.predict(forward)], labels)
        return Score(found, headline(found))

    def _judge(self, allocation: Allocation) -> Score:
        known = self.kept.scores.get(allocation.key)
        if known is None:
            score = self.score(allocation)
            known = self.kept.scores[allocation.key] = {"dice": dict(score.dice), "mean": score.mean}
            self.kept.save()
        return Score(known["dice"], known["mean"])

    def _measure(self, allocation: Allocation) -> Measured:
        known = self.kept.divergences.get(allocation.key)
        if known is None:
            with Packed(self.bench.program(allocation)) as packed:
                known = self.kept.divergences[allocation.key] = asdict(self.crops.measure(packed))
            self.kept.save()
        return Measured(**known)

    def _time(self) -> None:
        """Seconds of all layers at all widths, measured unless they are known of this processor."""
        self.latency = LatencyModel(self.bench, self.start.size)
        with Packed(self.bench.program(self.bench.space.nearest(8))) as packed:
            key = f"{processor_name()} {packed.runtime.isa} {'x'.join(map(str, self.start.size))}"
        if key not in self.kept.times:
            self.latency.measure(self.tell)
            self.kept.times[key] = self.latency.record()
            self.kept.save()
        self.latency.restore(self.kept.times[key])

    def _sensitivity(self) -> Table:
        kept = self.kept
        pending = len(order(self.bench.space)) + 1 - len(kept.sensitivity)
        if pending > 0:
            self.tell(f"measuring {pending} choices on {len(self.crops.images)} crops of the training split")
        measure(self.bench, self.crops, kept.sensitivity, kept.save, self.tell)
        if self.by != "hessian":
            return scores(self.bench.space, kept.sensitivity, self.by)
        layers = [name for kind, name in self.bench.space.choices if kind == WEIGHT]
        if not kept.hessian:
            self.tell("curvature of the float network's loss")
            images, labels = torch.split(self.crops.images, 2), torch.split(self.crops.labels, 2)
            names = [self.bench.parameter(layer) for layer in layers]
            found = traces(self.bench.q, names, images, labels, self.crops.loss, 4, self.start.options.seed)
            kept.hessian.update({layer: found[name] for layer, name in zip(layers, names, strict=True)})
            kept.save()
        table = scores(self.bench.space, kept.sensitivity, "loss")
        return with_hessian(table, weight_scores(self.bench, kept.hessian))

    def _zero_planner(self, budget: Budget | None = None) -> Planner:
        """One that knows nothing of quality: for what can be had at all, of the limits that are modelled by now."""
        table: Table = {v: dict.fromkeys(widths, 0.0) for v, widths in self.bench.space.choices.items()}
        return self._planner(table, budget or self.budget)

    def _planner(self, table: Table, budget: Budget) -> Planner:
        memory = MemoryModel(self.bench, self.start.size, self.kept.plans)
        if budget.latency is not None and self.latency is None:  # not measured yet
            budget = replace(budget, latency=None, max_dice_drop=100.0)
        return Planner(self.bench.space, table, self.size, budget, memory, self.latency)

    # -- choosing ----------------------------------------------------------------------------------

    def polished(self, search: Search, chosen: Allocation) -> Allocation:
        """``chosen`` with bits moved between layers where that measures better; see ``polish``."""
        better = polish(search.planner, chosen, self._measure, self.level.polish, self.tell)
        if better.key == chosen.key:
            return chosen
        kept = search.look(better) or not search.keeps(chosen)
        return better if kept and self._judge(better).mean >= self._judge(chosen).mean else chosen

    def _equal_or(self, search: Search, chosen: Allocation) -> Allocation:
        """``chosen``, or equal widths where these alone keep the floors, or are better on the validation split.

        Where the file is to be the smallest, ``chosen`` as it is.
        """
        if self.budget.is_for_smallest:
            return chosen
        equal = equal_within(self.bench, search.planner)
        if equal is None or equal.key == chosen.key or not search.look(equal):
            return chosen
        return equal if not search.keeps(chosen) or self._judge(equal).mean > self._judge(chosen).mean else chosen
