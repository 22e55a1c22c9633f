"""Zero-points, dynamic grids, tables and products in the NumPy executor, against their definitions on real values."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unetq.errors import DataError, UnsupportedError
from unetq.export.integer import (
    apply_epilogue,
    check_product,
    convolution_accumulator,
    product_accumulator,
    scaled_gain,
)
from unetq.export.program import (
    Add,
    Conv,
    Epilogue,
    InstanceNorm,
    Mul,
    Op,
    Pad,
    Pointwise,
    Program,
    Quantize,
    Table,
    TensorSpec,
)
from unetq.fixedpoint import Grid, dequantize, dynamic_scale, quantize, quantize_dynamic

F32 = np.float32
DYNAMIC = Grid(8, True, 1.0, dynamic=True)


def plain(channels: int, gain: float = 1.0) -> Epilogue:
    return Epilogue(np.full(channels, gain, F32), np.zeros(channels, F32))


def run(ops: tuple[Op, ...], grids: list[Grid | None], x: np.ndarray, channels: list[int]) -> dict[str, np.ndarray]:
    """Tensors by name t0, t1, … of a program over ``x`` (N, C, H, W); a float32 copy of the last ends it."""
    tensors = [TensorSpec(f"t{i}", c, g) for i, (g, c) in enumerate(zip(grids, channels, strict=True))]
    last = len(tensors)
    tensors.append(TensorSpec("logits", channels[-1], None))
    ops = (*ops, Pointwise("logits", (last - 1,), last, plain(channels[-1])))
    trace: dict[str, np.ndarray] = {}
    Program(tuple(tensors), ops, 0, last, 2, (1, 1, 1)).run(x, trace)
    return trace


@pytest.mark.parametrize("zero", [0, 7, 15])
@pytest.mark.parametrize("pads", [((0, 1, 1), (0, 1, 1)), ((0, 2, 0), (0, 0, 1)), ((0, 1, 1), (0, -1, -1))])
def test_a_convolution_with_a_zero_point(zero: int, pads: tuple[tuple[int, int, int], tuple[int, int, int]]) -> None:
    """Raw sums less zero-point times the sum of the weights are the sums of values: padding is with the value 0."""
    rng = np.random.default_rng(zero)
    weight = rng.integers(-8, 8, (4, 3, 1, 3, 3)).astype(np.int8)
    codes = rng.integers(0, 16, (3, 1, 6, 7)).astype(np.int16)
    op = Conv(
        "c", (0,), 1, weight, 4, "twos_complement", np.ones(1, F32), plain(4), pad_before=pads[0], pad_after=pads[1]
    )
    raw = convolution_accumulator(op, codes, Grid(4, False, 0.5, zero))
    found = raw - zero * weight.astype(int).reshape(4, -1).sum(axis=1).reshape(-1, 1, 1, 1)
    values = torch.from_numpy(codes.astype(float) - zero)
    (_, top, left), (_, bottom, right) = pads
    expected = F.conv3d(F.pad(values, [left, right, top, bottom])[None], torch.from_numpy(weight.astype(float)))[0]
    np.testing.assert_array_equal(found, expected.numpy())


def test_transposed_convolutions_have_no_zero_point() -> None:
    op = Conv(
        "up",
        (0,),
        1,
        np.ones((1, 1, 1, 2, 2), np.int8),
        2,
        "twos_complement",
        np.ones(1, F32),
        plain(1),
        transposed=True,
    )
    with pytest.raises(UnsupportedError, match="zero-point 3"):
        convolution_accumulator(op, np.zeros((1, 1, 2, 2), np.int16), Grid(4, False, 1.0, 3))


def test_zero_padding_is_the_zero_point() -> None:
    grid = Grid(4, False, 0.5, 9)
    ops = (Quantize("q", (0,), 1), Pad("pad", (1,), 2, "zero", (0, 1, 2), (0, 0, 1)))
    found = run(ops, [None, grid, grid], np.full((1, 1, 2, 2), 1.0, F32), [1, 1, 1])["t2"][0, 0, 0]
    assert found.tolist() == [[9] * 5, [9, 9, 11, 11, 9], [9, 9, 11, 11, 9]]
    assert (dequantize(found, grid)[0] == 0).all()


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("signed", [False, True])
def test_dynamic_scales(bits: int, signed: bool) -> None:
    """The largest value is the largest code, exactly; nothing saturates."""
    grid = Grid(bits, signed, 1.0, dynamic=True)
    values = np.random.default_rng(bits).normal(0, 3, 50).astype(F32)
    values[7] = np.abs(values).max() * F32(1.5)
    codes, scale = quantize_dynamic(values, grid)
    if grid.high == 0:
        assert scale == 1.0
        return
    assert scale == F32(values[7]) / F32(grid.high) and codes[7] == grid.high
    np.testing.assert_array_equal(codes, quantize(values, Grid(bits, signed, float(scale))))
    assert np.abs(codes * scale - np.maximum(values, 0 if not signed else -np.inf)).max() <= scale * 0.5001


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0.0, -0.0], 1.0),
        ([1e-45, 0.0], 1.0),
        ([2.0**-126 * 127, 0.0], 2.0**-126),
        ([2.0**-126 * 126, 0.0], 1.0),
        ([float("nan"), 254.0], 2.0),
        ([float("inf"), 1.0], 1.0),
        ([2.0**127, 0.0], 2.0**127 / 127),
        ([], 1.0),
    ],
)
def test_dynamic_scales_at_the_edge(values: list[float], scale: float) -> None:
    assert dynamic_scale(np.array(values, F32), DYNAMIC) == F32(scale)


def test_each_image_has_its_own_scale() -> None:
    x = np.stack([np.full((1, 2, 2), v, F32) for v in (0.0, 1.0, 1000.0, -3.0)])
    trace = run((Quantize("q", (0,), 1),), [None, DYNAMIC], x, [1, 1])
    assert trace["t1"][:, 0, 0, 0, 0].tolist() == [0, 127, 127, -127]
    np.testing.assert_allclose(trace["logits"][:, 0, 0, 0, 0], [0.0, 1.0, 1000.0, -3.0], rtol=1e-6)


def test_gains_take_the_scales_one_after_the_other() -> None:
    gain, first, second = F32([1.1, 0.7, 3.3]), F32(0.123), F32(7.77)
    np.testing.assert_array_equal(scaled_gain(gain, (first, None, second)), (gain * first) * second)
    assert any((gain * first) * second != gain * (first * second)), "the order would not matter here"


def test_a_sum_and_a_product_of_dynamic_tensors() -> None:
    """Values come out as they went in, to within the two grids' steps: every scale is applied, once."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 5, (2, 3, 4, 4)).astype(F32)
    other = Grid(8, True, 1 / 16)
    base = (Quantize("a", (0,), 1), Quantize("b", (0,), 2))
    for op, expected, reach in (
        (Add("sum", (1, 2), 3, (1.0, 1 / 16), plain(3)), x + np.clip(x, -8, 127 / 16), 0.2),
        (Add("twice", (1, 1), 3, (1.0, 1.0), plain(3)), 2 * x, 0.2),
        (Mul("square", (1, 1), 3, plain(3)), x * x, 2.0),
        (Mul("product", (1, 2), 3, plain(3, 1 / 16)), x * np.clip(x, -8, 127 / 16), 1.5),
        (Mul("with a float", (0, 1), 3, plain(3)), x * x, 1.0),
    ):
        found = run((*base, op), [None, DYNAMIC, other, None], x, [3, 3, 3, 3])["t3"][:, :, 0]
        assert np.abs(found - expected).max() < reach, op.name


def test_tables_map_codes() -> None:
    """Every code of a signed grid, by its low byte."""
    source, target = Grid(8, True, 1.0), Grid(6, False, 1 / 64)
    table = np.zeros(256, np.int16)
    codes = np.arange(-128, 128)
    table[codes & 0xFF] = quantize((1 / (1 + np.exp(-codes / 20))).astype(F32), target)
    ops = (Quantize("q", (0,), 1), Table("sigmoid", (1,), 2, table))
    trace = run(ops, [None, source, target], codes.astype(F32).reshape(1, 1, 16, 16), [1, 1, 1])
    sigmoid = 1 / (1 + np.exp(-codes / 20))
    assert np.abs(trace["t2"].ravel() / 64 - np.minimum(sigmoid, 63 / 64)).max() <= 0.5 / 64 + 1e-6


@pytest.mark.parametrize("shape", [(3, 1, 4, 5), (1, 1, 4, 5), (3, 1, 1, 1), (1, 1, 1, 1)])
def test_products_spread_over_channels_and_space(shape: tuple[int, int, int, int]) -> None:
    rng = np.random.default_rng(1)
    op = Mul("m", (0, 1), 2, plain(3))
    a, b = rng.integers(-128, 128, (3, 1, 4, 5)), rng.integers(0, 256, shape)
    check_product(op, a.shape, b.shape)
    found = product_accumulator(op, a.astype(np.int16), b.astype(np.int16))
    assert found.dtype == np.int32
    for c, y, x in np.ndindex(3, 4, 5):
        other = b[c if shape[0] == 3 else 0, 0, y if shape[2] == 4 else 0, x if shape[3] == 5 else 0]
        assert found[c, 0, y, x] == a[c, 0, y, x] * other


@pytest.mark.parametrize("shape", [(2, 1, 4, 5), (3, 1, 4, 1), (3, 1, 1, 5), (1, 2, 4, 5)])
def test_products_that_do_not_fit(shape: tuple[int, int, int, int]) -> None:
    with pytest.raises(DataError, match=r"product of \(3, 1, 4, 5\)"):
        check_product(Mul("m", (0, 1), 2, plain(3)), (3, 1, 4, 5), shape)


def test_a_dynamic_gain_enters_the_norm() -> None:
    """Instance norm undoes the scale: codes of one image at any scale are normalised to the same values."""
    acc = np.random.default_rng(2).integers(-127, 128, (2, 1, 8, 8)).astype(np.int32)
    for groups in (0, 1, 2):
        norm = InstanceNorm(1e-12, np.ones(2, F32), np.zeros(2, F32), groups)
        epilogue = Epilogue(np.ones(2, F32), np.zeros(2, F32), instance_norm=norm)
        small, _ = apply_epilogue(acc, epilogue, None, (F32(0.25),))
        large, _ = apply_epilogue(acc, epilogue, None, (F32(64.0),))
        np.testing.assert_allclose(small, large, atol=1e-5)
        raw = Epilogue(np.full(2, 0.25, F32), np.zeros(2, F32), instance_norm=norm)
        np.testing.assert_array_equal(small, apply_epilogue(acc, raw, None)[0])
