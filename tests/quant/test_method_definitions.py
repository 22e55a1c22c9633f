"""Quantisers against plain NumPy definitions, bit for bit, and the gradients that have a closed form."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from unetq.errors import ConfigError
from unetq.quant.methods import ACT_METHODS, FAMILIES, WEIGHT_METHODS, make_activation, make_weight
from unetq.quant.methods.binary import BnnWeight
from unetq.quant.methods.companding import INTERVALS, CompandingWeight
from unetq.quant.methods.dorefa import DorefaWeight
from unetq.quant.methods.dynamic import DynamicActivation
from unetq.quant.methods.lsq import LsqActivation
from unetq.quant.methods.ternary import TernaryActivation
from unetq.quant.settings import METHODS, QuantSettings, same_settings

F32 = NDArray[np.float32]
SHAPE = (6, 5, 3, 3)


def weights(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)) * 0.4


def over(axis: int | None) -> tuple[int, ...]:
    """The axes that share a step."""
    return tuple(a for a in range(4) if a != axis)


def mean(values: F32, axis: int | None) -> F32:
    total: F32 = values.mean(axis=over(axis), keepdims=True, dtype=np.float64).astype(np.float32)
    return total


def lsq(w: F32, bits: int, step: F32) -> F32:
    inverse = np.float32(1.0) / step
    codes: F32 = np.rint(np.clip(w * inverse, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)).astype(np.float32) * step
    return codes


def xnor(w: F32, axis: int | None) -> F32:
    value: F32 = np.where(w >= 0, np.float32(1), np.float32(-1)) * mean(np.abs(w), axis)
    return value


def twn(w: F32, axis: int | None) -> F32:
    magnitude = np.abs(w)
    beyond = magnitude > np.float32(0.7) * mean(magnitude, axis)
    alpha = mean(magnitude * beyond, axis) / mean(beyond.astype(np.float32), axis)
    value: F32 = np.sign(w) * beyond * alpha
    return value


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize(
    ("name", "bits"), [*((n, b) for n in ("lsq", "lsq+") for b in range(2, 9)), ("xnor", 1), ("twn", 2)]
)
def test_weights_are_their_numpy_definition(
    name: str, bits: int, axis: int | None, memory: torch.memory_format
) -> None:
    weight = weights(bits)
    quantizer = make_weight(name, "layer", bits, SHAPE, axis)
    quantizer.calibrate(weight)
    w = weight.numpy()
    if name in ("lsq", "lsq+"):
        stored = quantizer.get_parameter("log2_step").detach().numpy().astype(np.float64)
        expected = lsq(w, bits, np.exp2(stored).astype(np.float32))
    else:
        expected = xnor(w, axis) if name == "xnor" else twn(w, axis)
    np.testing.assert_array_equal(quantizer(weight.to(memory_format=memory)).detach().numpy(), expected)


@pytest.mark.parametrize("bits", range(1, 8))
def test_dorefa_levels_are_odd(bits: int) -> None:
    weight, quantizer = weights(bits), DorefaWeight(bits)
    coded = quantizer.codes(weight.numpy())
    steps = 2**bits - 1
    assert coded.kind == ("binary" if bits == 1 else "codebook" if bits <= 4 else "twos_complement")
    assert coded.bits == (bits if bits <= 4 else bits + 1)
    assert (coded.codes % 2 != 0).all() and np.abs(coded.codes).max() == steps
    if bits > 1:
        bent = np.tanh(weight.numpy().astype(np.float64))
        expected = 2 * np.rint((bent / (2 * np.abs(bent).max()) + 0.5) * steps) - steps
        np.testing.assert_array_equal(coded.codes, expected)
        assert coded.scale.tolist() == [np.float32(1) / np.float32(steps)]


def test_binary_passes_gradients_within_one() -> None:
    weight, upstream = weights(1) * 3, weights(2)
    leaf = weight.clone().requires_grad_()
    BnnWeight()(leaf).backward(upstream)
    assert leaf.grad is not None
    assert torch.equal(leaf.grad, upstream * (weight.abs() <= 1))
    assert torch.equal(BnnWeight()(weight), torch.where(weight >= 0, 1.0, -1.0))


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", range(2, 9))
def test_gradient_of_learned_activations(bits: int, signed: bool) -> None:
    x, upstream = weights(bits) * 5, weights(20 + bits)
    quantizer = LsqActivation(bits, signed)
    quantizer.calibrate((x * 0.4).numpy().reshape(-1))
    leaf = x.clone().requires_grad_()
    quantizer(leaf).backward(upstream)
    step, low, high = quantizer.step.detach(), quantizer.low, quantizer.high
    scaled = x / step
    inside = (scaled >= low) & (scaled <= high)
    slope = torch.where(inside, scaled.round() - scaled, scaled.clamp(low, high))
    expected = (upstream * slope).sum() * step * math.log(2) / math.sqrt(x.numel() * high)
    torch.testing.assert_close(quantizer.log2_step.grad, expected, rtol=1e-4, atol=1e-6)
    assert leaf.grad is not None
    assert torch.equal(leaf.grad, upstream * inside)


def test_dynamic_ranges_pass_gradients_straight_through() -> None:
    x, upstream = weights(3).requires_grad_(), weights(4)
    DynamicActivation(4, signed=True)(x).backward(upstream)
    assert x.grad is not None
    assert torch.equal(x.grad, upstream)


def test_gradient_of_companding() -> None:
    """With phi_j(t) = clip(t - j/K, 0, 1/K): dy/dslope_j = sign * alpha * E'(q) * (phi_j(u) - phi_j(E(q)))."""
    weight, upstream = weights(5).reshape(-1), weights(6).reshape(-1).double()
    quantizer = CompandingWeight(4)
    quantizer.calibrate(weight)
    with torch.no_grad():
        quantizer.theta.copy_(torch.randn(INTERVALS, generator=torch.Generator().manual_seed(7)))
    leaf = weight.clone().requires_grad_()
    quantizer(leaf).backward(upstream.float())
    share = torch.softmax(quantizer.theta.detach().double(), 0)
    slopes, starts = share * INTERVALS, torch.arange(INTERVALS).double() / INTERVALS
    edges = torch.cat([torch.zeros(1).double(), share.cumsum(0)])
    alpha = torch.exp2(quantizer.log2_alpha.detach().double())

    def parts(t: Tensor) -> Tensor:
        return (t[:, None] - starts).clamp(0, 1 / INTERVALS)

    u = (weight.double().abs() / alpha).clamp_max(1)
    q = (parts(u) @ slopes * quantizer.steps).round() / quantizer.steps
    k = torch.bucketize(q, edges[1:-1], right=True)
    e, unbent = starts[k] + (q - edges[k]) / slopes[k], 1 / slopes[k]
    given = upstream * torch.sign(weight) * alpha * unbent
    per_slope = given @ (parts(u) - parts(e))
    expected = INTERVALS * share * (per_slope - (per_slope * share).sum())
    assert quantizer.theta.grad is not None and leaf.grad is not None
    torch.testing.assert_close(quantizer.theta.grad.double(), expected, rtol=2e-3, atol=2e-4)
    bent = slopes[(u * INTERVALS).floor().clamp_max(INTERVALS - 1).long()]
    inside = weight.double().abs() < alpha
    torch.testing.assert_close(leaf.grad.double(), upstream * unbent * bent * inside, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("scale", [1.0, 0.3, 7.3e-3])
def test_ternary_activations_are_exact_at_their_thresholds(scale: float) -> None:
    quantizer = TernaryActivation(signed=True)
    quantizer.step_buffer().fill_(math.log2(scale))
    grid = quantizer.grid()
    half = np.float32(grid.scale) / np.float32(2)
    x = np.array([half, -half, np.nextafter(half, np.float32(9)), np.nextafter(-half, np.float32(-9))], np.float32)
    codes = np.rint(np.clip(x * grid.inverse_scale, -1, 1)).astype(np.float32)
    np.testing.assert_array_equal(quantizer(torch.from_numpy(x)).numpy(), codes * np.float32(grid.scale))
    assert grid.narrow and (grid.low, grid.high) == (-1, 1)


@pytest.mark.parametrize("signed", [False, True])
def test_one_bit_activations_are_zero_and_one(signed: bool) -> None:
    quantizer = make_activation("lsq", "tensor", 1, signed)
    quantizer.calibrate(np.linspace(-1, 2, 100, dtype=np.float32))
    grid = quantizer.grid()
    assert (grid.low, grid.high) == (0, 1)
    assert quantizer(torch.tensor([-5.0, 5.0])).tolist() == [0.0, grid.scale]


@pytest.mark.parametrize("name", ["bnn", "xnor", "sign"])
def test_signs_are_no_activations(name: str) -> None:
    with pytest.raises(ConfigError, match=r"no code for the 0 of a padded border; use lsq at 1 bit"):
        make_activation(name, "tensor", 1, True)


def test_names_are_the_same_everywhere() -> None:
    from typing import get_args

    from unetq import experiment

    assert tuple(FAMILIES) == METHODS == get_args(experiment.Method)
    assert tuple(WEIGHT_METHODS) == get_args(experiment.WeightMethod)
    assert tuple(ACT_METHODS) == get_args(experiment.ActMethod)


def test_settings_without_a_key_have_its_default() -> None:
    now = asdict(QuantSettings())
    before = {key: now[key] for key in ("weight_bits", "act_bits", "method", "per_channel", "first_bits", "last_bits")}
    assert same_settings(json.dumps(before).encode(), json.dumps(now).encode())
    assert not same_settings(json.dumps({**before, "method": "lsq"}).encode(), json.dumps(now).encode())
    assert not same_settings(b"\xff", json.dumps(now).encode())


def test_a_title_names_what_differs_from_the_family() -> None:
    from unetq.config import build

    assert build({"quant": {"method": "pact"}}).quant.title == "pact"
    mixed = {"method": "lsq", "weight_method": "lcq", "dynamic": True, "layers": [{"pattern": "a", "act_bits": 2}]}
    assert build({"quant": mixed}).quant.title == "lsq, lcq weights, dynamic ranges, single layers"
