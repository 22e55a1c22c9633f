"""Folding: zero-points, constants and norms into gains and offsets; functions into tables."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import unetq
from unetq.errors import UnsupportedError
from unetq.export.program import Conv, InstanceNorm, Table
from unetq.fixedpoint import F32, Grid
from unetq.quant.lowering import table_codes
from unetq.quant.quantizer import ActivationQuantizer
from unetq.quant.simulate import simulate


class GivenGrid(ActivationQuantizer):
    """Lands on the grid that it is given."""

    def __init__(self, given: Grid) -> None:
        super().__init__(given.bits, given.signed)
        self.given = given

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        low, high = self.given.low - self.given.zero_point, self.given.high - self.given.zero_point
        return (x * float(self.given.inverse_scale)).clamp(low, high).round() * self.given.scale

    def calibrate(self, values: F32) -> None: ...

    def grid(self) -> Grid:
        return self.given


def with_zero_points(network: nn.Module, x: torch.Tensor, zero_point: int = 37) -> unetq.QuantNet:
    """``network`` at 8 bits, every grid a wide one with a zero-point."""
    q = unetq.quantize(network.eval(), 8, 8, example_input=x[:1])
    unetq.calibrate(q, [x])
    for number, (slot, quantizer) in enumerate(q.grids.items()):
        # Steps of no simple ratio: else sums of codes would lie on ties, where float rounding decides.
        scale = float(np.float32(quantizer.grid().scale * (1.37 + 0.0713 * number)))
        q.grids[slot] = GivenGrid(Grid(8, False, scale, zero_point))
    return q.eval()


CONV = nn.Conv2d(2, 4, 3, padding=1)
BODIES: dict[str, list[nn.Module]] = {
    "batch": [nn.BatchNorm2d(4), nn.LeakyReLU(0.1)],
    "instance": [nn.InstanceNorm2d(4, affine=True)],
    "group": [nn.GroupNorm(2, 4)],
    "norm on codes": [nn.LeakyReLU(0.3), nn.GroupNorm(2, 4), nn.PReLU()],
    "average": [nn.AvgPool2d(2, padding=1, stride=1), nn.BatchNorm2d(4)],
    "upsampling": [nn.Upsample(scale_factor=2, mode="bilinear"), nn.InstanceNorm2d(4)],
    "padding": [nn.ZeroPad2d((1, 2, 0, 3)), nn.MaxPool2d(2)],
    "function": [nn.SiLU()],
    "grouped": [nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4), nn.ReLU(), nn.Conv2d(8, 4, 1)],
}


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(2, 4, 1), nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.a(x) - 0.5 * self.b(x)
        return self.c(torch.cat([torch.relu(y), y], 1))


@pytest.mark.parametrize("name", [*BODIES, "residual"])
def test_zero_points_are_folded(name: str) -> None:
    """Quantised with zero-points everywhere, torch = NumPy exactly, and both are what training simulates."""
    torch.manual_seed(3)
    network = Residual() if name == "residual" else nn.Sequential(CONV, *BODIES[name], nn.Conv2d(4, 3, 3, padding=1))
    x = torch.randn(2, 2, 12, 10)
    q = with_zero_points(network, x)
    program = q.program((12, 10))
    exact = q(x)
    assert np.array_equal(exact.numpy(), program.run(x.numpy()))
    with torch.no_grad():
        simulated = simulate(q, x, quantized=True, training=False)
    # Float rounding may move a code; a forgotten zero-point would move all of them by 37 steps.
    assert float((simulated - exact).abs().mean()) < 1e-3 * float(exact.abs().mean())
    assert any(t.grid is not None and t.grid.zero_point for t in program.tensors)


def test_the_offset_takes_off_the_zero_point() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1))
    with torch.no_grad():
        network[0].weight.fill_(0.5)
        network[0].bias.fill_(0.25)
    q = with_zero_points(network, torch.randn(1, 1, 8, 8), zero_point=11)
    conv = next(op for op in q.program((8, 8)).ops if isinstance(op, Conv))
    step = q.program((8, 8)).tensors[conv.inputs[0]].grid.scale
    assert conv.epilogue.offset[0] == np.float32(
        0.25 - 11 * int(conv.weight.sum()) * float(conv.weight_scale[0]) * step
    )


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(CONV, nn.ConvTranspose2d(4, 2, 2, 2)),
        nn.Sequential(CONV, nn.PixelShuffle(2), nn.Conv2d(1, 1, 1)),
    ],
)
def test_a_zero_point_that_cannot_be_folded_is_refused(network: nn.Module) -> None:
    x = torch.randn(1, 2, 8, 8)
    with pytest.raises(UnsupportedError, match="zero-point 37"):
        with_zero_points(network, x).program((8, 8))


def test_constants_behind_a_norm_become_its_weight_and_bias() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 4, 1), nn.GroupNorm(2, 4)
            self.scale = nn.Parameter(torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(4, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.norm(self.conv(x)) * self.scale - 0.5)

    x = torch.randn(1, 1, 8, 8)
    q = unetq.quantize(Scaled(), 8, 8, example_input=x)
    unetq.calibrate(q, [x])
    (op,) = (op for op in q.eval().program((8, 8)).ops if isinstance(op, Conv))
    norm = op.epilogue.instance_norm
    assert isinstance(norm, InstanceNorm) and norm.groups == 2
    assert norm.weight.tolist() == [1, 2, 3, 4] and norm.bias.tolist() == [-0.5] * 4
    assert op.epilogue.slope is not None and op.epilogue.gain2 is None


F32_37, F32_121 = float(np.float32(0.0371)), float(np.float32(0.121))
FORMULAS: dict[str, tuple[Any, Any]] = {
    "sigmoid": (("sigmoid", "x"), lambda v: 1 / (1 + math.exp(-v))),
    "silu": (("silu", "x"), lambda v: v / (1 + math.exp(-v))),
    "elu": (("elu", "x", 1.5, 1.0, 1.0), lambda v: v if v > 0 else 1.5 * math.expm1(v)),
    "gelu": (("gelu", "x"), lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2)))),
    "hardswish": (("hardswish", "x"), lambda v: v * min(max(v + 3, 0), 6) / 6),
    "tanh": (("tanh", "x"), math.tanh),
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize(
    ("source", "target"),
    [
        (Grid(8, True, 2.0**-4), Grid(6, True, 2.0**-4)),
        (Grid(8, False, F32_37, 90), Grid(4, False, F32_121, 3)),
        (Grid(2, True, 1.0), Grid(8, False, 2.0**-7)),
    ],
)
def test_tables_hold_the_functions(name: str, source: Grid, target: Grid) -> None:
    expression, formula = FORMULAS[name]
    table = table_codes(expression, source, target)
    assert table.shape == (256,) and table.dtype == np.int16
    taken = {code & 0xFF for code in range(source.low, source.high + 1)}
    assert not table[[i for i in range(256) if i not in taken]].any()
    for code in range(source.low, source.high + 1):
        value = np.float32(formula(float(np.float32(code - source.zero_point) * np.float32(source.scale))))
        scaled = float(value * target.inverse_scale)
        low, high = target.low - target.zero_point, target.high - target.zero_point
        assert abs(table[code & 0xFF] - target.zero_point - min(max(scaled, low), high)) <= 0.5 + 1e-5


def test_functions_need_codes() -> None:
    network = nn.Sequential(CONV, nn.SiLU(), nn.Conv2d(4, 2, 1))
    x = torch.randn(1, 2, 8, 8)
    q = unetq.quantize(network, 4, 32, example_input=x)  # float activations: tables keep codes of their own
    unetq.calibrate(q, [x])
    assert any(isinstance(op, Table) for op in q.eval().program((8, 8)).ops)
    q = unetq.quantize(network, 32, 32, example_input=x)
    with pytest.raises(UnsupportedError, match=r"silu.*table of codes"):
        q.eval().program((8, 8))
