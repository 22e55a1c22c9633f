"""Activations with a clipping value: PACT (Choi et al. 2018, arXiv 1805.06085) and DoReFa (arXiv 1606.06160).

PACT: ``y = clip(x, 0, alpha)`` on ``2**bits - 1`` steps of ``alpha / high``. Gradient to x: 1 inside the range;
to alpha: 1 where x >= alpha, else 0 (eq. 3), plus the L2 penalty ``2 * lambda * alpha``. DoReFa: the same with an
alpha that does not learn: 1 in the paper, the calibrated range here where it starts from a float network.
Tensors that can be negative are clipped to ``-alpha … alpha`` on a symmetric grid (the papers know only ReLU).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ...fixedpoint import F32, Grid
from ..fused import quantize_backward, quantize_forward
from ..quantizer import ActivationQuantizer, Unrounded, clipped
from .lsq import in_use
from .steps import best_steps

PENALTY = 1e-4
"""PACT's lambda."""


class _Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, log2_step: Tensor, low: int, high: int, penalty: float) -> Tensor:
        step = in_use(log2_step.detach())
        ctx.save_for_backward(x, step)
        ctx.limits = (low, high, penalty)
        return quantize_forward(x, step, low, high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        x, step = ctx.saved_tensors
        low, high, penalty = ctx.limits
        want_x, want_step = ctx.needs_input_grad[:2]
        grad_x, sums = quantize_backward(grads[0], x, step, low, high, want_x=want_x, want_sums=want_step)
        if sums is None:
            return grad_x, None, None, None, None
        alpha = step * high
        grad_alpha = sums.above - (sums.below if low < 0 else 0.0) + 2.0 * penalty * alpha
        return grad_x, grad_alpha * alpha * math.log(2), None, None, None


class PactActivation(ActivationQuantizer):
    """Uniform activations with a learned clipping value ``alpha``, stored as ``log2(alpha / high)``.

    Args:
        bits: 1 to 8 (2 to 8 where ``signed``). signed: a symmetric (narrow) grid instead of an unsigned one.
        learned: False is DoReFa's.
    """

    def __init__(self, bits: int, signed: bool, *, learned: bool = True) -> None:
        super().__init__(bits, signed)
        self.high = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1
        self.low = -self.high if signed else 0
        first = torch.tensor(-math.log2(self.high))
        if learned:
            self.log2_step = nn.Parameter(first)
        else:
            self.register_buffer("log2_step", first)

    @property
    def step(self) -> Tensor:
        """The step in use, shape (); ``alpha`` is ``high`` of them."""
        return in_use(self.log2_step)

    def forward(self, x: Tensor) -> Tensor:
        """Clipped and fake-quantised ``x``, same shape and dtype."""
        result: Tensor = _Clip.apply(x, self.log2_step, self.low, self.high, PENALTY)  # type: ignore[no-untyped-call]
        return result

    def unrounded(self, x: Tensor) -> Unrounded:
        """The clipped tensor and its step, without the penalty; alpha learns from what saturates only."""
        value, step = clipped(x, self.step, self.low, self.high)
        return Unrounded(value, step.detach())

    def calibrate(self, values: F32) -> None:
        """Choose alpha by the least squared error on a flat sample."""
        step = best_steps(values.reshape(1, -1), self.low, self.high)[0]
        with torch.no_grad():
            self.log2_step.fill_(math.log2(float(step)))

    def grid(self) -> Grid:
        """The grid in use."""
        return Grid(self.bits, self.signed, float(self.step.detach().cpu()), narrow=self.signed)
