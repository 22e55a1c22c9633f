"""What the weight quantisers share whose codes and scale come from one function of the weight."""

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...export.program import WeightKind
from ...fixedpoint import F32
from ..quantizer import WeightCodes, WeightQuantizer


class _Given(torch.autograd.Function):
    """``value`` forward; backward the gradient goes to ``x`` times ``mask`` (a tensor, or None for all of it)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        ctx.save_for_backward(mask)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return (grads[0] if mask is None else grads[0] * mask), None, None


def straight_through(x: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """``value`` whose gradient is that of ``x``, times ``mask`` (Bengio et al. 2013, arXiv 1308.3432)."""
    result: Tensor = _Given.apply(x, value, mask)  # type: ignore[no-untyped-call]
    return result


class CodedWeight(WeightQuantizer):
    """A weight quantiser given by ``encode``: its forward value is ``codes * scale``, and so is what ships."""

    kind: WeightKind = "twos_complement"

    @abstractmethod
    def encode(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Integer codes (float32, the weight's shape) and the scale that broadcasts to them; no gradient."""

    @property
    def packed_bits(self) -> int:
        """The width at which codes are packed; ``bits`` unless a method needs more."""
        return self.bits

    def codes(self, weight: F32) -> WeightCodes:
        """Integer codes in the weight's layout, and scales (1,) or (O,)."""
        device = next((t.device for t in (*self.parameters(), *self.buffers())), torch.device("cpu"))
        with torch.no_grad():
            codes, scale = self.encode(torch.from_numpy(np.ascontiguousarray(weight)).to(device))
        flat = scale.float().cpu().numpy().reshape(-1).astype(np.float32)
        return WeightCodes(codes.cpu().numpy().astype(np.int8), flat, self.packed_bits, self.kind)


def channel_mean(values: Tensor, channel_axis: int | None) -> Tensor:
    """The float32 mean of ``values`` over all but the channel axis, broadcastable to it.

    Summed in float64, so that the order of summation (memory format, device) does not show in the float32 result.
    """
    if channel_axis is None:
        return values.mean(dtype=torch.float64).float()
    axes = [a for a in range(values.ndim) if a != channel_axis]
    return values.mean(dim=axes, keepdim=True, dtype=torch.float64).float()
