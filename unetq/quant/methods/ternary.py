"""Ternary weights and activations.

TWN (Li et al. 2016, arXiv 1605.04711, eq. 3-6): ``alpha * sign(w) * [|w| > delta]`` with ``delta = 0.7 mean|w|`` and
``alpha`` the mean of ``|w|`` beyond it; the gradient passes straight through. Packed in two's complement of 2 bits.

TTQ (Zhu et al. 2017, arXiv 1612.01064): ``{-Wn, 0, +Wp}`` with threshold ``0.05 max|w|`` and learned Wp, Wn; their
gradients are the sums over their members, that of w is scaled by Wp, 1 or Wn by its region (eq. 7-8). Packed as a
codebook of 2 bits whose levels are the multiples of ``max(Wp, Wn) / 127`` nearest to Wp and Wn.

TernaryNet activations (Heinrich et al. 2018, arXiv 1801.09449): hard, ``sign(x) * [|x| > 1/2]``, with the slope of
``tanh(2 beta x - beta)/2 - tanh(-2 beta x - beta)/2``, beta from 3 to 8 over the training. The hard form is the
forward value already while training, so that nothing changes at evaluation. x is measured in a step that is
calibrated (1 in the paper).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ...fixedpoint import F32, Grid
from ..fused import quantize_forward
from ..quantizer import ActivationQuantizer
from .coded import CodedWeight, channel_mean, straight_through
from .lsq import in_use
from .steps import best_steps

TWN_SHARE, TTQ_SHARE = 0.7, 0.05
FIRST_BETA, LAST_BETA = 3.0, 8.0
LEVEL_LIMIT = 127


class TwnWeight(CodedWeight):
    """TWN's weights; threshold and alpha a channel, or a tensor without a channel axis."""

    def __init__(self, channel_axis: int | None) -> None:
        super().__init__(2, channel_axis)

    def encode(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Codes -1, 0, +1 and alpha."""
        magnitude = weight.float().abs()
        beyond = (magnitude > TWN_SHARE * channel_mean(magnitude, self.channel_axis)).float()
        share = channel_mean(beyond, self.channel_axis)
        alpha = channel_mean(magnitude * beyond, self.channel_axis) / torch.where(share > 0, share, 1.0)
        return torch.sign(weight) * beyond, torch.where(alpha > 0, alpha, 1.0)

    def forward(self, weight: Tensor) -> Tensor:
        """Fake-quantised ``weight``, same shape."""
        with torch.no_grad():
            codes, scale = self.encode(weight)
        return straight_through(weight, codes * scale)

    def calibrate(self, weight: Tensor) -> None:
        """Nothing to choose: threshold and alpha follow the weight."""


class _Ttq(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, above: Tensor, below: Tensor, codes: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(codes, above, below)
        return codes * scale

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        (grad,) = grads
        codes, above, below = ctx.saved_tensors
        up, down = codes > 0, codes < 0
        to_weight = grad * torch.where(up, above, torch.where(down, below, torch.ones_like(above)))
        return to_weight, (grad * up).sum(), -(grad * down).sum(), None, None


class TtqWeight(CodedWeight):
    """TTQ's weights: two learned magnitudes a tensor, stored as logarithms so that they stay positive."""

    kind = "codebook"

    def __init__(self) -> None:
        super().__init__(2, None)
        self.log2_above = nn.Parameter(torch.zeros(()))
        self.log2_below = nn.Parameter(torch.zeros(()))

    def encode(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The two levels and 0 as int8 numbers, and their unit."""
        above, below = in_use(self.log2_above.detach()), in_use(self.log2_below.detach())
        unit = torch.maximum(above, below) / LEVEL_LIMIT
        high, low = (above / unit).round().clamp(1, LEVEL_LIMIT), (below / unit).round().clamp(1, LEVEL_LIMIT)
        threshold = TTQ_SHARE * weight.abs().max()
        zero = torch.zeros_like(high)
        return torch.where(weight > threshold, high, torch.where(weight < -threshold, -low, zero)), unit

    def forward(self, weight: Tensor) -> Tensor:
        """Fake-quantised ``weight``, same shape."""
        with torch.no_grad():
            codes, scale = self.encode(weight)
        result: Tensor = _Ttq.apply(  # type: ignore[no-untyped-call]
            weight, in_use(self.log2_above), in_use(self.log2_below), codes, scale
        )
        return result

    def calibrate(self, weight: Tensor) -> None:
        """Start from the mean magnitude on each side of the threshold."""
        w = weight.detach().float()
        threshold = TTQ_SHARE * w.abs().max()
        for parameter, members in ((self.log2_above, w[w > threshold]), (self.log2_below, -w[w < -threshold])):
            mean = float(members.mean()) if members.numel() else 1.0
            with torch.no_grad():
                parameter.fill_(math.log2(mean) if mean > 0 else 0.0)


class _Hard(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: int, beta: float) -> Tensor:
        ctx.save_for_backward(x, step)
        ctx.beta = beta
        return quantize_forward(x, step, low, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        x, step = ctx.saved_tensors
        scaled, beta = x / step.to(x.dtype), ctx.beta
        right = torch.tanh(2 * beta * scaled - beta).square()
        left = torch.tanh(2 * beta * scaled + beta).square()
        return grads[0] * (beta * (2.0 - right - left)), None, None, None


class TernaryActivation(ActivationQuantizer):
    """Activations -1, 0, +1 times a constant step, on a narrow 2-bit grid (0 and 1 where nothing is negative)."""

    def __init__(self, signed: bool) -> None:
        super().__init__(2 if signed else 1, signed)
        self.low, self.high, self.beta = (-1 if signed else 0), 1, FIRST_BETA
        self.register_buffer("log2_step", torch.zeros(()))

    @property
    def step(self) -> Tensor:
        """The step in use, shape ()."""
        return in_use(self.log2_step)  # type: ignore[arg-type]  # a registered buffer

    def set_progress(self, done: float) -> None:
        """Anneal beta; ``done`` is the fraction of training, 0 to 1."""
        self.beta = FIRST_BETA + (LAST_BETA - FIRST_BETA) * min(max(done, 0.0), 1.0)

    def forward(self, x: Tensor) -> Tensor:
        """The hard activation with the soft one's slope; same shape."""
        value: Tensor = _Hard.apply(x, self.step, self.low, self.beta)  # type: ignore[no-untyped-call]
        return value

    def calibrate(self, values: F32) -> None:
        """Choose the step by the least squared error on a flat sample."""
        step = best_steps(values.reshape(1, -1), self.low, self.high)[0]
        with torch.no_grad():
            self.step_buffer().fill_(math.log2(float(step)))

    def step_buffer(self) -> Tensor:
        """``log2(step)`` as stored."""
        return self.get_buffer("log2_step")

    def grid(self) -> Grid:
        """The grid in use."""
        return Grid(self.bits, self.signed, float(self.step.detach().cpu()), narrow=self.signed)
