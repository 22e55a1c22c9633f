"""Predicted memory and latency against the packed file in the runtime."""

import json
import random

import pytest
import torch

from unetq.compress.budget import Budget
from unetq.compress.latency import LatencyModel, layer_times
from unetq.compress.memory import MemoryModel, storage_bits, tensor_bytes
from unetq.compress.milp import solve
from unetq.compress.planner import Planner
from unetq.compress.repair import repaired
from unetq.compress.size import SizeModel
from unetq.compress.space import TENSOR, Allocation
from unetq.compress.workbench import Packed, Workbench
from unetq.export.program import ModelMeta
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


@pytest.mark.parametrize(("widths", "choices"), [([32, 64, 64], (3, 8)), ([8, 16, 16], (2, 8))])
def test_the_latency_is_what_the_file_takes(widths: list[int], choices: tuple[int, ...]) -> None:
    """Within 15 %, from layers measured at equal widths to files of mixed ones; with few channels writing counts."""
    torch.manual_seed(3)
    q = quantize(build_network("paper", {"widths": widths}).eval(), 8, 8, example_input=torch.zeros(1, 1, 32, 32))
    bench = Workbench(q, choices, [torch.rand(2, 1, 32, 32)], Options(), None, 4)
    model = LatencyModel(bench, (128, 128))
    model.measure()
    ratios = [model.measured(draw(bench, seed)) / model.predict(draw(bench, seed)) for seed in range(5)]
    assert sorted(ratios)[2] == pytest.approx(1.0, abs=0.15), ratios  # the median: what else runs here may disturb one
    again = LatencyModel(bench, (128, 128))
    again.restore(json.loads(json.dumps(model.record())))
    assert again.predict(draw(bench, 0)) == pytest.approx(model.predict(draw(bench, 0)))


def test_latency_tables_cover_every_choice(bench: Workbench) -> None:
    model = LatencyModel(bench, (64, 64))
    model.measure()
    for seed in range(3):
        allocation = draw(bench, seed)
        predicted = model.predict(allocation)
        assert predicted > 0
        limit = model.limit(1.0, 2.0)
        assert limit.value(allocation.bits) == pytest.approx(2.0 * predicted)


def test_exact_plans_repair_what_the_solver_refuses(bench: Workbench) -> None:
    """A limit that no equal widths meet, and that the linear form with its slack does not either."""
    size = SizeModel(bench, lambda _: ModelMeta())
    memory = MemoryModel(bench, (128, 128))
    score = {v: {b: 1.0 / b for b in widths} for v, widths in bench.space.choices.items()}
    tensors = [v for v in bench.space.choices if v[0] == TENSOR]
    equal = [memory.predict(bench.space.uniform(8, bits)) for bits in WIDTHS]
    bound = int(0.9 * equal[1])
    found = repaired(bench.space.nearest(8), score, tensors, lambda a: memory.predict(a) / bound - 1.0)
    assert found is not None and memory.predict(found) <= bound < equal[1]
    for variable in tensors:  # nothing is narrower than it must be
        wider = [found.having(variable, b) for b in bench.space.choices[variable] if b > found[variable]]
        assert all(memory.predict(allocation) > bound for allocation in wider)
    assert repaired(bench.space.nearest(8), score, tensors, lambda a: 1.0) is None
    planner = Planner(bench.space, score, size, Budget(memory=bound), memory)
    planner._slack = float(bound)  # no room at all, by the linear form
    planned = planner.plan()
    assert planned is not None and memory.predict(planned) <= bound
    impossible = min(equal) // 4
    assert Planner(bench.space, score, size, Budget(memory=impossible), memory).plan() is None
