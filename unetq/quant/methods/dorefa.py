"""DoReFa weights (Zhou et al. 2016, arXiv 1606.06160, eq. 9): ``w_q = 2 * q(tanh(w) / (2 max|tanh(w)|) + 1/2) - 1``.

With ``n = 2**bits - 1`` and ``q(v) = round(v * n) / n`` the levels are ``(2k - n) / n``: all odd multiples of ``1/n``.
They are packed as a codebook up to 4 bits, in two's complement of one bit more from 5 to 7, and do not fit at 8.
At one bit the paper takes ``sign(w) * mean|w|``. Gradient: straight through q, exact through tanh and the maximum.

A constant ``gain`` stands before the levels: 1 from random weights (a BatchNorm follows), or what makes them closest
to the float weights where training starts from these.
"""

import torch
from torch import Tensor

from ...errors import UnsupportedError
from ..quantizer import Unrounded
from .coded import CodedWeight, channel_mean, straight_through


class DorefaWeight(CodedWeight):
    """DoReFa's weights, one scale a tensor; 1 to 7 bits."""

    gain: Tensor

    def __init__(self, bits: int) -> None:
        if not 1 <= bits <= 7:
            raise UnsupportedError(
                f"dorefa weights at {bits} bits: 2**{bits} odd levels do not fit int8; use 7 or less."
            )
        super().__init__(bits, None)
        self.kind = "binary" if bits == 1 else "codebook" if bits <= 4 else "twos_complement"
        self.steps = (1 << bits) - 1
        self.register_buffer("gain", torch.ones(()))

    @property
    def packed_bits(self) -> int:
        """One bit more where the odd codes are packed in two's complement."""
        return self.bits + 1 if self.kind == "twos_complement" else self.bits

    def _position(self, weight: Tensor) -> Tensor:
        bent = torch.tanh(weight.float())
        return (bent / (2.0 * bent.abs().max().clamp_min(1e-30)) + 0.5) * self.steps

    def encode(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Odd codes -n … n and the scale."""
        if self.bits == 1:
            return torch.where(weight >= 0, 1.0, -1.0), channel_mean(weight.float().abs(), None)
        return self._position(weight).round() * 2.0 - self.steps, self.gain / self.steps

    def forward(self, weight: Tensor) -> Tensor:
        """Fake-quantised ``weight``, same shape."""
        with torch.no_grad():
            codes, scale = self.encode(weight)
            value = codes * scale
        if self.bits == 1:
            return straight_through(weight, value)
        smooth = (self._position(weight) * 2.0 - self.steps) * scale
        return straight_through(smooth, value)

    def unrounded(self, weight: Tensor) -> Unrounded | None:
        """The bent weight and its step; None at one bit."""
        if self.bits == 1:
            return None
        scale = self.gain / self.steps
        return Unrounded((self._position(weight) * 2.0 - self.steps) * scale, 2.0 * scale)

    def calibrate(self, weight: Tensor) -> None:
        """Choose the gain of least squared error."""
        with torch.no_grad():
            self.gain.fill_(1.0)
            codes, scale = self.encode(weight)
            levels = codes * scale
            product, norm = (levels * weight).sum(), levels.square().sum()
            self.gain.copy_(
                torch.where((product > 0) & (norm > 0), product / norm.clamp_min(1e-30), torch.ones_like(product))
            )
