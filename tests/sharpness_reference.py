"""One sharpness-aware step written out by hand on a tiny network, without the package's quantisers, hooks or steps."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unetq.quant.network import QuantNet

LEARNING_RATE = 0.5


class Tiny(nn.Module):
    """Two convolutions with everything that has a place of its own: weights, biases, BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.last = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.norm(self.first(x))))


Values = dict[str, Tensor]
Batch = tuple[Tensor, Tensor]
WEIGHTS = ("first.weight", "last.weight")


def batch(count: int, seed: int, size: int = 12) -> Batch:
    """(images (N, 1, H, W), labels (N, H, W)); images differ in how noisy their labels are."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 1, size, size, generator=generator)
    noise = torch.randn(images[:, 0].shape, generator=generator) * torch.linspace(0, 2, count)[:, None, None]
    return images, (images[:, 0] + noise > 0.2).long()


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error of the sigmoid: smooth, and not the package's."""
    return (logits[:, 0].float().sigmoid() - labels).square().mean()


def logits_of(values: Values, images: Tensor) -> Tensor:
    """The network's training forward with these values behind the quantisers."""
    y = F.conv2d(images, values["first.weight"], values["first.bias"], padding=1)
    mean, var = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), keepdim=True, unbiased=False)
    y = (y - mean) / (var + 1e-5).sqrt() * values["norm.weight"].view(1, -1, 1, 1) + values["norm.bias"].view(
        1, -1, 1, 1
    )
    return F.conv2d(y.clamp_min(0), values["last.weight"], values["last.bias"], padding=1)


def steps_of(q: QuantNet | nn.Module) -> Values:
    """The quantisation step of each weight: a power of two, or a learned number."""
    found: Values = {}
    for block in q.blocks() if isinstance(q, QuantNet) else ():
        quantizer: Any = q.weight_quantizer(block) if block.kind == "conv" else None
        if quantizer is not None:
            log2 = quantizer.log2_step.detach()
            found[block.parameters["weight"]] = torch.exp2(log2.round() if quantizer.snaps else log2)
    return found


def rounded(values: Values, steps: Values, bits: int) -> tuple[Values, Values]:
    """Values behind the quantisers, and where the gradient goes through (1 inside the range, 0 outside)."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    behind, through = dict(values), {name: torch.ones_like(value) for name, value in values.items()}
    for name, step in steps.items():
        code = values[name] / step
        behind[name] = code.clamp(low, high).round() * step
        through[name] = ((code >= low) & (code <= high)).float()
    return behind, through


def gradients(behind: Values, batches: Sequence[Batch]) -> tuple[float, Values]:
    """Mean loss and gradients at values behind the quantisers, over processes (a batch each)."""
    leaves = {name: value.detach().clone().requires_grad_() for name, value in behind.items()}
    loss = torch.stack([loss_of(logits_of(leaves, x), y) for x, y in batches]).mean()
    found = torch.autograd.grad(loss, list(leaves.values()))
    return float(loss.detach()), dict(zip(leaves, found, strict=True))


def stepped(
    values: Values, steps: Values, bits: int, batches: Sequence[Batch], case: int, rho: float
) -> tuple[float, Values]:
    """(loss at the start, values after one step of plain descent along SAQ's gradient)."""
    behind, through = rounded(values, steps, bits)
    loss, at = gradients(behind, batches)
    uphill = at if case == 3 else {name: at[name] * through[name] for name in at}
    norm = sum(float(g.double().square().sum()) for g in uphill.values()) ** 0.5
    epsilon = {name: rho * g / norm for name, g in uphill.items()}
    if case == 2:
        moved, through = rounded({name: values[name] + epsilon[name] for name in values}, steps, bits)
    else:
        moved = {name: behind[name] + epsilon[name] for name in behind}
    _, there = gradients(moved, batches)
    return loss, {name: values[name] - LEARNING_RATE * there[name] * through[name] for name in values}
