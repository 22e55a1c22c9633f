"""The quantiser of AskariHemmat et al. 2019 (arXiv 1908.01073), as published, under its own name.

With ``x_i = floor|x|``, ``x_f = |x| - x_i`` and ``quantize(v, n) = round(clamp(v, 0, 2**n - 1) * 2**n) / 2**n``:
``Q(x) = sign(x) * quantize(x_i, i) + sign(x) * quantize(x_f, f)``. Weights are Q0.f, activations Qi.0.
Backward: plain identity, no mask.

What follows, and is kept: the sign is extra and the fraction can round up to 1, so Q0.4 has 33 levels
(-16 … 16) and Q6.0 127 (-63 … 63); Qi.0 truncates; Q0.f drops the integer part instead of saturating.
A "4-bit" weight is therefore packed at 6 bits and a "6-bit" signed activation at 7. For the toolkit's
own b-bit format see ``fixed_point``.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UnsupportedError
from ..fixedpoint import F32, Grid
from .quantizer import ActivationQuantizer, WeightCodes, WeightQuantizer

MAX_FRACTION = 6  # Q0.6 has codes -64 … 64, the widest that fit 8 bits


class _Identity(torch.autograd.Function):
    """The second argument forward, the first one's gradient backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def paper_quantize(x: Tensor, integer_bits: int, fraction_bits: int) -> Tensor:
    """``Q(x)`` of the module's docstring, any shape, straight-through gradient.

    For fraction widths the clamp to ``2**f - 1`` never binds, since ``x_f < 1``.
    """
    with torch.no_grad():
        magnitude = x.abs()
        whole = magnitude.floor()
        fraction = magnitude - whole
        scale = float(1 << fraction_bits)
        kept = whole.clamp(0, float((1 << integer_bits) - 1)) + torch.round(fraction * scale) / scale
        value = (
            torch.sign(x) * kept if fraction_bits else torch.sign(x) * whole.clamp(0, float((1 << integer_bits) - 1))
        )
    result: Tensor = _Identity.apply(x, value)  # type: ignore[no-untyped-call]
    return result


class PaperWeight(WeightQuantizer):
    """Weights Q0.f with f = ``bits``; no state, nothing to calibrate."""

    def __init__(self, bits: int) -> None:
        super().__init__(bits, None)

    def forward(self, weight: Tensor) -> Tensor:
        """``Q(weight)``, same shape."""
        return paper_quantize(weight, 0, self.bits)

    def calibrate(self, weight: Tensor) -> None:
        """The step is fixed at ``2**-f``."""

    def codes(self, weight: F32) -> WeightCodes:
        """Codes -2**f … 2**f at step ``2**-f``, packed at f + 2 bits.

        Raises:
            UnsupportedError: f above 6, whose 2**(f+1) + 1 levels do not fit 8 bits.
        """
        if self.bits > MAX_FRACTION:
            raise UnsupportedError(
                f"the paper's Q0.{self.bits} has {2 ** (self.bits + 1) + 1} weight levels, which do not fit 8 bits; "
                f"export is possible up to Q0.{MAX_FRACTION}, or use method 'fixed'."
            )
        magnitude = np.abs(weight)
        fraction = magnitude - np.floor(magnitude)
        codes = np.sign(weight) * np.rint(fraction * np.float32(1 << self.bits))
        scale = np.array([2.0**-self.bits], dtype=np.float32)
        return WeightCodes(codes.astype(np.int8), scale, self.bits + 2, "twos_complement")


class PaperActivation(ActivationQuantizer):
    """Activations Qi.0 with i = ``bits``: truncation towards zero at step 1; no state."""

    def forward(self, x: Tensor) -> Tensor:
        """``Q(x)``, same shape."""
        return paper_quantize(x, self.bits, 0)

    def calibrate(self, values: F32) -> None:
        """The step is fixed at 1."""

    def grid(self) -> Grid:
        """Step 1, truncating; a sign costs one bit more than the name says.

        Raises:
            UnsupportedError: a signed tensor at i = 8 would need 9 bits.
        """
        bits = self.bits + int(self.signed)
        if bits > 8:
            raise UnsupportedError(
                f"the paper's signed Q{self.bits}.0 has {2 ** (self.bits + 1) - 1} levels, which do not fit 8 bits; "
                "use at most 7, or method 'fixed'."
            )
        return Grid(bits=bits, signed=self.signed, scale=1.0, rounding="toward_zero")
