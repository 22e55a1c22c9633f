"""The allocation is the optimum: compared with every choice there is."""

from itertools import product
from typing import Any

import numpy as np
import pytest

import unetq.compress.milp
from unetq.compress.budget import Budget, parse_bytes, parse_min_dice, parse_seconds
from unetq.compress.milp import Limit, Solution, nearest, solve
from unetq.errors import BudgetError, ConfigError

BITS = (2, 3, 4, 8)
KEYS = ("w0", "w1", "a0", "a1")


def problem(seed: int, share: float) -> tuple[dict[str, dict[int, float]], list[Limit]]:
    rng = np.random.default_rng(seed)
    score = {key: {b: float(rng.random() / 4**b) for b in BITS} for key in KEYS}
    size = {key: {b: float(rng.integers(1, 9) * b) for b in BITS} for key in ("w0", "w1")}
    pairs = {(f"w{i}", f"a{i}"): {(b, c): float(rng.integers(1, 50)) for b in BITS for c in BITS} for i in (0, 1)}
    limits = [Limit("size", share * 80 + 10, size, 10.0), Limit("latency", share * 60 + 5, {}, 5.0, pairs)]
    return score, limits


def every(score: dict[str, dict[int, float]], limits: list[Limit]) -> list[tuple[float, float, dict[str, int]]]:
    """(excess, score, choice) of all choices."""
    found = []
    for widths in product(BITS, repeat=len(KEYS)):
        chosen = dict(zip(KEYS, widths, strict=True))
        excess = max(limit.value(chosen) / limit.bound - 1.0 for limit in limits)
        found.append((excess, sum(score[key][chosen[key]] for key in KEYS), chosen))
    return found


@pytest.mark.parametrize("seed", range(12))
def test_the_optimum_of_all_choices(seed: int) -> None:
    score, limits = problem(seed, 0.5)
    best = min((value for excess, value, _ in every(score, limits) if excess <= 0), default=None)
    found = solve(score, limits)
    if best is None:
        assert found is None, f"seed {seed}"
    else:
        assert isinstance(found, Solution), f"seed {seed}: a choice of score {best} exists"
        assert all(limit.value(found.chosen) <= limit.bound * (1 + 1e-6) for limit in limits)
        assert found.score == pytest.approx(best, rel=1e-4), f"seed {seed}"


@pytest.mark.parametrize("seed", range(6))
def test_the_nearest_point_where_there_is_none(seed: int) -> None:
    score, limits = problem(seed, 0.001)
    assert solve(score, limits) is None
    assert nearest(score, limits).excess == pytest.approx(
        min(excess for excess, _, _ in every(score, limits)), rel=1e-5
    )


def test_a_limit_that_is_met_exactly_is_met() -> None:
    score = {"w": {2: 1.0, 3: 0.5, 4: 0.1}}
    costs = {"w": {2: 524288.0, 3: 786432.0, 4: 1048576.0}}
    assert solve(score, [Limit("size", 786432.0 + 64, costs, 64.0)]).chosen == {"w": 3}  # type: ignore[union-attr]
    assert solve(score, [Limit("size", 786432.0 + 63, costs, 64.0)]).chosen == {"w": 2}  # type: ignore[union-attr]


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ConfigError, match="finite"):
        solve({"w": {2: float("nan")}}, [])
    with pytest.raises(ConfigError, match="above 0"):
        solve({"w": {2: 1.0}}, [Limit("size", 0.0, {})])


def test_quantities() -> None:
    assert parse_bytes("1.5MB", "--target-size") == 1_500_000
    assert parse_bytes("16 MiB", "--max-memory") == 16 * 2**20
    assert parse_bytes("0.8MB", "--target-size") == 800_000
    assert parse_seconds("200ms", "--max-latency") == pytest.approx(0.2)
    assert parse_min_dice(["cell=0.8"], ["membrane", "cell"]) == {"cell": 0.8}


@pytest.mark.parametrize("text", ["", "MB", "1.5", "-1MB", "0MB", "1.5 apples", "0.1B"])
def test_bad_sizes_are_named(text: str) -> None:
    with pytest.raises(ConfigError, match="--target-size"):
        parse_bytes(text, "--target-size")


@pytest.mark.parametrize("texts", [["cell"], ["nothing=0.8"], ["cell=x"], ["cell=1.5"], ["cell=0.5", "cell=0.6"]])
def test_bad_floors_are_named(texts: list[str]) -> None:
    with pytest.raises(ConfigError, match="--min-dice"):
        parse_min_dice(texts, ["membrane", "cell"])


def test_budgets() -> None:
    with pytest.raises(ConfigError, match="no budget"):
        Budget()
    with pytest.raises(ConfigError, match="points"):
        Budget(max_dice_drop=101)
    with pytest.raises(BudgetError, match="cell=0"):
        Budget(min_dice={"cell": 0.95}).check_reachable({"cell": 0.9})
    budget = Budget(size=10, max_dice_drop=0.5, min_dice={"cell": 0.8})
    assert budget.resources == {"size": 10.0}
    assert budget.shortfall({"cell": 0.895}, 0.895, 0.9) == {}
    assert set(budget.shortfall({"cell": 0.79}, 0.79, 0.9)) == {"min-dice cell", "max-dice-drop"}


def test_a_solver_without_time_does_not_say_that_there_is_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing:
        x, status, message = None, 1, "Time limit reached."

    monkeypatch.setattr("unetq.compress.milp.milp", lambda *_, **__: Nothing())
    with pytest.raises(BudgetError, match=r"no choice of bits in 60 s .* does not say that there is none"):
        solve({"a": {2: 1.0, 4: 0.0}}, [Limit("size", 3.0, {"a": {2: 2.0, 4: 4.0}})])


def test_a_choice_at_the_end_of_the_time_is_not_told_as_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    score, limits = {"a": {2: 1.0, 4: 0.0}}, [Limit("size", 5.0, {"a": {2: 2.0, 4: 4.0}})]
    first = solve(score, limits)
    assert first is not None and first.proven and first.chosen == {"a": 4}
    asked = unetq.compress.milp.milp

    def hurried(*arguments: Any, **options: Any) -> Any:
        found = asked(*arguments, **options)
        found.status = 1
        return found

    monkeypatch.setattr("unetq.compress.milp.milp", hurried)
    found = solve(score, limits)
    assert found is not None and found.chosen == {"a": 4} and not found.proven
