"""Linear resampling with one written arithmetic, so that every reader of a model gets the same bits. NumPy only.

An axis of n samples becomes one of m over the same field of view: output o lies at ``(o + 0.5) * (n / m) - 0.5`` of
the input, held within 0 … n-1. The position is float64; the weight ``t`` of the upper neighbour is its fraction,
rounded to float32. The value is ``a * (1 - t) + b * t``, each operation rounded to float32. Axes are taken one after
another, first to last; one with n = m is not touched.
"""

from collections.abc import Sequence
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .fixedpoint import F32

STEPS_PER_MM = 10_000  # spacings are compared in tenths of a micrometre


def resampled_size(size: Sequence[int], have: Sequence[float], want: Sequence[float]) -> tuple[int, ...]:
    """Samples an axis after resampling from spacing ``have`` to ``want`` (mm; a ``want`` of 0 keeps the axis).

    ``max(1, floor(n * have / want + 0.5))`` with ``have`` rounded to 0.0001 mm, in float64.

    Raises:
        DataError: a spacing that is not positive.
    """
    result = []
    for length, own, wanted in zip(size, have, want, strict=True):
        if wanted == 0:
            result.append(int(length))
            continue
        rounded = floor(own * STEPS_PER_MM + 0.5) / STEPS_PER_MM
        if not rounded > 0:
            raise DataError(f"a spacing of {own} mm cannot be resampled: it must be above 0; correct the geometry.")
        result.append(max(1, floor(length * rounded / wanted + 0.5)))
    return tuple(result)


def resample(image: NDArray[Any], size: Sequence[int]) -> F32:
    """``image`` (..., spatial), its last ``len(size)`` axes brought to ``size``; float32, shared where untouched."""
    result = np.asarray(image, dtype=np.float32)
    first = result.ndim - len(size)
    for axis, length in enumerate(size, start=first):
        result = _along(result, axis, int(length))
    return result


def resample_label(label: NDArray[np.uint8], size: Sequence[int], classes: int) -> NDArray[np.uint8]:
    """Class indices on another grid: each class's share by ``resample``, then the largest, the lowest class first."""
    if tuple(label.shape) == tuple(size):
        return label
    best = resample(label == 0, size)
    result = np.zeros(tuple(size), dtype=np.uint8)
    for number in range(1, classes):
        share = resample(label == number, size)
        result[share > best] = number
        np.maximum(best, share, out=best)
    return result


def _along(values: F32, axis: int, length: int) -> F32:
    have = values.shape[axis]
    if have == length:
        return values
    position = np.clip((np.arange(length) + 0.5) * (have / length) - 0.5, 0.0, have - 1.0)
    lower = np.minimum(np.floor(position).astype(np.int64), max(have - 2, 0))
    weight = (position - lower).astype(np.float32)
    shape = [1] * values.ndim
    shape[axis] = length
    upper_weight = weight.reshape(shape)
    lower_weight = (np.float32(1.0) - weight).reshape(shape)
    result: F32 = np.take(values, lower, axis) * lower_weight
    result += np.take(values, np.minimum(lower + 1, have - 1), axis) * upper_weight
    return result
