"""Baselines fill the same budget, and the solver's choice scores no worse than any of them."""

import pytest
import torch

from unetq.compress.baselines import ordinary, random_within, uniform_above, uniform_within
from unetq.compress.budget import Budget
from unetq.compress.planner import Planner
from unetq.compress.size import SizeModel
from unetq.compress.space import TENSOR, WEIGHT, Allocation
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

    chosen = Planner(space, score, size, Budget(size=target)).plan()
    equal = uniform_within(space, size, target)
    assert chosen is not None and equal is not None
    assert {equal[v] for v in space.choices if v[0] == WEIGHT} == {4}
    drawn = [random_within(space, size, target, seed) for seed in range(5)]
    assert len({allocation.key for allocation in drawn}) > 1
    assert random_within(space, size, target, 3).key == drawn[3].key
    for other in (equal, *drawn):
        assert size.predict(other) <= target
        assert total(chosen) <= total(other) * (1 + 1e-6)
    for allocation in drawn:  # full: no single weight could be wider
        wider = [allocation.having(v, 8) for v in space.choices if v[0] == WEIGHT and allocation[v] == 4]
        assert all(size.predict(a) > target for a in wider)


def test_what_measures_alike_uses_the_size_or_saves_it(bench: Workbench) -> None:
    size = SizeModel(bench, lambda _: ModelMeta(name="some"))
    alike = {v: dict.fromkeys(widths, 0.0) for v, widths in bench.space.choices.items()}
    target = size.predict(bench.space.uniform(4, 8)) + 500
    full = Planner(bench.space, alike, size, Budget(size=target)).plan()
    small = Planner(bench.space, alike, size, Budget(max_dice_drop=1.0)).plan(target)
    assert full is not None and small is not None
    assert size.predict(bench.space.uniform(4, 8)) <= size.predict(full) <= target
    assert small.key == bench.space.nearest(1).key


def test_equal_widths_on_both_sides_and_the_ordinary_ones(bench: Workbench) -> None:
    space, size = bench.space, SizeModel(bench, lambda _: ModelMeta(name="some"))
    target = size.predict(space.uniform(4, 8)) + 500
    below, above = uniform_within(space, size, target), uniform_above(space, size, target)
    assert below is not None and above is not None
    assert {above[v] for v in space.choices if v[0] == WEIGHT} == {8}
    assert size.predict(below) <= target < size.predict(above)
    assert uniform_above(space, size, size.predict(space.nearest(8))) is None
    four = ordinary(bench, 4, 3)
    weights = {v[1]: four[v] for v in space.choices if v[0] == WEIGHT}
    assert weights["encoder.0.0"] == weights["head"] == 8 and set(weights.values()) == {4, 8}
    tensors = {v[1]: four[v] for v in space.choices if v[0] == TENSOR}
    assert tensors["#input"] == 8 and set(tensors.values()) == {3, 8}
    with pytest.raises(ConfigError, match="are not among"):
        ordinary(bench, 5, 3)


def test_no_room_at_all(bench: Workbench) -> None:
    size = SizeModel(bench, lambda _: ModelMeta(name="some"))
    assert uniform_within(bench.space, size, 100) is None
    with pytest.raises(ConfigError, match="narrowest"):
        random_within(bench.space, size, 100, 0)
