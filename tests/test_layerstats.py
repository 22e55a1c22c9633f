"""Statistics of codes: of weights as stored, of activations as run."""

import json
from pathlib import Path

import numpy as np
import pytest
from device_program import network
from random_programs import random_input, random_integer_program

from unetq import layerstats
from unetq.export.program import Conv, Program
from unetq.report.layers import Layers


def images(program: Program, count: int = 3, size: int = 40) -> np.ndarray:
    channels = program.tensors[program.input].channels
    spatial = (size,) * program.spatial_rank
    return np.random.default_rng(0).normal(size=(count, channels, *spatial)).astype(np.float32)


def test_counts_are_of_every_weight_and_every_traced_code(tmp_path: Path) -> None:
    program = network()
    found = layerstats.describe(program, images(program))
    assert found["activations"]["images"] == 2
    convolutions = {op.name: op for op in program.ops if isinstance(op, Conv) and op.weight_kind != "float32"}
    assert convolutions
    trace: dict[str, np.ndarray] = {}
    side = found["activations"]["size"][-1]
    start = (40 - side) // 2
    program.run(images(program)[:2, :, start : start + side, start : start + side], trace)
    by_name = {layer["name"]: layer for layer in found["layers"]}
    for name, op in convolutions.items():
        weight = by_name[name]["weight"]
        histogram = weight["histogram"]
        assert sum(histogram["counts"]) == op.weight.size
        codes = np.arange(histogram["low"], histogram["low"] + len(histogram["counts"]))
        assert histogram["counts"] == [int(np.sum(op.weight == code)) for code in codes]
        assert weight["zero"] == pytest.approx(float(np.mean(op.weight == 0)))
        assert weight["seen"] == [int(op.weight.min()), int(op.weight.max())]
        tensor = program.tensors[op.output]
        activation = by_name[name]["activation"]
        if tensor.grid is None:
            assert activation is None and by_name[name]["act_bits"] == 32
            continue
        seen = trace[tensor.name]
        counts = activation["histogram"]["counts"]
        assert sum(counts) == seen.size
        assert counts[tensor.grid.high - activation["histogram"]["low"]] == int(np.sum(seen == tensor.grid.high))
        high = float(np.mean(seen == tensor.grid.high))
        low = float(np.mean(seen == tensor.grid.low)) if tensor.grid.signed else 0.0
        assert activation["saturated"] is None or activation["saturated"] == pytest.approx(high + low)
    path = layerstats.write(tmp_path, program, images(program))
    assert path == tmp_path / "layers.json"
    assert len(Layers.model_validate(json.loads(path.read_text())).layers) == len(found["layers"])


def test_saturation_is_the_share_at_the_ends() -> None:
    """Half of the weights put at the ends by hand."""
    program = network()
    place = next(i for i, op in enumerate(program.ops) if isinstance(op, Conv) and op.weight_kind == "twos_complement")
    op = program.ops[place]
    assert isinstance(op, Conv)
    top = (1 << (op.weight_bits - 1)) - 1
    assert top > 1
    flat = np.zeros(op.weight.size, op.weight.dtype)
    flat[: flat.size // 4] = top
    flat[flat.size // 4 : flat.size // 2] = -top
    op.weight[...] = flat.reshape(op.weight.shape)
    weight = layerstats.describe(program, images(program)[:0])["layers"]
    found = next(layer for layer in weight if layer["name"] == op.name)
    assert found["weight"]["saturated"] == pytest.approx(2 * (flat.size // 4) / flat.size, abs=0.02)
    assert found["activation"] is None  # nothing was run


def test_a_float_program_has_no_codes(tmp_path: Path) -> None:
    program = network()
    plain = Program(
        tensors=tuple(type(tensor)(tensor.name, tensor.channels, None) for tensor in program.tensors[:1]),
        ops=(),
        input=0,
        output=0,
        spatial_rank=2,
        input_multiple=(1, 1, 1),
    )
    (tmp_path / "layers.json").write_text("stale")
    assert layerstats.write(tmp_path, plain, np.zeros((1, 1, 8, 8), np.float32)) is None
    assert not (tmp_path / "layers.json").exists()


@pytest.mark.parametrize("seed", range(8))
def test_programs_of_every_kind_are_described_and_read_back(seed: int) -> None:
    program = random_integer_program(seed)
    found = layerstats.describe(program, random_input(program, seed))
    again = Layers.model_validate(json.loads(json.dumps(found)))
    assert [layer.name for layer in again.layers] == [layer["name"] for layer in found["layers"]]
    names = {op.name: op for op in program.ops if isinstance(op, Conv)}
    for layer in again.layers:
        for side in filter(None, (layer.weight, layer.activation)):
            assert side.codes[0] <= side.seen[0] <= side.seen[1] <= side.codes[1] or layer.name in names
            assert str(side.picture).startswith("<svg")
        if layer.weight is not None:
            assert sum(layer.weight.histogram.counts) == names[layer.name].weight.size


@pytest.mark.parametrize(
    ("sides", "expected"), [((600, 600), 256), ((40, 40), 40), ((37, 60), 32), ((5, 20), 8), ((1, 1), 8)]
)
def test_the_centres_are_of_one_size_that_the_program_takes(sides: tuple[int, int], expected: int) -> None:
    program = network()
    assert program.input_multiple[-1] == 8
    pictures = [images(program, 1, side)[0] for side in sides]
    found = layerstats._centres(program, pictures)
    assert found.shape == (2, 1, expected, expected)
    start = (sides[1] - expected) // 2
    if start >= 0:
        assert (found[1] == pictures[1][:, start : start + expected, start : start + expected]).all()
    else:
        assert (found[1, :, 0, 0] == pictures[1][:, 0, 0]).all()


def test_a_program_of_one_size_gets_it() -> None:
    program = network(fixed=(1, 24, 24))
    found = layerstats.describe(program, images(program, 1, 40))
    assert found["activations"] == {"images": 1, "size": [24, 24]}
    assert any(layer["activation"] for layer in found["layers"])
