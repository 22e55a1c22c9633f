"""Which choice of bits goes on: floors of classes, what is sought before a refusal, and what is delivered untuned."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from unetq.compress import deliver, finetune, finished, job
from unetq.compress.budget import Budget
from unetq.compress.deliver import Delivery
from unetq.compress.finetune import FineTuning, Tuned
from unetq.compress.finished import Finished
from unetq.compress.job import Job
from unetq.compress.milp import Limit
from unetq.compress.planner import Planner
from unetq.compress.search import Score, Search
from unetq.compress.space import Allocation
from unetq.errors import BudgetError

A, B = ("weight", "a"), ("weight", "b")
WIDE, OTHER = Allocation({A: 8, B: 2}), Allocation({A: 2, B: 8})


class Sizes:
    """A byte a bit; ``loose`` is what the solver overlooks."""

    def __init__(self, loose: float = 0.0) -> None:
        self.loose = loose

    def predict(self, allocation: Allocation) -> int:
        return sum(allocation.bits.values())

    def limit(self, target: int, _: Allocation) -> Limit:
        return Limit("size", target + self.loose, {v: {2: 2.0, 4: 4.0, 8: 8.0} for v in (A, B)})


def planner(budget: Budget, loose: float = 0.0) -> Planner:
    space: Any = SimpleNamespace(
        choices=dict.fromkeys((A, B), (2, 4, 8)), nearest=lambda bits: Allocation(dict.fromkeys((A, B), bits))
    )
    score = {A: {2: 5.0, 4: 1.0, 8: 0.0}, B: {2: 2.0, 4: 1.0, 8: 0.0}}
    return Planner(space, score, Sizes(loose), budget)  # type: ignore[arg-type]


def search(budget: Budget, scores: dict[str, Score], **more: Any) -> Search:
    return Search(planner(budget), budget, lambda a: scores[a.key], Score({"x": 0.9, "y": 0.9}, 0.9), **more)


def test_a_limit_that_the_solver_overlooks_by_a_little_is_met_to_the_byte() -> None:
    budget = Budget(size=11)
    assert planner(budget).size.predict(planner(budget).plan() or WIDE) == 10
    assert planner(budget, loose=1.0).size.predict(planner(budget, loose=1.0).plan() or WIDE) == 10


def test_polish_keeps_the_floor_of_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even for a better mean is a floor given up."""
    budget = Budget(size=10, min_dice={"x": 0.8})
    scores = {WIDE.key: Score({"x": 0.8, "y": 0.8}, 0.8), OTHER.key: Score({"x": 0.7, "y": 0.95}, 0.825)}
    at: Any = SimpleNamespace(_judge=lambda a: scores[a.key], _measure=None, level=SimpleNamespace(polish=1), tell=None)
    monkeypatch.setattr(job, "polish", lambda *_: OTHER)
    assert Job.polished(at, search(budget, scores), WIDE) is WIDE
    assert Job.polished(at, search(Budget(size=10, min_dice={"y": 0.7}), scores), WIDE) is OTHER
    scores[WIDE.key] = Score({"x": 0.6, "y": 0.8}, 0.7)  # neither keeps it: the better one is nearer
    assert Job.polished(at, search(budget, scores), WIDE) is OTHER


def test_a_better_choice_is_sought_before_a_refusal() -> None:
    budget = Budget(size=10, max_dice_drop=1.0)
    low, high = Score({"x": 0.8, "y": 0.8}, 0.8), Score({"x": 0.9, "y": 0.9}, 0.9)
    scores = {Allocation({A: a, B: b}).key: low for a in (2, 4, 8) for b in (2, 4, 8)} | {OTHER.key: high}
    with pytest.raises(BudgetError, match=r"misses max-dice-drop by 9\.00 points"):
        search(budget, scores).run()
    assert search(budget, scores, mend=lambda *_: OTHER).run() is OTHER


def test_what_only_the_slack_lets_pass_is_not_told_as_kept() -> None:
    budget, lines = Budget(size=10, max_dice_drop=1.0), list[str]()
    scores = {WIDE.key: Score({}, 0.88), OTHER.key: Score({}, 0.895)}
    found = search(budget, scores, slack=2.0, tell=lines.append)
    assert found.look(WIDE) and found.look(OTHER)
    assert [point["kept"] for point in found.tried] == [False, True]
    assert lines == ["10 bytes: Dice 0.8800 (too low, but for fine-tuning)", "10 bytes: Dice 0.8950 (kept)"]


@pytest.mark.parametrize("missing", [{}, {"latency": 0.1}])
def test_what_is_as_good_without_fine_tuning_is_the_choice_that_won(
    monkeypatch: pytest.MonkeyPatch, missing: dict[str, float]
) -> None:
    """The widths that won, not those it began with; and tuned, where the untuned file misses a limit by chance."""
    score = {"dice": {"x": 0.9}, "mean": 0.9, "takes": {"size": 10.0}}
    tuned, plain = (Finished(Path(name), **score) for name in ("tuned", "plain"))  # type: ignore[arg-type]
    monkeypatch.setattr(Finished, "missing", lambda self, _: missing if self is plain else {})
    best = Tuned(OTHER, 4, 10, tuned, {})
    monkeypatch.setattr(deliver, "FineTuning", lambda *_: SimpleNamespace(run=lambda _: best, record=[]))
    monkeypatch.setattr(Delivery, "_needless", lambda *_: True)
    made: list[Allocation] = []
    monkeypatch.setattr(Delivery, "_plain", lambda self, chosen: made.append(chosen) or plain)
    monkeypatch.setattr(Delivery, "_finish", lambda self, result, chosen, *_: {"from": result, "bits": chosen})
    at: Any = SimpleNamespace(level=SimpleNamespace(attempts=1))
    found = Delivery(at, Path("source"), None, "").deliver(search(Budget(size=10), {}), WIDE, {})
    assert made == [OTHER] and found == {"from": tuned if missing else plain, "bits": OTHER}


def test_a_time_above_the_limit_is_taken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    packed: Any = None
    for times, least in (([0.3, 0.19, 0.1], 0.19), ([0.1, 0.05], 0.1), ([0.4, 0.3, 0.5, 0.1], 0.3)):
        told = iter(times)
        monkeypatch.setattr(finished, "layer_times", lambda *_, told=told: ({}, next(told)))
        assert finished.least_time(packed, (8, 8), 0.2) == least


def test_what_another_source_left_is_not_gone_on_with() -> None:
    def named(checkpoint: str) -> str:
        at: Any = SimpleNamespace(budget=Budget(size=10), kept=SimpleNamespace(identity={"checkpoint": checkpoint}))
        return FineTuning(at, search(Budget(size=10), {}), None, "").name_of(WIDE, 4)

    assert named("one") == named("one") != named("other")


def test_equal_widths_that_alone_keep_a_floor_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Budget(size=10, min_dice={"x": 0.8})
    scores = {WIDE.key: Score({"x": 0.79, "y": 0.96}, 0.875), OTHER.key: Score({"x": 0.8, "y": 0.94}, 0.87)}
    at: Any = SimpleNamespace(budget=budget, bench=None, _judge=lambda a: scores[a.key])
    monkeypatch.setattr(job, "equal_within", lambda *_: OTHER)
    assert Job._equal_or(at, search(budget, scores), WIDE) is OTHER
    scores[OTHER.key] = Score({"x": 0.7, "y": 1.0}, 0.95)  # now it does not
    assert Job._equal_or(at, search(budget, scores), WIDE) is WIDE
    at.budget = Budget(max_dice_drop=1.0)
    assert Job._equal_or(at, search(budget, scores), WIDE) is WIDE


@pytest.mark.parametrize("missing", [{}, {"min-dice x": 0.1}])
def test_equal_widths_are_fine_tuned_beside_the_choice_whatever_comes_of_it(
    monkeypatch: pytest.MonkeyPatch, missing: dict[str, float]
) -> None:
    budget, took = Budget(size=10, min_dice={"x": 0.8}), list[Allocation]()
    level = SimpleNamespace(attempts=4, tuning=4, last=0, seconds=1e6)
    at: Any = SimpleNamespace(
        budget=budget,
        level=level,
        bench=None,
        size=Sizes(),
        began=time.monotonic(),
        tell=print,
        polished=lambda _, a: a,
    )
    scores = {a.key: Score({"x": 0.9}, 0.9) for a in (WIDE, OTHER)}
    tuning = FineTuning(at, search(budget, scores), None, "")

    def tuned(allocation: Allocation, steps: int) -> Tuned:
        took.append(allocation)
        tuning.record.append({"bits": allocation.record(), "seconds": 1.0, "steps": steps})
        worse = Finished(Path("a"), {"x": 0.9}, 0.9 - 0.1 * len(took), {"size": 10.0})
        return Tuned(allocation, steps, 10, worse, missing if allocation is WIDE else {})

    monkeypatch.setattr(finetune, "equal_within", lambda *_: OTHER)
    monkeypatch.setattr(tuning, "_tuned", tuned)
    best = tuning.run(WIDE)
    assert took == [WIDE, OTHER]
    assert best is not None and best.allocation is (OTHER if missing else WIDE)
