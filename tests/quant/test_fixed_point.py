"""The fixed-point quantiser: forward against the definition, gradients against the formulas."""

import math

import numpy as np
import pytest
import torch

from unetq.fixedpoint import dequantize, fixed_point_grid, quantize
from unetq.quant.fixed_point import FixedPointActivation, FixedPointWeight, best_fraction_bits, fixed_point


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_equal_the_definition(bits: int, signed: bool, dtype: torch.dtype) -> None:
    x = (torch.randn(2000, generator=torch.Generator().manual_seed(bits)) * 3).to(dtype)
    quantizer = FixedPointActivation(bits, signed)
    quantizer.calibrate(x.float().numpy())
    grid = quantizer.grid()
    assert (grid.bits, grid.signed) == (bits, signed)
    expected = dequantize(quantize(x.float().numpy(), grid), grid)
    np.testing.assert_array_equal(quantizer(x).detach().float().numpy(), expected)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_weight_codes_times_scale_is_the_forward(bits: int, axis: int | None) -> None:
    weight = torch.randn(6, 5, 3, 3) * torch.logspace(-2, 1, 6).reshape(6, 1, 1, 1)
    quantizer = FixedPointWeight(bits, weight.shape, axis)
    quantizer.calibrate(weight)
    coded = quantizer.codes(weight.numpy())
    shape = [1] * 4 if axis is None else [n if a == axis else 1 for a, n in enumerate(weight.shape)]
    np.testing.assert_array_equal(coded.codes * coded.scale.reshape(shape), quantizer(weight).detach().numpy())
    assert coded.scale.size == (1 if axis is None else weight.shape[axis])
    assert np.all(np.log2(coded.scale) == np.rint(np.log2(coded.scale)))
    low, high = (-1, 1) if bits == 1 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    assert coded.codes.min() >= low and coded.codes.max() <= high
    assert coded.kind == ("binary" if bits == 1 else "twos_complement")
    if bits == 1:
        assert 0 not in coded.codes


def test_gradients_follow_the_formulas() -> None:
    x = torch.tensor([-5.0, -1.3, -0.2, 0.4, 0.9, 1.2, 7.0], requires_grad=True)
    log2_step = torch.tensor(-1.2, requires_grad=True)  # rounds to -1: step 0.5
    low, high, step = -4, 3, 0.5
    upstream = torch.tensor([1.0, 2.0, -1.0, 0.5, 3.0, -2.0, 4.0])
    (fixed_point(x, log2_step, low, high) * upstream).sum().backward()
    scaled = x.detach() / step
    inside = (scaled >= low) & (scaled <= high)
    torch.testing.assert_close(x.grad, upstream * inside)
    slope = torch.where(inside, scaled.round() - scaled, scaled.clamp(low, high))
    expected = (upstream * slope).sum() * step * math.log(2) / math.sqrt(x.numel() * high)
    torch.testing.assert_close(log2_step.grad, expected)


def test_binary_gradients_follow_the_formulas() -> None:
    x = torch.tensor([-5.0, -0.3, 0.2, 0.0, 7.0], requires_grad=True)
    log2_step = torch.tensor(0.0, requires_grad=True)
    fixed_point(x, log2_step, -1, 0, binary=True).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0]))
    torch.testing.assert_close(log2_step.grad, torch.tensor((3 - 2) * math.log(2) / math.sqrt(5)))


def test_per_channel_step_gradients_stay_with_their_channel() -> None:
    weight = torch.randn(3, 4, 3, 3)
    log2_step = torch.zeros(3, 1, 1, 1, requires_grad=True)
    (fixed_point(weight, log2_step, -8, 7)[1] * 2).sum().backward()
    assert log2_step.grad is not None
    assert log2_step.grad[1].item() != 0.0
    assert log2_step.grad[0].item() == log2_step.grad[2].item() == 0.0


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_calibration_finds_the_least_squared_error(bits: int) -> None:
    values = np.random.default_rng(bits).standard_normal((3, 500)).astype(np.float32) * np.array([[0.01], [1], [60]])
    grid = fixed_point_grid(bits, 0, True)
    chosen = best_fraction_bits(values.astype(np.float32), grid.low, grid.high)
    for row, fraction in zip(values.astype(np.float32), chosen, strict=True):
        errors = {}
        for candidate in range(-12, 20):
            trial = fixed_point_grid(bits, candidate, True)
            errors[candidate] = float(np.square(dequantize(quantize(row, trial), trial).astype(np.float64) - row).sum())
        assert errors[int(fraction)] <= min(errors.values()) * (1 + 1e-9)


def test_a_tensor_of_zeros_gets_a_grid() -> None:
    assert best_fraction_bits(np.zeros((2, 5), np.float32), -8, 7).tolist() == [0, 0]
