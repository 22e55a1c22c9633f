"""Number formats, rounding and saturation: the definition every executor follows.

NumPy only. A *grid* is the set of values a tensor may take: ``value = (code - zero_point) * scale``.
In fixed-point mode the scale is a power of two, ``2 ** -fraction_bits``, and the zero-point is 0,
which is the usual Qi.f notation with ``i + f = bits - signed``.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError

Rounding = Literal["half_even", "toward_zero"]
F32 = NDArray[np.float32]
MIN_BITS, MAX_BITS = 1, 8
FRACTION_LIMIT = 64  # |fraction bits|: far inside float32's normal range, so no step is ever subnormal


@dataclass(frozen=True)
class Grid:
    """The values one tensor may take.

    Attributes:
        bits: width of a code, 1 to 8.
        signed: two's complement (``-2**(bits-1) … 2**(bits-1)-1``) or unsigned (``0 … 2**bits-1``).
        scale: the step size, a positive finite float32.
        zero_point: the code of the value 0; 0 but on unsigned grids that round half to even.
        rounding: how a real number becomes a code; ``half_even`` everywhere but in the ``paper`` method,
            whose ``toward_zero`` grids are sign and magnitude: a signed one is symmetric, without the lowest code.
        narrow: a signed grid of 2 bits or more without the lowest code, symmetric as weights often are.
        dynamic: the scale is found for each image from the values themselves (``dynamic_scale``); ``scale`` is 1,
            the zero-point 0, rounding half to even.

    Raises:
        ConfigError: a width, scale, zero-point or combination that breaks these rules.
    """

    bits: int
    signed: bool
    scale: float
    zero_point: int = 0
    rounding: Rounding = "half_even"
    narrow: bool = False
    dynamic: bool = False

    def __post_init__(self) -> None:
        if not MIN_BITS <= self.bits <= MAX_BITS:
            raise ConfigError(
                f"bits = {self.bits}: a grid has {MIN_BITS} to {MAX_BITS} bits; choose a width in that range."
            )
        if not (np.isfinite(self.scale) and self.scale > 0 and float(np.float32(self.scale)) == self.scale):
            raise ConfigError(
                f"scale = {self.scale}: a step size is a positive finite float32; re-calibrate the tensor."
            )
        if not self.low <= self.zero_point <= self.high:
            raise ConfigError(f"zero-point = {self.zero_point}: it must be a code, {self.low} to {self.high}.")
        if self.zero_point and (self.signed or self.rounding != "half_even"):
            raise ConfigError(
                f"zero-point = {self.zero_point}: only unsigned grids that round half to even have one; use 0 here."
            )
        if self.narrow and not (self.signed and self.bits > 1):
            raise ConfigError(
                f"a narrow grid of {self.bits} bit, signed = {self.signed}: only signed grids of 2 to {MAX_BITS} bits "
                "have a lowest code to spare; use narrow = False."
            )
        if self.dynamic and (self.zero_point, self.rounding, self.scale) != (0, "half_even", 1.0):
            raise ConfigError(
                f"a dynamic grid with zero-point {self.zero_point}, rounding {self.rounding}, scale {self.scale}: "
                "its scale is found at run time; use 0, half_even and 1."
            )

    @property
    def low(self) -> int:
        """Smallest code."""
        if not self.signed:
            return 0
        return -(1 << (self.bits - 1)) + (1 if self.narrow or self.rounding == "toward_zero" else 0)

    @property
    def high(self) -> int:
        """Largest code."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    @property
    def inverse_scale(self) -> np.float32:
        """``1 / scale`` rounded once to float32; exact when the scale is a power of two."""
        return np.float32(1.0 / self.scale)

    def storage_dtype(self) -> type[np.int8] | type[np.uint8]:
        """The smallest NumPy type that holds every code."""
        return np.int8 if self.signed else np.uint8


def fixed_point_grid(bits: int, fraction_bits: int, signed: bool) -> Grid:
    """The true b-bit Qi.f grid: step ``2 ** -fraction_bits``, zero-point 0, saturating, half to even.

    Raises:
        ConfigError: ``bits`` outside 1…8 or ``|fraction_bits|`` above 64.
    """
    if abs(fraction_bits) > FRACTION_LIMIT:
        raise ConfigError(
            f"fraction bits = {fraction_bits}: allowed are -{FRACTION_LIMIT} to {FRACTION_LIMIT}; rescale the data."
        )
    return Grid(bits=bits, signed=signed, scale=float(2.0**-fraction_bits))


def round_half_even(values: NDArray[Any]) -> NDArray[Any]:
    """Round to the nearest integer, ties to the even one (IEEE 754 roundTiesToEven)."""
    rounded: NDArray[Any] = np.rint(values)
    return rounded


def round_toward_zero(values: NDArray[Any]) -> NDArray[Any]:
    """Drop the fraction (IEEE 754 roundTowardZero)."""
    rounded: NDArray[Any] = np.trunc(values)
    return rounded


def saturate(values: NDArray[Any], low: int, high: int) -> NDArray[Any]:
    """Clamp to ``low … high``; NaN becomes ``low`` (the order of comparison that SIMD max/min has)."""
    clipped = np.where(values > low, values, np.asarray(low, dtype=values.dtype))
    return np.where(clipped < high, clipped, np.asarray(high, dtype=values.dtype))


def quantize(values: F32, grid: Grid) -> NDArray[np.int16]:
    """Real float32 values of any shape to codes of ``grid``, in the order every executor uses.

    ``code = round(saturate(x * inverse_scale)) + zero_point`` where saturation is to the code range
    less the zero-point. Both bounds are integers, so saturating first equals saturating last.
    """
    scaled = np.asarray(values, dtype=np.float32) * grid.inverse_scale
    clipped = saturate(scaled, grid.low - grid.zero_point, grid.high - grid.zero_point)
    rounded = round_half_even(clipped) if grid.rounding == "half_even" else round_toward_zero(clipped)
    return (rounded.astype(np.int16) + np.int16(grid.zero_point)).astype(np.int16)


def dynamic_scale(values: F32, grid: Grid) -> np.float32:
    """The scale of a dynamic ``grid`` for the values of one image: ``float32(max|x|) / float32(grid.high)``.

    One float32 division; NaN never is the maximum. 1 where the quotient lies outside 2**-126 … 2**126 (all
    values 0, subnormal, infinite, or a grid whose largest code is 0), so that it and its inverse are normal.
    """
    largest = np.fmax.reduce(np.abs(np.asarray(values, dtype=np.float32)), axis=None, initial=np.float32(0))
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.float32(largest) / np.float32(grid.high)
    return scale if np.float32(2.0**-126) <= scale <= np.float32(2.0**126) else np.float32(1)


def quantize_dynamic(values: F32, grid: Grid) -> tuple[NDArray[np.int16], np.float32]:
    """Codes of one image on a dynamic ``grid``, and the scale found for it (its inverse is a float32 division)."""
    scale = dynamic_scale(values, grid)
    return quantize(values, replace(grid, dynamic=False, scale=float(scale))), scale


def dequantize(codes: NDArray[Any], grid: Grid) -> F32:
    """Codes of ``grid`` back to float32 values: ``(code - zero_point) * scale``."""
    return (np.asarray(codes, dtype=np.float32) - np.float32(grid.zero_point)) * np.float32(grid.scale)
