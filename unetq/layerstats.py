"""What the codes of a low-bit program look like: weights as they are stored, activations on a few images.

NumPy only. A histogram has one count a code; *saturated* is the share of codes at the ends of the format, where
values may have been clipped. At the low end of an unsigned activation nothing counts: ReLU's zeros lie there.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import files
from .export.program import Conv, Op, Program, Quantize, Upsample
from .fixedpoint import Grid

LAYERS = "layers.json"
SCHEMA = 1
IMAGES = 2
LARGEST_SIDE = {2: 256, 3: 48}  # of the crop that is traced, by the number of spatial axes
KEEPS_CODES = ("MaxPool", "Concat", "Pad")  # their output is their input's, and nothing to look at


def write(folder: Path, program: Program, images: Iterable[NDArray[Any]]) -> Path | None:
    """Write ``layers.json`` into a run folder; a program without any codes has none, and an older file goes.

    Args:
        folder: the run folder.
        program: the lowered network.
        images: as the network sees them, preprocessed float32 (C, H, W) or (C, D, H, W), of any sizes; the centre
            of the first two is run.

    Returns:
        The file, None where there was nothing to write.

    Raises:
        OutputError: the folder is not writable.
    """
    path = Path(folder) / LAYERS
    found = describe(program, images)
    if not found["layers"]:
        path.unlink(missing_ok=True)
        return None
    files.write_json(path, found)
    return path


def describe(program: Program, images: Iterable[NDArray[Any]]) -> dict[str, Any]:
    """Bits, ranges, saturation and histograms of every operation that has codes of its own, in execution order.

    Args:
        program: the lowered network.
        images: as ``write``.

    Returns:
        ``{"schema", "activations": {"images", "size"}, "layers": [{"name", "kind", "weight_bits", "act_bits",
        "weight", "activation"}]}``; a side that is float32 has 32 bits and None. Each side: ``codes`` (lowest and
        highest of the format), ``scale`` (least and greatest over channels, None where found at run time), ``range``
        (the real values those codes stand for), ``seen`` (lowest and highest code met), ``saturated`` and ``zero``
        (shares, 0…1; ``saturated`` None for formats of one to three levels), ``histogram`` {"low", "counts"}.
    """
    traced = _centres(program, [np.asarray(image, np.float32) for image in islice(images, IMAGES)])
    trace: dict[str, NDArray[Any]] = {}
    if traced.size and any(tensor.grid is not None for tensor in program.tensors):
        program.run(traced, trace)
    layers = [record for op in program.ops if (record := _layer(program, op, trace)) is not None]
    return {
        "schema": SCHEMA,
        "activations": {"images": int(traced.shape[0]), "size": [int(side) for side in traced.shape[2:]]},
        "layers": layers,
    }


def _centres(program: Program, images: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """The middle of each image (N, C, spatial), all of one size that the program takes; small ones are extended."""
    rank = program.spatial_rank
    if not images:
        return np.zeros((0, program.tensors[program.input].channels, *(0,) * rank), np.float32)
    smallest = [min(image.shape[1 + axis] for image in images) for axis in range(rank)]
    multiples = program.input_multiple[3 - rank :]
    sizes = [
        max(min(length, LARGEST_SIDE[rank]) // multiple, 1) * multiple
        for length, multiple in zip(smallest, multiples, strict=True)
    ]
    if program.fixed_size is not None:
        sizes = list(program.fixed_size[3 - rank :])
    return np.stack([_centre(image, sizes) for image in images])


def _centre(image: NDArray[np.float32], sizes: Sequence[int]) -> NDArray[np.float32]:
    """The middle of (C, spatial), its border repeated where it is smaller than ``sizes``."""
    for axis, size in enumerate(sizes, 1):
        start = (image.shape[axis] - size) // 2
        image = np.take(image, np.clip(np.arange(start, start + size), 0, image.shape[axis] - 1), axis=axis)
    return image


def _layer(program: Program, op: Op, trace: dict[str, NDArray[Any]]) -> dict[str, Any] | None:
    if type(op).__name__ in KEEPS_CODES or (isinstance(op, Upsample) and op.mode == "nearest"):
        return None
    tensor = program.tensors[op.output]
    weight = _weight(op) if isinstance(op, Conv) and op.weight_kind != "float32" else None
    codes = trace.get(tensor.name)
    activation = None if tensor.grid is None or codes is None else _activation(tensor.grid, codes)
    if weight is None and activation is None:
        return None
    return {
        "name": op.name,
        "kind": _kind(op),
        "weight_bits": op.weight_bits if isinstance(op, Conv) else None,
        "act_bits": 32 if tensor.grid is None else tensor.grid.bits,
        "weight": weight,
        "activation": activation,
    }


def _kind(op: Op) -> str:
    if isinstance(op, Conv):
        return "transposed convolution" if op.transposed else "convolution"
    return "input" if isinstance(op, Quantize) else type(op).__name__.lower()


def _weight(op: Conv) -> dict[str, Any]:
    codes = op.weight.astype(np.int64)
    scale = np.broadcast_to(op.weight_scale.astype(np.float64).ravel(), (codes.shape[0],))
    values = codes * scale.reshape(-1, *(1,) * (codes.ndim - 1))
    if op.weight_shift is not None:
        shift = np.repeat(op.weight_shift.astype(np.int64), op.group_size, axis=1)[:, : codes.shape[1]]
        codes = codes >> shift.reshape(*shift.shape, *(1,) * (codes.ndim - 2))
    top = (1 << (op.weight_bits - 1)) - 1
    levels = op.weight_kind in ("binary", "codebook") or top < 2  # every level is an end, or the ends are chosen
    ends = float(np.mean(np.abs(codes) >= top)) if not levels else None
    low, high = (-1, 1) if op.weight_kind == "binary" else (-top - 1, top)
    if op.weight_kind == "codebook":
        low, high = int(codes.min()), int(codes.max())
    return {
        "kind": op.weight_kind,
        **_side(codes, (low, high), [float(scale.min()), float(scale.max())], ends),
        "range": [float(values.min()), float(values.max())],
        "zero": float(np.mean(codes == 0)),
    }


def _activation(grid: Grid, codes: NDArray[Any]) -> dict[str, Any]:
    clipped = codes == grid.high
    if grid.signed:
        clipped = clipped | (codes == grid.low)
    ends = float(np.mean(clipped)) if grid.high - grid.low > 2 else None
    real = [(code - grid.zero_point) * float(grid.scale) for code in (grid.low, grid.high)]
    return {
        "signed": grid.signed,
        **_side(codes, (grid.low, grid.high), None if grid.dynamic else [float(grid.scale)] * 2, ends),
        "range": None if grid.dynamic else real,
        "zero": float(np.mean(codes == grid.zero_point)),
    }


def _side(
    codes: NDArray[Any], ends: tuple[int, int], scale: Sequence[float] | None, saturated: float | None
) -> dict[str, Any]:
    seen = int(codes.min()), int(codes.max())
    low, high = min(ends[0], seen[0]), max(ends[1], seen[1])
    counts = np.bincount(codes.ravel().astype(np.int64) - low, minlength=high - low + 1)
    return {
        "codes": list(ends),
        "scale": None if scale is None else list(scale),
        "seen": list(seen),
        "saturated": saturated,
        "histogram": {"low": low, "counts": counts.tolist()},
    }
