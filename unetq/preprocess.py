"""From raw intensities to the network's input, and from logits to classes. NumPy only.

``Preprocessing`` itself (the record a model file carries) lives in ``unetq.export.program``; this
module is what its words mean, so that training, evaluation and prediction cannot drift apart.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, DataError
from .export.program import Preprocessing
from .fixedpoint import F32

SMALLEST_STD = 1e-6


def normalize(image: NDArray[Any], preprocessing: Preprocessing) -> F32:
    """Normalise one image, channel by channel, over all its pixels.

    Args:
        image: (C, H, W) or (C, D, H, W) raw intensities of any real type.
        preprocessing: what to do; see ``unetq.export.program.Preprocessing``.

    Returns:
        float32 of the same shape; statistics and arithmetic are float64, rounded once at the end.

    Raises:
        ConfigError: an unknown rule, or a window whose upper end is not above its lower end.
        DataError: the result is not finite (NaN, infinity, or beyond float32 in the input).
    """
    rule = preprocessing.normalize
    if rule == "none":
        result = np.asarray(image, dtype=np.float32)
    elif rule == "zscore":
        values = np.asarray(image, dtype=np.float64)
        axes = tuple(range(1, values.ndim))
        mean = values.mean(axis=axes, keepdims=True)
        std = values.std(axis=axes, keepdims=True)
        result = ((values - mean) / np.maximum(std, SMALLEST_STD)).astype(np.float32)
    elif rule == "window":
        low, high = preprocessing.low, preprocessing.high
        if not high > low:
            raise ConfigError(f"window {low} to {high}: the upper end must be above the lower end; swap or widen them.")
        values = np.asarray(image, dtype=np.float64)
        result = ((np.clip(values, low, high) - low) / (high - low)).astype(np.float32)
    else:
        raise ConfigError(f"normalize = {rule!r}: known are none, zscore and window; choose one of them.")
    if not np.isfinite(result).all():
        raise DataError(
            "an image is not finite after normalisation: intensities must be real numbers within float32; "
            "replace NaN and infinite pixels first."
        )
    return result


def padded_size(size: Sequence[int], multiple: Sequence[int]) -> tuple[int, ...]:
    """The smallest size that holds ``size`` and is a positive multiple of ``multiple`` an axis."""
    return tuple(max(-(-length // step), 1) * step for length, step in zip(size, multiple, strict=True))


def pad_to_size(image: NDArray[Any], size: Sequence[int]) -> NDArray[Any]:
    """Extend the last ``len(size)`` axes at their end to ``size``.

    An axis is mirrored (the border pixel is not repeated) where it is longer than what is added;
    where it is too short to mirror, its last pixel is repeated. Any axis of at least one pixel works.

    Raises:
        DataError: an axis has no pixel, or is already longer than asked for.
    """
    first = image.ndim - len(size)
    if any(length < 1 for length in image.shape[first:]):
        raise DataError(f"an image of {_times(image.shape[first:])} pixels: each side needs at least 1 pixel.")
    if any(have > want for have, want in zip(image.shape[first:], size, strict=True)):
        raise DataError(
            f"an image of {_times(image.shape[first:])} pixels does not fit into {_times(size)}: "
            "the model accepts no larger image; cut it into parts."
        )
    for axis, want in enumerate(size, start=first):
        extra = want - image.shape[axis]
        if extra:
            widths = [(0, 0)] * image.ndim
            widths[axis] = (0, extra)
            image = np.pad(image, widths, mode="reflect" if image.shape[axis] > extra else "edge")
    return image


def pad_to_multiple(image: NDArray[Any], multiple: Sequence[int]) -> NDArray[Any]:
    """Extend the last ``len(multiple)`` axes at their end to multiples; see ``pad_to_size`` for the rule."""
    return pad_to_size(image, padded_size(image.shape[image.ndim - len(multiple) :], multiple))


def crop(image: NDArray[Any], size: Sequence[int]) -> NDArray[Any]:
    """Undo ``pad_to_size``: the first ``size`` elements of the last ``len(size)`` axes (a view)."""
    window: tuple[Any, ...] = (..., *(slice(0, length) for length in size))
    return np.asarray(image[window])


def decide(logits: NDArray[Any]) -> NDArray[np.uint8]:
    """The class of each pixel, uint8, from logits (K, H, W) or (K, D, H, W), K at most 256.

    With one channel, class 1 where the logit is above 0; with more, the first of the largest.
    """
    if logits.shape[0] == 1:
        return np.asarray(logits[0] > 0, dtype=np.uint8)
    if logits.shape[0] > 256:
        raise DataError(f"{logits.shape[0]} classes: a mask holds at most 256; use a model with fewer classes.")
    return np.asarray(np.argmax(logits, axis=0), dtype=np.uint8)


def _times(size: Sequence[int]) -> str:
    return " x ".join(str(length) for length in size)
