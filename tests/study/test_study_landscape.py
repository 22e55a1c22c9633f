"""Sharpness where the answer is known, and the surface of a real network."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import unetq
from unetq.errors import ConfigError, DataError
from unetq.experiment import LossConfig
from unetq.losses import build_loss
from unetq.quant.network import QuantNet
from unetq.quant.quantizer import ActivationQuantizer
from unetq.study.ascent import ascend, ascend_smoothed
from unetq.study.landscape import measure_landscape, smoothed_trace
from unetq.study.loss_surface import LossSurface, loss_surface, rounded_weights


def quadratic(diagonal: list[float], at: list[float], slope: float = 0.0) -> LossSurface:
    """1/2 sum d w^2 + slope sum w, with the weights ``at`` in two tensors, as the mean of two unequal terms."""
    d = torch.tensor(diagonal)
    first, second = (torch.tensor(part).requires_grad_() for part in (at[:1], at[1:]))

    def term(share: float) -> Tensor:
        w = torch.cat([first, second])
        return share * (0.5 * (d * w * w).sum() + slope * w.sum())

    return LossSurface(("a", "b"), (first, second), (lambda: term(0.5), lambda: term(1.5)))


def test_at_a_minimum_the_ascent_finds_the_steepest_direction() -> None:
    surface = quadratic([1.0, 9.0, 4.0], [0.0, 0.0, 0.0])
    found = measure_landscape(surface, rho=0.1, adaptive_rho=0.5, steps=12, products=3)
    assert found["loss"] == 0.0 and found["ascent"] == pytest.approx(0.5 * 9 * 0.01, rel=1e-3)
    assert found["adaptive"] == pytest.approx(0.5 * 9 * (0.5 * 0.01) ** 2, rel=1e-3)  # T is the floor, 0.01
    assert found["trace"] == {"value": pytest.approx(14.0), "error": pytest.approx(0.0, abs=1e-5), "probes": 16}
    assert found["eigenvalue"]["value"] == pytest.approx(9.0, rel=1e-5)
    assert found["eigenvalue"]["residual"] < 1e-2 and found["weights"] == 3 and found["norm"] == 0.0


def test_a_linear_loss_rises_by_the_gradient_times_rho() -> None:
    surface = quadratic([0.0, 0.0, 0.0], [3.0, -4.0, 0.0], slope=2.0)
    found = measure_landscape(surface, rho=0.1, adaptive_rho=0.5)
    assert found["loss"] == pytest.approx(-2.0) and found["norm"] == pytest.approx(5.0)
    assert found["ascent"] == pytest.approx(0.1 * 2 * 3**0.5, rel=1e-5) == pytest.approx(found["first_order"])
    assert found["adaptive"] == pytest.approx(0.5 * 2 * math.hypot(3.01, 4.01, 0.01), rel=1e-5)


def test_more_steps_find_no_less_and_never_below_zero() -> None:
    surface = quadratic([1.0, -9.0, 4.0], [0.2, 0.1, 0.3])
    ones = [torch.ones_like(w) for w in surface.weights]
    rises = ascend(surface, ones, 0.5, 6, 0)
    assert rises[0] == 0.0 and len(rises) == 7
    found = [measure_landscape(surface, rho=0.5, steps=steps)["ascent"] for steps in (1, 3, 6)]
    assert 0 < found[0] <= found[1] <= found[2] and found[2] >= max(rises)
    caved = quadratic([-1.0, -1.0, -1.0], [0.0, 0.0, 0.0])
    assert measure_landscape(caved)["ascent"] == 0.0


def test_kinks_do_not_mislead_the_smoothed_ascent() -> None:
    """A steep saw of height 0.0004 along ``a`` hides that the loss rises along ``b``."""
    a, b = torch.full((1,), 0.3).requires_grad_(), torch.full((1,), 0.5).requires_grad_()

    def term() -> Tensor:
        saw = 0.0004 * torch.sin(a / 1e-4)
        return (saw + b).sum()

    surface, ones = LossSurface(("a", "b"), (a, b), (term,)), [torch.ones(1), torch.ones(1)]
    plain, smoothed = max(ascend(surface, ones, 0.1, 1, 0)), max(ascend_smoothed(surface, ones, 0.1, 0.01, 0))
    assert plain < 0.05 and 0.09 < smoothed <= 0.101
    assert measure_landscape(surface, rho=0.1, steps=1)["ascent"] > 2 * plain
    assert ascend_smoothed(surface, ones, 0.1, 0.01, 0) == ascend_smoothed(surface, ones, 0.1, 0.01, 0)


def test_both_ascents_agree_where_the_loss_is_smooth() -> None:
    surface = quadratic([1.0, 9.0, 4.0], [0.2, 0.1, 0.3], slope=1.0)
    ones = [torch.ones_like(w) for w in surface.weights]
    assert max(ascend_smoothed(surface, ones, 0.1, 1e-3, 0)) == pytest.approx(
        max(ascend(surface, ones, 0.1, 8, 0)), rel=1e-2
    )
    flat = LossSurface(("a",), (torch.zeros(2, requires_grad=True),), (lambda: torch.zeros(()).requires_grad_(),))
    assert ascend_smoothed(flat, [torch.ones(2)], 0.1, 0.1, 0) == [0.0]


def test_the_adaptive_measure_does_not_see_a_rescaling() -> None:
    """What one layer gains and the next loses changes the network nowhere (Dinh et al. 2017)."""

    def rises(scale: float, adaptive: bool) -> list[float]:
        a = torch.tensor([[0.5, -0.3]]).mul(scale).requires_grad_()
        b = torch.tensor([[0.7], [0.2]]).div(scale).requires_grad_()
        surface = LossSurface(("a", "b"), (a, b), (lambda: (1.0 - a @ b).square().sum(),))
        scales = [w.detach().abs() if adaptive else torch.ones_like(w) for w in surface.weights]
        return ascend(surface, scales, 0.3, 4, 0)

    assert rises(4.0, adaptive=True) == pytest.approx(rises(1.0, adaptive=True), rel=1e-4)
    assert max(rises(4.0, adaptive=False)) > 1.5 * max(rises(1.0, adaptive=False))


def test_the_smoothed_trace_sees_what_moves_see() -> None:
    surface = quadratic([1.0, 9.0, 4.0], [0.2, 0.1, 0.3], slope=2.0)
    found = smoothed_trace(surface, 0.05, 4, 0)
    assert found["value"] == pytest.approx(14.0, rel=1e-3) and found["error"] < 0.01  # its Hessian is diagonal
    assert measure_landscape(surface)["smoothed"]["scale"] == pytest.approx(0.1 * surface.norm() / math.sqrt(3))
    weight = torch.zeros(1, requires_grad=True)  # a dent of curvature 1e4 and width 1e-3 in a bowl of curvature 2
    dented = LossSurface(
        ("w",), (weight,), (lambda: (weight.square() - 0.005 * torch.exp(-1e6 * weight.square())).sum(),)
    )
    assert measure_landscape(dented)["trace"]["value"] == pytest.approx(10002.0, rel=1e-3)
    assert smoothed_trace(dented, 0.1, 2, 0)["value"] == pytest.approx(2.0 + 1.0, rel=1e-3)
    assert smoothed_trace(dented, 0.0, 2, 0)["value"] == 0.0


def test_weights_come_back_to_the_last_bit_and_a_seed_decides() -> None:
    surface = quadratic([1.0, -9.0, 4.0], [0.2, 0.1, 0.3])
    before = [w.detach().clone() for w in surface.weights]
    first = measure_landscape(surface, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(before, surface.weights, strict=True))
    assert measure_landscape(surface, seed=3) == first
    with pytest.raises(RuntimeError, match="on purpose"), surface.at([w + 1 for w in before]):
        raise RuntimeError("on purpose")
    assert all(torch.equal(a, b) for a, b in zip(before, surface.weights, strict=True))


@pytest.mark.parametrize(
    "given", [{"rho": 0.0}, {"adaptive_rho": math.inf}, {"steps": 0}, {"probes": 1}, {"products": 0}, {"draws": 1}]
)
def test_settings_out_of_range_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(given))):
        measure_landscape(quadratic([1.0, 1.0, 1.0], [0.0, 0.0, 0.0]), **given)  # type: ignore[arg-type]


def test_a_broken_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="finite"):
        measure_landscape(quadratic([1.0, 1.0, 1.0], [math.nan, 0.0, 0.0]))


def small(act_bits: int = 4) -> tuple[QuantNet, list[Tensor], list[Tensor]]:
    """A calibrated network of two convolutions with BatchNorm, and two batches."""
    torch.manual_seed(4)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3, padding=1), nn.ReLU(),
        nn.Conv2d(3, 1, 1),
    )  # fmt: skip
    images = [torch.rand(2, 1, 8, 8) for _ in range(2)]
    net.train()(images[0])
    q = unetq.quantize(net.eval(), 3, act_bits, method="lsq", example_input=images[0][:1])
    unetq.calibrate(q, images)
    return q.eval(), images, [(x[:, 0] > 0.5).long() for x in images]


LOSS = build_loss(1, LossConfig())


def mean_loss(forward: Callable[[Tensor], Tensor], images: list[Tensor], labels: list[Tensor]) -> float:
    with torch.no_grad():
        return sum(float(LOSS(forward(x), y)) for x, y in zip(images, labels, strict=True)) / len(images)


def test_the_surface_of_a_network_is_its_float_loss() -> None:
    q, images, labels = small(act_bits=32)
    state = {name: value.clone() for name, value in q.state_dict().items()}
    plain = loss_surface(q, images, labels, LOSS, rounded=False)
    assert plain.loss() == pytest.approx(mean_loss(q.float_forward, images, labels), rel=1e-6)
    assert plain.names == ("0.weight", "3.weight", "5.weight") and plain.count == 36 + 108 + 3
    rounded = loss_surface(q, images, labels, LOSS, rounded=True)
    assert len(rounded.weights[1].detach()[0].unique()) <= 8 < len(plain.weights[1].detach()[0].unique())
    assert rounded.loss() == pytest.approx(mean_loss(q, images, labels), rel=1e-5)  # the program has Q(w) too
    measure_landscape(rounded, probes=2, products=3)
    assert all(torch.equal(state[name], value) for name, value in q.state_dict().items())


def test_activations_are_clipped_and_not_rounded() -> None:
    q, images, labels = small()
    loose = loss_surface(q, images, labels, LOSS, rounded=False)
    assert loose.loss() not in (mean_loss(q.float_forward, images, labels), mean_loss(q, images, labels))
    ends = []
    for slot in ("grid/#input", "grid/0", "grid/3"):
        quantizer = q.grids[slot]
        assert isinstance(quantizer, ActivationQuantizer)
        grid = quantizer.grid()
        ends.append((grid.low * grid.scale, grid.high * grid.scale))
    layers = q.net
    assert isinstance(layers, nn.Sequential)

    def forward(x: Tensor) -> Tensor:
        x = layers[:3](x.clamp(*ends[0])).clamp(*ends[1])
        logits: Tensor = layers[5](layers[3:5](x).clamp(*ends[2]))
        return logits

    assert loose.loss() == pytest.approx(mean_loss(forward, images, labels), rel=1e-6)


def test_rounded_weights_are_those_that_ship() -> None:
    q, _, _ = small()
    found = rounded_weights(q.train())
    for block in q.blocks():
        quantizer = q.weight_quantizer(block) if block.kind == "conv" else None
        if quantizer is not None:
            name = block.parameters["weight"]
            codes = quantizer.codes(q.tensor(name).detach().numpy())
            scale = torch.from_numpy(codes.scale).reshape(-1, 1, 1, 1)
            assert torch.equal(found[name], torch.from_numpy(codes.codes).float() * scale)
    assert len(found) == 3


def test_a_float_network_has_one_surface() -> None:
    q, images, labels = small(act_bits=32)
    values = [loss_surface(q.net, images, labels, LOSS, rounded=rounded).loss() for rounded in (False, True)]
    assert values[0] == values[1] == loss_surface(q, images, labels, LOSS, rounded=False).loss()
    with pytest.raises(DataError, match="0 batches"):
        loss_surface(q, [], [], LOSS, rounded=True)
