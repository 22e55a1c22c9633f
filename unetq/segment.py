"""A volume through a network to a mask of its own grid: the whole rule of ``Preprocessing``. Imports no torch.

A 2-D network takes a volume slice by slice, so that beside the volume and its mask only one slice is in memory; a 3-D
network takes it at once, or window by window, and only its network-sized copy and logits lie beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .errors import DataError, UnsupportedError
from .export.program import ModelMeta, Preprocessing
from .fixedpoint import F32
from .geometry import orient, oriented_spacing
from .preprocess import decide, neighbours, network_image, network_size, volume_moments
from .resample import resample
from .tiling import input_size, places, tiled

Progress = Callable[[int, int], None]


class Network(Protocol):
    """What ``unetq.Runtime`` and ``unetq.onnx.session.OnnxModel`` have in common."""

    @property
    def spatial_rank(self) -> int: ...
    @property
    def input_channels(self) -> int: ...
    @property
    def input_multiple(self) -> tuple[int, ...]: ...
    @property
    def meta(self) -> ModelMeta: ...
    def run(self, x: NDArray[Any]) -> F32: ...


@dataclass(frozen=True)
class Frame:
    """How a network meets a volume.

    Attributes:
        preprocessing: of the network.
        axes: the axes code of the stored volume, "" where not known.
        spacing: mm (slices, rows, columns) once oriented, () where not known.
        size: pixels an axis of one image once oriented: (H, W) or (D, H, W).
        network: that size once resampled.
        call: the size the network is called with.
        parts: how many steps the work has: slices in 2-D, windows in 3-D.
    """

    preprocessing: Preprocessing
    axes: str
    spacing: tuple[float, ...]
    size: tuple[int, ...]
    network: tuple[int, ...]
    call: tuple[int, ...]
    parts: int


def frame(network: Network, shape: Sequence[int], axes: str | None, spacing: Sequence[float] | None) -> Frame:
    """Lay a network over a volume before anything is computed.

    Args:
        network: the model.
        shape: (channels, slices, rows, columns) as stored.
        axes, spacing: of the stored volume, as ``unetq.imageio.Volume`` has them.

    Raises:
        DataError: an orientation or spacing is wanted and not known, or the image is too large for a fixed size.
        UnsupportedError: other channels than the network takes.
    """
    preprocessing, rank = network.meta.preprocessing, network.spatial_rank
    _check_channels(network, preprocessing, shape[0])
    if preprocessing.orientation and not axes:
        raise DataError(
            f"the model wants images turned to {preprocessing.orientation} and this one does not say how it lies; "
            "give the directions of its rows, columns and slices with --axes, for example --axes LAS."
        )
    if any(preprocessing.spacing) and not spacing:
        wanted = " x ".join(f"{length:g}" for length in preprocessing.spacing)
        raise DataError(
            f"the model wants pixels of {wanted} mm and the image does not say how large its own are; "
            "give them with --spacing SLICES,ROWS,COLUMNS in mm."
        )
    turned = oriented_spacing(spacing or (), axes or "", preprocessing.orientation)
    grid = orient(np.broadcast_to(np.uint8(0), tuple(shape[1:])), axes or "", preprocessing.orientation).shape
    size = tuple(grid[-rank:])
    resampled = network_size(size, turned, preprocessing)
    call = _call_size(network, preprocessing, resampled)
    windows = sum(1 for _ in places(resampled, call, preprocessing.overlap)) if rank == 3 else 0
    return Frame(preprocessing, axes or "", turned, size, resampled, call, windows or grid[0])


def segment(
    network: Network, volume: NDArray[Any], frame: Frame, values: NDArray[np.uint8], progress: Progress | None = None
) -> NDArray[np.uint8]:
    """The mask of ``volume`` (channels, slices, rows, columns): uint8 (slices, rows, columns) on its own grid.

    Args:
        network: the model.
        volume: raw intensities as stored.
        frame: made for them by ``frame``.
        values: the label value of each class.
        progress: called with (steps done, ``frame.parts``), first with 0.
    """
    tell = progress or (lambda done, total: None)
    preprocessing = frame.preprocessing
    image = orient(volume, frame.axes, preprocessing.orientation)
    mask = np.empty(volume.shape[1:], dtype=np.uint8)
    turned = orient(mask, frame.axes, preprocessing.orientation)  # a view: what is written there lies in the mask
    tell(0, frame.parts)
    if network.spatial_rank == 3:
        steps = iter(range(1, frame.parts + 1))

        def run(window: F32) -> F32:
            logits: F32 = network.run(window[None])[0]
            tell(next(steps), frame.parts)
            return logits

        seen = network_image(image, frame.spacing, preprocessing)
        _decide_volume(tiled(run, seen, frame.call, preprocessing.overlap), turned, values)
        return mask
    moments = volume_moments(image, frame.spacing, preprocessing)
    context = preprocessing.context
    for index in range(image.shape[1]):
        stack = image[0, neighbours(index, image.shape[1], context)] if context else image[:, index]
        seen = network_image(stack, frame.spacing, preprocessing, moments)
        logits = tiled(lambda window: network.run(window[None])[0], seen, frame.call, preprocessing.overlap)
        turned[index] = values[decide(resample(logits, frame.size))]
        tell(index + 1, frame.parts)
    return mask


def _decide_volume(logits: F32, mask: NDArray[np.uint8], values: NDArray[np.uint8]) -> None:
    """Resample and decide slice by slice: the rule is an axis at a time, slices first, so that nothing changes."""
    logits = resample(logits, (mask.shape[0], *logits.shape[2:]))
    for index in range(mask.shape[0]):
        mask[index] = values[decide(resample(logits[:, index], mask.shape[1:]))]


def _check_channels(network: Network, preprocessing: Preprocessing, have: int) -> None:
    takes = network.input_channels
    if preprocessing.context:
        if takes != 2 * preprocessing.context + 1:
            raise UnsupportedError(
                f"the model takes {takes} channels and its preprocessing gives {2 * preprocessing.context + 1} slices "
                f"(context {preprocessing.context}): they must be equal; export the model again."
            )
        takes = 1
    if takes != have:
        raise UnsupportedError(
            f"the model takes {takes} channels and the image gives {have} (grey gives 1): they must be equal; use a "
            "NIfTI file of all channels, or call unetq.Runtime from Python with an array of them."
        )


def _call_size(network: Network, preprocessing: Preprocessing, size: tuple[int, ...]) -> tuple[int, ...]:
    rank = network.spatial_rank
    fixed = tuple(getattr(network, "fixed_size", None) or ())[-rank:]
    if not fixed:
        return input_size(size, preprocessing.window, network.input_multiple[-rank:])
    if preprocessing.window != fixed and any(have > want for have, want in zip(size, fixed, strict=True)):
        raise DataError(
            f"the image has {' x '.join(map(str, size))} pixels and the model was made for exactly "
            f"{' x '.join(map(str, fixed))}: larger ones do not fit; cut the image into parts."
        )
    return fixed
