"""Tracing: what is understood, and what a user is told about the rest."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unetq
from unetq.errors import UnsupportedError
from unetq.nets import build_network
from unetq.quant.blocks import build_blocks, final_blocks
from unetq.quant.capture import capture
from unetq.quant.functions import describe, evaluate
from unetq.quant.nodes import UnsupportedNetworkError


class Forward(nn.Module):
    """A module whose forward is the given function of (self, x)."""

    def __init__(self, function, **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self, x)


CONV = {"conv": nn.Conv2d(1, 4, 3, padding=1), "conv2": nn.Conv2d(1, 2, 1), "conv3": nn.Conv2d(2, 2, 1)}
IMAGE = torch.zeros(1, 1, 16, 16)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda s, x: s.conv3(torch.softmax(s.conv2(x), 1)), "softmax.*use sigmoid gates"),
        (lambda s, x: s.conv(x) + torch.ones(16, 16), "varies in space"),
        (lambda s, x: s.conv(x) / s.conv(x), "divided by a constant"),
        (lambda s, x: s.conv(x) + s.conv(x)[:, :, :1], "differ in shape"),
        (lambda s, x: torch.cat([s.conv(x), s.conv(x)], 2), "only channels"),
        (lambda s, x: F.interpolate(s.conv(x), scale_factor=3, mode="bilinear"), "linear upsampling is by 2"),
        (lambda s, x: F.interpolate(s.conv(x), scale_factor=2, mode="bilinear", align_corners=True), "align_corners"),
        (lambda s, x: F.max_pool2d(s.conv(x), 3, ceil_mode=True), "ceil_mode"),
        (lambda s, x: F.pad(s.conv(x), (1, 1, 1, 1), mode="reflect"), "replicate or zero"),
        (lambda s, x: s.conv(x)[:, :, ::2], "slices of channels or space with step 1"),
        (lambda s, x: F.conv2d(x, x), "weight is computed"),
        (lambda s, x: (s.conv(x), x), "returns 2 tensors"),
        (lambda s, x: s.conv(x) if x.sum() > 0 else x, "cannot be traced"),
    ],
)
def test_what_cannot_be_represented_is_named(function, words: str) -> None:
    with pytest.raises(UnsupportedError, match=words):
        capture(Forward(function, **CONV), IMAGE)


def test_the_place_in_the_network_is_named() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sequential(nn.Conv2d(2, 2, 1), nn.Softmax(3)))
    with pytest.raises(UnsupportedError, match=r"softmax.* in 1\.1"):
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


def kinds(network: nn.Module, example: torch.Tensor = IMAGE) -> list[str]:
    return [block.kind for block in build_blocks(capture(network.eval(), example)).blocks]


class Excite(nn.Module):
    """Squeeze and excitation with linear layers (Hu et al. 2018, arXiv 1709.01507)."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 4), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, c = x.shape[:2]
        return x * self.gate(F.adaptive_avg_pool2d(x, 1).view(n, c)).view(n, c, 1, 1)


CONVS = {"a": nn.Conv2d(1, 4, 3, padding=1), "b": nn.Conv2d(1, 4, 1), "c": nn.Conv2d(4, 2, 1)}


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (nn.Sequential(CONVS["a"], Excite(), CONVS["c"]), "conv fixed conv conv table mul conv"),
        (Forward(lambda s, x: s.c(F.relu(s.a(x) * 2.0 + torch.ones(4, 1, 1)) / 3), **CONVS), "conv conv"),
        (Forward(lambda s, x: s.c(s.a(x) - 0.5 * s.b(x)), **CONVS), "conv conv add conv"),
        (Forward(lambda s, x: s.c(s.a(x)[:, :, 1:-1, 2:]), **CONVS), "conv fixed fixed conv"),
        (Forward(lambda s, x: s.c(F.pad(s.a(x), (-1, -1, 0, -2))), **CONVS), "conv fixed conv"),
        (Forward(lambda s, x: s.c(s.a(x) * torch.sigmoid(s.b(x))), **CONVS), "conv conv table mul conv"),
        (Forward(lambda s, x: s.c(torch.cat([s.a(x)[:, :3], torch.zeros(1, 1, 16, 16)], 1)), **CONVS),
         "conv fixed fixed conv"),
        (Forward(lambda s, x: s.c(s.a(x).data), **CONVS), "conv conv"),
        (nn.Sequential(nn.Conv2d(1, 8, 1), nn.PixelShuffle(2), nn.AvgPool2d(2, 2), nn.Conv2d(2, 2, 1)),
         "conv fixed fixed conv"),
        (nn.Sequential(CONVS["a"], nn.InstanceNorm2d(4), nn.BatchNorm2d(4), nn.PReLU(), CONVS["c"]), "conv conv"),
        (nn.Sequential(CONVS["a"], nn.LayerNorm([4, 16, 16], elementwise_affine=False), CONVS["c"]), "conv conv"),
        (nn.Sequential(CONVS["a"], nn.ELU(), nn.Dropout2d(0.5), CONVS["c"]), "conv table conv"),
    ],
)  # fmt: skip
def test_what_is_understood(network: nn.Module, expected: str) -> None:
    assert kinds(network) == ["input", *expected.split()]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda y: y * torch.sigmoid(1.0 * y), "mul(x, sigmoid)"),
        (lambda y: y * F.relu6(y + 3) / 6, "div(mul(x, clamp(add(x, 3), 0, 6)), 6)"),
        (lambda y: y * torch.tanh(F.softplus(y)), "mul(x, tanh(softplus(x, 1, 20)))"),
        (lambda y: F.elu(y) - 0.5 * torch.sigmoid(y), "add(elu(x, 1, 1, 1), mul(mul(sigmoid, 0.5), -1))"),
        (F.silu, "silu"),
    ],
)
def test_functions_of_one_tensor_become_one_table(function, words: str) -> None:
    network = build_blocks(capture(Forward(lambda s, x: s.c(function(s.a(x))), **CONVS), IMAGE))
    assert [b.kind for b in network.blocks] == ["input", "conv", "table", "conv"]
    expression = network.block("#table0").attributes["function"]
    assert describe(expression) == words
    y = torch.linspace(-6, 6, 101)
    assert torch.allclose(evaluate(expression, y), function(y), atol=1e-6)


@pytest.mark.parametrize(("end", "name"), [(nn.Sigmoid(), "sigmoid"), (nn.Softmax(1), "softmax"), (nn.Tanh(), "tanh")])
def test_ends_that_leave_the_mask_are_dropped(end: nn.Module, name: str) -> None:
    captured = capture(nn.Sequential(CONVS["a"], end), IMAGE)
    assert [node.kind for node in captured.nodes] == ["input", "conv"]
    assert len(captured.notes) == 1 and captured.notes[0].startswith(f"{name} at the end (1)")


def test_all_that_is_not_supported_is_found() -> None:
    def forward(s: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = torch.sqrt(s.a(x))
        z = F.interpolate(y, scale_factor=3, mode="bilinear")
        return s.c(F.interpolate(torch.flip(z, (2,)), (16, 16)))

    with pytest.raises(UnsupportedNetworkError) as caught:
        capture(Forward(forward, **CONVS), IMAGE)
    found = [problem.operation.split(".")[1] for problem in caught.value.problems]
    assert found == ["sqrt", "upsample_bilinear2d", "flip", "upsample_nearest2d"]
    assert "3 more" in str(caught.value) and all(p.source and p.remedy for p in caught.value.problems)


def test_tied_weights_and_reused_modules_keep_their_names() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
            self.second.weight = self.first.weight
            self.shared = nn.Sequential(self.first, nn.BatchNorm2d(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.shared(self.shared(x)))

    network = build_blocks(capture(Tied(), torch.zeros(1, 2, 8, 8)))
    convolutions = [b for b in network.blocks if b.kind == "conv"]
    assert len({b.parameters["weight"] for b in convolutions}) == 1
    assert len({b.key for b in convolutions}) == 3
    assert len({b.parameters["bias"] for b in convolutions}) == 2


def test_what_nobody_reads_is_left_out() -> None:
    network = Forward(lambda s, x: (s.b(s.a(x)[:, :1]), s.c(s.a(x)))[1], **CONVS)
    assert [k for k in kinds(network) if k == "conv"] == ["conv", "conv"]


def test_a_dropout_between_two_readers_is_nothing_but_in_training() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.c, self.drop = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 2, 1), nn.Dropout(0.5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x)
            return self.c(self.drop(y) + y)

    torch.manual_seed(0)
    x = torch.randn(2, 1, 8, 8)
    q = unetq.quantize(Twice(), 8, 8, example_input=x[:1])
    unetq.calibrate(q, [x])
    assert [b.kind for b in q.blocks()] == ["input", "conv", "dropout", "add", "conv"]
    assert not torch.equal(q.train()(x), q(x))
    assert [type(op).__name__ for op in q.eval().program((8, 8)).ops] == ["Quantize", "Conv", "Add", "Conv"]


def test_several_heads_are_refused_with_what_to_do() -> None:
    with pytest.raises(UnsupportedError, match="deep supervision off"):
        capture(Forward(lambda s, x: [s.a(x), s.b(x)], **CONVS), IMAGE)
