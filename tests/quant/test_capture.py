"""Tracing: what is understood, and what a user is told about the rest."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from unetq.errors import UnsupportedError
from unetq.nets import build_network
from unetq.quant.blocks import build_blocks, final_blocks
from unetq.quant.capture import capture


class Forward(nn.Module):
    """A module whose forward is the given function of (self, x)."""

    def __init__(self, function, **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


CONV = {"conv": nn.Conv2d(1, 4, 3, padding=1)}
IMAGE = torch.zeros(1, 1, 16, 16)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda s, x: torch.sigmoid(s.conv(x)), "sigmoid.*masks are decided on logits"),
        (lambda s, x: s.conv(x) + 1.0, "sum of two feature maps"),
        (lambda s, x: s.conv(x) * s.conv(x), "aten.mul"),
        (lambda s, x: torch.cat([s.conv(x), s.conv(x)], 2), "only channels"),
        (lambda s, x: F.interpolate(s.conv(x), scale_factor=3, mode="bilinear"), "linear upsampling is by 2"),
        (lambda s, x: F.interpolate(s.conv(x), scale_factor=2, mode="bilinear", align_corners=True), "align_corners"),
        (lambda s, x: F.max_pool2d(s.conv(x), 3, ceil_mode=True), "ceil_mode"),
        (lambda s, x: F.pad(s.conv(x), (1, 1, 1, 1), mode="reflect"), "replicate or zero"),
        (lambda s, x: F.conv2d(x, x[:, :, :3, :3]), "aten.slice"),
        (lambda s, x: F.conv2d(x, x), "weight is computed"),
        (lambda s, x: (s.conv(x), x), "returns 2 tensors"),
        (lambda s, x: s.conv(x) if x.sum() > 0 else x, "cannot be traced"),
    ],
)
def test_what_cannot_be_represented_is_named(function, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        capture(Forward(function, **CONV), IMAGE)


def test_the_place_in_the_network_is_named() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sequential(nn.Conv2d(2, 2, 1), nn.GELU()))
    with pytest.raises(UnsupportedError, match=r"gelu.* in 1\.1"):
        capture(network, IMAGE)


def test_training_flags_are_left_alone() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).train()
    network[1].eval()
    capture(network, IMAGE)
    assert network.training and network[0].training and not network[1].training


def test_functional_and_in_place_layers_are_understood() -> None:
    def forward(s: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = s.conv(x)
        z = F.relu_(y)
        return y + F.interpolate(F.max_pool2d(z, 2), scale_factor=2)  # y is z by now

    network = build_blocks(capture(Forward(forward, **CONV), IMAGE))
    assert [b.kind for b in network.blocks] == ["input", "conv", "max_pool", "upsample_nearest", "add"]
    assert network.block("conv").nonnegative
    assert network.block("#add0").inputs[0] == "conv"


def test_the_paper_network_fuses_into_blocks() -> None:
    network = build_blocks(capture(build_network("paper", {"widths": [2, 3, 4, 4]}), torch.zeros(1, 1, 16, 16)))
    kinds = [b.kind for b in network.blocks]
    assert (kinds.count("conv"), kinds.count("max_pool"), kinds.count("cat")) == (15, 3, 3)
    assert kinds.count("pointwise") == 0
    bottom = network.block("encoder.3.3")
    assert bottom.act is not None and len(bottom.post) == 2
    assert final_blocks(network) == {"head"}
    assert network.block("encoder.0.3").group == network.block("#upsample_linear2").group


def test_odd_sizes_pad_and_even_ones_do_not() -> None:
    network = build_network("basic_unet", {"features": [2, 2, 2, 2, 2, 2]})
    kinds = [[n.kind for n in capture(network, torch.zeros(1, 1, n, n)).nodes] for n in (32, 35)]
    assert "pad" not in kinds[0] and "pad" in kinds[1]


def test_a_scale_that_only_rounds_to_two_is_refused() -> None:
    network = Forward(lambda s, x: F.interpolate(s.conv(x), scale_factor=2.1, mode="bilinear"), **CONV)
    with pytest.raises(UnsupportedError, match=r"scale is \[2\.1"):
        capture(network, torch.zeros(1, 1, 8, 8))


def test_a_norm_behind_a_dropout_is_not_moved_before_it() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Dropout(0.5), nn.BatchNorm2d(2))
    assert [b.kind for b in build_blocks(capture(network, IMAGE)).blocks] == ["input", "conv", "pointwise"]
