"""What a quantiser is: a trainable module with an exact integer face."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ..export.program import WeightKind
from ..fixedpoint import F32, Grid


@dataclass(frozen=True)
class WeightCodes:
    """Weights as integers: ``weight ≈ codes * scale`` with ``scale`` (1,) or (O,) float32.

    Of the kind "shifted", ``codes`` already hold ``code << shift``; ``shift`` is (O, groups of inputs) uint8.
    """

    codes: NDArray[np.int8]
    scale: F32
    bits: int
    kind: WeightKind
    shift: NDArray[np.uint8] | None = None
    group_size: int = 0


class Unrounded(NamedTuple):
    """What a quantiser rounds, in the tensor's shape, and the step it rounds by (broadcastable); differentiable."""

    value: Tensor
    step: Tensor


def clipped(x: Tensor, step: Tensor, low: Tensor | int, high: Tensor | int, gradient_scale: float = 1.0) -> Unrounded:
    """``x`` clipped to ``low … high`` steps; the step's gradient, through both parts, is times ``gradient_scale``."""
    step = step.detach() + (step - step.detach()) * gradient_scale
    return Unrounded(x.clamp(low * step, high * step), step)


class WeightQuantizer(nn.Module, ABC):
    """Base of weight quantisers: ``forward`` fake-quantises for training, ``codes`` is what is shipped.

    ``bits`` is the width asked for, ``channel_axis`` the axis with a step of its own (None: one step a tensor).
    ``snaps``: its learned numbers are rounded before use, so that they are frozen before the training ends.
    """

    snaps = False

    def __init__(self, bits: int, channel_axis: int | None) -> None:
        super().__init__()
        self.bits = bits
        self.channel_axis = channel_axis

    @abstractmethod
    def forward(self, weight: Tensor) -> Tensor:
        """Fake-quantised ``weight``, same shape; differentiable."""

    def unrounded(self, weight: Tensor) -> Unrounded | None:
        """What ``forward`` rounds; None where levels are not even."""
        return None

    @abstractmethod
    def calibrate(self, weight: Tensor) -> None:
        """Choose the step sizes from the weight itself."""

    @abstractmethod
    def codes(self, weight: F32) -> WeightCodes:
        """The integers that represent ``weight``; ``codes * scale`` equals ``forward`` exactly."""


class ActivationQuantizer(nn.Module, ABC):
    """Base of activation quantisers: one grid a tensor. ``snaps`` is as for weights."""

    snaps = False

    def __init__(self, bits: int, signed: bool) -> None:
        super().__init__()
        self.bits = bits
        self.signed = signed

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Fake-quantised ``x``, same shape; differentiable."""

    def unrounded(self, x: Tensor) -> Unrounded | None:
        """What ``forward`` rounds; None where there are no even steps, or no range."""
        return None

    @abstractmethod
    def calibrate(self, values: F32) -> None:
        """Choose the grid from a flat float32 sample of the tensor's values."""

    @abstractmethod
    def grid(self) -> Grid:
        """The grid whose values ``forward`` produces."""
