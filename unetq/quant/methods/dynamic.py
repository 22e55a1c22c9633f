"""Dynamic activation ranges: the step of each image is ``max|x| / high``, found while it is processed.

Nothing is calibrated or learned; the device does the same from its own accumulators (``fixedpoint.dynamic_scale``).
Gradient: straight through everywhere, as nothing saturates.
"""

import torch
from torch import Tensor

from ...fixedpoint import F32, Grid
from ..quantizer import ActivationQuantizer
from .coded import straight_through

SMALLEST, LARGEST = 2.0**-126, 2.0**126


class DynamicActivation(ActivationQuantizer):
    """One step a tensor and image; ``bits`` 1 to 8, two's complement (2 to 8) or unsigned."""

    def __init__(self, bits: int, signed: bool) -> None:
        super().__init__(bits, signed)
        grid = self.grid()
        self.low, self.high = grid.low, grid.high

    def forward(self, x: Tensor) -> Tensor:
        """Fake-quantised ``x`` (N, C, …), same shape and dtype."""
        with torch.no_grad():
            wide = x.float()
            scale = wide.abs().flatten(1).amax(dim=1) / self.high
            scale = torch.where((scale >= SMALLEST) & (scale <= LARGEST), scale, 1.0)
            scale = scale.reshape(-1, *([1] * (x.ndim - 1)))
            value = (wide * (1.0 / scale)).clamp(self.low, self.high).round() * scale
        return straight_through(x, value.to(x.dtype))

    def calibrate(self, values: F32) -> None:
        """Nothing to choose."""

    def grid(self) -> Grid:
        """The grid, whose scale is the image's own."""
        return Grid(self.bits, self.signed, 1.0, dynamic=True)
