"""Learned step sizes: LSQ (Esser et al. 2020, arXiv 1902.08153) and LSQ+ (Bhalgat et al. 2020, arXiv 2004.09576).

Forward: ``v = s * clip(round(x / s), low, high)``, ties to even. Gradient to x: straight through inside the range,
0 outside (LSQ eq. 5). To the step: ``round(x/s) - x/s`` inside, low or high outside (eq. 3), times
``1 / sqrt(N * high)``. The stored parameter is ``log2(s)``, so that a step stays positive and one learning rate
serves small and large ones; the chain rule gives ``dv/dlog2(s) = s * ln 2 * dv/ds``.

LSQ+ gives activations that can be negative an unsigned grid with an offset, here an integer zero-point so that
0 stays a code: ``v = s * clip(round(x / s), -z, high - z)`` with ``z = round(zero)``; the gradient to ``zero`` is
``-s`` where x saturates, else 0 (the paper's dv/dbeta = 1 outside, 0 inside, with beta = -s * z). Its weights
start at ``max(|mean - 3 std|, |mean + 3 std|) / 2**(bits - 1)``; LSQ's here at the least squared error.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import UnsupportedError
from ...fixedpoint import F32, Grid, fixed_point_grid
from ..fused import learned_step, quantize_backward, quantize_forward
from ..quantizer import ActivationQuantizer, Unrounded, clipped
from .coded import CodedWeight
from .steps import best_steps, rows_of, step_shape

STEP_LIMIT = 60.0  # |log2(step)|: no step is ever subnormal, nor is its inverse


def in_use(log2_step: Tensor) -> Tensor:
    """The float32 step that a stored ``log2_step`` stands for; differentiable.

    In float64 and rounded once: processors and GPUs differ in the last bit of a float32 ``exp2``, and a step is the
    same number wherever a checkpoint is trained, evaluated or exported.
    """
    return torch.exp2(log2_step.double().clamp(-STEP_LIMIT, STEP_LIMIT)).float()


class LsqWeight(CodedWeight):
    """Weights with a learned float32 step a tensor or an output channel; 2 to 8 bits, two's complement.

    Args:
        bits: 2 to 8. shape: the weight's. channel_axis: of the output channels, or None for one step a tensor.
        spread: LSQ+'s initialisation by mean and deviation instead of the least squared error.
    """

    def __init__(self, bits: int, shape: tuple[int, ...], channel_axis: int | None, *, spread: bool = False) -> None:
        super().__init__(bits, channel_axis)
        grid = fixed_point_grid(bits, 0, signed=True)
        self.low, self.high, self.spread = grid.low, grid.high, spread
        self.log2_step = nn.Parameter(torch.zeros(step_shape(shape, channel_axis)))

    @property
    def step(self) -> Tensor:
        """The steps in use, shape () or broadcastable to the weight."""
        return in_use(self.log2_step)

    def forward(self, weight: Tensor) -> Tensor:
        """Fake-quantised ``weight``, same shape and dtype."""
        return learned_step(weight, self.step, self.low, self.high, self._gradient_scale(weight))

    def unrounded(self, weight: Tensor) -> Unrounded:
        """The clipped weight and its steps."""
        return clipped(weight, self.step, self.low, self.high, self._gradient_scale(weight))

    def _gradient_scale(self, weight: Tensor) -> float:
        return 1.0 / math.sqrt(weight.numel() / self.log2_step.numel() * max(self.high, 1))

    def calibrate(self, weight: Tensor) -> None:
        """Choose the first steps."""
        rows = rows_of(weight.detach().float().cpu().numpy(), self.channel_axis)
        if self.spread:
            mean, deviation = rows.mean(axis=1), rows.std(axis=1)
            reach = np.maximum(np.abs(mean - 3 * deviation), np.abs(mean + 3 * deviation))
            steps = np.where(reach > 0, reach / 2 ** (self.bits - 1), 1.0).astype(np.float32)
        else:
            steps = best_steps(rows, self.low, self.high)
        with torch.no_grad():
            self.log2_step.copy_(torch.from_numpy(np.log2(steps)).to(self.log2_step).reshape(self.log2_step.shape))

    def encode(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Codes low … high and the steps."""
        step = self.step.detach()
        return (weight * step.reciprocal()).clamp(self.low, self.high).round(), step


class LsqActivation(ActivationQuantizer):
    """Activations with one learned float32 step a tensor; ``bits`` 1 to 8, two's complement or unsigned."""

    def __init__(self, bits: int, signed: bool) -> None:
        super().__init__(bits, signed)
        grid = fixed_point_grid(bits, 0, signed)
        self.low, self.high = grid.low, grid.high
        self.log2_step = nn.Parameter(torch.zeros(()))

    @property
    def step(self) -> Tensor:
        """The step in use, shape ()."""
        return in_use(self.log2_step)

    def forward(self, x: Tensor) -> Tensor:
        """Fake-quantised ``x``, same shape and dtype."""
        return learned_step(x, self.step, self.low, self.high, self._gradient_scale(x))

    def unrounded(self, x: Tensor) -> Unrounded:
        """The clipped tensor and its step."""
        return clipped(x, self.step, self.low, self.high, self._gradient_scale(x))

    def _gradient_scale(self, x: Tensor) -> float:
        return 1.0 / math.sqrt(x.numel() * max(self.high, 1))

    def calibrate(self, values: F32) -> None:
        """Choose the first step by the least squared error on a flat sample."""
        step = best_steps(values.reshape(1, -1), self.low, self.high)[0]
        with torch.no_grad():
            self.log2_step.fill_(math.log2(float(step)))

    def grid(self) -> Grid:
        """The grid in use."""
        return Grid(self.bits, self.signed, float(self.step.detach().cpu()))


class _OffsetStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, zero: Tensor, high: int, scale: float) -> Tensor:
        point = int(zero.detach().round().clamp(0, high))
        ctx.save_for_backward(x, step)
        ctx.limits = (-point, high - point, scale)
        return quantize_forward(x, step, -point, high - point)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, step = ctx.saved_tensors
        low, high, scale = ctx.limits
        want_x, want_step, want_zero = ctx.needs_input_grad[:3]
        grad_x, sums = quantize_backward(grads[0], x, step, low, high, want_x=want_x, want_sums=want_step or want_zero)
        if sums is None:
            return grad_x, None, None, None, None
        return grad_x, sums.lsq(low, high) * scale, -(sums.below + sums.above) * step * scale, None, None


class OffsetActivation(ActivationQuantizer):
    """LSQ+ activations: an unsigned grid with a learned step and a learned integer zero-point; ``bits`` 2 to 8."""

    def __init__(self, bits: int) -> None:
        super().__init__(bits, signed=False)
        self.low, self.high = 0, (1 << bits) - 1
        self.log2_step = nn.Parameter(torch.zeros(()))
        self.zero = nn.Parameter(torch.zeros(()))

    @property
    def step(self) -> Tensor:
        """The step in use, shape ()."""
        return in_use(self.log2_step)

    def forward(self, x: Tensor) -> Tensor:
        """Fake-quantised ``x``, same shape and dtype."""
        scale = 1.0 / math.sqrt(x.numel() * self.high)
        result: Tensor = _OffsetStep.apply(x, self.step, self.zero, self.high, scale)  # type: ignore[no-untyped-call]
        return result

    def unrounded(self, x: Tensor) -> Unrounded:
        """The tensor clipped to the range around the zero-point, which learns as in ``forward``, and the step."""
        point = self.zero + (self.zero.round().clamp(0, self.high) - self.zero).detach()
        point = point.detach() + (point - point.detach()) / math.sqrt(x.numel() * self.high)
        return clipped(x, self.step, -point, self.high - point, 1.0 / math.sqrt(x.numel() * self.high))

    def calibrate(self, values: F32) -> None:
        """Choose step and zero-point by the least squared error among zero-points near the sample's range."""
        data = values.reshape(1, -1)
        low, high = float(min(data.min(), 0.0)), float(max(data.max(), 0.0))
        wanted = self.high * -low / (high - low) if high > low else 0.0
        best: tuple[float, float, int] | None = None
        for share in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5):
            point = int(min(max(round(wanted * share), 0), self.high))
            step = float(best_steps(data, -point, self.high - point)[0])
            error = float(np.square(np.clip(np.rint(data / step), -point, self.high - point) * step - data).sum())
            if best is None or error < best[0]:
                best = (error, step, point)
        assert best is not None
        with torch.no_grad():
            self.log2_step.fill_(math.log2(best[1]))
            self.zero.fill_(float(best[2]))

    def grid(self) -> Grid:
        """The grid in use."""
        point = int(self.zero.detach().round().clamp(0, self.high))
        return Grid(self.bits, False, float(self.step.detach().cpu()), zero_point=point)


def at_least_two_bits(name: str, bits: int) -> None:
    """Raise UnsupportedError for a one-bit two's complement weight."""
    if bits < 2:
        raise UnsupportedError(
            f"{name} weights at {bits} bit: two's complement of one bit is {{-1, 0}}; use bnn or xnor."
        )
