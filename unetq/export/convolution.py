"""Convolutions of the NumPy executor: exact integers, a matrix product a kernel tap.

Integer convolutions are computed by floating-point matrix products over integers. A product sum whose
terms' absolute values add up to less than 2**24 is exact in float32 in any order of summation, one
below 2**53 in float64; the bound is taken from the layer's own weights and code range.
"""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, UnsupportedError
from ..fixedpoint import Grid
from .program import Conv, Triple

Array = NDArray[Any]
FLOAT32_EXACT = 1 << 24
INT32_LIMIT = (1 << 31) - 1


def accumulator_bound(weight: Array, grid: Grid) -> int:
    """Largest |accumulator| a convolution can reach, or pass through, for any input on ``grid``.

    The sum over one output channel of |weight code| times the largest |code|; every partial sum, in
    any order, stays within it. ``weight`` is (O, I / groups, …) codes. Signed grids count with their lowest
    code even where they are narrow: a tensor may come from one that is not.
    """
    largest = 1 << (grid.bits - 1) if grid.signed else grid.high
    magnitudes = np.abs(weight.astype(np.int64)).reshape(weight.shape[0], -1).sum(axis=1)
    return int(magnitudes.max(initial=0)) * largest


def conv_output_size(op: Conv, size: Triple) -> Triple:
    """Spatial output size of a (transposed) convolution for an input of ``size``, as in torch."""
    kernel = op.weight.shape[2:]

    def one(a: int) -> int:
        span = op.dilation[a] * (kernel[a] - 1)
        padding = op.pad_before[a] + op.pad_after[a]
        if op.transposed:
            return int((size[a] - 1) * op.stride[a] - padding + span + op.output_padding[a] + 1)
        return int((size[a] + padding - span - 1) // op.stride[a] + 1)

    return one(0), one(1), one(2)


def fitting_output(op: Conv, size: Triple) -> Triple:
    """``conv_output_size``, at least 1 an axis.

    Raises:
        DataError: an input too small for the kernel.
    """
    out = conv_output_size(op, size)
    if min(out) < 1:
        raise DataError(f"layer {op.name}: an input of {size} gives an output of {out}; use a larger image.")
    return out


def tap_slice(start: int, step: int, count: int) -> slice:
    """What a kernel tap reads along an axis: ``count`` positions from ``start``, ``step`` apart."""
    return slice(start, start + step * (count - 1) + 1, step)


def _convolve(op: Conv, x: Array, weight: Array, zero: int) -> Array:
    """Dense convolution of x (C, D, H, W) in the arithmetic of ``weight``'s dtype, a matrix product a tap.

    Padded positions hold ``zero``, the code of the value 0.
    """
    out = fitting_output(op, (x.shape[1], x.shape[2], x.shape[3]))
    channels_out, channels_in = weight.shape[0] // op.groups, weight.shape[1]
    acc = np.zeros((weight.shape[0], *out), dtype=weight.dtype)
    widths = [(0, 0), *((b, max(a, 0)) for b, a in zip(op.pad_before, op.pad_after, strict=True))]
    padded = np.pad(x.astype(weight.dtype), widths, constant_values=zero)
    for tap in np.ndindex(*weight.shape[2:]):
        where = tuple(tap_slice(tap[a] * op.dilation[a], op.stride[a], out[a]) for a in range(3))
        view = padded[(slice(None), *where)]
        for g in range(op.groups):
            rows, columns = (
                slice(g * channels_out, (g + 1) * channels_out),
                slice(g * channels_in, (g + 1) * channels_in),
            )
            product = weight[rows, :, tap[0], tap[1], tap[2]] @ view[columns].reshape(channels_in, -1)
            acc[rows] += product.reshape(channels_out, *out)
    return acc


def _convolve_transposed(op: Conv, x: Array, weight: Array) -> Array:
    """Transposed convolution: each tap adds to ``input * stride + tap * dilation - pad_before``."""
    size: Triple = (x.shape[1], x.shape[2], x.shape[3])
    out = fitting_output(op, size)
    kernel = weight.shape[2:]
    channels_out, channels_in = weight.shape[0] // op.groups, weight.shape[1]
    full = [
        max((size[a] - 1) * op.stride[a] + op.dilation[a] * (kernel[a] - 1) + 1, op.pad_before[a] + out[a])
        for a in range(3)
    ]
    acc = np.zeros((weight.shape[0], *full), dtype=weight.dtype)
    values = x.astype(weight.dtype)
    for tap in np.ndindex(*kernel):
        where = tuple(tap_slice(tap[a] * op.dilation[a], op.stride[a], size[a]) for a in range(3))
        for g in range(op.groups):
            rows, columns = (
                slice(g * channels_out, (g + 1) * channels_out),
                slice(g * channels_in, (g + 1) * channels_in),
            )
            product = weight[rows, :, tap[0], tap[1], tap[2]] @ values[columns].reshape(channels_in, -1)
            acc[(rows, *where)] += product.reshape(channels_out, *size)
    keep = tuple(slice(op.pad_before[a], op.pad_before[a] + out[a]) for a in range(3))
    return acc[(slice(None), *keep)]


def convolution_accumulator(op: Conv, x: Array, grid: Grid | None) -> Array:
    """The accumulator of a convolution: an exact integer, or float32 where a float takes part.

    ``x`` is (C, D, H, W), codes (``grid`` given) or float32 (``grid`` None). Codes enter a float32
    convolution as integers; ``gain`` carries their scale either way. Codes are raw, padding is the zero-point.

    Raises:
        DataError: an input too small for the kernel.
        UnsupportedError: sums beyond int32, or a transposed convolution of codes with a zero-point.
    """
    if op.transposed and grid is not None and grid.zero_point:
        raise UnsupportedError(
            f"layer {op.name}: zero-point {grid.zero_point} at the input of a transposed convolution, where not every "
            "tap meets a pixel; use a grid with zero-point 0."
        )

    def apply(codes: Array, weight: Array) -> Array:
        if op.transposed:
            return _convolve_transposed(op, codes, weight)
        return _convolve(op, codes, weight, grid.zero_point if grid is not None else 0)

    if grid is None or op.weight_kind == "float32":
        return apply(x.astype(np.float32), op.weight.astype(np.float32))
    bound = accumulator_bound(op.weight, grid)
    if bound > INT32_LIMIT:
        raise UnsupportedError(
            f"layer {op.name}: accumulators may reach {bound}, int32 ends at {INT32_LIMIT}; use fewer bits."
        )
    exact = np.float32 if bound < FLOAT32_EXACT else np.float64
    return apply(x, op.weight.astype(exact)).astype(np.int32)


def macs(op: Conv, size: Triple) -> int:
    """Multiply–accumulates of a convolution for an input of ``size``; borders count in full."""
    positions = prod(size) if op.transposed else prod(conv_output_size(op, size))
    return positions * int(op.weight.size)
