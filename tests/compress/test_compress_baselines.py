"""Baselines fill the same budget, and the solver's choice scores no worse than any of them."""

import pytest
import torch

from unetq.compress.baselines import equal_within, ordinary, random_within, uniform_above
from unetq.compress.budget import Budget
from unetq.compress.memory import MemoryModel
from unetq.compress.planner import Planner
from unetq.compress.size import SizeModel
from unetq.compress.space import TENSOR, WEIGHT, Allocation, Variable
from unetq.compress.workbench import Workbench
from unetq.errors import ConfigError
from unetq.export.program import ModelMeta
from unetq.nets import build_network
from unetq.ptq.network import Options
from unetq.quant.convert import quantize


@pytest.fixture(scope="module")
def bench() -> Workbench:
    torch.manual_seed(3)
    net = build_network("paper", {"widths": [8, 16, 16]}).eval()
    q = quantize(net, 8, 8, example_input=torch.zeros(1, 1, 32, 32))
    return Workbench(q, (2, 3, 4, 8), [torch.rand(2, 1, 32, 32)], Options(), None, 4)


def test_all_fill_the_budget_and_the_solver_is_best(bench: Workbench) -> None:
    space = bench.space
    size = SizeModel(bench, lambda _: ModelMeta(name="some"))
    target = size.predict(space.uniform(4, 8)) + 500
    score = {v: {b: len(v[1]) / 4.0**b for b in widths} for v, widths in space.choices.items()}

    def total(allocation: Allocation) -> float:
        return sum(score[v][allocation[v]] for v in space.choices)

    planner = Planner(space, score, size, Budget(size=target))
    chosen, equal = planner.plan(), equal_within(bench, planner)
    assert chosen is not None and equal is not None
    assert equal.key == ordinary(bench, 4, 8).key  # 8-bit ends fit, too
    drawn = [random_within(planner, seed) for seed in range(5)]
    assert len({allocation.key for allocation in drawn}) > 1
    assert random_within(planner, 3).key == drawn[3].key
    assert all(allocation[v] == 8 for allocation in drawn for v in space.choices if v[0] == TENSOR)
    for other in (equal, *drawn):
        assert size.predict(other) <= target
        assert total(chosen) <= total(other) * (1 + 1e-6)
    for allocation in drawn:  # full: no single weight could be wider
        wider = [allocation.having(v, 8) for v in space.choices if v[0] == WEIGHT and allocation[v] == 4]
        assert all(size.predict(a) > target for a in wider)


def test_what_measures_alike_uses_the_size_or_saves_it(bench: Workbench) -> None:
    size = SizeModel(bench, lambda _: ModelMeta(name="some"))
    alike = none_of(bench)
    target = size.predict(bench.space.uniform(4, 8)) + 500
    full = Planner(bench.space, alike, size, Budget(size=target)).plan()
    small = Planner(bench.space, alike, size, Budget(max_dice_drop=1.0)).plan(target)
    assert full is not None and small is not None
    assert size.predict(bench.space.uniform(4, 8)) <= size.predict(full) <= target
    assert small.key == bench.space.nearest(1).key


def test_equal_widths_on_both_sides_and_the_ordinary_ones(bench: Workbench) -> None:
    space, size = bench.space, SizeModel(bench, lambda _: ModelMeta(name="some"))
    target = size.predict(space.uniform(4, 8)) + 500
    above = uniform_above(space, size, target)
    assert above is not None and {above[v] for v in space.choices if v[0] == WEIGHT} == {8}
    assert size.predict(space.uniform(4, 8)) <= target < size.predict(above)
    roomy = Planner(space, none_of(bench), size, Budget(size=size.predict(ordinary(bench, 4, 8))))
    found = equal_within(bench, roomy)
    assert found is not None and found.key == ordinary(bench, 4, 8).key
    assert uniform_above(space, size, size.predict(space.nearest(8))) is None
    four = ordinary(bench, 4, 3)
    weights = {v[1]: four[v] for v in space.choices if v[0] == WEIGHT}
    assert weights["encoder.0.0"] == weights["head"] == 8 and set(weights.values()) == {4, 8}
    tensors = {v[1]: four[v] for v in space.choices if v[0] == TENSOR}
    assert tensors["#input"] == 8 and set(tensors.values()) == {3, 8}
    with pytest.raises(ConfigError, match="are not among"):
        ordinary(bench, 5, 3)


def test_under_a_memory_activations_are_equal_or_drawn_too(bench: Workbench) -> None:
    space, size = bench.space, SizeModel(bench, lambda _: ModelMeta(name="some"))
    memory = MemoryModel(bench, (256, 256))
    at = {bits: memory.predict(space.uniform(3, bits)) for bits in (2, 4, 8)}
    assert at[2] < at[4] < at[8]
    budget = Budget(size=size.predict(space.uniform(3, 8)), memory=at[4])
    planner = Planner(space, none_of(bench), size, budget, memory)
    equal = equal_within(bench, planner)
    assert equal is not None and equal.key == space.uniform(3, 4).key
    for seed in range(4):
        drawn = random_within(planner, seed)
        assert planner.exceeded(drawn) is None
        assert len({drawn[v] for v in space.choices if v[0] == TENSOR}) > 1
        wider = [drawn.having(v, b) for v, widths in space.choices.items() for b in widths if b > drawn[v]]
        assert all(planner.exceeded(allocation) is not None for allocation in wider)  # the budget is used
    planner = Planner(space, none_of(bench), size, Budget(memory=at[4]), memory)
    assert planner.exceeded(space.nearest(8)) == "memory"
    drawn = random_within(planner, 0)
    assert all(drawn[v] == 8 for v in space.choices if v[0] == WEIGHT)


@pytest.mark.parametrize("share", [0.15, 0.4, 0.7])
def test_a_memory_is_used_better_than_by_equal_and_random_widths(bench: Workbench, share: float) -> None:
    space, size = bench.space, SizeModel(bench, lambda _: ModelMeta(name="some"))
    memory = MemoryModel(bench, (256, 256))
    least, most = (memory.predict(space.uniform(3, bits)) for bits in (2, 8))
    score = {v: {b: len(v[1]) / 4.0**b for b in widths} for v, widths in space.choices.items()}
    budget = Budget(size=size.predict(space.uniform(3, 8)), memory=round(least + share * (most - least)))
    planner = Planner(space, score, size, budget, memory)
    chosen = planner.plan()
    assert chosen is not None and planner.exceeded(chosen) is None
    others = [equal_within(bench, planner), *(random_within(planner, seed) for seed in range(5))]
    assert all(planner._total(chosen) < planner._total(other) for other in others if other is not None)
    wider = [chosen.having(v, b) for v, bs in space.choices.items() if v[0] == TENSOR for b in bs if b > chosen[v]]
    assert all(planner.exceeded(allocation) == "memory" for allocation in wider)


def test_no_room_at_all(bench: Workbench) -> None:
    size = SizeModel(bench, lambda _: ModelMeta(name="some"))
    memory = MemoryModel(bench, (32, 32))
    for budget in (Budget(size=100), Budget(memory=100), Budget(size=100, memory=100)):
        planner = Planner(bench.space, none_of(bench), size, budget, memory)
        assert equal_within(bench, planner) is None
        with pytest.raises(ConfigError, match="of 20 random choices of bits none comes inside"):
            random_within(planner, 0)


def test_equal_widths_that_some_tensor_may_not_have_are_left_out() -> None:
    """PACT has no grid of 1 bit for values of both signs; other tensors of the network may have it."""
    net = build_network("attention_unet", {"channels": [4, 8]}).eval()
    q = quantize(net, 8, 8, act_method="pact", example_input=torch.zeros(1, 1, 32, 32))
    bench = Workbench(q, (1, 2, 8), [torch.rand(2, 1, 32, 32)], Options(), None, 4)
    widths = [found for v, found in bench.space.choices.items() if v[0] == TENSOR]
    assert {1 in found for found in widths} == {True, False}
    size, memory = SizeModel(bench, lambda _: ModelMeta(name="some")), MemoryModel(bench, (64, 64))
    for limit in (1, memory.predict(bench.space.nearest(1))):
        planner = Planner(bench.space, none_of(bench), size, Budget(memory=limit), memory)
        found = equal_within(bench, planner)  # of the first limit, after all pairs were tried
        assert found is None if limit == 1 else found is not None and planner.exceeded(found) is None


def none_of(bench: Workbench) -> dict[Variable, dict[int, float]]:
    """Scores that tell nothing."""
    return {v: dict.fromkeys(widths, 0.0) for v, widths in bench.space.choices.items()}
