"""Mean and standard deviation of an image's channels, to the bits that NumPy gives, without a float64 copy of it.

``unetq-run`` computes the same numbers (deploy/runtime/tools/preprocess.cpp), so the order of the sums is a contract:
that of NumPy's pairwise summation over all values of a channel in C order. A range of more than 128 values is halved
at a multiple of 8, and its sum is that of its halves. So the sum of a long range is made of the sums of ranges that
NumPy's own halving meets, and only one of these is in float64 at a time.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Moments = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation, an entry each channel."""
PIECE = 1 << 20
"""How many values are in float64 at once: 8 MB, and as much again for what is made of them."""


def moments_of(image: NDArray[Any]) -> Moments:
    """Mean and population standard deviation of each channel of ``image``, (C, …) of any real type.

    The bits are those of ``mean`` and ``std`` of a C-contiguous float64 copy, however the image lies in memory.
    """
    pairs = [_channel(channel) for channel in image]
    return tuple(mean for mean, _ in pairs), tuple(std for _, std in pairs)


def _channel(values: NDArray[Any]) -> tuple[float, float]:
    count = np.float64(values.size)
    mean = _sum(values, 0, values.size, lambda piece: piece) / count

    def squared(piece: F64) -> F64:
        piece = piece - mean
        return np.multiply(piece, piece, out=piece)

    return float(mean), float(np.sqrt(_sum(values, 0, values.size, squared) / count))


def _sum(values: NDArray[Any], first: int, end: int, part: Callable[[F64], F64]) -> np.float64:
    """The sum of ``part`` of the values from ``first`` to ``end`` in C order."""
    count = end - first
    if count <= PIECE:
        return np.float64(np.add.reduce(part(_piece(values, first, end))))
    half = count // 2
    half -= half % 8
    return np.float64(_sum(values, first, first + half, part) + _sum(values, first + half, end, part))


def _piece(values: NDArray[Any], first: int, end: int) -> F64:
    """The values from ``first`` to ``end`` in C order, float64."""
    if values.flags.c_contiguous:
        return values.reshape(-1)[first:end].astype(np.float64)
    row = values[0].size  # turned in memory: whole rows, and what of them belongs to the range
    rows = values[first // row : -(-end // row)]
    flat = np.ascontiguousarray(rows, dtype=np.float64).reshape(-1)
    return flat[first % row : first % row + end - first]
