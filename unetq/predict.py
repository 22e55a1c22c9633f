"""One model file, one image, one mask: the whole way on the device side. Imports no torch.

The image is turned, resampled, normalised and cut as the model's own preprocessing says, and the mask comes back
on the image's grid; see ``unetq.segment`` and ``unetq.export.program.Preprocessing``. A 2-D model runs slice by
slice, a 3-D model takes the volume at once or window by window. An image smaller than the model's stride would be
mostly extension and is refused unless asked for.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, DataError, UnsupportedError
from .export.program import ModelMeta
from .geometry import check_axes
from .imageio import Volume, check_output, read_image, write_mask
from .onnx.session import OnnxModel, is_onnx
from .runtime import Runtime
from .segment import Frame, frame, segment

Progress = Callable[[int, int], None]
Model = Runtime | OnnxModel


def predict(
    model_path: str | Path,
    image_path: str | Path,
    out_path: str | Path,
    progress: Progress | None = None,
    *,
    allow_small: bool = False,
    threads: int = 1,
    axes: str = "",
    spacing: Sequence[float] = (),
) -> dict[str, Any]:
    """Segment ``image_path`` with ``model_path`` in the C++ runtime and write the mask to ``out_path``.

    Nothing is written before the whole mask is there, and then in one rename: a failure leaves whatever
    was at ``out_path``. The mask has the image's geometry and the model's label values, as uint8.

    Args:
        model_path: a ``.uqm`` file, or an ``.onnx`` file that ``unetq export --onnx`` wrote (it runs in onnxruntime).
        image_path: TIFF, PNG, NIfTI or .npy, or the folder of one DICOM series; see ``unetq.imageio``.
        out_path: the mask; neither of the two inputs.
        progress: called with (steps done, steps in all), first with 0: slices of a 2-D model, windows of a 3-D one.
        allow_small: take an image smaller than the model's stride, with a warning, instead of refusing it.
        threads: how many run a slice together; the mask does not depend on it.
        axes: for an image that does not say so: where rows, columns and slices increase to, such as "LAS".
        spacing: for an image that does not say so: mm (slices, rows, columns).

    Returns:
        A summary that JSON can hold: paths, format, slices, size, geometry, instruction set, arena bytes,
        seconds, pixels a label (and millilitres, where the spacing is known), warnings.

    Raises:
        DataError: an image that is missing, damaged, in colour, constant, not finite, or too small (see above), or
            that does not tell the geometry which the model needs.
        ConfigError: an output that cannot carry the geometry, or is one of the inputs; ``axes`` or ``spacing`` that
            cannot be or contradict the image.
        UnsupportedError: a model of other channels than the image has, or label values beyond 255.
        ModelFileError, DeviceError: the model is damaged, or the runtime refuses it.
        OutputError: the mask cannot be written.
    """
    model_path, image_path, out_path = Path(model_path), Path(image_path), Path(out_path)
    check_given(axes, spacing)
    started = time.perf_counter()
    image = read_for(image_path, out_path, model_path, axes, spacing)
    with open_model(model_path, threads) as model:
        summary = predict_with(model, image, out_path, progress, allow_small=allow_small)
    summary["seconds"] = round(time.perf_counter() - started, 3)
    return {"model": str(model_path), **summary}


def parse_spacing(text: str) -> tuple[float, ...]:
    """ "3,0.5,0.5" as numbers; "" as none.

    Raises:
        ConfigError: something that is no number.
    """
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise ConfigError(
            f"spacing {text!r}: three lengths in mm are expected, of slices, rows and columns, such as 3,0.5,0.5."
        ) from error


def check_given(axes: str, spacing: Sequence[float]) -> None:
    """Refuse a geometry told by hand that cannot be.

    Raises:
        ConfigError: no axes code, or not three positive spacings.
    """
    if axes:
        try:
            check_axes(axes)
        except DataError as error:
            raise ConfigError(str(error)) from error
    if spacing and (len(spacing) != 3 or not all(0 < length < float("inf") for length in spacing)):
        raise ConfigError(
            f"spacing {', '.join(f'{v:g}' for v in spacing)}: three lengths in mm above 0 are expected, "
            "of slices, rows and columns, such as 3,0.5,0.5."
        )


def read_for(image_path: Path, out_path: Path, model_path: Path, axes: str, spacing: Sequence[float]) -> Volume:
    """The image, once it is clear that its mask could be written; with the geometry told by hand where it has none.

    Raises:
        DataError, ConfigError: as ``predict``.
    """
    image = read_image(image_path, channels=True)
    check_output(out_path, image)
    if out_path.exists() and model_path.exists() and out_path.samefile(model_path):
        raise ConfigError(f"output {out_path} is the model file; models are never overwritten; choose another name.")
    if axes and image.axes and axes != image.axes:
        raise ConfigError(f"axes {axes} are given and {image_path} says {image.axes}: leave --axes out.")
    if spacing and image.spacing and not np.allclose(spacing, image.spacing, rtol=1e-3):
        own = ", ".join(f"{length:g}" for length in image.spacing)
        raise ConfigError(
            f"spacing {', '.join(f'{v:g}' for v in spacing)} mm is given and {image_path} says {own}: "
            "leave --spacing out."
        )
    return replace(image, axes=image.axes or axes or None, spacing=image.spacing or tuple(spacing) or None)


def predict_with(
    model: Model, image: Volume, out_path: Path, progress: Progress | None = None, *, allow_small: bool = False
) -> dict[str, Any]:
    """``predict`` for an opened model and an image that ``read_for`` gave; the summary lacks the model's path.

    Raises:
        As ``predict``.
    """
    started = time.perf_counter()
    _refuse_constant(image)
    values = _label_values(model.meta)
    try:
        laid = frame(model, image.channels.shape, image.axes, image.spacing)
    except DataError as error:
        raise DataError(f"{image.path}: {error}") from error
    small = _too_small(model, laid)
    if small and not allow_small:
        raise DataError(f"{image.path}: {small} Use a larger image, a model with fewer levels, or allow small images.")
    masks = segment(model, image.channels, laid, values, progress)
    labels = model.meta.labels
    write_mask(out_path, masks, image, list(zip(labels, map(int, values), strict=True)))
    pixels = np.zeros(256, dtype=np.int64)
    for plane in masks:  # at once, it would be copied as 64-bit numbers
        pixels += np.bincount(plane.reshape(-1), minlength=256)
    counts = {label: int(pixels[value]) for label, value in zip(labels, values, strict=True)}
    voxel = float(np.prod(image.spacing)) / 1000 if image.spacing else None
    return {
        "image": str(image.path),
        "output": str(out_path),
        "format": image.kind,
        "slices": image.grid[0],
        "size": list(image.grid[1:]),
        "axes": image.axes,
        "spacing_mm": list(image.spacing) if image.spacing else None,
        "network_size": list(laid.network),
        "isa": model.isa,
        "arena_bytes": model.plan(laid.call).arena_bytes,
        "seconds": round(time.perf_counter() - started, 3),
        "pixels": counts,
        "millilitres": {label: round(n * voxel, 3) for label, n in counts.items()} if voxel is not None else None,
        "warnings": [*image.warnings, *([small] if small else [])],
    }


def open_model(path: Path, threads: int) -> Model:
    """A ``.uqm`` file in the C++ runtime, an ``.onnx`` file of ours in onnxruntime."""
    return OnnxModel(path, threads) if is_onnx(path) else Runtime(path, threads=threads)


def describe(summary: dict[str, Any]) -> str:
    """A summary in one line for people."""
    size = " x ".join(map(str, summary["size"]))
    arena = summary["arena_bytes"]
    memory = f", working memory {arena / 1e6:.1f} MB" if arena is not None else ""
    return (
        f"{summary['output']}: {summary['slices']} slice(s) of {size} in {summary['seconds']:.2f} s "
        f"({summary['isa']}{memory})"
    )


def _label_values(meta: ModelMeta) -> NDArray[np.uint8]:
    for label, value in zip(meta.labels, meta.label_values, strict=True):
        if not 0 <= value <= 255:
            raise UnsupportedError(
                f"label {label!r} has the value {value}: a mask is uint8, 0 to 255; export the model with such values."
            )
    return np.array(meta.label_values, dtype=np.uint8)


def _refuse_constant(image: Volume) -> None:
    """A whole image of one value carries nothing; single empty slices of a volume are common and pass."""
    first = image.data.flat[0]
    if all((plane == first).all() for plane in image.data):
        raise DataError(
            f"image {image.path} is constant (every pixel is {first}): there is nothing to segment; "
            "check that it is the right file."
        )


def _too_small(model: Model, laid: Frame) -> str:
    """A sentence where the network would see mostly extension, else ""."""
    multiple = model.input_multiple[-model.spatial_rank :]
    if all(have >= step for have, step in zip(laid.network, multiple, strict=True)):
        return ""
    resampled = f" once resampled to {' x '.join(map(str, laid.network))}" if laid.network != laid.size else ""
    return (
        f"the image ({' x '.join(map(str, laid.size))}){resampled} is smaller than the model's stride "
        f"({' x '.join(map(str, multiple))}): most of what the model saw was mirrored or repeated pixels."
    )
