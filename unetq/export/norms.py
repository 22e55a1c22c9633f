"""Instance and group norm by exact sums: gain and offset of each channel, computed for each image.

Integer accumulators have exact sums (the squares in two 32-bit halves). What follows is float64, each
operation rounded, in the order written here, so that every executor gets the same float32 numbers.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..fixedpoint import F32
from .program import InstanceNorm

Array = NDArray[Any]
F64 = NDArray[np.float64]
TWO_32 = 4294967296.0


def _sums(flat: Array) -> tuple[F64, F64]:
    """Sum and sum of squares of each row: exact integers rounded once (squares: three times), or float64 sums."""
    if np.issubdtype(flat.dtype, np.integer):
        wide = flat.astype(np.int64)
        squares = wide * wide
        high, low = (squares >> 32).sum(axis=1), (squares & 0xFFFFFFFF).sum(axis=1)
        return wide.sum(axis=1).astype(np.float64), high.astype(np.float64) * TWO_32 + low.astype(np.float64)
    real = flat.astype(np.float64)
    return real.sum(axis=1), (real * real).sum(axis=1)


def instance_norm_affine(acc: Array, gain: F32, norm: InstanceNorm) -> tuple[F32, F32]:
    """Per-channel gain and offset that normalise each channel of the accumulator ``acc`` (C, …) of one image."""
    flat = acc.reshape(acc.shape[0], -1)
    count = np.float64(flat.shape[1])
    total, squares = _sums(flat)
    mean, mean_square = total / count, squares / count
    variance = np.maximum(mean_square - mean * mean, 0.0)
    scale = gain.astype(np.float64)
    root = 1.0 / np.sqrt((variance * scale) * scale + np.float64(norm.eps))
    a = (scale * root) * norm.weight.astype(np.float64)
    b = norm.bias.astype(np.float64) - mean * a
    return a.astype(np.float32), b.astype(np.float32)


def group_norm_affine(acc: Array, gain: F32, offset: F32, norm: InstanceNorm) -> tuple[F32, F32]:
    """Per-channel gain and offset that normalise ``acc * gain[c] + offset[c]`` over the channels of each group.

    With n values a channel and S, Q the sums of a channel's accumulators and of their squares, the channel adds
    ``gain*S + n*offset`` to its group's sum and ``((gain*gain)*Q + ((2*gain)*offset)*S) + (n*offset)*offset`` to
    its sum of squares, channel after channel. Group norm: Wu & He 2018, arXiv 1803.08494, equations 1 to 4.
    """
    flat = acc.reshape(norm.groups, -1, int(np.prod(acc.shape[1:])))
    channels, n = flat.shape[1], np.float64(flat.shape[2])
    total, squares = np.zeros(norm.groups), np.zeros(norm.groups)
    gains, offsets = (v.astype(np.float64).reshape(norm.groups, channels) for v in (gain, offset))
    for c in range(channels):
        g, o = gains[:, c], offsets[:, c]
        s, q = _sums(flat[:, c])
        total = total + (g * s + n * o)
        squares = squares + (((g * g) * q + ((2.0 * g) * o) * s) + (n * o) * o)
    count = n * np.float64(channels)
    mean = total / count
    variance = np.maximum(squares / count - mean * mean, 0.0)
    root = 1.0 / np.sqrt(variance + np.float64(norm.eps))
    weight, bias = (v.astype(np.float64).reshape(norm.groups, channels) for v in (norm.weight, norm.bias))
    a = (gains * root[:, None]) * weight
    b = ((offsets - mean[:, None]) * root[:, None]) * weight + bias
    return a.reshape(-1).astype(np.float32), b.reshape(-1).astype(np.float32)


def norm_affine(acc: Array, gain: F32, offset: F32, norm: InstanceNorm) -> tuple[F32, F32]:
    """The gain and offset of an epilogue with ``norm``, for the accumulator ``acc`` (C, …) of one image."""
    if norm.groups:
        return group_norm_affine(acc, gain, offset, norm)
    return instance_norm_affine(acc, gain, norm)
