"""One model file, one image, one mask: the whole way on the device side. Imports no torch.

A 2-D model runs slice by slice (TIFF pages, the last axis of a NIfTI volume), each slice normalised by
itself, as in training; a 3-D model takes the volume at once, slices first. An image is extended at its
end to the sizes the model accepts (``unetq.preprocess.pad_to_size``) and the logits are cut back. An
image smaller than the model's stride would be mostly extension and is refused unless asked for.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, DataError, UnsupportedError
from .export.program import ModelMeta, Preprocessing
from .fixedpoint import F32
from .imageio import Volume, check_output, read_image, write_mask
from .onnx.session import OnnxModel, is_onnx
from .preprocess import crop, decide, normalize, pad_to_size, padded_size
from .runtime import Runtime

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
) -> dict[str, Any]:
    """Segment ``image_path`` with ``model_path`` in the C++ runtime and write the mask to ``out_path``.

    Nothing is written before the whole mask is there, and then in one rename: a failure leaves whatever
    was at ``out_path``. The mask has the image's geometry and the model's label values, as uint8.

    Args:
        model_path: a ``.uqm`` file, or an ``.onnx`` file that ``unetq export --onnx`` wrote (it runs in onnxruntime).
        image_path: TIFF, PNG, NIfTI or .npy; see ``unetq.imageio``.
        out_path: the mask; neither of the two inputs.
        progress: called with (slices done, slices in all), first with 0.
        allow_small: take an image smaller than the model's stride, with a warning, instead of refusing it.
        threads: how many run a slice together; the mask does not depend on it.

    Returns:
        A summary that JSON can hold: paths, format, slices, size, instruction set, arena bytes,
        seconds, pixels a label, warnings.

    Raises:
        DataError: an image that is missing, damaged, in colour, constant, not finite, or too small (see above).
        ConfigError: an output that cannot carry the geometry, or is one of the inputs.
        UnsupportedError: a model of more than one input channel, or label values beyond 255.
        ModelFileError, DeviceError: the model is damaged, or the runtime refuses it.
        OutputError: the mask cannot be written.
    """
    model_path, image_path, out_path = Path(model_path), Path(image_path), Path(out_path)
    started = time.perf_counter()
    image = read_image(image_path)
    check_output(out_path, image)
    if out_path.exists() and model_path.exists() and out_path.samefile(model_path):
        raise ConfigError(f"output {out_path} is the model file; models are never overwritten; choose another name.")
    _refuse_constant(image)
    with open_model(model_path, threads) as runtime:
        values = _label_values(runtime.meta)
        size = _accepted_size(runtime, image.data.shape)
        warnings = _warnings(runtime, image)
        if warnings and not allow_small:
            raise DataError(
                f"{image_path}: {warnings[0]} Use a larger image, a model with fewer levels, or allow small images."
            )
        masks = np.empty(image.data.shape, dtype=np.uint8)
        for done, (where, classes) in enumerate(_segment(runtime, image, size, progress), start=1):
            masks[where] = values[classes]
            if progress is not None:
                progress(done, _parts(runtime, image))
        labels, isa, arena = runtime.meta.labels, runtime.isa, runtime.plan(size).arena_bytes
    write_mask(out_path, masks, image)
    counts = np.bincount(masks.reshape(-1), minlength=256)
    return {
        "model": str(model_path),
        "image": str(image_path),
        "output": str(out_path),
        "format": image.kind,
        "slices": len(image.data),
        "size": list(image.data.shape[1:]),
        "isa": isa,
        "arena_bytes": arena,
        "seconds": round(time.perf_counter() - started, 3),
        "pixels": {label: int(counts[value]) for label, value in zip(labels, values, strict=True)},
        "warnings": warnings,
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


def _segment(
    runtime: Model, image: Volume, size: tuple[int, ...], progress: Progress | None
) -> Iterator[tuple[Any, NDArray[np.uint8]]]:
    """Class indices part by part, with where each part goes in the mask."""
    preprocessing = runtime.meta.preprocessing
    if progress is not None:
        progress(0, _parts(runtime, image))
    if runtime.spatial_rank == 3:
        volume = np.ascontiguousarray(image.data, dtype=np.float32)[None]
        yield slice(None), _run(runtime, volume, preprocessing, size)
        return
    for index in range(len(image.data)):
        yield index, _run(runtime, image.slice(index), preprocessing, size)


def _run(runtime: Model, image: F32, preprocessing: Preprocessing, size: tuple[int, ...]) -> NDArray[np.uint8]:
    """One image (1, H, W) or (1, D, H, W) to class indices of its own size."""
    inputs = pad_to_size(normalize(image, preprocessing), size)
    logits = runtime.run(np.ascontiguousarray(inputs)[None])[0]
    return decide(crop(logits, image.shape[1:]))


def _parts(runtime: Model, image: Volume) -> int:
    return 1 if runtime.spatial_rank == 3 else len(image.data)


def _accepted_size(runtime: Model, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The size the runtime is called with, one entry a spatial axis of the model."""
    if runtime.input_channels != 1:
        raise UnsupportedError(
            f"the model takes {runtime.input_channels} channels and an image file gives 1 (grey); "
            "call unetq.Runtime from Python with an array of all channels."
        )
    rank = runtime.spatial_rank
    spatial = shape[-rank:]
    fixed = tuple(getattr(runtime, "fixed_size", None) or ())[-rank:]
    if not fixed:
        return padded_size(spatial, runtime.input_multiple[-rank:])
    if any(have > want for have, want in zip(spatial, fixed, strict=True)):
        raise DataError(
            f"the image has {' x '.join(map(str, spatial))} pixels and the model was made for exactly "
            f"{' x '.join(map(str, fixed))}: larger ones do not fit; cut the image into parts."
        )
    return fixed


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


def _warnings(runtime: Model, image: Volume) -> list[str]:
    rank = runtime.spatial_rank
    spatial, multiple = image.data.shape[-rank:], runtime.input_multiple[-rank:]
    if all(have >= step for have, step in zip(spatial, multiple, strict=True)):
        return []
    return [
        f"the image ({' x '.join(map(str, spatial))}) is smaller than the model's stride "
        f"({' x '.join(map(str, multiple))}): most of what the model saw was mirrored or repeated pixels."
    ]
