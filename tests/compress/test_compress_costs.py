"""Predicted memory and latency against the packed file in the runtime."""

import json
import random

import pytest
import torch

from unetq.compress.baselines import equal_within
from unetq.compress.budget import Budget
from unetq.compress.latency import LatencyModel, layer_times
from unetq.compress.memory import MemoryModel, storage_bits, tensor_bytes
from unetq.compress.milp import solve
from unetq.compress.planner import Planner, with_spare
from unetq.compress.repair import repaired
from unetq.compress.search import polish
from unetq.compress.sensitivity import Measured
from unetq.compress.size import SizeModel
from unetq.compress.space import TENSOR, Allocation
from unetq.compress.workbench import Packed, Workbench
from unetq.export.program import Conv, ModelMeta
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


@pytest.fixture
def even_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the form that the model assumes; `scripts/compress_acceptance.py --only joint` has a real one."""

    def clock(packed: Packed, size: tuple[int, ...], runs: int = 5) -> tuple[dict[str, float], float]:
        program, found = packed.program, {}
        for number, op in enumerate(program.ops):
            if isinstance(op, Conv):
                read, written = (program.tensors[i].grid for i in (op.inputs[0], op.output))
                writing = 0.01 * number * written.bits**0.5 if written else 0.0
                found[op.name] = 1.0 + 0.1 * number + 0.03 * op.weight_bits * (read.bits if read else 32) + writing
        return found, sum(found.values())

    monkeypatch.setattr("unetq.compress.latency.layer_times", clock)


@pytest.mark.usefixtures("even_clock")
def test_the_latency_model_is_exact_where_layers_add_up(bench: Workbench) -> None:
    model = LatencyModel(bench, (128, 128))
    model.measure()
    drawn = [draw(bench, seed) for seed in range(10)]
    assert len({round(model.measured(a), 6) for a in drawn}) == len(drawn)
    for allocation in drawn:
        assert model.predict(allocation) == pytest.approx(model.measured(allocation))
    again = LatencyModel(bench, (128, 128))
    again.restore(json.loads(json.dumps(model.record())))
    assert again.predict(drawn[0]) == pytest.approx(model.predict(drawn[0]))


@pytest.mark.usefixtures("even_clock")
def test_a_latency_is_kept_with_a_little_to_spare_where_that_can_be(bench: Workbench) -> None:
    model = LatencyModel(bench, (128, 128))
    model.measure()
    size = SizeModel(bench, lambda _: ModelMeta())
    score = {v: {b: 1.0 / b for b in widths} for v, widths in bench.space.choices.items()}
    least, most = (model.measured(bench.space.nearest(bits)) for bits in (WIDTHS[0], WIDTHS[-1]))
    for bound in (0.5 * (least + most), 1.01 * least):
        asked = with_spare(Budget(latency=bound), lambda b: Planner(bench.space, score, size, b, None, model))
        planner = Planner(bench.space, score, size, asked, None, model)
        planned = planner.plan()
        assert planned is not None
        polished = polish(planner, planned, lambda a: Measured(0.0, 0.0, 1.0 / sum(a.bits.values())), 20)
        equal = equal_within(bench, planner)
        for found in filter(None, (planned, polished, equal)):
            takes = model.measured(found)
            assert takes <= (0.97 if bound > 1.1 * least else 1.0) * bound
        assert model.measured(planned) > 0.9 * bound
    assert with_spare(Budget(size=9), lambda _: pytest.fail("nothing to ask")) == Budget(size=9)


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
