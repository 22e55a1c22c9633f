"""The formulas of ``noise``, each a function of what is rounded, its rounding, a strength and a source of numbers."""

from typing import Literal

import torch
from torch import Tensor

from .quantizer import Unrounded

Blocks = Literal["element", "kernel", "channel"]


def draw(x: Tensor, low: float, high: float, generator: torch.Generator | None) -> Tensor:
    """Numbers of U(low, high), float32, in the shape and memory format of ``x``."""
    return torch.empty_like(x, dtype=torch.float32, requires_grad=False).uniform_(low, high, generator=generator)


def uniform(cell: Unrounded, strength: float, generator: torch.Generator | None) -> Tensor:
    """``c + k s u`` with u in U(-1/2, 1/2): variance ``(k s)**2 / 12``; differentiable in both parts of ``cell``."""
    noise = draw(cell.value, -0.5, 0.5, generator)
    return cell.value + noise.mul_(strength) * cell.step


def partly(
    x: Tensor,
    rounded: Tensor,
    share: float,
    blocks: Blocks,
    axes: tuple[int, int],
    generator: torch.Generator | None,
) -> Tensor:
    """``rounded`` in a random share of the blocks, x in the others; the gradient goes where the value comes from.

    Args:
        blocks: what is drawn for together: an element, a kernel (all but both ``axes`` are one), or a channel (all
            but the first of them are one).
        axes: of a weight (outputs, inputs); of a tensor (channels, images).
    """
    if share >= 1.0:
        return rounded
    kept = range(x.ndim) if blocks == "element" else axes[: 1 if blocks == "channel" else 2]
    one = x.detach()[tuple(slice(None) if axis in kept else slice(0, 1) for axis in range(x.ndim))]
    return torch.where(draw(one, 0.0, 1.0, generator) < share, rounded, x)


def tempered(rounded: Tensor, error: Tensor, strength: float, generator: torch.Generator | None) -> Tensor:
    """``rounded + k error u`` with u in U(-1, 1): mean ``rounded``, deviation ``k |error| / sqrt(3)``."""
    if strength == 0.0:
        return rounded
    noise = draw(rounded, -1.0, 1.0, generator).mul_(strength)
    return rounded + (noise * error).to(rounded.dtype)
