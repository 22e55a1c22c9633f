"""Every quantiser: its forward value is a plain NumPy definition and what ships, its gradient is the formula."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from unetq.errors import ConfigError, UnsupportedError
from unetq.fixedpoint import dequantize, quantize, quantize_dynamic
from unetq.quant.methods import (
    ACT_BITS,
    ACT_METHODS,
    FAMILIES,
    WEIGHT_BITS,
    WEIGHT_METHODS,
    make_activation,
    make_weight,
)
from unetq.quant.methods.binary import XnorWeight
from unetq.quant.methods.clipped import PENALTY, PactActivation
from unetq.quant.methods.codebook import CodebookWeight
from unetq.quant.methods.companding import CompandingWeight, compress, expand
from unetq.quant.methods.dorefa import DorefaWeight
from unetq.quant.methods.dynamic import DynamicActivation
from unetq.quant.methods.grouped import GroupedWeight
from unetq.quant.methods.lsq import LsqActivation, LsqWeight, OffsetActivation
from unetq.quant.methods.steps import best_steps
from unetq.quant.methods.ternary import TernaryActivation, TtqWeight, TwnWeight
from unetq.quant.quantizer import ActivationQuantizer, WeightQuantizer

F32 = NDArray[np.float32]
SHAPE = (5, 4, 3, 3)


def _weight(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator) * torch.rand(
        (shape[0], *[1] * (len(shape) - 1)), generator=generator
    )


def _shipped(quantizer: WeightQuantizer, weight: Tensor, axis: int | None) -> F32:
    coded = quantizer.codes(weight.detach().numpy())
    scale = coded.scale.reshape([-1 if a == (axis or 0) else 1 for a in range(weight.ndim)])
    return coded.codes.astype(np.float32) * scale


def _weight_cases() -> list[tuple[str, int, int | None]]:
    cases = [
        (name, bits, axis)
        for name, (low, high) in WEIGHT_BITS.items()
        for bits in range(low, high + 1)
        for axis in (None, 0, 1)
    ]
    return [case for case in cases if not (case[0] == "paper" and case[1] > 6)]


@pytest.mark.parametrize(("name", "bits", "axis"), _weight_cases())
def test_what_trains_is_what_ships(name: str, bits: int, axis: int | None) -> None:
    weight = _weight(bits)
    quantizer = make_weight(name, "layer", bits, weight.shape, axis)
    quantizer.calibrate(weight)
    trained = quantizer(weight).detach().numpy()
    coded = quantizer.codes(weight.numpy())
    channels = coded.scale.size > 1
    np.testing.assert_array_equal(trained, _shipped(quantizer, weight, axis if channels else None))
    low, high = (-128, 127) if coded.kind == "codebook" else (-(2 ** (coded.bits - 1)), 2 ** (coded.bits - 1) - 1)
    if coded.kind == "binary":
        assert set(np.unique(coded.codes)) <= {-1, 1}
    else:
        assert low <= coded.codes.min() and coded.codes.max() <= high
    if coded.kind == "codebook":
        assert np.unique(coded.codes).size <= 2**coded.bits
    correlation = np.corrcoef(trained.reshape(-1), weight.numpy().reshape(-1))[0, 1]
    assert correlation > (0.6 if bits == 1 else 0.5 if name == "paper" else 0.75)


@pytest.mark.parametrize(
    ("name", "bits", "signed"),
    [
        (n, b, s)
        for n, (low, high) in ACT_BITS.items()
        for b in range(low, high + 1)
        for s in (False, True)
        if (b > 1 or not s) and not (n == "paper" and s and b == 8)  # the paper's signed grid has a bit more
    ],
)
def test_activations_lie_on_their_grid(name: str, bits: int, signed: bool) -> None:
    x = torch.randn(3, 4, 7, 9, generator=torch.Generator().manual_seed(bits)) * 3
    x = x if signed else x.relu()
    quantizer = make_activation(name, "tensor", bits, signed)
    quantizer.calibrate(x.numpy().reshape(-1))
    grid = quantizer.grid()
    np.testing.assert_array_equal(quantizer(x).detach().numpy(), dequantize(quantize(x.numpy(), grid), grid))


@pytest.mark.parametrize("signed", [False, True])
def test_dynamic_ranges_are_an_images_own(signed: bool) -> None:
    x = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(1)) * torch.tensor([0.0, 1.0, 50.0]).reshape(
        3, 1, 1, 1
    )
    x = x if signed else x.relu()
    quantizer = DynamicActivation(4, signed)
    trained = quantizer(x).numpy()
    for i in range(3):
        codes, scale = quantize_dynamic(x[i].numpy(), quantizer.grid())
        np.testing.assert_array_equal(trained[i], codes.astype(np.float32) * np.float32(scale))


def _gradients(quantizer: torch.nn.Module, x: Tensor, upstream: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    leaf = x.clone().requires_grad_()
    quantizer(leaf).backward(upstream)
    assert leaf.grad is not None or isinstance(quantizer, CodebookWeight)
    return torch.zeros_like(x) if leaf.grad is None else leaf.grad, {
        n: p.grad for n, p in quantizer.named_parameters() if p.grad is not None
    }


def _close(actual: Tensor, expected: Any) -> None:
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_gradient_of_lsq(axis: int | None) -> None:
    weight, upstream = _weight(3), _weight(4)
    quantizer = LsqWeight(3, SHAPE, axis)
    quantizer.calibrate(weight)
    with torch.no_grad():
        quantizer.log2_step.sub_(1.0)  # so that some saturate
    grad, learned = _gradients(quantizer, weight, upstream)
    step = quantizer.step.detach()
    scaled = weight / step
    inside = (scaled >= -4) & (scaled <= 3)
    _close(grad, upstream * inside)
    slope = torch.where(inside, scaled.round() - scaled, scaled.clamp(-4, 3))
    total = (upstream * slope).sum_to_size(step.shape)
    _close(learned["log2_step"], total * step * math.log(2) / math.sqrt(weight.numel() / step.numel() * 3))


def test_gradient_of_lsq_plus_offset() -> None:
    x, upstream = _weight(5) * 4 + 1, _weight(6)
    quantizer = OffsetActivation(3)
    quantizer.calibrate(x.numpy().reshape(-1))
    assert 0 < quantizer.grid().zero_point < 7
    with torch.no_grad():
        quantizer.log2_step.sub_(0.7)
    grad, learned = _gradients(quantizer, x, upstream)
    point, step = quantizer.grid().zero_point, quantizer.step.detach()
    scaled = x / step
    inside = (scaled >= -point) & (scaled <= 7 - point)
    _close(grad, upstream * inside)
    _close(learned["zero"], -(upstream * ~inside).sum() * step / math.sqrt(x.numel() * 7))


@pytest.mark.parametrize("signed", [False, True])
def test_gradient_of_pact(signed: bool) -> None:
    x, upstream = _weight(7) * 3, _weight(8)
    quantizer = PactActivation(4, signed)
    quantizer.calibrate(x.numpy().reshape(-1))
    with torch.no_grad():
        quantizer.log2_step.sub_(1.0)
    grad, learned = _gradients(quantizer, x, upstream)
    alpha = float(quantizer.step.detach()) * quantizer.high
    above, below = x > alpha, (x < (-alpha if signed else 0.0))
    _close(grad, upstream * ~(above | below))
    expected = (upstream * above).sum() - ((upstream * below).sum() if signed else 0.0) + 2 * PENALTY * alpha
    _close(learned["log2_step"], expected * alpha * math.log(2))


def test_dorefa_is_its_formula() -> None:
    weight = _weight(9)
    quantizer = DorefaWeight(3)
    value = np.tanh(weight.numpy().astype(np.float64))
    unit = np.rint((value / (2 * np.abs(value).max()) + 0.5) * 7) / 7
    np.testing.assert_allclose(quantizer(weight).detach().numpy(), 2 * unit - 1, atol=1e-6)
    leaf = weight.clone().requires_grad_()
    smooth = torch.tanh(leaf) / torch.tanh(leaf).abs().max()
    smooth.sum().backward()
    grad, _ = _gradients(quantizer, weight, torch.ones_like(weight))
    assert leaf.grad is not None
    _close(grad, leaf.grad)


def test_gradient_of_xnor() -> None:
    weight, upstream = _weight(10) * 2, _weight(11)
    quantizer = XnorWeight(0)
    alpha = weight.abs().mean(dim=(1, 2, 3), keepdim=True)
    _close(quantizer(weight), torch.where(weight >= 0, 1.0, -1.0) * alpha)
    grad, _ = _gradients(quantizer, weight, upstream)
    _close(grad, upstream * (alpha * (weight.abs() <= 1) + 1 / 36))


def test_ternary_weights_are_their_formulas() -> None:
    weight, upstream = _weight(12), _weight(13)
    twn = TwnWeight(None)
    beyond = weight.abs() > 0.7 * weight.abs().mean()
    _close(twn(weight), torch.sign(weight) * beyond * weight.abs()[beyond].mean())
    _close(_gradients(twn, weight, upstream)[0], upstream)
    ttq = TtqWeight()
    ttq.calibrate(weight)
    threshold = 0.05 * weight.abs().max()
    up, down = weight > threshold, weight < -threshold
    above, below = weight[up].mean(), -weight[down].mean()
    grad, learned = _gradients(ttq, weight, upstream)
    _close(grad, upstream * torch.where(up, above, torch.where(down, below, 1.0)))
    _close(learned["log2_above"], (upstream * up).sum() * above * math.log(2))
    _close(learned["log2_below"], -(upstream * down).sum() * below * math.log(2))


def test_ternary_activation_is_hard_and_anneals() -> None:
    quantizer = TernaryActivation(signed=True)
    x = torch.tensor([-3.0, -0.51, -0.5, -0.2, 0.0, 0.5, 0.500001, 1.7])
    assert quantizer(x).tolist() == [-1, -1, 0, 0, 0, 0, 1, 1]
    for done, beta in ((0.0, 3.0), (0.5, 5.5), (1.0, 8.0)):
        quantizer.set_progress(done)
        leaf = x.clone().requires_grad_()
        soft = 0.5 * torch.tanh(2 * beta * leaf - beta) - 0.5 * torch.tanh(-2 * beta * leaf - beta)
        soft.sum().backward()
        assert leaf.grad is not None
        torch.testing.assert_close(_gradients(quantizer, x, torch.ones_like(x))[0], leaf.grad, rtol=1e-3, atol=1e-5)


def test_centroids_learn_from_their_members() -> None:
    weight, upstream = _weight(14), _weight(15)
    quantizer = CodebookWeight(2, SHAPE)
    quantizer.calibrate(weight)
    values = quantizer(weight).detach()
    assert values.unique().numel() == 4
    grad, learned = _gradients(quantizer, weight, upstream)
    assert not grad.any()
    sums = [(upstream * (values == level)).sum() * quantizer.spread for level in values.unique()]
    _close(learned["centroids"], torch.stack(sums))
    even = torch.linspace(float(weight.min()), float(weight.max()), 4)
    spread_evenly = even[(weight.reshape(-1, 1) - even).abs().argmin(1)].reshape(SHAPE)
    assert (values - weight).square().sum() < (spread_evenly - weight).square().sum()


def test_companding_bends_and_straightens() -> None:
    theta = torch.randn(16, generator=torch.Generator().manual_seed(3))
    x = torch.linspace(0, 1, 257)
    bent = compress(x, theta)
    assert (bent.diff() > 0).all() and bent[0] == 0 and float(bent[-1]) == pytest.approx(1.0, abs=1e-5)
    _close(expand(bent, theta), x)
    quantizer, weight = CompandingWeight(3), _weight(16)
    quantizer.calibrate(weight)
    with torch.no_grad():
        quantizer.theta.copy_(theta)
    _, learned = _gradients(quantizer, weight, _weight(17))
    assert learned["theta"].abs().sum() > 0 and learned["log2_alpha"] != 0


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("power_of_two", [False, True])
def test_groups_share_a_shift(transposed: bool, power_of_two: bool) -> None:
    shape = (10, 6, 2, 2) if transposed else (6, 10, 3, 3)
    weight = _weight(18, shape)
    spread = torch.exp2(torch.arange(10) % 5 - 2.0)
    weight = weight * (spread.reshape(-1, 1, 1, 1) if transposed else spread.reshape(1, -1, 1, 1))
    quantizer = GroupedWeight(4, shape, 3, transposed=transposed, power_of_two=power_of_two)
    quantizer.calibrate(weight)
    coded = quantizer.codes(weight.numpy())
    assert coded.kind == "shifted" and coded.shift is not None and coded.shift.shape == (6, 4) and coded.shift.any()
    axis = 1 if transposed else 0
    np.testing.assert_array_equal(quantizer(weight).detach().numpy(), _shipped(quantizer, weight, axis))
    if power_of_two:
        assert (np.exp2(np.rint(np.log2(coded.scale))) == coded.scale).all()
    codes = np.moveaxis(coded.codes, axis, 0)
    divisor = 1 << np.repeat(coded.shift.astype(np.int64), 3, axis=1)[:, :10]
    rest = codes.reshape(6, 10, -1) // divisor[:, :, None]
    assert (rest * divisor[:, :, None] == codes.reshape(6, 10, -1)).all() and rest.min() >= -8 and rest.max() <= 7
    plain = LsqWeight(4, shape, axis)
    plain.calibrate(weight)
    assert (quantizer(weight) - weight).square().sum() < (plain(weight) - weight).square().sum()


def test_steps_have_the_least_error_of_their_candidates() -> None:
    values = np.random.default_rng(0).standard_t(3, size=(4, 500)).astype(np.float32)
    steps = best_steps(values, -8, 7)
    for row, step in zip(values, steps, strict=True):

        def error(s: float, row: F32 = row) -> float:
            return float(np.square(np.clip(np.rint(row / s), -8, 7) * s - row).sum())

        assert error(float(step)) < min(error(float(step) * 1.3), error(float(step) / 1.3))
    assert best_steps(np.zeros((1, 5), np.float32), -8, 7)[0] == 1.0


def test_every_family_names_methods_that_exist() -> None:
    assert set(WEIGHT_BITS) == set(WEIGHT_METHODS) and set(ACT_BITS) == set(ACT_METHODS)
    for weight, act in FAMILIES.values():
        assert weight in WEIGHT_METHODS and act in ACT_METHODS


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: make_weight("dorefa", "enc.0", 8, SHAPE, 0), ("enc.0", "8", "quant.layers")),
        (lambda: make_weight("twn", "enc.0", 4, SHAPE, 0), ("enc.0", "2 bit")),
        (lambda: make_weight("codebook", "enc.0", 5, SHAPE, 0), ("enc.0", "1 to 4")),
        (lambda: make_weight("nothing", "enc.0", 4, SHAPE, 0), ("nothing", "choose one of")),
        (lambda: make_activation("ternary", "enc.0", 4, True), ("enc.0", "2 bits")),
        (lambda: make_activation("pact", "enc.0", 1, True), ("enc.0", "0 must be a code")),
        (lambda: GroupedWeight(8, SHAPE, 2), ("8 bits", "group_size = 0")),
    ],
)
def test_refusals_name_layer_value_and_remedy(call: Any, words: tuple[str, ...]) -> None:
    with pytest.raises((ConfigError, UnsupportedError)) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


def test_a_quantiser_is_one_of_the_two_kinds() -> None:
    for name in ACT_METHODS:
        assert isinstance(make_activation(name, "t", 2, True), ActivationQuantizer)
    assert isinstance(LsqActivation(4, True).grid().scale, float)
