"""Steps of groups of input channels: the output channel's step times a power of two a group.

Rouhani et al. 2023 (arXiv 2310.10537, MX) share a power-of-two scale among 32 values; here ``group_size`` input
channels of one output channel share it (32 is MX's block), relative to a learned step of the output channel (LSQ) or
to one that is itself a power of two (MX). With ``code << shift`` in int8 the sum stays an exact integer, so
shifts go from 0 to ``8 - bits``.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...errors import UnsupportedError
from ...fixedpoint import F32, fixed_point_grid
from ..fused import learned_step
from ..quantizer import Unrounded, WeightCodes, WeightQuantizer, clipped
from .lsq import STEP_LIMIT, in_use

F64 = NDArray[np.float64]


class GroupedWeight(WeightQuantizer):
    """Two's complement weights of 2 to 7 bits, a step an output channel and a shift a group of its inputs.

    Args:
        bits: 2 to 7. shape: the weight's, torch's layout. transposed: input channels lie on axis 0, not 1.
        group_size: input channels that share a shift, at least 1. power_of_two: MX's scales.

    Raises:
        UnsupportedError: a width without room for shifts.
    """

    shift: Tensor

    def __init__(
        self, bits: int, shape: Sequence[int], group_size: int, *, transposed: bool = False, power_of_two: bool = False
    ) -> None:
        if not 2 <= bits <= 7:
            raise UnsupportedError(
                f"weights of {bits} bits in groups of {group_size}: codes and shifts share 8 bits; use 2 to 7 bits, or "
                "group_size = 0."
            )
        super().__init__(bits, 1 if transposed else 0)
        grid = fixed_point_grid(bits, 0, signed=True)
        self.low, self.high, self.group_size, self.power_of_two = grid.low, grid.high, group_size, power_of_two
        self.snaps = power_of_two
        self.input_axis = 0 if transposed else 1
        outputs, inputs = shape[1 - self.input_axis], shape[self.input_axis]
        self.log2_step = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("shift", torch.zeros((outputs, -(-inputs // group_size)), dtype=torch.uint8))

    def _base(self) -> Tensor:
        """The output channels' steps, (O,)."""
        if self.power_of_two:
            rounded = self.log2_step + (self.log2_step.round() - self.log2_step).detach()
            return torch.exp2(rounded.float().clamp(-STEP_LIMIT, STEP_LIMIT))
        return in_use(self.log2_step)

    def _shifts(self, inputs: int) -> Tensor:
        """2**shift of each weight, (O, I)."""
        return torch.exp2(self.shift.float()).repeat_interleave(self.group_size, dim=1)[:, :inputs]

    def _spread(self, values: Tensor, like: Tensor) -> Tensor:
        """(O, I) values to the weight's layout."""
        if self.input_axis == 0:
            values = values.t()
        return values.reshape(*values.shape, *([1] * (like.ndim - 2)))

    def step(self, weight: Tensor) -> Tensor:
        """The step of each weight, broadcastable to it."""
        return self._spread(self._base()[:, None] * self._shifts(weight.shape[self.input_axis]), weight)

    def forward(self, weight: Tensor) -> Tensor:
        """Fake-quantised ``weight``, same shape."""
        return learned_step(weight, self.step(weight), self.low, self.high, self._gradient_scale(weight))

    def unrounded(self, weight: Tensor) -> Unrounded:
        """The clipped weight and the step of each."""
        return clipped(weight, self.step(weight), self.low, self.high, self._gradient_scale(weight))

    def _gradient_scale(self, weight: Tensor) -> float:
        return 1.0 / math.sqrt(weight.numel() / self.log2_step.numel() * self.high)

    def calibrate(self, weight: Tensor) -> None:
        """Choose steps and shifts by least squared error: each channel's step first, then each group's shift."""
        w = weight.detach().float().cpu()
        w = w if self.input_axis == 1 else w.transpose(0, 1)
        rows = w.reshape(w.shape[0], w.shape[1], -1).numpy().astype(np.float64)
        outputs, blocks = self.shift.shape
        sized = np.zeros((outputs, blocks * self.group_size, rows.shape[2]))
        sized[:, : rows.shape[1]] = rows
        grouped = sized.reshape(outputs, blocks, -1)
        largest = np.abs(grouped).max(axis=(1, 2))
        widest = np.where(largest > 0, largest / self.high, 1.0)
        most = 8 - self.bits
        best = np.full(outputs, np.inf)
        log2_step, shift = np.zeros(outputs), np.zeros((outputs, blocks))
        for exponent in np.arange(0.0, most + 2.01, 1.0 if self.power_of_two else 0.25):
            base = np.log2(widest) - exponent
            base = np.ceil(base) if self.power_of_two else base
            errors = np.stack([self._error(grouped, np.exp2(base + k)[:, None, None]) for k in range(most + 1)])
            total = errors.min(axis=0).sum(axis=1)
            better = total < best
            best = np.where(better, total, best)
            log2_step = np.where(better, base, log2_step)
            shift = np.where(better[:, None], errors.argmin(axis=0), shift)
        with torch.no_grad():
            self.log2_step.copy_(torch.from_numpy(log2_step))
            self.shift.copy_(torch.from_numpy(shift))

    def _error(self, grouped: F64, step: F64) -> F64:
        error: F64 = np.square(np.clip(np.rint(grouped / step), self.low, self.high) * step - grouped).sum(axis=2)
        return error

    def codes(self, weight: F32) -> WeightCodes:
        """Final codes ``code << shift`` in the weight's layout, the channels' steps, and the shifts (O, blocks)."""
        with torch.no_grad():
            w = torch.from_numpy(np.ascontiguousarray(weight)).to(self.log2_step.device)
            code = (w * self.step(w).reciprocal()).clamp(self.low, self.high).round()
            final = code * self._spread(self._shifts(w.shape[self.input_axis]), w)
            scale = self._base().float().cpu().numpy().astype(np.float32)
        return WeightCodes(
            final.cpu().numpy().astype(np.int8), scale, self.bits, "shifted",
            shift=self.shift.cpu().numpy().astype(np.uint8), group_size=self.group_size,
        )  # fmt: skip
