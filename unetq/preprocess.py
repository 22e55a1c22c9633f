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
from .moments import Moments, moments_of
from .resample import resample, resampled_size

SMALLEST_STD = 1e-6


def network_size(size: Sequence[int], spacing: Sequence[float], preprocessing: Preprocessing) -> tuple[int, ...]:
    """The size that an oriented image of ``size``, (H, W) or (D, H, W), is resampled to.

    Args:
        size: pixels an axis.
        spacing: mm (slice, row, column), or () where it is not known.
        preprocessing: its ``spacing`` decides.

    Raises:
        DataError: a spacing is wanted and that of the image is not known, or not positive.
        ConfigError: the record has another number of entries than the network's axes.
    """
    wanted = preprocessing.spacing
    if not any(wanted):
        return tuple(size)
    if len(wanted) != len(size):
        raise ConfigError(
            f"spacing {list(wanted)}: a network of {len(size)} spatial axes takes {len(size)} numbers, "
            "(slices,) rows and columns; give as many."
        )
    if len(spacing) != 3:
        raise DataError(
            f"the network wants pixels of {' x '.join(f'{v:g}' for v in wanted)} mm and the image does not say how "
            "large its own are; use a format with geometry (NIfTI, DICOM), or give the spacing."
        )
    return resampled_size(size, spacing[3 - len(size) :], wanted)


def network_image(
    image: NDArray[Any], spacing: Sequence[float], preprocessing: Preprocessing, moments: Moments | None = None
) -> F32:
    """An oriented image as the network sees it: resampled, then normalised; float32 (C, network_size).

    Args:
        image: (C, H, W) or (C, D, H, W) intensities, entering as float32.
        spacing: mm (slice, row, column), or ().
        preprocessing: what to do.
        moments: for ``over="volume"`` of a 2-D network, those of the whole volume; see ``volume_moments``.

    Raises:
        DataError, ConfigError: as ``network_size`` and ``normalize``.
    """
    values = np.asarray(image, dtype=np.float32)
    values = resample(values, network_size(values.shape[1:], spacing, preprocessing))
    return normalize(values, preprocessing, moments)


def volume_moments(volume: NDArray[Any], spacing: Sequence[float], preprocessing: Preprocessing) -> Moments | None:
    """What ``over="volume"`` needs of an oriented volume (C, slices, H, W) that is seen slice by slice; else None.

    Its slices are resampled as the network sees them; mean and population standard deviation are float64.
    """
    if preprocessing.normalize != "zscore" or preprocessing.over != "volume":
        return None
    size = network_size(volume.shape[2:], spacing, preprocessing)
    if size == volume.shape[2:] and np.can_cast(volume.dtype, np.float32):
        return moments_of(volume)  # all its values are float32 values: no copy
    return moments_of(resample(volume, size))


def neighbours(index: int, slices: int, context: int) -> list[int]:
    """The slices that a 2-D network sees for slice ``index``: ``context`` on each side, the ends repeated."""
    return [min(max(index + step, 0), slices - 1) for step in range(-context, context + 1)]


def normalize(image: NDArray[Any], preprocessing: Preprocessing, moments: Moments | None = None) -> F32:
    """Normalise one image, channel by channel, over all its pixels, or by the ``moments`` of its volume.

    Args:
        image: (C, H, W) or (C, D, H, W) raw intensities of any real type.
        preprocessing: what to do; see ``unetq.export.program.Preprocessing``.
        moments: mean and standard deviation of each channel, instead of the image's own; one pair serves all channels.

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
        column = (-1, *[1] * (values.ndim - 1))
        mean, std = (np.reshape(part, column) for part in (moments or moments_of(values)))
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
