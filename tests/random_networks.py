"""Random small networks and settings: odd and even sizes, all supported layers, extreme parameters."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_KINDS = ["conv"] * 3 + ["add", "cat"] * 2 + ["strided", "grouped", "up", "nearest", "linear", "pool", "norm"]
_KINDS += ["subtract", "gate", "excite", "average", "constant"]


class Gate(nn.Module):
    """A feature map times a gate of itself: one a pixel, or (``excite``) one a channel."""

    def __init__(self, channels: int, rank: int, excite: bool) -> None:
        super().__init__()
        self.excite, self.axes = excite, tuple(range(2, rank + 2))
        self.gate = (nn.Conv2d if rank == 2 else nn.Conv3d)(channels, channels if excite else 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.gate(x.mean(self.axes, keepdim=True) if self.excite else x))


class Constant(nn.Module):
    """``(x * a + b - 0.25) / 2`` with a and b parameters of each channel."""

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.randn(channels, *([1] * rank)))
        self.b = nn.Parameter(torch.randn(1, channels, *([1] * rank)))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.a + self.b - 0.25) / 2


class RandomNet(nn.Module):
    """A random chain with skips: each step is (kind, module or None, source of a second operand or None)."""

    def __init__(self, rng: np.random.Generator, rank: int, size: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.rng, self.rank = rng, rank
        self.steps: list[tuple[str, int, int]] = []
        self.layers = nn.ModuleList()
        shapes = [(channels, size)]
        for _ in range(int(rng.integers(2, 8))):
            self._add(shapes)
        self._layer(shapes, nn.Conv2d if rank == 2 else nn.Conv3d, int(rng.integers(1, 4)), 1, norm=False)

    def _layer(
        self, shapes: list[Any], kind: Any, outputs: int, kernel: int, norm: bool = True, **options: Any
    ) -> None:
        channels, _ = shapes[-1]
        rng, rank = self.rng, self.rank
        parts: list[nn.Module] = [kind(channels, outputs, kernel, bias=bool(rng.integers(2)), **options)]
        if norm:
            norms = [(nn.BatchNorm2d, nn.InstanceNorm2d), (nn.BatchNorm3d, nn.InstanceNorm3d)][rank - 2]
            tail: list[nn.Module] = []
            which = rng.integers(5)
            if which < 2:
                tail.append(norms[0](outputs))
            elif which == 2:
                tail.append(norms[1](outputs, affine=bool(rng.integers(2))))
            elif which == 3:
                divisors = [g for g in range(1, outputs + 1) if outputs % g == 0]
                tail.append(nn.GroupNorm(int(rng.choice(divisors)), outputs, affine=bool(rng.integers(2))))
            activations = [nn.ReLU(), nn.LeakyReLU(0.1), nn.PReLU(), nn.PReLU(outputs)]
            activations += [nn.SiLU(), nn.ELU(), nn.Tanh(), nn.GELU()]
            if rng.integers(4):
                tail.append(activations[int(rng.integers(4) if rng.integers(3) else rng.integers(4, 8))])
            if rng.integers(2):
                tail.reverse()
            if rng.integers(4) == 0:
                tail.append(norms[0](outputs))
            parts += tail
        self.layers.append(nn.Sequential(*parts))
        self.steps.append(("layer", len(self.layers) - 1, -1))
        probe = self.layers[-1].eval()(torch.zeros(1, channels, *shapes[-1][1]))
        self.layers[-1].train()
        shapes.append((outputs, tuple(probe.shape[2:])))

    def _add(self, shapes: list[Any]) -> None:
        rng, rank = self.rng, self.rank
        conv, transposed = (nn.Conv2d, nn.ConvTranspose2d) if rank == 2 else (nn.Conv3d, nn.ConvTranspose3d)
        channels, size = shapes[-1]
        choice = rng.choice(_KINDS)
        outputs = channels if rng.integers(2) else int(rng.integers(1, 11))
        small = max(size) <= (24 if rank == 2 else 10)
        if choice == "strided" and min(size) > 2:
            self._layer(shapes, conv, outputs, 3, stride=2, padding=1)
        elif choice == "grouped":
            self._layer(shapes, conv, 2 * channels, 3, padding=1, groups=channels)
        elif choice == "up" and small:
            if rng.integers(2):
                self._layer(shapes, transposed, outputs, 2, stride=2)
            else:
                self._layer(shapes, transposed, outputs, 3, stride=2, padding=1, output_padding=1)
        elif choice in ("nearest", "linear") and small:
            mode = "nearest" if choice == "nearest" else ("bilinear" if rank == 2 else "trilinear")
            self.layers.append(nn.Upsample(scale_factor=2, mode=mode))
            self._plain(shapes, channels, tuple(2 * n for n in size))
        elif choice == "norm" and min(size) > 1:
            norms = [(nn.BatchNorm2d, nn.InstanceNorm2d), (nn.BatchNorm3d, nn.InstanceNorm3d)][rank - 2]
            self.layers.append(nn.Sequential(norms[int(rng.integers(2))](channels), nn.ReLU()))
            self._plain(shapes, channels, size)
        elif choice == "pool" and min(size) > 3:
            self.layers.append((nn.MaxPool2d if rank == 2 else nn.MaxPool3d)(2))
            self._plain(shapes, channels, tuple(n // 2 for n in size))
        elif choice == "average" and min(size) > 3:
            self.layers.append((nn.AvgPool2d if rank == 2 else nn.AvgPool3d)(2))
            self._plain(shapes, channels, tuple(n // 2 for n in size))
        elif choice in ("gate", "excite"):
            self.layers.append(Gate(channels, rank, choice == "excite"))
            self._plain(shapes, channels, size)
        elif choice == "constant":
            self.layers.append(Constant(channels, rank))
            self._plain(shapes, channels, size)
        elif choice in ("add", "cat", "subtract") and (sources := self._matching(shapes, choice)):
            source = int(rng.choice(sources))
            self.steps.append((choice, -1, source))
            shapes.append((channels + (shapes[source][0] if choice == "cat" else 0), size))
        else:
            dilation = int(rng.integers(1, 3))
            kernel = int(rng.choice([1, 3]))
            self._layer(shapes, conv, outputs, kernel, padding=dilation * (kernel // 2), dilation=dilation)

    def _plain(self, shapes: list[Any], channels: int, size: tuple[int, ...]) -> None:
        self.steps.append(("layer", len(self.layers) - 1, -1))
        shapes.append((channels, size))

    @staticmethod
    def _matching(shapes: list[Any], choice: str) -> list[int]:
        channels, size = shapes[-1]
        return [i for i, s in enumerate(shapes[:-1]) if s[1] == size and (choice == "cat" or s[0] == channels)]

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for kind, layer, source in self.steps:
            if kind == "layer":
                values.append(self.layers[layer](values[-1]))
            elif kind == "subtract":
                values.append(values[-1] - 0.5 * values[source])
            elif kind == "cat":
                values.append(torch.cat([values[source], values[-1]], dim=1))
            else:
                values.append(values[-1] + values[source])
        return values[-1]


@dataclass(frozen=True)
class Case:
    """A network, the arguments of ``unetq.quantize`` and an input for it."""

    net: nn.Module
    settings: dict[str, Any]
    x: Tensor


def _randomise(net: nn.Module, rng: np.random.Generator) -> None:
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d) and module.running_mean is not None:
            module.running_mean.copy_(torch.from_numpy(rng.normal(0, 0.5, module.num_features)).float())
            module.running_var.copy_(torch.from_numpy(rng.uniform(0.05, 2.0, module.num_features)).float())  # type: ignore[union-attr]
        if (
            isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d | nn.InstanceNorm2d | nn.InstanceNorm3d)
            and module.affine
        ):
            module.weight.data.copy_(torch.from_numpy(rng.normal(1, 0.7, module.num_features)).float())
            module.bias.data.copy_(torch.from_numpy(rng.normal(0, 0.5, module.num_features)).float())
        if isinstance(module, nn.GroupNorm) and module.affine:
            module.weight.data.copy_(torch.from_numpy(rng.normal(1, 0.7, module.num_channels)).float())
            module.bias.data.copy_(torch.from_numpy(rng.normal(0, 0.5, module.num_channels)).float())
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            style = rng.integers(4)
            if style == 0:  # every weight at the end of the range: the largest accumulators there are
                module.weight.data.copy_(module.weight.data.sign() * float(rng.choice([0.1, 1.0])))
            elif style == 1:
                module.weight.data.mul_(float(2.0 ** rng.integers(-12, 12)))


def random_case(seed: int) -> Case:
    """The case of that seed; the same on every machine."""
    rng = np.random.default_rng([20261120, seed])
    torch.manual_seed(seed)
    rank = 3 if rng.integers(5) == 0 else 2
    size = tuple(int(n) for n in rng.integers(3, 20 if rank == 2 else 9, rank))
    channels = int(rng.integers(1, 4))
    net = RandomNet(rng, rank, size, channels)
    with torch.no_grad():
        _randomise(net, rng)
    bits = [1, 2, 3, 4, 5, 6, 7, 8]
    method = "paper" if rng.integers(8) == 0 else "fixed"
    top = 6 if method == "paper" else 8
    settings = {
        "weight_bits": int(rng.choice(bits[:top])),
        "act_bits": int(rng.choice(bits[:top])),
        "first_bits": int(rng.choice(bits)),
        "last_bits": int(rng.choice(bits)),
        "per_channel": bool(rng.integers(2)),
        "method": method,
    }
    x = torch.from_numpy(rng.normal(0, 1, (2, channels, *size))).float()
    if rng.integers(3) == 0:
        x = x.sign() * float(rng.choice([1.0, 1e-3, 1e4]))
    return Case(net, settings, x)
