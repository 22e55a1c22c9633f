"""Sliding windows over an image that is larger than what a network shall see at once. NumPy only.

Windows lie as MONAI's ``sliding_window_inference`` lays them: an axis of L pixels under a window of w has
``ceil((L - w) / step) + 1`` of them, ``step = max(1, int(w * (1 - overlap)))``, at ``min(i * step, L - w)``. Their
logits are blended with the weight ``min(i + 1, w - i)`` along each axis, multiplied over the axes: whole numbers, exact
in float32 as long as they stay below 2**24. Sums run over the windows in row-major order, each operation in float32.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np

from .errors import ConfigError
from .fixedpoint import F32
from .preprocess import crop, pad_to_size, padded_size

Run = Callable[[F32], F32]


def starts(length: int, window: int, overlap: float) -> list[int]:
    """Where windows begin along an axis; [0] where one holds it all."""
    if length <= window:
        return [0]
    step = max(1, int(window * (1.0 - overlap)))
    count = -(-(length - window) // step) + 1
    return [min(i * step, length - window) for i in range(count)]


def input_size(size: Sequence[int], window: Sequence[int], multiple: Sequence[int]) -> tuple[int, ...]:
    """What the network is called with for an image of ``size``: the window, or the padded image where it is shorter.

    ``window`` () means the whole image.
    """
    padded = padded_size(size, multiple)
    return tuple(min(p, w) for p, w in zip(padded, window, strict=True)) if window else padded


def weights(size: Sequence[int]) -> F32:
    """The blending weights of a window, float32 of that size."""
    result = np.ones((), dtype=np.float32)
    for length in size:
        ramp = np.arange(length)
        result = result[..., None] * np.minimum(ramp + 1, length - ramp).astype(np.float32)
    return result


def places(size: Sequence[int], call: Sequence[int], overlap: float) -> Iterator[tuple[int, ...]]:
    """The first pixel of every window of size ``call``, in row-major order."""
    return product(*(starts(have, window, overlap) for have, window in zip(size, call, strict=True)))


def windows(image: F32, call: Sequence[int], overlap: float) -> Iterator[F32]:
    """The windows of ``image`` (C, spatial), contiguous float32 (C, *call), in row-major order.

    An axis shorter than ``call`` is extended at its end; see ``unetq.preprocess``.
    """
    padded = _filled(image, call)
    for corner in places(image.shape[1:], call, overlap):
        yield np.ascontiguousarray(padded[(slice(None), *_where(corner, call))])


def tiled(run: Run, image: F32, call: Sequence[int], overlap: float) -> F32:
    """Logits (K, spatial) of ``image`` (C, spatial), float32, from calls of ``run`` on windows (C, *call).

    ``run`` gives (K, *call).
    """
    size = image.shape[1:]
    if len(list(places(size, call, overlap))) == 1:
        return np.asarray(crop(run(next(windows(image, call, overlap))), size))
    weight = weights(call)
    total: F32 | None = None
    share = np.zeros([max(have, want) for have, want in zip(size, call, strict=True)], dtype=np.float32)
    for corner, window in zip(places(size, call, overlap), windows(image, call, overlap), strict=True):
        logits = run(window)
        if total is None:
            total = np.zeros((len(logits), *share.shape), dtype=np.float32)
        where = _where(corner, call)
        total[(slice(None), *where)] += logits * weight
        share[where] += weight
    assert total is not None  # there is always a window
    return np.asarray(crop(total / share, size))


def _filled(image: F32, call: Sequence[int]) -> F32:
    return pad_to_size(image, [max(have, want) for have, want in zip(image.shape[1:], call, strict=True)])


def _where(corner: Sequence[int], call: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(first, first + length) for first, length in zip(corner, call, strict=True))


def check_window(window: Sequence[int], multiple: Sequence[int]) -> None:
    """Refuse a window that the network does not take.

    Raises:
        ConfigError: another number of axes, or a side that is no multiple of the network's stride.
    """
    fits = len(window) == len(multiple) and not any(a % b for a, b in zip(window, multiple, strict=True))
    if not fits:
        raise ConfigError(
            f"window {' x '.join(map(str, window))}: its sides must be multiples of the network's stride "
            f"{' x '.join(map(str, multiple))}; set data.preprocessing.window."
        )
