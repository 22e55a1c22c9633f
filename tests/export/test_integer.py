"""The NumPy executor against torch in float64, operation by operation."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unetq.errors import UnsupportedError
from unetq.export.integer import accumulator_bound, convolution_accumulator, instance_norm_affine, upsample_accumulator
from unetq.export.program import Conv, Epilogue, InstanceNorm, Upsample
from unetq.fixedpoint import fixed_point_grid

EMPTY = Epilogue(np.ones(1, np.float32), np.zeros(1, np.float32))


def conv(weight: np.ndarray, **options) -> Conv:
    return Conv("conv", (0,), 1, weight.astype(np.int8), 8, "twos_complement", np.ones(1, np.float32), EMPTY, **options)


@pytest.mark.parametrize("seed", range(40))
def test_convolutions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = int(rng.choice([1, 1, 2]))
    kernel = tuple(int(k) for k in rng.choice([1, 2, 3], 3))
    stride = tuple(int(s) for s in rng.choice([1, 2], 3))
    dilation = tuple(int(d) for d in rng.choice([1, 2], 3))
    padding = tuple(int(p) for p in rng.integers(0, 2, 3))
    size = tuple(int(n) for n in rng.integers(6, 10, 3))
    weight = rng.choice([-128, -1, 0, 127], (4, 6 // groups, *kernel))
    x = rng.integers(-128, 128, (6, *size)).astype(np.int16)
    op = conv(weight, stride=stride, dilation=dilation, pad_before=padding, pad_after=padding, groups=groups)
    found = convolution_accumulator(op, x, fixed_point_grid(8, 0, True))
    expected = F.conv3d(
        torch.from_numpy(x).double()[None], torch.from_numpy(weight).double(), None, stride, padding, dilation, groups
    )
    np.testing.assert_array_equal(found, expected[0].numpy())


@pytest.mark.parametrize("seed", range(40))
def test_transposed_convolutions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    groups = int(rng.choice([1, 1, 2]))
    kernel = tuple(int(k) for k in rng.choice([2, 3], 3))
    stride = tuple(int(s) for s in rng.choice([1, 2], 3))
    padding = tuple(int(rng.integers(0, k)) for k in kernel)
    extra = tuple(int(rng.integers(0, s)) for s in stride)
    size = tuple(int(n) for n in rng.integers(3, 6, 3))
    weight = rng.integers(-8, 8, (4, 6 // groups, *kernel))
    x = rng.integers(0, 64, (6, *size)).astype(np.int16)
    op = conv(
        weight,
        stride=stride,
        pad_before=padding,
        pad_after=padding,
        groups=groups,
        transposed=True,
        output_padding=extra,
    )
    found = convolution_accumulator(op, x, fixed_point_grid(6, 0, False))
    # torch's layout is (I, O / groups, …)
    parts = torch.from_numpy(weight).double().reshape(groups, 4 // groups, 6 // groups, *kernel).transpose(1, 2)
    expected = F.conv_transpose3d(
        torch.from_numpy(x).double()[None], parts.reshape(6, 4 // groups, *kernel), None, stride, padding, extra, groups
    )
    np.testing.assert_array_equal(found, expected[0].numpy())


def test_the_bound_is_reached_and_never_passed() -> None:
    weight = np.array([[3, -8, 7], [1, 1, 1]]).reshape(2, 3, 1, 1, 1)
    grid = fixed_point_grid(6, 0, True)
    assert accumulator_bound(weight, grid) == 18 * 32
    x = np.where(weight[0] > 0, -32, 31).astype(np.int16)
    assert abs(int(convolution_accumulator(conv(weight), x, grid)[0, 0, 0, 0])) <= 18 * 32


def test_accumulators_beyond_int32_are_refused() -> None:
    weight = np.full((1, 70000, 1, 1, 1), -128)
    with pytest.raises(UnsupportedError, match="int32"):
        convolution_accumulator(conv(weight), np.zeros((70000, 1, 1, 1), np.int16), fixed_point_grid(8, 0, False))


@pytest.mark.parametrize("size", [(1, 1, 1), (1, 5, 7), (2, 3, 4)])
def test_linear_upsampling_is_the_half_pixel_rule(size: tuple[int, int, int]) -> None:
    x = np.random.default_rng(0).integers(-128, 128, (3, *size)).astype(np.int16)
    factor = (1, 2, 2) if size[0] == 1 else (2, 2, 2)
    acc = upsample_accumulator(Upsample("up", (0,), 1, "linear", factor, EMPTY), x)
    assert np.issubdtype(acc.dtype, np.integer)
    expected = F.interpolate(
        torch.from_numpy(x).double()[None],
        scale_factor=[float(f) for f in factor],
        mode="trilinear",
        align_corners=False,
    )
    np.testing.assert_array_equal(acc / 4.0 ** factor.count(2), expected[0].numpy())


def test_instance_norm_is_exact_where_float64_sums_are_not() -> None:
    acc = np.full((1, 1, 400, 400), 1_999_999_999, np.int32)
    acc[0, 0, 0, 0] -= 1
    norm = InstanceNorm(1e-5, np.ones(1, np.float32), np.zeros(1, np.float32))
    gain, offset = instance_norm_affine(acc, np.array([2.0**-31], np.float32), norm)
    assert np.isfinite(gain).all() and np.isfinite(offset).all()


@pytest.mark.parametrize("seed", range(5))
def test_instance_norm_matches_torch(seed: int) -> None:
    rng = np.random.default_rng(seed)
    acc = rng.integers(-5000, 5000, (4, 1, 9, 11)).astype(np.int32)
    scale = rng.uniform(0.001, 0.01, 4).astype(np.float32)
    norm = InstanceNorm(1e-5, rng.normal(1, 0.5, 4).astype(np.float32), rng.normal(0, 1, 4).astype(np.float32))
    gain, offset = instance_norm_affine(acc, scale, norm)
    values = torch.from_numpy(acc * scale.reshape(-1, 1, 1, 1).astype(np.float64))
    expected = F.instance_norm(
        values[None], weight=torch.from_numpy(norm.weight).double(), bias=torch.from_numpy(norm.bias).double(), eps=1e-5
    )
    found = acc * gain.reshape(-1, 1, 1, 1) + offset.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(found, expected[0].numpy(), atol=1e-5)
