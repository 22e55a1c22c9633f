"""What the ONNX model is made of: pairs on grids, types of weights, functions for tables, paddings, axes."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from random_networks import random_case
from random_programs import random_integer_program

import unetq
from unetq.errors import ConfigError
from unetq.export.program import Add, Conv, Epilogue, MaxPool, Pointwise, Quantize, Table, Upsample
from unetq.fixedpoint import Grid, dequantize, quantize

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx_programs import chain, in_onnx, nodes, noise, plain  # noqa: E402

from unetq.onnx import convolution  # noqa: E402
from unetq.onnx.model import build  # noqa: E402

GRIDS = {
    "unsigned": Grid(6, False, 0.125),
    "narrow": Grid(5, True, 0.25, narrow=True),
    "one bit": Grid(1, False, 1.0),
    "zero-point": Grid(6, False, 0.25, zero_point=19),
    "learned": Grid(4, True, float(np.float32(0.37))),
    "learned, zero-point": Grid(8, False, float(np.float32(0.037)), zero_point=101),
    "toward zero": Grid(5, True, 0.25, rounding="toward_zero"),
    "toward zero, learned": Grid(5, False, float(np.float32(0.37)), rounding="toward_zero"),
    "dynamic": Grid(6, True, 1.0, dynamic=True),
}


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_every_kind_of_grid_through_sums_and_upsampling(grid: Grid) -> None:
    """Codes whose sums are exact ties half of the time: a division in place of the inverse would show."""
    step = 1.0 if grid.dynamic else grid.scale
    program = chain(
        Quantize("quantize", (0,), 0),
        Upsample("up", (1,), 0, "linear", (1, 2, 2), plain(np.float32(step / 16))),
        MaxPool("pool", (2,), 0, (1, 2, 2), (1, 2, 2), (0, 1, 1)),
        Add("add", (3, 3), 0, (step / 2, step), plain(1.0)),
        Pointwise("logits", (4,), 0, plain(step, 0.25)),
        grids=[grid, grid, grid, grid, None],
    )
    x = noise(6)
    x[1] = 0  # a whole image: no dynamic scale to be found
    assert np.array_equal(in_onnx(program, x), program.run(x))


def conv(codes: np.ndarray, bits: int, scale: np.ndarray, kind: Any = "twos_complement") -> Conv:
    gain = np.broadcast_to(scale * np.float32(0.25), 2).astype(np.float32)
    epilogue = Epilogue(gain, np.array([0.5, -0.25], np.float32), np.zeros(2, np.float32))
    return Conv("conv", (1,), 0, codes, bits, kind, scale, epilogue, pad_before=(0, 1, 2), pad_after=(0, 0, 1))


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_type_of_weights(bits: int) -> None:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    codes = np.random.default_rng(bits).integers(low, high + 1, (2, 2, 1, 3, 2)).astype(np.int8)
    scale = np.array([0.5, 0.125], np.float32)
    program = chain(Quantize("quantize", (0,), 0), conv(codes, bits, scale), grids=[Grid(6, True, 0.25), None])
    for opset in (17, 21):
        model = build(program, opset=opset)
        kinds = {t.name: t.data_type for t in model.graph.initializer}
        small = opset == 21 and bits <= 4
        assert kinds["conv/weight"] == (onnx.TensorProto.INT4 if small else onnx.TensorProto.INT8)
        clipped = [n for n in model.graph.node if n.op_type == "Clip" and n.input[0] == "conv/weight"]
        assert len(clipped) == (0 if small or bits == 8 else 1)
        stored = next(t for t in model.graph.initializer if t.name == "conv/weight")
        assert np.array_equal(onnx.numpy_helper.to_array(stored).astype(np.int8), codes[:, :, 0])
        dequantize_weight = next(n for n in model.graph.node if n.output[0] == "conv/weight_real")
        assert [a.i for a in dequantize_weight.attribute if a.name == "axis"] == [0]
        assert "Mul" not in nodes(program, opset)  # the gain only undoes the scales
        assert np.array_equal(in_onnx(program, noise(), opset), program.run(noise()))


def test_pairs_on_every_grid() -> None:
    """QuantizeLinear, a Clip where the grid is narrower than its type, DequantizeLinear, both with the grid's step."""
    case = random_case(11)
    q = unetq.quantize(case.net, example_input=case.x[:1], weight_bits=4, act_bits=6)
    unetq.calibrate(q, [case.x])
    program = unetq.lower(q.eval(), case.x)
    model = build(program)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    steps = []
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            (reader,) = readers[node.output[0]]
            if reader.op_type == "Clip":
                assert [int(constants[name]) for name in reader.input[1:]] in ([0, 63], [-32, 31])
                (reader,) = readers[reader.output[0]]
            assert reader.op_type == "DequantizeLinear" and list(reader.input[1:]) == list(node.input[1:])
            steps.append(float(constants[node.input[1]]))
    grids = [t.grid for t in program.tensors if t.grid is not None]
    assert len(grids) >= 4 and {g.scale for g in grids} == set(steps) and len(steps) >= len(grids)


@pytest.mark.parametrize(
    ("name", "curve"),
    [
        ("Sigmoid", lambda x: 1 / (1 + np.exp(-x))),
        ("Tanh", np.tanh),
        ("Elu", lambda x: np.where(x > 0, x, np.expm1(x))),
        ("Mul", lambda x: x / (1 + np.exp(-x))),
        ("Gather", lambda x: np.sin(3 * x)),
    ],
)
def test_tables_are_functions_where_they_can_be(name: str, curve: Any) -> None:
    source, target = Grid(6, True, 0.125), Grid(7, True, float(np.float32(0.031)))
    codes = np.arange(source.low, source.high + 1)
    table = np.zeros(256, np.int16)
    table[codes & 0xFF] = quantize(curve(dequantize(codes, source)).astype(np.float32), target)
    program = chain(
        Quantize("quantize", (0,), 0),
        Table("table", (1,), 0, table),
        Pointwise("logits", (2,), 0, plain(1.0)),
        grids=[source, target, None],
    )
    found = nodes(program)
    assert found[name] >= 1 and ("Gather" in found) == (name == "Gather")
    assert np.array_equal(in_onnx(program, noise()), program.run(noise()))


def test_equal_exports_and_dynamic_axes() -> None:
    program = random_integer_program(2)
    for seed in range(2, 40):
        program = random_integer_program(seed)
        if program.fixed_size is None and program.spatial_rank == 2:
            break
    first, second = build(program), build(program)
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)
    shape = [d.dim_param or d.dim_value for d in first.graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["batch", program.tensors[program.input].channels, "height", "width"]


def test_opsets_that_cannot_be() -> None:
    for opset in (12, 24):
        with pytest.raises(ConfigError, match="13 to 23"):
            build(random_integer_program(0), opset=opset)


def test_a_negative_padding_is_a_cut() -> None:
    codes = np.random.default_rng(1).integers(-8, 8, (2, 2, 1, 3, 3)).astype(np.int8)
    op = replace(conv(codes, 4, np.ones(1, np.float32)), pad_before=(0, 1, 1), pad_after=(0, -2, 1))
    for transposed in (False, True):
        program = chain(
            Quantize("quantize", (0,), 0), replace(op, transposed=transposed), grids=[Grid(6, True, 0.25), None]
        )
        assert np.array_equal(in_onnx(program, noise()), program.run(noise()))
    assert convolution.ties_are_common(op) is False
