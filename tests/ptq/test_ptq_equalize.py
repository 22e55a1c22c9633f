"""Equalisation leaves the float function alone, brings channels together, and says where it cannot."""

import numpy as np
import pytest
import torch
from ptq_nets import images, paper, uneven
from torch import Tensor, nn

from unetq.ptq.equalize import equalize, find_pairs, spread
from unetq.ptq.network import _widths
from unetq.ptq.steps import observe, q_size
from unetq.quant.convert import quantize
from unetq.quant.network import QuantNet


class Plain(nn.Module):
    """Convolutions without norms: transposed, grouped, LeakyReLU and PReLU, a skip and two readers of one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1, stride=2)
        self.c, self.d = nn.ConvTranspose2d(8, 6, 2, stride=2), nn.Conv2d(12, 6, 3, padding=1)
        self.e, self.f = nn.Conv2d(6, 6, 3, padding=1, groups=3), nn.Conv2d(6, 1, 1)
        self.leaky, self.prelu = nn.LeakyReLU(0.2), nn.PReLU(6)

    def forward(self, x: Tensor) -> Tensor:
        a = self.prelu(self.a(x))
        c = self.leaky(self.c(self.leaky(self.b(a))))
        return self.f(torch.relu(self.e(torch.relu(self.d(torch.cat([a, c], 1))))))


class Mixed(nn.Module):
    """What cannot be equalised: instance norm, a residual sum, a norm without parameters, a layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.c, self.d = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 1, 1)
        self.norm, self.bare = nn.InstanceNorm2d(4), nn.BatchNorm2d(4, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        a = torch.relu(self.norm(self.a(x)))
        b = torch.relu(self.bare(self.b(a)))
        return self.d(torch.relu(self.c(torch.relu(self.c(b)))) + b)


def equalized(net: nn.Module, batches: list[Tensor]) -> tuple[QuantNet, dict, dict[str, np.ndarray]]:
    """The network, the record, and each channel's range measured again."""
    q = quantize(net, 4, 6, example_input=batches[0][:1]).eval()
    observer = observe(q, batches, [None] * len(batches), 0)
    pairs = find_pairs(q.network(q_size(q)), _widths(q, batches[0]), set(observer.ranges))
    record = equalize(q, pairs, observer.ranges)
    return q, record, observe(q, batches, [None] * len(batches), 0).ranges


@pytest.mark.parametrize("order", ["conv-relu-norm", "conv-norm-relu"])
def test_the_paper_network(order: str) -> None:
    net, batches = paper(order), images()
    q, record, after = equalized(net, batches)
    for x in batches:
        with torch.no_grad():
            torch.testing.assert_close(q.float_forward(x), net(x), rtol=1e-5, atol=1e-5)
    assert record["left_out"] == {"head": "its output stays float32"}
    assert set(record["layers"]) == {f"{part}.{i}" for part in ("encoder.0", "encoder.1", "decoder.0") for i in (0, 3)}
    improved = [v for v in record["layers"].values() if v["spread_after"] < 0.7 * v["spread_before"]]
    assert len(improved) >= 4 and all(v["spread_after"] < 1.2 * v["spread_before"] for v in record["layers"].values())
    for key, entry in record["layers"].items():
        assert spread(after[key]) == pytest.approx(entry["spread_after"], rel=1e-4)


def test_transposed_skips_and_readers() -> None:
    torch.manual_seed(3)
    net, batches = uneven(Plain(), 3), images()
    with torch.no_grad():
        net.prelu.weight.copy_(torch.linspace(-0.3, 0.5, 6))
        for layer in (net.a, net.b, net.d):
            layer.weight.mul_(torch.exp(1.5 * torch.randn(layer.weight.shape[0], 1, 1, 1)))
    q, record, after = equalized(net, batches)
    for x in batches:
        with torch.no_grad():
            torch.testing.assert_close(q.float_forward(x), net(x), rtol=1e-5, atol=1e-6)
    assert record["left_out"] == {"d": "e, which reads it, has groups", "f": "its output stays float32"}
    assert set(record["layers"]) == {"a", "b", "c", "e"} and record["layers"]["a"]["channels_moved"] > 0
    assert record["layers"]["a"]["spread_after"] < record["layers"]["a"]["spread_before"]
    assert spread(after["a"]) == pytest.approx(record["layers"]["a"]["spread_after"], rel=1e-4)


def test_what_cannot_be_is_left_out_with_its_reason() -> None:
    torch.manual_seed(4)
    net, batches = Mixed().eval(), images()
    q, record, _ = equalized(net, batches)
    left = record["left_out"]
    assert "instance_norm" in left["a"] and "no weight and bias" in left["b"]
    assert all("more than one place" in left[key] for key in left if key.startswith("c"))
    assert not record["layers"]
    for x in batches:
        with torch.no_grad():
            torch.testing.assert_close(q.float_forward(x), net(x), rtol=1e-5, atol=1e-5)


def test_dead_channels_stay_as_they_are() -> None:
    net, batches = paper(), images()
    with torch.no_grad():
        net.encoder[0][2].weight[1] = 0.0
        net.encoder[0][2].bias[1] = 0.0
    q, record, _ = equalized(net, batches)
    with torch.no_grad():
        torch.testing.assert_close(q.float_forward(batches[0]), net(batches[0]), rtol=1e-5, atol=1e-5)
    assert (
        torch.isfinite(q.float_forward(batches[0])).all()
        and np.isfinite([v["spread_after"] for v in record["layers"].values()]).all()
    )
