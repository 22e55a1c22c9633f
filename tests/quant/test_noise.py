"""Noise in place of rounding: its formulas and gradients, what quantisers round, and what it leaves alone."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import unetq
from unetq.errors import ConfigError, UnsupportedError
from unetq.quant import noise_rules as rules
from unetq.quant.fixed_point import FixedPointActivation, FixedPointWeight
from unetq.quant.methods.clipped import PactActivation
from unetq.quant.methods.dorefa import DorefaWeight
from unetq.quant.methods.grouped import GroupedWeight
from unetq.quant.methods.lsq import LsqActivation, LsqWeight, OffsetActivation
from unetq.quant.noise import NoiseSettings, add_noise
from unetq.quant.quantizer import ActivationQuantizer, WeightQuantizer
from unetq.quant.unrounded import unrounded_forward, unrounded_weights

SHAPE = (6, 8, 3, 3)
Quantizer = WeightQuantizer | ActivationQuantizer


def source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weight(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randn(shape, generator=source(seed)) * 0.2


def ready(quantizer: Quantizer, x: Tensor) -> Quantizer:
    """Calibrated, with steps so small that some values saturate."""
    if isinstance(quantizer, WeightQuantizer):
        quantizer.calibrate(x)
    else:
        quantizer.calibrate(x.numpy().reshape(-1))
    if hasattr(quantizer, "log2_step"):
        quantizer.log2_step.data -= 1.0
    return quantizer


WITH_STEPS: dict[str, Callable[[], Quantizer]] = {
    "lsq, channels": lambda: LsqWeight(3, SHAPE, 0),
    "lsq, tensor": lambda: LsqWeight(2, SHAPE, None),
    "fixed, channels": lambda: FixedPointWeight(4, SHAPE, 0),
    "groups": lambda: GroupedWeight(3, SHAPE, 4),
    "groups of powers of two": lambda: GroupedWeight(3, SHAPE, 4, power_of_two=True),
    "lsq, unsigned tensor": lambda: LsqActivation(3, signed=False),
    "lsq, signed tensor": lambda: LsqActivation(3, signed=True),
    "lsq+, tensor": lambda: OffsetActivation(3),
    "fixed, tensor": lambda: FixedPointActivation(4, signed=True),
    "dorefa": lambda: DorefaWeight(3),
    "pact": lambda: PactActivation(3, signed=False),
}


@pytest.mark.parametrize("name", WITH_STEPS)
def test_rounding_the_unrounded_is_the_quantiser(name: str) -> None:
    x = weight(1)
    quantizer = ready(WITH_STEPS[name](), x)
    cell = quantizer.unrounded(x)
    assert cell is not None
    value, step, rounded = cell.value.detach(), cell.step.detach(), quantizer(x).detach()
    shift = 0.5 if name == "dorefa" else 0.0  # its levels are odd multiples of half a step
    torch.testing.assert_close(((value / step - shift).round() + shift) * step, rounded, rtol=1e-5, atol=1e-6)
    assert ((rounded - value).abs() <= step / 2 * 1.0001).all()
    assert name == "dorefa" or (value != x).any(), "nothing saturates, so that the range is not tested"


@pytest.mark.parametrize("name", [name for name in WITH_STEPS if name not in ("dorefa", "pact")])
def test_with_the_error_of_rounding_as_its_noise_it_is_the_quantiser(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Value, gradient of x and gradients of steps and zero-points: the noise stands exactly where rounding stood."""
    x, upstream = weight(2), weight(3)
    quantizer = ready(WITH_STEPS[name](), x)
    found = []
    for noisy in (False, True):
        leaf = x.clone().requires_grad_()
        quantizer.zero_grad(set_to_none=True)
        if noisy:
            cell = quantizer.unrounded(leaf)
            assert cell is not None
            error = ((quantizer(x) - cell.value) / cell.step).detach()
            monkeypatch.setattr(rules, "draw", lambda *arguments, error=error: error)
            output = rules.uniform(cell, 1.0, None)
        else:
            output = quantizer(leaf)
        output.backward(upstream)
        found.append([output.detach(), leaf.grad, *(p.grad for p in quantizer.parameters())])
    assert len(found[0]) > 2
    for plain, other in zip(*found, strict=True):
        torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-6)


def test_uniform_noise_has_the_step_s_variance_and_no_mean() -> None:
    x = weight(4, (4, 64, 3, 3))
    quantizer = LsqWeight(4, tuple(x.shape), 0)
    quantizer.calibrate(x)
    cell = quantizer.unrounded(x)
    for strength in (1.0, 0.5):
        draws = torch.stack([rules.uniform(cell, strength, source(s)) for s in range(20)]).detach()
        noise = (draws - cell.value.detach()) / (strength * cell.step.detach())
        assert noise.abs().max() <= 0.5001
        rows = noise.transpose(0, 1).flatten(1)  # 11,520 draws a channel
        assert (rows.mean(1).abs() < 4 / math.sqrt(12 * rows.shape[1])).all()
        assert (rows.var(1) * 12 - 1).abs().max() < 0.05
        with_weight = torch.corrcoef(torch.stack([noise[0].flatten(), cell.value.detach().flatten()]))[0, 1]
        assert with_weight.abs() < 0.1


@pytest.mark.parametrize(("blocks", "drawn"), [("element", 6 * 8 * 9), ("kernel", 6 * 8), ("channel", 6)])
@pytest.mark.parametrize("axes", [(0, 1), (1, 0)])
def test_a_share_is_rounded_and_the_rest_has_exact_gradients(
    blocks: rules.Blocks, drawn: int, axes: tuple[int, int]
) -> None:
    x = weight(5).permute(*axes, 2, 3).contiguous().requires_grad_()
    quantizer = ready(LsqWeight(2, tuple(x.shape), None), x.detach())
    rounded = quantizer(x)
    output = rules.partly(x, rounded, 0.3, blocks, axes, source(6))
    chosen = output != x
    torch.testing.assert_close(output, torch.where(chosen, rounded, x), rtol=0, atol=0)
    together = chosen.permute(*axes, 2, 3)
    if blocks != "element":
        together = together.flatten(1 if blocks == "channel" else 2)
        assert (together == together[..., :1]).all()
        together = together[..., 0]
    assert together.numel() == drawn and 0 < together.sum() < drawn
    assert abs(together.float().mean() - 0.3) < 4 * math.sqrt(0.21 / drawn)
    output.sum().backward()
    scaled = x.detach() / quantizer.step
    inside = ((scaled >= -2) & (scaled <= 1)).float()
    assert x.grad is not None and torch.equal(x.grad, torch.where(chosen, inside, 1.0))
    assert (x.grad[chosen] == 0).any(), "nothing that is rounded saturates"
    assert rules.partly(x, rounded, 1.0, blocks, axes, None) is rounded
    assert torch.equal(rules.partly(x, rounded, 0.0, blocks, axes, None), x)


def test_tempering_stays_within_the_error_around_what_is_rounded() -> None:
    x = weight(7)
    quantizer = ready(LsqWeight(3, SHAPE, 0), x)
    leaf = x.clone().requires_grad_()
    rounded = quantizer(leaf)
    error = x - rounded.detach()
    draws = torch.stack([rules.tempered(rounded, error, 0.5, source(s)) for s in range(400)]).detach()
    assert ((draws - rounded.detach()).abs() <= 0.5001 * error.abs() + 1e-7).all()
    part = ((draws - rounded.detach()) / error)[:, error.abs() > 1e-3]
    assert abs(part.mean()) < 0.01 and abs(part.var() - 0.25 / 3) < 0.005
    rules.tempered(rounded, error, 0.5, None).sum().backward()
    torch.testing.assert_close(leaf.grad, ((x / quantizer.step >= -4) & (x / quantizer.step <= 3)).float())
    assert rules.tempered(rounded, error, 0.0, None) is rounded


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"kind": "uniform"}, {0.0: 1.0, 0.5: 1.0, 1.0: 1.0}),
        ({"kind": "uniform", "first": 0.2, "last": 0.6, "begin": 0.5, "end": 1.0}, {0.5: 0.2, 0.75: 0.4, 1.0: 0.6}),
        ({"kind": "quant_noise"}, {0.0: 0.5, 0.4: 0.75, 0.8: 1.0, 0.9: 1.0}),
        ({"kind": "quant_noise", "begin": 0.5, "end": 0.5}, {0.49: 0.5, 0.5: 1.0}),
        ({"kind": "tempering", "shape": "cosine", "end": 1.0}, {0.0: 1.0, 0.25: 0.5 + math.sqrt(0.125), 1.0: 0.0}),
        ({"kind": "tempering"}, {0.0: 1.0, 0.4: (math.exp(-2.5) - math.exp(-5)) / (1 - math.exp(-5)), 0.8: 0.0}),
    ],
)
def test_strength_over_the_training(settings: dict[str, float], expected: dict[float, float]) -> None:
    chosen = NoiseSettings(**settings)
    for done, strength in expected.items():
        assert chosen.strength(done) == pytest.approx(strength, abs=1e-12), done


class Net(nn.Module):
    """Two convolutions, one of them used twice, and a transposed one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.up, self.last = nn.ConvTranspose2d(6, 6, 2, stride=2), nn.Conv2d(6, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        x = self.twice(self.twice(x).relu()).relu()
        return self.last(self.up(x).relu())


IMAGES = torch.randn(2, 1, 8, 8, generator=source(9))


def network(act_bits: int = 4, method: str = "lsq", weight_bits: int = 3) -> unetq.QuantNet:
    torch.manual_seed(8)
    q = unetq.quantize(Net(), weight_bits, act_bits, method=method, example_input=IMAGES)
    unetq.calibrate(q, [IMAGES])
    return q


def noisy(kind: str = "uniform", **settings: object) -> unetq.QuantNet:
    q = network()
    add_noise(q, NoiseSettings(kind, **settings))
    return q.train()


@pytest.mark.parametrize("kind", ["uniform", "quant_noise", "tempering"])
@pytest.mark.parametrize("tensors", ["weights", "activations", "both"])
def test_what_is_evaluated_stays_the_same(kind: str, tensors: str) -> None:
    plain, q = network(), noisy(kind, tensors=tensors, first=0.9, last=0.9)
    assert q.state_dict().keys() == plain.state_dict().keys()
    assert not torch.equal(q(IMAGES), plain.train()(IMAGES))
    assert torch.equal(q.eval()(IMAGES), plain.eval()(IMAGES))
    plain.load_state_dict(q.state_dict())


@pytest.mark.parametrize("tensors", ["weights", "both"])
def test_a_step_s_number_decides_its_noise(tensors: str) -> None:
    q, other = noisy(tensors=tensors, seed=3), noisy(tensors=tensors, seed=4)

    def logits(net: unetq.QuantNet, number: int | None) -> Tensor:
        net.set_progress(0.0, number)
        return net(IMAGES)

    seventh = logits(q, 7)
    torch.randn(5)
    assert torch.equal(seventh, logits(q, 7)) and torch.equal(seventh, logits(copy.deepcopy(q), 7))
    assert not torch.equal(seventh, logits(q, 8)) and not torch.equal(seventh, logits(other, 7))
    assert not torch.equal(logits(q, None), logits(q, None))  # without a number, torch's generator
    assert torch.equal(seventh, logits(q, 7))
    if tensors == "weights":  # the second pass of one step has the same weights; its tensors are drawn anew
        assert torch.equal(seventh, q(IMAGES))


def test_from_until_on_training_rounds() -> None:
    q, plain = noisy(until=0.5), network().train()
    q.set_progress(0.4, 0)
    assert not torch.equal(q(IMAGES), plain(IMAGES))
    q.set_progress(0.5, 0)
    assert torch.equal(q(IMAGES), plain(IMAGES))


def test_every_parameter_gets_a_gradient() -> None:
    """In several processes a parameter without one would stop the training."""
    for kind in ("uniform", "quant_noise", "tempering"):
        q = noisy(kind, tensors="both", first=0.0)
        q(IMAGES).square().sum().backward()
        missing = [name for name, p in q.named_parameters() if p.grad is None]
        assert not missing, f"{kind}: {missing}"


def test_layers_without_steps_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"uniform: layer twice is quantised by CodebookWeight at 3 bits"):
        add_noise(network(method="codebook"), NoiseSettings("uniform"))
    add_noise(network(method="codebook"), NoiseSettings("tempering"))
    q = unetq.quantize(Net(), 3, 4, method="lsq", dynamic=True, example_input=IMAGES)
    for kind in ("uniform", "tempering"):
        with pytest.raises(ConfigError, match=rf"{kind}: tensor .* is quantised by DynamicActivation"):
            add_noise(q, NoiseSettings(kind, tensors="both"))
    with pytest.raises(ConfigError, match=r"all of these have 32 bits.*quant\.noise\.tensors"):
        add_noise(network(act_bits=32), NoiseSettings("uniform", tensors="activations"))
    with pytest.raises(UnsupportedError, match="layer twice: weights of CodebookWeight"):
        unrounded_weights(network(method="codebook"))


def test_weights_as_they_are() -> None:
    q = network(act_bits=32).eval()
    weights = unrounded_weights(q)
    assert set(weights) == {"first.weight", "twice.weight", "up.weight", "last.weight"}
    net = copy.deepcopy(q.net)
    state = {**net.state_dict(), **{name: value.detach() for name, value in weights.items()}}
    net.load_state_dict(state)
    torch.testing.assert_close(unrounded_forward(q, IMAGES), net(IMAGES), rtol=1e-5, atol=1e-6)
    assert not any(quantizer._forward_hooks for quantizer in q.weight_quantizers.values())
    clipped = [name for name, value in weights.items() if not torch.equal(value, q.net.state_dict()[name])]
    assert clipped, "no weight is beyond its range"
    assert (unrounded_forward(q, IMAGES) - q(IMAGES)).abs().max() > 1e-3
