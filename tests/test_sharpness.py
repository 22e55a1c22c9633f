"""Sharpness-aware steps: against a step written by hand, with every quantiser, and without a trace."""

from typing import Any, get_args

import pytest
import torch
from lightning_fabric import Fabric
from sharpness_reference import LEARNING_RATE, Tiny, batch, loss_of, stepped, steps_of
from torch import nn

from unetq.experiment import Method, SharpnessConfig
from unetq.quant.calibrate import calibrate
from unetq.quant.convert import quantize
from unetq.quant.network import QuantNet
from unetq.sharpness.build import build_descent
from unetq.sharpness.descent import Descent, Objective
from unetq.sharpness.esam import Esam
from unetq.sharpness.looksam import KEY, LookSam
from unetq.sharpness.places import buffers_kept, find_places, moved, norm_of
from unetq.sharpness.sam import Sam

SEED = 70_001
IMAGES, LABELS = batch(4, SEED)
METHODS = ("sam", "saq", "esam", "looksam")


def network(method: str = "fixed", bits: int = 4, act_bits: int = 32) -> QuantNet:
    """The tiny network with quantised weights (and activations, from 8 bits down), calibrated, in training."""
    torch.manual_seed(SEED)
    return trainable(Tiny(), method, bits, act_bits, bits)


def trainable(plain: nn.Module, method: str, bits: int, act_bits: int, ends: int) -> QuantNet:
    q = quantize(
        plain, weight_bits=bits, act_bits=act_bits, method=method, first_bits=ends, last_bits=ends,
        example_input=IMAGES[:1],
    )  # fmt: skip
    calibrate(q, [IMAGES])
    return q.train()


def descent(net: nn.Module, lr: float = LEARNING_RATE, adam: bool = False, bf16: bool = False, **settings: Any) -> Any:
    """The step that the settings ask for, of plain SGD or Adam."""
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed" if bf16 else "32-true")
    kind = torch.optim.AdamW if adam else torch.optim.SGD
    wrapped, optimizer = fabric.setup(net, kind(net.parameters(), lr=lr))
    stage = "quant" if isinstance(net, QuantNet) else "float"
    config = SharpnessConfig(**{"stages": "both", **settings})
    return build_descent(config, stage, Objective(wrapped, loss_of), optimizer, fabric, net, SEED)


def values(net: nn.Module) -> dict[str, torch.Tensor]:
    inner = net.net if isinstance(net, QuantNet) else net
    return {name: p.detach().clone() for name, p in inner.named_parameters()}


def close(net: nn.Module, expected: dict[str, torch.Tensor], tolerance: float = 2e-6) -> None:
    for name, value in values(net).items():
        worst = float((value - expected[name]).abs().max())
        assert worst <= tolerance, f"seed {SEED}, {name}: {worst}"


@pytest.mark.parametrize("case", [1, 2, 3])
@pytest.mark.parametrize("method", ["fixed", "lsq"])
@pytest.mark.parametrize("bits", [2, 4])
def test_saqs_cases_against_a_step_by_hand(case: int, method: str, bits: int) -> None:
    net = network(method, bits)
    for quantizer in net.weight_quantizers.values():
        quantizer.log2_step.data -= 1.0  # type: ignore[operator, union-attr]  # so that some weights saturate
    start, steps = values(net), steps_of(net)
    assert len(steps) == 2
    loss, expected = stepped(start, steps, bits, [(IMAGES, LABELS)], case, 0.4)
    found = descent(net, method="saq", case=case, rho=0.4).step(IMAGES, LABELS, 0)
    assert float(found) == pytest.approx(loss, abs=1e-6)
    close(net, expected)
    others = [stepped(start, steps, bits, [(IMAGES, LABELS)], other, 0.4)[1] for other in {1, 2, 3} - {case}]
    for other in others:
        assert any(float((other[n] - expected[n]).abs().max()) > 1e-4 for n in expected), "the cases do not differ"


def test_sam_in_float_against_a_step_by_hand() -> None:
    torch.manual_seed(SEED)
    net = Tiny().train()
    _, expected = stepped(values(net), {}, 4, [(IMAGES, LABELS)], 3, 0.4)
    descent(net, method="sam", rho=0.4).step(IMAGES, LABELS, 0)
    close(net, expected)


def test_sam_around_a_quantised_network_is_the_second_case() -> None:
    a, b = network("lsq"), network("lsq")
    descent(a, method="sam", case=3, rho=0.4).step(IMAGES, LABELS, 0)
    descent(b, method="saq", case=2, rho=0.4).step(IMAGES, LABELS, 0)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("method", get_args(Method))
@pytest.mark.parametrize("case", [1, 2, 3])
def test_every_quantiser(method: str, case: int) -> None:
    """The move is rho long and goes uphill; the first gradient is that at Q(w), found another way."""
    torch.manual_seed(SEED)
    convolutions = (nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1))
    plain = nn.Sequential(convolutions[0], nn.ReLU(), convolutions[1], nn.BatchNorm2d(4), nn.ReLU(), convolutions[2])
    bits = 1 if method in ("bnn", "xnor") else 2 if method in ("twn", "ttq", "ternarynet") else 4
    net = trainable(plain, method, bits, 1 if method in ("bnn", "xnor") else 2 if method == "ternarynet" else 4, 8)
    step = descent(net, method="saq", case=case, rho=0.01, lr=0.0)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    loss, _, gradients = step.first_pass(IMAGES, LABELS, step.places)
    uphill = step.uphill(gradients)
    assert float(norm_of(uphill)) == pytest.approx(0.01, rel=1e-4)
    if case == 3:
        with buffers_kept(net):
            expected = gradient_behind(net)
        for place, found in zip(step.places, gradients, strict=True):
            torch.testing.assert_close(found, expected[id(place.parameter)], rtol=1e-4, atol=1e-6)
        # In the other cases rounding may swallow the move, or the estimate of straight-through be wrong.
        with moved(step.places, uphill, behind=True), buffers_kept(net), torch.no_grad():
            assert float(step.objective(IMAGES, LABELS)[0]) > float(loss)
    step.step(IMAGES, LABELS, 0)
    changed = [name for name, value in net.state_dict().items() if not torch.equal(value, before[name])]
    assert all("running" in name or "num_batches" in name for name in changed), changed


def gradient_behind(net: QuantNet) -> dict[int, torch.Tensor]:
    """Gradients with every weight quantiser replaced by a constant leaf that holds its output."""
    leaves, forwards = {}, []
    for place in find_places(net):
        leaves[id(place.parameter)] = leaf = place.parameter
        if place.quantizer is not None:
            leaf = place.quantizer(place.parameter).detach().clone().requires_grad_()
            leaves[id(place.parameter)] = leaf
            forwards.append(place.quantizer)
            place.quantizer.forward = lambda weight, leaf=leaf: leaf  # type: ignore[method-assign]
    try:
        found = torch.autograd.grad(loss_of(net(IMAGES), LABELS), list(leaves.values()))
    finally:
        for quantizer in forwards:
            del quantizer.forward
    return dict(zip(leaves, found, strict=True))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bf16", [False, True])
def test_running_statistics_are_those_of_the_weights_themselves(method: str, bf16: bool) -> None:
    """The moved pass leaves no trace: statistics are as after a plain step on the images of the first pass."""
    net, plain = network("lsq", act_bits=4), network("lsq", act_bits=4)
    step = descent(net, method=method, bf16=bf16, adam=True, lr=1e-3)
    count = 2 if method == "esam" else 4
    assert bool(torch.isfinite(step.step(IMAGES, LABELS, 0)))
    descent(plain, method="none", bf16=bf16).step(IMAGES[:count], LABELS[:count], 0)
    for (name, a), b in zip(net.named_buffers(), plain.buffers(), strict=True):
        assert torch.equal(a, b), name
    assert all(bool(torch.isfinite(p).all()) for p in net.parameters())
    assert not any(q._forward_hooks for q in net.weight_quantizers.values())


def test_bf16_moves_uphill_too() -> None:
    net = network("lsq", act_bits=4)
    step = descent(net, method="saq", rho=0.1, bf16=True)
    loss, _, gradients = step.first_pass(IMAGES, LABELS, step.places)
    exact = network("lsq", act_bits=4)
    other = descent(exact, method="saq", rho=0.1)
    whole, _, _ = other.first_pass(IMAGES, LABELS, other.places)
    rises = []
    for s, start in ((step, loss), (other, whole)):
        with moved(s.places, s.uphill(gradients), behind=True), torch.no_grad():
            rises.append(float(s.objective(IMAGES, LABELS)[0]) - float(start))
    assert rises[0] == pytest.approx(rises[1], rel=0.1) and rises[1] > 0


def test_a_failure_in_the_moved_pass_leaves_the_weights() -> None:
    net = network("lsq")
    step = descent(net, method="saq", case=2)
    before = values(net)
    _, _, gradients = step.first_pass(IMAGES, LABELS, step.places)
    with pytest.raises(RuntimeError, match="on purpose"), moved(step.places, step.uphill(gradients), behind=False):
        assert any(not torch.equal(value, before[name]) for name, value in values(net).items())
        raise RuntimeError("on purpose")
    assert all(torch.equal(value, before[name]) for name, value in values(net).items())


def test_no_gradient_no_move() -> None:
    net = network("lsq")
    step = descent(net, method="saq")
    steps = step.uphill([torch.zeros_like(place.parameter) for place in step.places])
    assert all(bool((s == 0).all()) for s in steps)


def test_frozen_weights_stay() -> None:
    net = network("fixed")
    net.net.first.weight.requires_grad_(False)
    net.freeze_step_sizes()
    before = values(net)["first.weight"]
    for method in METHODS:
        step = descent(net, method=method)
        assert len(step.places) == 5
        step.step(IMAGES, LABELS, 0)
    assert torch.equal(values(net)["first.weight"], before)


def test_esam_with_all_tensors_and_images_is_saq() -> None:
    a, b = network("lsq"), network("lsq")
    descent(a, method="esam", beta=1.0, gamma=1.0, ascent=1.0).step(IMAGES, LABELS, 3)
    descent(b, method="saq").step(IMAGES, LABELS, 3)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_esams_subset_follows_from_seed_and_step() -> None:
    one, two = descent(network("lsq"), method="esam"), descent(network("lsq"), method="esam")
    torch.manual_seed(1)
    picked = [[one.places.index(p) for p in one.subset(number)] for number in range(300)]
    torch.manual_seed(2)
    assert picked == [[two.places.index(p) for p in two.subset(number)] for number in range(300)]
    assert 0.45 < sum(map(len, picked)) / (300 * 6) < 0.56 and all(picked)
    rare = descent(network("lsq"), method="esam", beta=1e-6)
    assert [len(rare.subset(number)) for number in range(20)] == [1] * 20


@pytest.mark.parametrize("ascent", [0.5, 1.0])
def test_esams_images_are_those_whose_loss_rises_most(ascent: float) -> None:
    """Against all losses, computed one group and one point after the other."""
    net = network("lsq")
    step = descent(net, method="esam", ascent=ascent, rho=0.5)
    assert isinstance(step, Esam)
    places, first = step.subset(0), round(4 * ascent)
    _, logits, gradients = step.first_pass(IMAGES[:first], LABELS[:first], places)
    steps = step.uphill(gradients)
    chosen = step.selected(IMAGES, LABELS, logits, places, steps)

    def losses() -> torch.Tensor:
        with buffers_kept(net), torch.no_grad():
            outputs = torch.cat([net(IMAGES[:first]), *([net(IMAGES[first:])] if first < 4 else [])])
        return torch.stack([loss_of(outputs[i : i + 1], LABELS[i : i + 1]) for i in range(4)])

    before = losses()
    with moved(places, steps, behind=True):
        rise = losses() - before
    assert chosen.tolist() == sorted(rise.argsort(descending=True)[:2].tolist())


def test_esam_is_sam_on_average_in_length() -> None:
    """The estimate of the norm: over many subsets the mean squared length is rho**2 / beta, that of ESAM's formula."""
    net = network("lsq")
    step = descent(net, method="esam", beta=0.5, ascent=1.0, rho=0.1)
    _, _, all_of_them = step.first_pass(IMAGES, LABELS, step.places)
    lengths = []
    for number in range(40):
        places = step.subset(number)
        _, _, gradients = step.first_pass(IMAGES, LABELS, places)
        for place, g in zip(places, gradients, strict=True):
            torch.testing.assert_close(g, all_of_them[step.places.index(place)], rtol=1e-5, atol=1e-7)
        lengths.append(float(norm_of(step.uphill(gradients))) / 0.5**0.5)
    assert lengths == pytest.approx([0.1 / 0.5**0.5] * 40, rel=1e-4)


def test_looksam_at_every_step_is_saq() -> None:
    a, b = network("lsq"), network("lsq")
    for number in range(3):
        descent(a, method="looksam", every=1).step(IMAGES, LABELS, number)
        descent(b, method="saq").step(IMAGES, LABELS, number)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_looksam_between_its_looks_against_the_formula() -> None:
    net = network("lsq")
    step = descent(net, method="looksam", every=5, alpha=0.7, rho=0.3)
    assert isinstance(step, LookSam)

    def flat(tensors: Any) -> torch.Tensor:
        return torch.cat([t.reshape(-1) for t in tensors])

    inner = list(net.net.parameters())
    with buffers_kept(net):
        plain = flat(torch.autograd.grad(loss_of(net(IMAGES), LABELS), inner))
    start = flat(values(net).values())
    step.step(IMAGES, LABELS, 0)
    seen = (start - flat(values(net).values())) / LEARNING_RATE
    across = seen - (seen @ plain) / (plain @ plain) * plain
    kept = flat(step.optimizer.state[p][KEY] for p in inner)
    torch.testing.assert_close(kept, across, rtol=1e-3, atol=1e-5)
    assert abs(float(kept @ plain)) < 1e-4 * float(kept.norm() * plain.norm())

    start = flat(values(net).values())
    with buffers_kept(net):
        plain = flat(torch.autograd.grad(loss_of(net(IMAGES), LABELS), inner))
    step.step(IMAGES, LABELS, 1)
    expected = plain + 0.7 * plain.norm() / kept.norm() * kept
    torch.testing.assert_close((start - flat(values(net).values())) / LEARNING_RATE, expected, rtol=1e-3, atol=1e-5)


def test_off_is_the_plain_step_and_stages_are_kept_apart() -> None:
    net = network("lsq")
    assert type(descent(net)) is Descent
    assert type(descent(net, method="saq", stages="float")) is Descent
    assert type(descent(net, method="saq", stages="quant")) is Sam
    assert type(descent(Tiny(), method="saq", stages="quant")) is Descent
