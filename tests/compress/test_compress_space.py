"""The variables of a network, and predictions that equal the packed file and the runtime's plan."""

import random
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import nn

from unetq.compress.size import SizeModel
from unetq.compress.space import TENSOR, WEIGHT, Allocation, literal
from unetq.compress.workbench import Packed, Workbench
from unetq.errors import ConfigError, UnsupportedError
from unetq.export.lower import lower
from unetq.export.modelfile import encode
from unetq.export.program import Conv, ModelMeta
from unetq.nets import build_network
from unetq.ptq.network import Options, quantize_after_training
from unetq.quant.convert import quantize
from unetq.quant.settings import LayerSettings

WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8)


def bench_of(net: nn.Module, weight_bits: int = 8, **settings: object) -> Workbench:
    torch.manual_seed(7)
    q = quantize(net, weight_bits, 8, example_input=torch.zeros(1, 1, 32, 32), **settings)  # type: ignore[arg-type]
    return Workbench(q, WIDTHS, [torch.rand(2, 1, 32, 32)], Options(), None, 4)


@pytest.fixture(scope="module")
def bench() -> Workbench:
    torch.manual_seed(3)
    return bench_of(build_network("paper", {"widths": [4, 8, 12]}).eval())


def draw(bench: Workbench, seed: int) -> Allocation:
    rng = random.Random(seed)
    return Allocation({variable: rng.choice(widths) for variable, widths in bench.space.choices.items()})


def meta(bench: Workbench, name: str = "some") -> Callable[[Allocation], ModelMeta]:
    return lambda allocation: ModelMeta(name=name, provenance={"quant": {"layers": bench.space.layers(allocation)}})


@pytest.mark.parametrize("seed", range(8))
def test_the_size_is_exact_to_the_byte(bench: Workbench, seed: int) -> None:
    model = SizeModel(bench, meta(bench, "n" * (1 + 40 * seed)))
    for draws in range(6):
        allocation = draw(bench, 100 * seed + draws)
        said = ModelMeta("n" * (1 + 40 * seed), provenance={"quant": {"layers": bench.space.layers(allocation)}})
        with Packed(bench.program(allocation), said) as packed:
            assert model.predict(allocation) == len(packed.data), f"{allocation.key}"
            limit = model.limit(10**6, allocation)
            assert limit.value(allocation.bits) == len(packed.data)


@pytest.mark.parametrize("method", ["lsq", "twn", "codebook"])
def test_other_methods_have_the_widths_that_they_have(method: str) -> None:
    torch.manual_seed(1)
    expected = {"lsq": (2, 3, 4, 5, 6, 7, 8), "twn": (2,), "codebook": (1, 2, 3, 4)}[method]
    bench = bench_of(build_network("paper", {"widths": [4, 8]}).eval(), expected[-1], weight_method=method)
    model = SizeModel(bench, meta(bench))
    assert {widths for (kind, _), widths in bench.space.choices.items() if kind == WEIGHT} == {expected}
    for seed in range(3):
        allocation = draw(bench, seed)
        said = ModelMeta("some", provenance={"quant": {"layers": bench.space.layers(allocation)}})
        with Packed(bench.program(allocation), said) as packed:
            assert model.predict(allocation) == len(packed.data)


def test_weights_with_groups_are_exact_too() -> None:
    torch.manual_seed(1)
    bench = bench_of(build_network("paper", {"widths": [4, 8]}).eval(), 7, group_size=2)
    model = SizeModel(bench, meta(bench))
    for seed in range(3):
        allocation = draw(bench, seed)
        said = ModelMeta("some", provenance={"quant": {"layers": bench.space.layers(allocation)}})
        with Packed(bench.program(allocation), said) as packed:
            assert model.predict(allocation) == len(packed.data)


@pytest.mark.parametrize("seed", range(4))
def test_a_program_has_the_widths_of_its_allocation(bench: Workbench, seed: int) -> None:
    allocation = draw(bench, seed)
    program = bench.program(allocation)
    for op in program.ops:
        if isinstance(op, Conv):
            grid = program.tensors[op.inputs[0]].grid
            assert grid is not None
            assert op.weight_bits == allocation[WEIGHT, op.name]
            assert grid.bits == allocation[TENSOR, bench.space.reads[op.name]]


@pytest.mark.parametrize("seed", range(3))
def test_a_network_quantised_so_is_the_same_program(seed: int) -> None:
    """What is written in the end is made anew from the config: it must be what was measured here."""
    torch.manual_seed(3)
    net = build_network("paper", {"widths": [4, 8, 12]}).eval()
    images = [torch.rand(2, 1, 32, 32)]
    q = quantize(net, 8, 8, example_input=torch.zeros(1, 1, 32, 32))
    bench = Workbench(q, WIDTHS, images, Options(), None, 4)
    allocation = draw(bench, seed)
    layers = [LayerSettings(**entry) for entry in bench.space.layers(allocation)]
    again = quantize(net, 8, 8, layers=layers, example_input=torch.zeros(1, 1, 32, 32))
    quantize_after_training(again, images, Options())
    assert encode(lower(again, torch.zeros(1, 1, 32, 32)), ModelMeta()) == encode(
        bench.program(allocation), ModelMeta()
    )


def test_tensors_that_share_a_grid_are_one_variable(bench: Workbench) -> None:
    """The last encoder layer of a level and what is upsampled onto it are joined, so they have one width."""
    tensors = {name for kind, name in bench.space.choices if kind == TENSOR}
    assert len(tensors) < len(set(bench.space.reads))
    shared = {tensor: names for tensor, names in bench.space.readers.items() if len(names) > 1}
    assert shared and all(bench.space.reads[layer] == tensor for tensor, names in shared.items() for layer in names)


def test_what_only_an_upsampling_reads_has_a_width_too(bench: Workbench) -> None:
    """Of its own, by the operation's name in the config: the program has it, and all widths are taken."""
    only = {tensor: names for tensor, names in bench.space.readers.items() if all(n.startswith("#") for n in names)}
    assert only and all(set(names) <= set(bench.space.reads) for names in only.values())
    name = next(iter(only))
    assert bench.space.choices[TENSOR, name] == WIDTHS
    narrow = bench.space.nearest(8).having((TENSOR, name), 3)
    made = {t.name: t.grid.bits for t in bench.program(narrow).tensors if t.grid is not None}
    assert made[name] == 3 and sorted(made.values())[1] == 8
    entry = next(e for e in bench.space.layers(narrow) if e["pattern"] == only[name][0])
    assert entry == {"pattern": only[name][0], "act_bits": 3}
    with pytest.raises(ConfigError, match="only convolutions have weights"):
        LayerSettings("#upsample_linear0", weight_bits=4)
    with pytest.raises(ConfigError, match="matches no convolution"):
        bench_of(build_network("paper", {"widths": [4, 8]}).eval(), layers=[LayerSettings("#add7", act_bits=4)])


def test_float_layers_have_no_width() -> None:
    torch.manual_seed(3)
    bench = bench_of(build_network("paper", {"widths": [4, 8]}).eval(), float_layers=("head", "encoder.0.0"))
    assert not {(WEIGHT, "head"), (WEIGHT, "encoder.0.0")} & set(bench.space.choices)
    assert SizeModel(bench, meta(bench)).predict(draw(bench, 0)) > 0
    with pytest.raises(UnsupportedError, match="float_layers keeps all"):
        bench_of(build_network("paper", {"widths": [4, 8]}).eval(), float_layers=("*",))


def test_widths_are_checked() -> None:
    net = build_network("paper", {"widths": [4, 8]}).eval()
    q = quantize(net, 8, 8, example_input=torch.zeros(1, 1, 32, 32))
    with pytest.raises(ConfigError, match="1 to 8"):
        Workbench(q, (0, 4), [torch.rand(2, 1, 32, 32)], Options(), None, 4)
    torch.manual_seed(0)
    two = quantize(net, 2, 8, weight_method="twn", first_bits=8, example_input=torch.zeros(1, 1, 32, 32))
    with pytest.raises(ConfigError, match="none of the widths"):
        Workbench(two, (4, 8), [torch.rand(2, 1, 32, 32)], Options(), None, 4)


def test_names_are_patterns_of_themselves() -> None:
    assert literal("a[0].b*?") == "a[[]0].b[*][?]"


def test_uniform_takes_the_next_width_there_is(bench: Workbench) -> None:
    allocation = bench.space.uniform(3, 6)
    assert {allocation[v] for v in bench.space.choices if v[0] == WEIGHT} == {3}
    assert {allocation[v] for v in bench.space.choices if v[0] == TENSOR} == {6}


def test_a_program_does_not_depend_on_the_one_before(bench: Workbench) -> None:
    """Grids of several widths may have one step: nothing but the width tells them apart."""
    space, narrow = bench.space, bench.space.nearest(1)
    alone = {v: {b: bench.program(narrow.having(v, b)) for b in widths} for v, widths in space.choices.items()}
    for variable, widths in space.choices.items():
        for before, bits in pairwise(widths):
            bench.program(narrow.having(variable, before))
            found = bench.program(narrow.having(variable, bits))
            assert encode(found, ModelMeta()) == encode(alone[variable][bits], ModelMeta())
            if variable[0] == TENSOR:
                assert bits in {t.grid.bits for t in found.tensors if t.grid is not None}
            else:
                assert bits in {op.weight_bits for op in found.ops if isinstance(op, Conv)}
