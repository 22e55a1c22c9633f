"""The toolkit's own quantiser: true b-bit fixed point Qi.f with a power-of-two step.

Forward: ``v = 2**-f * clip(round(x * 2**f), low, high)``, ties to even; low and high are the two's
complement or unsigned limits of b bits. One-bit weights are binary, ``v = 2**-f * (+1 if x >= 0 else -1)``,
since two's complement of one bit could only say {-1, 0}.

Gradient to x: straight through inside the range, 0 outside (Esser et al. 2020, LSQ, arXiv 1902.08153, eq. 5).
Gradient to the step: LSQ's eq. 3 carried to ``log2(step)`` (Jain et al. 2020, TQT, arXiv 1903.08066):
``dv/dlog2(s) = s * ln 2 * (round(x/s) - x/s inside; low or high outside)``, scaled by ``1/sqrt(N * high)``
as in LSQ. The stored parameter is real; the step in use is ``2 ** round(log2_step)``.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..export.program import WeightKind
from ..fixedpoint import F32, FRACTION_LIMIT, Grid, fixed_point_grid
from .fused import quantize_backward, quantize_forward
from .quantizer import ActivationQuantizer, Unrounded, WeightCodes, WeightQuantizer, clipped


class _FixedPointFunction(torch.autograd.Function):
    """``fixed_point``; saves only x and the step and recomputes the rest."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, log2_step: Tensor, low: int, high: int, binary: bool) -> Tensor:
        step = torch.exp2(torch.round(log2_step.detach().float()))
        ctx.save_for_backward(x, step)
        ctx.limits = (low, high, binary)
        if binary:
            return torch.where(x >= 0, step.to(x.dtype), -step.to(x.dtype))
        return quantize_forward(x, step, low, high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        (grad,) = grads
        x, step = ctx.saved_tensors
        low, high, binary = ctx.limits
        want_x, want_step = ctx.needs_input_grad[:2]
        total: Tensor | None = None
        if binary:
            grad_x = grad * (x.abs() <= step) if want_x else None
            if want_step:
                total = (grad.float() * torch.where(x >= 0, 1.0, -1.0)).sum_to_size(step.shape)
        else:
            grad_x, sums = quantize_backward(grad, x, step, low, high, want_x=want_x, want_sums=want_step)
            total = None if sums is None else sums.lsq(low, high)
        if total is None:
            return grad_x, None, None, None, None
        count = x.numel() / step.numel()
        return grad_x, total * step * (math.log(2) / math.sqrt(count * max(high, 1))), None, None, None


def fixed_point(x: Tensor, log2_step: Tensor, low: int, high: int, binary: bool = False) -> Tensor:
    """Fake-quantise ``x`` onto fixed point; differentiable in ``x`` and ``log2_step`` (see the module).

    Args:
        x: any shape, float32 or bfloat16 (codes up to 8 bits are exact in both).
        log2_step: shape () or broadcastable to ``x``; rounded to an integer before use.
        low, high: code limits. binary: {-1, +1} instead.
    """
    result: Tensor = _FixedPointFunction.apply(x, log2_step, low, high, binary)  # type: ignore[no-untyped-call]
    return result


def best_fraction_bits(values: NDArray[np.float32], low: int, high: int, binary: bool = False) -> NDArray[np.int64]:
    """Fraction bits f of least squared error for each row of ``values`` (rows, n), among six near the range.

    The largest step considered represents the row's largest magnitude without saturation; each further
    one halves the step, so that saturating rare outliers is weighed against a finer grid. A row of zeros gets 0.
    """
    data = np.asarray(values, dtype=np.float64)
    largest = np.abs(data).max(axis=1)
    reach = np.where((data.min(axis=1) < 0) & (low < 0), max(min(-low, high or 1), 1), max(high, 1))
    widest = np.where(largest > 0, np.ceil(np.log2(np.maximum(largest, 1e-30) / reach)), 0.0)
    best, choice = np.full(len(data), np.inf), widest.copy()
    for finer in range(6):
        step = np.exp2(widest - finer)[:, None]
        codes = np.where(data >= 0, 1.0, -1.0) if binary else np.clip(np.rint(data / step), low, high)
        error = np.square(codes * step - data).sum(axis=1)
        better = error < best
        best, choice = np.where(better, error, best), np.where(better, widest - finer, choice)
    fractions = np.where(largest > 0, -choice, 0.0)
    return np.clip(fractions, -FRACTION_LIMIT, FRACTION_LIMIT).astype(np.int64)


def _limits(bits: int, signed: bool) -> tuple[int, int]:
    grid = fixed_point_grid(bits, 0, signed)
    return grid.low, grid.high


def _unrounded(x: Tensor, log2_step: Tensor, low: int, high: int) -> Unrounded:
    """``x`` clipped and its step; the gradient goes through the exponent's rounding, scaled as in ``fixed_point``."""
    exponent = log2_step.float() + (log2_step.round() - log2_step).detach()
    return clipped(x, torch.exp2(exponent), low, high, 1.0 / math.sqrt(x.numel() / log2_step.numel() * max(high, 1)))


class FixedPointWeight(WeightQuantizer):
    """Weights in b-bit two's complement (binary at one bit), a step a tensor or an output channel.

    Args:
        bits: 1 to 8.
        shape: the weight's shape. channel_axis: the output-channel axis, or None for one step a tensor.
    """

    snaps = True

    def __init__(self, bits: int, shape: Sequence[int], channel_axis: int | None) -> None:
        super().__init__(bits, channel_axis)
        self.low, self.high = _limits(bits, signed=True)
        self.binary = bits == 1
        dims = [n if a == channel_axis else 1 for a, n in enumerate(shape)] if channel_axis is not None else []
        self.log2_step = nn.Parameter(torch.zeros(dims))

    def forward(self, weight: Tensor) -> Tensor:
        """Fake-quantised ``weight``, same shape and dtype."""
        return fixed_point(weight, self.log2_step, self.low, self.high, self.binary)

    def unrounded(self, weight: Tensor) -> Unrounded | None:
        """The clipped weight and its steps; None at one bit."""
        return None if self.binary else _unrounded(weight, self.log2_step, self.low, self.high)

    def calibrate(self, weight: Tensor) -> None:
        """Choose the fraction bits of least squared error."""
        values = weight.detach().float().cpu()
        if self.channel_axis is not None:
            values = values.movedim(self.channel_axis, 0).flatten(1)
        rows = values.reshape(self.log2_step.numel(), -1).numpy()
        fractions = best_fraction_bits(rows, self.low, self.high, self.binary)
        with torch.no_grad():
            self.log2_step.copy_(torch.from_numpy(-fractions).to(self.log2_step).reshape(self.log2_step.shape))

    def codes(self, weight: F32) -> WeightCodes:
        """Integer codes and steps; ``weight`` float32 in torch's layout, codes in the same."""
        exponent = np.clip(np.rint(self.log2_step.detach().float().cpu().numpy()), -FRACTION_LIMIT, FRACTION_LIMIT)
        step = np.exp2(exponent).astype(np.float32)
        rounded = np.clip(np.rint(weight / step), self.low, self.high)
        codes = np.where(weight >= 0, 1, -1) if self.binary else rounded
        kind: WeightKind = "binary" if self.binary else "twos_complement"
        return WeightCodes(codes.astype(np.int8), step.reshape(-1), self.bits, kind)


class FixedPointActivation(ActivationQuantizer):
    """Activations in b-bit fixed point, one step a tensor. ``bits`` 1 to 8; ``signed`` two's complement or unsigned."""

    snaps = True

    def __init__(self, bits: int, signed: bool) -> None:
        super().__init__(bits, signed)
        self.low, self.high = _limits(bits, signed)
        self.log2_step = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Fake-quantised ``x``, same shape and dtype."""
        return fixed_point(x, self.log2_step, self.low, self.high)

    def unrounded(self, x: Tensor) -> Unrounded:
        """The clipped tensor and its step."""
        return _unrounded(x, self.log2_step, self.low, self.high)

    def calibrate(self, values: F32) -> None:
        """Choose the fraction bits of least squared error on a flat float32 sample of the tensor's values."""
        fraction = best_fraction_bits(values.reshape(1, -1), self.low, self.high)[0]
        with torch.no_grad():
            self.log2_step.fill_(float(-fraction))

    def grid(self) -> Grid:
        """The grid in use."""
        exponent = round(float(self.log2_step.detach()))
        return fixed_point_grid(self.bits, max(-FRACTION_LIMIT, min(FRACTION_LIMIT, -exponent)), self.signed)
