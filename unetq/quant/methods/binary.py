"""Binary weights: BNN (Courbariaux et al. 2016, arXiv 1602.02830), XNOR-Net (Rastegari et al. 2016, arXiv 1603.05279).

BNN: ``sign(w)``, 0 counts as +1; the gradient passes where ``|w| <= 1``. A constant gain stands before it: 1 from
random weights, ``mean|w|`` of the layer where training starts from a float network (the BatchNorm behind takes it).
XNOR: ``sign(w) * alpha`` with ``alpha = mean|w|`` of each filter; the gradient to w is
``g * (1/n + alpha * [|w| <= 1])`` (its section 3.1). Both are packed at one bit.
"""

from typing import Any

import torch
from torch import Tensor

from .coded import CodedWeight, channel_mean, straight_through


def _sign(weight: Tensor) -> Tensor:
    return torch.where(weight >= 0, 1.0, -1.0)


class BnnWeight(CodedWeight):
    """``sign(w)`` times a constant."""

    kind = "binary"
    gain: Tensor

    def __init__(self) -> None:
        super().__init__(1, None)
        self.register_buffer("gain", torch.ones(()))

    def encode(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Codes -1 and +1, and the gain."""
        return _sign(weight), self.gain

    def forward(self, weight: Tensor) -> Tensor:
        """Fake-quantised ``weight``, same shape."""
        return straight_through(weight, _sign(weight) * self.gain, (weight.abs() <= 1).to(weight.dtype))

    def calibrate(self, weight: Tensor) -> None:
        """The gain of least squared error: the mean magnitude."""
        mean = weight.detach().float().abs().mean()
        self.gain.copy_(torch.where(mean > 0, mean, torch.ones_like(mean)))


class _Xnor(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, alpha: Tensor) -> Tensor:
        ctx.save_for_backward(weight, alpha)
        return _sign(weight) * alpha

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        weight, alpha = ctx.saved_tensors
        count = weight.numel() / alpha.numel()
        return grads[0] * (alpha * (weight.abs() <= 1) + 1.0 / count), None


class XnorWeight(CodedWeight):
    """``sign(w)`` times the mean magnitude of the filter (or of the tensor, without a channel axis)."""

    kind = "binary"

    def __init__(self, channel_axis: int | None) -> None:
        super().__init__(1, channel_axis)

    def encode(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Codes -1 and +1, and alpha."""
        return _sign(weight), channel_mean(weight.float().abs(), self.channel_axis)

    def forward(self, weight: Tensor) -> Tensor:
        """Fake-quantised ``weight``, same shape."""
        with torch.no_grad():
            _, alpha = self.encode(weight)
        result: Tensor = _Xnor.apply(weight, alpha)  # type: ignore[no-untyped-call]
        return result

    def calibrate(self, weight: Tensor) -> None:
        """Nothing to choose: alpha follows the weight."""
