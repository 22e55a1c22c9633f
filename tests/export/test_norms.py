"""Group norm: the stated order of rounded operations exactly, torch's values closely, and the cases at the edge."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unetq.export.integer import apply_epilogue
from unetq.export.norms import group_norm_affine, instance_norm_affine, norm_affine
from unetq.export.program import Epilogue, InstanceNorm

F32 = np.float32


def random_norm(channels: int, groups: int, seed: int) -> InstanceNorm:
    rng = np.random.default_rng(seed)
    return InstanceNorm(1e-5, rng.normal(1, 0.5, channels).astype(F32), rng.normal(0, 1, channels).astype(F32), groups)


def by_hand(acc: np.ndarray, gain: np.ndarray, offset: np.ndarray, norm: InstanceNorm) -> list[tuple[float, float]]:
    """The order of deploy/runtime/FORMAT.md with Python's own integers and floats, one channel after the other."""
    channels = len(acc)
    width, n, result = channels // norm.groups, float(acc[0].size), []
    for first in range(0, channels, width):
        total = squares = 0.0
        for c in range(first, first + width):
            values = [int(v) for v in acc[c].ravel()]
            high, low = sum(v * v >> 32 for v in values), sum(v * v & 0xFFFFFFFF for v in values)
            g, o, s, q = float(gain[c]), float(offset[c]), float(sum(values)), float(high) * 2.0**32 + float(low)
            total = total + (g * s + n * o)
            squares = squares + (((g * g) * q + ((2.0 * g) * o) * s) + (n * o) * o)
        count = n * float(width)
        mean = total / count
        variance = max(squares / count - mean * mean, 0.0)
        root = 1.0 / math.sqrt(variance + norm.eps)
        for c in range(first, first + width):
            g, o, w, b = float(gain[c]), float(offset[c]), float(norm.weight[c]), float(norm.bias[c])
            result.append(((g * root) * w, ((o - mean) * root) * w + b))
    return result


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize("reach", [3, 5000, 2**31 - 1])
def test_every_operation_is_rounded_in_the_stated_order(groups: int, reach: int) -> None:
    rng = np.random.default_rng(groups * 1000 + reach % 1000)
    acc = rng.integers(-reach, reach + 1, (6, 2, 5, 7)).astype(np.int32)
    gain, offset = rng.normal(0, 1, 6).astype(F32), rng.normal(0, 3, 6).astype(F32)
    norm = random_norm(6, groups, reach % 97)
    a, b = group_norm_affine(acc, gain, offset, norm)
    expected = np.array(by_hand(acc, gain, offset, norm)).astype(F32)
    np.testing.assert_array_equal(a, expected[:, 0])
    np.testing.assert_array_equal(b, expected[:, 1])


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_values_are_torchs(groups: int) -> None:
    rng = np.random.default_rng(groups)
    acc = rng.integers(-3000, 3000, (8, 1, 9, 11)).astype(np.int32)
    gain, offset = rng.uniform(0.001, 0.01, 8).astype(F32), rng.normal(0, 2, 8).astype(F32)
    norm = random_norm(8, groups, groups)
    found, _ = apply_epilogue(acc, Epilogue(gain, offset, instance_norm=norm), None)
    real = torch.from_numpy(acc.astype(np.float64) * gain.reshape(-1, 1, 1, 1) + offset.reshape(-1, 1, 1, 1))[None]
    weight, bias = torch.from_numpy(norm.weight).double(), torch.from_numpy(norm.bias).double()
    expected = F.group_norm(real, groups, weight, bias, norm.eps)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_one_channel_a_group_is_instance_norm_in_value() -> None:
    rng = np.random.default_rng(3)
    acc, gain = rng.integers(-900, 900, (5, 1, 6, 6)).astype(np.int32), rng.uniform(0.01, 0.1, 5).astype(F32)
    alone, grouped = random_norm(5, 0, 1), random_norm(5, 5, 1)
    zeros = np.zeros(5, F32)
    for mine, theirs in zip(
        norm_affine(acc, gain, zeros, grouped), instance_norm_affine(acc, gain, alone), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("groups", [1, 3])
def test_a_constant_group_becomes_its_bias(groups: int) -> None:
    """No variance: eps alone keeps the root finite, also where a rounded variance would fall below 0."""
    acc = np.full((3, 1, 40, 40), 1_999_999_999, np.int32)
    gain, norm = np.full(3, 2.0**-31, F32), random_norm(3, groups, 0)
    y, _ = apply_epilogue(acc, Epilogue(gain, np.full(3, 0.3, F32), instance_norm=norm), None)
    assert np.isfinite(y).all()
    np.testing.assert_allclose(y, np.broadcast_to(norm.bias.reshape(-1, 1, 1, 1), y.shape), atol=1e-3)


def test_float_accumulators() -> None:
    rng = np.random.default_rng(5)
    acc = rng.normal(0, 3, (4, 1, 8, 8)).astype(F32)
    norm = random_norm(4, 2, 2)
    y, _ = apply_epilogue(acc, Epilogue(np.ones(4, F32), np.zeros(4, F32), instance_norm=norm), None)
    weight, bias = torch.from_numpy(norm.weight), torch.from_numpy(norm.bias)
    np.testing.assert_allclose(y, F.group_norm(torch.from_numpy(acc)[None], 2, weight, bias)[0].numpy(), atol=1e-5)
