"""Learned companding: LCQ (Yamamoto 2021, arXiv 2103.07156).

``|w| / alpha``, clipped to 1, is compressed by a piecewise linear, rising function of K = 16 equal intervals whose
heights are ``softmax(theta)``; the result is rounded to ``2**(bits - 1) - 1`` steps and expanded by the inverse:
``w_q = sign(w) * alpha * f^-1(round(f(|w| / alpha) * s) / s)``. Gradients go straight through the rounding and are
exact through f and its inverse (theta) and through the clipping (alpha).

The levels in use are the multiples of ``alpha / 127`` nearest to the expanded ones, so that they are int8.
Up to 4 bits they are a codebook of 15 levels; activations of this family are LSQ's, as their levels must be uniform.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UnsupportedError
from .coded import CodedWeight, straight_through
from .lsq import in_use

INTERVALS = 16
LEVEL_LIMIT = 127


def _edges(theta: Tensor) -> Tensor:
    """The compressed values at the ends of the intervals, 0 … 1; shape (K + 1,)."""
    heights = torch.softmax(theta.float(), dim=0)
    return torch.cat([torch.zeros_like(heights[:1]), torch.cumsum(heights, dim=0)])


class _Pick(torch.autograd.Function):
    """``table[index]``; its gradient is a histogram, where indexing's own would add one weight at a time."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.size = table.numel()
        return table[index]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return histogram(index, grads[0], ctx.size), None


def histogram(index: Tensor, values: Tensor, size: int) -> Tensor:
    """The sums of ``values`` at each index below ``size``, summed in float64."""
    return torch.bincount(index.reshape(-1), values.double().reshape(-1), minlength=size).float()


def _pick(table: Tensor, index: Tensor) -> Tensor:
    picked: Tensor = _Pick.apply(table, index)  # type: ignore[no-untyped-call]
    return picked


def compress(x: Tensor, theta: Tensor) -> Tensor:
    """``f(x)`` for x in [0, 1], any shape."""
    edges = _edges(theta)
    k = (x.detach() * INTERVALS).floor().clamp(0, INTERVALS - 1).long()
    low = _pick(edges, k)
    return low + (x * INTERVALS - k) * (_pick(edges, k + 1) - low)


def expand(y: Tensor, theta: Tensor) -> Tensor:
    """``f^-1(y)`` for y in [0, 1], any shape."""
    edges = _edges(theta)
    k = torch.bucketize(y.detach(), edges.detach()[1:-1], right=True).clamp(0, INTERVALS - 1)
    low = _pick(edges, k)
    return (k + (y - low) / (_pick(edges, k + 1) - low).clamp_min(1e-12)) / INTERVALS


class CompandingWeight(CodedWeight):
    """LCQ's weights; ``bits`` 2 to 4, one clipping value and one compression a layer.

    Raises:
        UnsupportedError: another width.
    """

    kind = "codebook"

    def __init__(self, bits: int) -> None:
        if not 2 <= bits <= 4:
            raise UnsupportedError(
                f"lcq weights at {bits} bits: 2 to 4 fit a codebook of 16 levels; choose one of these."
            )
        super().__init__(bits, None)
        self.steps = (1 << (bits - 1)) - 1
        self.theta = nn.Parameter(torch.zeros(INTERVALS))
        self.log2_alpha = nn.Parameter(torch.zeros(()))

    def _positions(self, weight: Tensor, alpha: Tensor) -> Tensor:
        share = (weight.float().abs() / alpha).clamp_max(1.0)
        return compress(share, self.theta) * self.steps

    def _table(self) -> Tensor:
        """The int8 level of each position 0 … steps."""
        return (
            expand(torch.arange(self.steps + 1, device=self.theta.device) / self.steps, self.theta) * LEVEL_LIMIT
        ).round()

    def encode(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Each weight's level, with its sign, and the unit."""
        alpha = in_use(self.log2_alpha.detach())
        position = self._positions(weight, alpha).round().clamp(0, self.steps).long()
        return torch.sign(weight) * self._table()[position], alpha / LEVEL_LIMIT

    def forward(self, weight: Tensor) -> Tensor:
        """Fake-quantised ``weight``, same shape."""
        alpha = in_use(self.log2_alpha)
        position = self._positions(weight, alpha)
        sign = torch.sign(weight)
        with torch.no_grad():
            index = position.round().clamp(0, self.steps).long()
            value = sign * self._table()[index] * (alpha / LEVEL_LIMIT)
            slopes = self._slopes()[index]
        # The expansion is known at its few positions; between them, straight through the rounding, by its slope.
        at = torch.arange(self.steps + 1, device=self.theta.device) / self.steps
        smooth = sign * alpha * (_pick(expand(at, self.theta), index) + (position - position.detach()) * slopes)
        return straight_through(smooth, value)

    def _slopes(self) -> Tensor:
        """``d f^-1 / d position`` at each position 0 … steps."""
        edges = _edges(self.theta)
        at = torch.arange(self.steps + 1, device=self.theta.device) / self.steps
        k = torch.bucketize(at, edges[1:-1], right=True).clamp(0, INTERVALS - 1)
        return 1.0 / ((edges[k + 1] - edges[k]).clamp_min(1e-12) * INTERVALS * self.steps)

    def calibrate(self, weight: Tensor) -> None:
        """Choose alpha by the least squared error, with even intervals."""
        with torch.no_grad():
            self.theta.zero_()
            largest = float(weight.detach().abs().max())
            best = (math.inf, 0.0)
            for share in torch.linspace(0.15, 1.0, 35).tolist():
                self.log2_alpha.fill_(math.log2(largest * share) if largest > 0 else 0.0)
                codes, unit = self.encode(weight)
                best = min(best, (float((codes * unit - weight).square().sum()), float(self.log2_alpha)))
            self.log2_alpha.fill_(best[1])
