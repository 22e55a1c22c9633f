"""Rounding, uniform noise and what the Hessian predicts, where all three are known."""

import math

import pytest
import torch
from torch import Tensor, nn

import unetq
from unetq.errors import ConfigError, UnsupportedError
from unetq.experiment import LossConfig
from unetq.losses import build_loss
from unetq.quant.network import QuantNet
from unetq.study.loss_surface import LossSurface, loss_surface, rounded_weights
from unetq.study.twins import compare, measure_twins, noise_rises, weight_steps

LOSS = build_loss(1, LossConfig())


def quadratic(slope: float = 0.0) -> tuple[LossSurface, dict[str, Tensor], dict[str, Tensor]]:
    """1/2 sum d w^2 + slope sum w over 600 values, d 1 in ``a`` and 4 in ``b``; ``c`` has no quantiser. Q(w), steps."""
    generator = torch.Generator().manual_seed(0)
    weights = tuple(torch.randn(size, generator=generator).requires_grad_() for size in ((20, 15), (100, 2), (100,)))

    def term() -> Tensor:
        curved = sum((d * w * w).sum() / 2 for d, w in zip((1.0, 4.0, 50.0), weights, strict=True))
        return curved + slope * sum(w.sum() for w in weights)  # type: ignore[return-value]

    surface = LossSurface(("a", "b", "c"), weights, (term,))
    steps = {"a": torch.full((1, 1), 0.2), "b": torch.tensor([[0.1, 0.3]])}
    rounded = {name: (w.detach() / steps[name]).round() * steps[name] for name, w in zip("ab", weights, strict=False)}
    return surface, rounded, steps


def test_the_model_holds_on_a_quadratic() -> None:
    surface, rounded, steps = quadratic(slope=3.0)
    before = [w.detach().clone() for w in surface.weights]
    found = compare(surface, rounded, steps, draws=24, probes=2, seed=1)
    exact = 300 * 0.2**2 / 24 + 4 * 100 * (0.1**2 + 0.3**2) / 24
    assert found["predicted"] == pytest.approx(exact, rel=1e-5)
    assert found["predicted_error"] == pytest.approx(0.0, abs=1e-6)  # the Hessian is diagonal
    mean, error = found["uniform"]["mean"], found["uniform"]["error"]
    assert abs(mean - exact) < 4 * error and 4 * error < 0.1 * exact
    assert found["uniform"]["draws"] == 24
    gradient = [w.detach() * d + 3 for d, w in zip((1.0, 4.0), before, strict=False)]
    spread = math.sqrt(sum(float((g * steps[n]).square().sum()) for n, g in zip("ab", gradient, strict=True)) / 12)
    assert found["predicted_spread"] == pytest.approx(spread, rel=1e-5)
    assert found["uniform"]["spread"] == pytest.approx(spread, rel=0.35)
    assert found["layers"]["a"]["trace"] == pytest.approx(300.0)
    assert found["layers"]["b"]["predicted"] == pytest.approx(4 * 100 * 0.1 / 24)
    assert found["layers"]["b"]["step"] == pytest.approx(math.sqrt(0.05)) and set(found["layers"]) == {"a", "b"}
    assert found["variance"] == pytest.approx(1.0, rel=0.15)
    assert all(torch.equal(a, b) for a, b in zip(before, surface.weights, strict=True))


def test_rounding_is_measured_at_the_rounded_weights() -> None:
    surface, rounded, steps = quadratic(slope=3.0)
    found = compare(surface, rounded, steps, draws=2, probes=2, seed=1)
    home = surface.loss()
    with surface.at([rounded["a"], rounded["b"], surface.weights[2].detach().clone()]):
        assert found["rounding"] == pytest.approx(surface.loss() - home, rel=1e-4)
    assert found["loss"] == home


def test_pairs_take_the_slope_out() -> None:
    steps = [torch.full((20, 15), 0.2), torch.zeros(100, 2), torch.zeros(100)]
    flat, steep = (noise_rises(quadratic(slope)[0], steps, 4, 2) for slope in (0.0, 30.0))
    torch.testing.assert_close(flat.mean(dim=1), steep.mean(dim=1), rtol=2e-3, atol=2e-3)
    assert steep.std() > 10 * flat.std()
    assert torch.equal(flat, noise_rises(quadratic()[0], steps, 4, 2))
    assert not torch.equal(flat, noise_rises(quadratic()[0], steps, 4, 3))


def test_what_the_bound_needs_of_the_steps() -> None:
    surface, rounded, steps = quadratic()
    found = compare(surface, rounded, steps, draws=2, probes=2, seed=1)["steps"]
    assert found["weights"] == 500
    assert found["log"] == pytest.approx(300 * math.log(0.2) + 100 * (math.log(0.1) + math.log(0.3)))
    assert found["square"] == pytest.approx(300 * 0.04 + 100 * 0.1)
    quantised = torch.cat([w.detach().reshape(-1) for w in surface.weights[:2]])
    assert found["norm"] == pytest.approx(float(quantised.norm()), rel=1e-5)


def small(method: str = "lsq", bits: int = 3, act_bits: int = 4) -> tuple[QuantNet, list[Tensor], list[Tensor]]:
    torch.manual_seed(4)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
                        nn.ConvTranspose2d(4, 3, 2, 2), nn.ReLU(), nn.Conv2d(3, 1, 1)).eval()  # fmt: skip
    images = [torch.rand(2, 1, 8, 8) for _ in range(2)]
    q = unetq.quantize(net, bits, act_bits, method=method, example_input=images[0][:1])
    unetq.calibrate(q, images)
    return q.eval(), images, [torch.nn.functional.interpolate(x, scale_factor=2.0)[:, 0].gt(0.5).long() for x in images]


@pytest.mark.parametrize("method", ["lsq", "fixed"])
def test_a_whole_network(method: str) -> None:
    q, images, labels = small(method)
    state = {name: value.clone() for name, value in q.state_dict().items()}
    found = measure_twins(q, images, labels, LOSS, draws=4, probes=4, seed=2)
    assert all(torch.equal(state[name], value) for name, value in q.state_dict().items())
    latent, there = (loss_surface(q, images, labels, LOSS, rounded=rounded).loss() for rounded in (False, True))
    assert found["loss"] == pytest.approx(latent + found["clipping"], abs=1e-7)
    assert found["loss"] + found["rounding"] == pytest.approx(there, abs=1e-7)
    assert found["uniform"]["error"] > 0 and found["predicted_error"] > 0 and 0.5 < found["variance"] < 2
    assert sum(layer["predicted"] for layer in found["layers"].values()) == pytest.approx(found["predicted"])
    assert found == measure_twins(q, images, labels, LOSS, draws=4, probes=4, seed=2)


def test_weights_beyond_the_grid_are_clipped_first() -> None:
    """What lies beyond is no rounding error: neither the noise nor the rounding is measured there."""
    q, images, labels = small()
    home = measure_twins(q, images, labels, LOSS, draws=2, probes=2)
    with torch.no_grad():
        for name in weight_steps(q):
            weight = q.tensor(name).view(-1)
            weight[int(weight.abs().argmax())] *= 50
    found = measure_twins(q, images, labels, LOSS, draws=2, probes=2)
    assert found["beyond"] * found["steps"]["weights"] >= 4
    assert abs(found["clipping"]) > 10 * abs(home["clipping"]) and found["variance"] < 1.5
    assert found["loss"] == pytest.approx(home["loss"], rel=0.05)


@pytest.mark.parametrize("method", ["lsq", "fixed"])
def test_steps_are_those_between_levels(method: str) -> None:
    """Also along the channels of a transposed convolution, which are its weight's second axis."""
    q, _, _ = small(method)
    steps, rounded = weight_steps(q), rounded_weights(q)
    assert set(steps) == set(rounded) == {"0.weight", "2.weight", "4.weight", "6.weight"}
    for name, step in steps.items():
        codes = rounded[name] / step
        torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-4)
        inside = (q.tensor(name).detach() - rounded[name]).abs() <= step / 2 * 1.0001
        assert inside.float().mean() > 0.8
    assert steps["4.weight"].numel() in (1, 3)


def test_levels_without_one_step_are_refused() -> None:
    q, images, labels = small("codebook")
    with pytest.raises(UnsupportedError, match=r"use .*method lsq"):
        measure_twins(q, images, labels, LOSS)
    with pytest.raises(ConfigError, match="draws = 1"):
        measure_twins(q, images, labels, LOSS, draws=1)
