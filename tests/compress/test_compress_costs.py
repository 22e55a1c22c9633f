"""Predicted memory and latency against the packed file in the runtime."""

import random

import pytest
import torch

from unetq.compress.latency import LatencyModel, layer_times
from unetq.compress.memory import MemoryModel, storage_bits, tensor_bytes
from unetq.compress.milp import solve
from unetq.compress.space import Allocation
from unetq.compress.workbench import Packed, Workbench
from unetq.nets import build_network
from unetq.ptq.network import Options
from unetq.quant.convert import quantize

WIDTHS = (2, 4, 8)


@pytest.fixture(scope="module")
def bench() -> Workbench:
    torch.manual_seed(3)
    net = build_network("paper", {"widths": [8, 16, 16]}).eval()
    q = quantize(net, 8, 8, example_input=torch.zeros(1, 1, 32, 32))
    return Workbench(q, WIDTHS, [torch.rand(2, 1, 32, 32)], Options(), None, 4)


def draw(bench: Workbench, seed: int) -> Allocation:
    rng = random.Random(seed)
    return Allocation({variable: rng.choice(widths) for variable, widths in bench.space.choices.items()})


def test_codes_lie_at_the_next_power_of_two() -> None:
    assert [storage_bits(b) for b in range(1, 9)] == [1, 2, 4, 4, 8, 8, 8, 8]
    assert tensor_bytes(10, 3, 3) == 20 and tensor_bytes(10, 3, 32) == 120


@pytest.mark.parametrize("seed", range(4))
def test_the_memory_is_what_the_file_takes(bench: Workbench, seed: int) -> None:
    model = MemoryModel(bench, (64, 64))
    allocation = draw(bench, seed)
    with Packed(bench.program(allocation)) as packed:
        assert model.predict(allocation) == packed.runtime.plan((64, 64)).arena_bytes


def test_a_memory_limit_is_kept_by_the_solver(bench: Workbench) -> None:
    model = MemoryModel(bench, (128, 128))
    wide, narrow = (model.predict(bench.space.nearest(bits)) for bits in (8, 2))
    assert narrow < wide
    bound = (wide + narrow) // 2
    score = {v: {b: 1.0 / b for b in widths} for v, widths in bench.space.choices.items()}
    slack = model.least_slack()
    assert max(limit.value(bench.space.nearest(8).bits) for limit in model.limits(bound, slack)) <= wide
    for _ in range(20):
        found = solve(score, model.limits(bound, slack))
        assert found is not None
        allocation = Allocation(found.chosen)  # type: ignore[arg-type]
        if model.predict(allocation) <= bound:
            break
        slack = model.more_slack(slack, allocation, bound)
    assert model.predict(allocation) <= bound
    assert allocation.bits != bench.space.nearest(2).bits  # it does not simply take the least


def test_layer_times_add_up(bench: Workbench) -> None:
    with Packed(bench.program(bench.space.nearest(4))) as packed:
        found, whole = layer_times(packed, (128, 128))
    assert set(found) == {op.name for op in packed.program.ops if type(op).__name__ == "Conv"}
    assert all(seconds >= 0 for seconds in found.values())
    assert sum(found.values()) == pytest.approx(whole)


def test_the_latency_is_what_the_file_takes() -> None:
    """Within 15 %, from layers measured at equal widths to files of mixed ones, where channels are as many as usual."""
    torch.manual_seed(3)
    q = quantize(build_network("paper", {"widths": [32, 64, 64]}).eval(), 8, 8, example_input=torch.zeros(1, 1, 32, 32))
    wide = Workbench(q, (3, 8), [torch.rand(2, 1, 32, 32)], Options(), None, 4)
    model = LatencyModel(wide, (128, 128))
    model.measure()
    ratios = [model.measured(draw(wide, seed)) / model.predict(draw(wide, seed)) for seed in range(3)]
    assert sorted(ratios)[1] == pytest.approx(1.0, abs=0.15), ratios


def test_latency_tables_cover_every_choice(bench: Workbench) -> None:
    model = LatencyModel(bench, (64, 64))
    model.measure()
    for seed in range(3):
        allocation = draw(bench, seed)
        predicted = model.predict(allocation)
        assert predicted > 0
        limit = model.limit(1.0, 2.0)
        assert limit.value(allocation.bits) == pytest.approx(2.0 * predicted)
