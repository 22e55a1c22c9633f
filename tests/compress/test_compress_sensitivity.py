"""Sensitivity: measured where a layer matters, and curvature against the exact Hessian."""

import pytest
import torch
from torch import Tensor, nn

from unetq.compress.hessian import traces, weight_scores
from unetq.compress.sensitivity import (
    Crops,
    divergence,
    measure,
    name_of,
    never_falling,
    probabilities,
    scores,
    with_hessian,
)
from unetq.compress.space import TENSOR, WEIGHT
from unetq.compress.workbench import Workbench
from unetq.errors import ConfigError, DataError
from unetq.experiment import LossConfig
from unetq.losses import build_loss
from unetq.ptq.network import Options
from unetq.quant.convert import quantize


def tiny() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1)
    )


def made() -> tuple[Workbench, Crops]:
    net = tiny().eval()
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    q = quantize(net, 8, 8, example_input=torch.zeros(1, 1, 8, 8))
    bench = Workbench(q, (2, 4, 8), [images], Options(), None, 1)
    with torch.no_grad():
        logits = net(images)
    labels = (logits[:, 0] > logits.median()).long()
    crops = Crops(images, labels, ("a", "b"), lambda x: bench.q.float_forward(x), build_loss(1, LossConfig()))
    return bench, crops


def test_divergence_is_zero_for_equals_only() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 4)
    p = probabilities(logits)
    assert p.sum(1).sub(1).abs().max() < 1e-12
    assert abs(divergence(p, p)) < 1e-12
    near, far = (divergence(p, probabilities(logits + s * torch.randn_like(logits))) for s in (0.1, 1.0))
    assert 0 < near < far
    one = probabilities(torch.tensor([[[[0.0]]]]))
    assert one.shape == (1, 2, 1, 1) and one.tolist() == [[[[0.5]], [[0.5]]]]


def test_fewer_bits_move_the_network_further() -> None:
    bench, crops = made()
    known: dict[str, dict[str, float]] = {}
    kept: list[int] = []
    measure(bench, crops, known, lambda: kept.append(len(known)))
    assert set(known) == {"widest", *(name_of(v, b) for v, widths in bench.space.choices.items() for b in widths[:-1])}
    assert kept == list(range(1, len(known) + 1))
    narrow, middle = (known[name_of((WEIGHT, "2"), bits)]["divergence"] for bits in (2, 4))
    assert narrow > middle > known["widest"]["divergence"] >= 0
    table = scores(bench.space, known, "divergence")
    assert all(values[2] >= values[4] >= values[8] == 0.0 for values in table.values())
    with pytest.raises(ConfigError, match="choose one of"):
        scores(bench.space, known, "guess")


def test_what_is_known_is_not_measured_again() -> None:
    bench, crops = made()
    known = measure(bench, crops, {})
    marked = {name: {**values, "loss": -7.0} for name, values in known.items() if name.startswith(TENSOR)}
    again = measure(bench, crops, {**known, **marked})
    assert all(again[name]["loss"] == -7.0 for name in marked) and marked


def test_scores_never_fall() -> None:
    assert never_falling({8: 0.0, 4: -0.1, 3: 0.2, 2: 0.1}) == {8: 0.0, 4: 0.0, 3: 0.2, 2: 0.2}


def test_no_crops_are_refused() -> None:
    with pytest.raises(DataError, match="no crops"):
        Crops(torch.zeros(0, 1, 8, 8), torch.zeros(0, 8, 8).long(), ("a", "b"), lambda x: x, lambda a, b: a.sum())


def exact_hessian(net: nn.Module, names: list[str], images: Tensor, labels: Tensor) -> Tensor:
    """Of the loss in all weights ``names`` together, (n, n) float64."""
    loss = build_loss(1, LossConfig())
    weights = [dict(net.named_parameters())[name].detach() for name in names]

    def value(flat: Tensor) -> Tensor:
        parts = flat.split([w.numel() for w in weights])
        state = {name: part.reshape(w.shape) for name, part, w in zip(names, parts, weights, strict=True)}
        found = torch.func.functional_call(net, state, (images,))
        assert isinstance(found, Tensor)
        return loss(found, labels)

    hessian = torch.autograd.functional.hessian(value, torch.cat([w.reshape(-1) for w in weights]))
    assert isinstance(hessian, Tensor)
    return hessian.double()


def test_the_trace_is_that_of_the_hessian() -> None:
    """Within four standard errors of the estimate, which are far below the traces themselves."""
    bench, crops = made()
    names, draws = ["2.weight", "4.weight"], 1500
    images, labels, loss = [crops.images], [crops.labels], build_loss(1, LossConfig())
    found = traces(bench.q, names, images, labels, loss, draws=draws, seed=3)
    hessian = exact_hessian(bench.q.net, names, crops.images, crops.labels)
    rest = (hessian - hessian.diagonal().diag()).square()
    first = 0
    for name in names:
        part = slice(first, first + bench.q.tensor(name).numel())
        first = part.stop
        within = rest[part, part].sum()
        error = float((2 * within + rest[part].sum() - within).sqrt()) / draws**0.5
        exact = float(hessian.diagonal()[part].sum())
        assert abs(found[name] - exact) < 4 * error, name
        assert 4 * error < abs(exact), f"{name}: the test says nothing"
    few = [traces(bench.q, names, images, labels, loss, 2, seed) for seed in (3, 3, 4)]
    assert few[0] == few[1] != few[2]


def test_curvature_scores_weights_alone() -> None:
    bench, crops = made()
    layers = [name for kind, name in bench.space.choices if kind == WEIGHT]
    found = weight_scores(bench, dict.fromkeys(layers, 10.0))
    assert all(found[layer, 2] > found[layer, 4] > found[layer, 8] for layer in layers)
    assert set(weight_scores(bench, dict.fromkeys(layers, -1.0)).values()) == {0.0}
    table = scores(bench.space, measure(bench, crops, {}), "loss")
    mixed = with_hessian(table, found)
    for (kind, name), values in mixed.items():
        if kind == TENSOR:
            assert values == table[kind, name]
        else:
            assert values[2] == pytest.approx(found[name, 2] - found[name, 8])
