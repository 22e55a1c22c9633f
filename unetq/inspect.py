"""What a model file holds and takes: layers, bits, bytes, sizes, planned memory. Imports no torch."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .cost import LayerCost, cost
from .errors import DataError, DeviceError
from .export.modelfile import load
from .export.preprocessing import in_words
from .export.program import Conv, Op, Preprocessing, Program
from .export.records import HEADER, OP_KINDS
from .export.validate import OP_TYPES
from .runtime import Runtime

KIND_MARKS = {"binary": "b", "codebook": "c", "shifted": "s"}  # behind the bits of a weight
DEFAULT_EXTENT = {2: 512, 3: 64}  # an axis, rounded up to the model's multiple


def _default_size(program: Program, window: tuple[int, ...]) -> tuple[int, ...]:
    skip = 3 - program.spatial_rank
    if window:
        return window
    if program.fixed_size is not None:
        return program.fixed_size[skip:]
    extent = DEFAULT_EXTENT[program.spatial_rank]
    return tuple(-(-extent // m) * m for m in program.input_multiple[skip:])


def _bits(program: Program, tensor: int) -> str:
    grid = program.tensors[tensor].grid
    if grid is None:
        return "float32"
    # u6: 6 bits, unsigned; s8n: signed and narrow; s8d: dynamic; u6z20: zero-point 20.
    marks = ("n" if grid.narrow else "") + ("d" if grid.dynamic else "")
    return f"{'s' if grid.signed else 'u'}{grid.bits}{marks}" + (f"z{grid.zero_point}" if grid.zero_point else "")


def _layer(program: Program, op: Op, price: LayerCost) -> dict[str, Any]:
    skip = 3 - program.spatial_rank
    layer: dict[str, Any] = {
        "name": op.name,
        "kind": OP_KINDS[OP_TYPES.index(type(op))],
        "inputs": [program.tensors[t].name for t in op.inputs],
        "output": program.tensors[op.output].name,
        "input_codes": _bits(program, op.inputs[0]),
        "output_codes": _bits(program, op.output),
        "output_channels": program.tensors[op.output].channels,
        "output_size": list(price.output_size[skip:]),
        "output_bytes": price.output_bytes,
        "macs": price.macs,
    }
    if isinstance(op, Conv):
        layer["kind"] = "transposed_conv" if op.transposed else "conv"
        layer |= {
            "kernel": list(op.weight.shape[2 + skip :]),
            "stride": list(op.stride[skip:]),
            "groups": op.groups,
            "weights": int(op.weight.size),
            "weight_bits": op.weight_bits,
            "weight_kind": op.weight_kind,
            "weight_bytes": price.weight_bytes,
        }
        if op.weight_kind == "codebook":
            layer["weight_levels"] = np.unique(op.weight).tolist()
        if op.weight_kind == "shifted":
            layer["weight_group_size"] = op.group_size
    return layer


def _memory(path: str | Path, size: Sequence[int]) -> dict[str, Any]:
    """The runtime's plan; without a compiled library the reason instead."""
    try:
        with Runtime(path) as runtime:
            plan = runtime.plan(size)
            return {
                "arena_bytes": plan.arena_bytes,
                "peak_tensor_bytes": plan.peak_tensor_bytes,
                "peak_work_bytes": plan.peak_work_bytes,
                "isa": runtime.isa,
            }
    except DeviceError as error:
        return {"unknown": str(error)}


def inspect(path: str | Path, size: Sequence[int] | None = None) -> dict[str, Any]:
    """Everything a model file says, and what an image of ``size`` ((H, W) or (D, H, W)) takes; plain JSON values.

    Without ``size``: the model's window, or the size it was made for, or else about 512 x 512 (64 x 64 x 64 in 3-D).

    Raises:
        ModelFileError: the file is missing or damaged.
        DataError: a size the model does not accept.
    """
    program, meta = load(path)
    chosen = tuple(size) if size is not None else _default_size(program, meta.preprocessing.window)
    if len(chosen) != program.spatial_rank:
        raise DataError(f"size {chosen}: this model has {program.spatial_rank} axes; give one number each.")
    price = cost(program, chosen)
    skip = 3 - program.spatial_rank
    weights = [op for op in program.ops if isinstance(op, Conv)]
    return {
        "file": str(path),
        "format_version": HEADER.unpack(Path(path).read_bytes())["version"],
        "name": meta.name,
        "file_bytes": Path(path).stat().st_size,
        "weights": sum(int(op.weight.size) for op in weights),
        "weight_bytes": price.weight_bytes,
        "labels": [{"name": n, "value": v} for n, v in zip(meta.labels, meta.label_values, strict=True)],
        "preprocessing": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(meta.preprocessing).items()},
        "input_channels": program.tensors[program.input].channels,
        "output_channels": program.tensors[program.output].channels,
        "input_multiple": list(program.input_multiple[skip:]),
        "fixed_size": list(program.fixed_size[skip:]) if program.fixed_size else None,
        "size": list(chosen),
        "macs": price.macs,
        "bit_operations": price.bit_operations,
        "peak_activation_bytes": price.peak_activation_bytes,
        "memory": _memory(path, chosen),
        "layers": [_layer(program, op, p) for op, p in zip(program.ops, price.layers, strict=True)],
        "provenance": meta.provenance,
    }


def _times(values: Sequence[int]) -> str:
    return "x".join(map(str, values))


def _amount(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def _row(layer: dict[str, Any]) -> list[str]:
    is_conv = "kernel" in layer
    return [
        layer["name"],
        layer["kind"],
        _times(layer["kernel"]) + (f" /{_times(layer['stride'])}" if max(layer["stride"]) > 1 else "")
        if is_conv
        else "",
        f"{layer['weight_bits']}{KIND_MARKS.get(layer['weight_kind'], '')}" if is_conv else "",
        _amount(layer["weight_bytes"]) if is_conv else "",
        f"{layer['output_channels']} x {_times(layer['output_size'])}",
        layer["output_codes"],
        _amount(layer["output_bytes"]),
        f"{layer['macs'] / 1e9:.3f}" if layer["macs"] else "",
    ]


def describe(found: dict[str, Any]) -> str:
    """The result of ``inspect`` as text for a terminal."""
    titles = ["layer", "kind", "kernel", "W bits", "weights", "output", "codes", "bytes", "GMAC"]
    rows = [titles, *(_row(layer) for layer in found["layers"])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(titles))]
    right = {3, 4, 7, 8}
    lines = [
        "  ".join(
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * w for w in widths))
    labels = ", ".join(f"{label['name']} = {label['value']}" for label in found["labels"])
    rule = in_words(Preprocessing(**found["preprocessing"]))
    accepts = (
        f"exactly {_times(found['fixed_size'])}"
        if found["fixed_size"]
        else f"multiples of {_times(found['input_multiple'])}"
    )
    memory = found["memory"]
    if "unknown" in memory:
        planned = f"unknown: {memory['unknown']}"
    else:
        planned = (
            f"arena {_amount(memory['arena_bytes'])} (tensors {_amount(memory['peak_tensor_bytes'])}, "
            f"working memory {_amount(memory['peak_work_bytes'])}), kernels {memory['isa']}"
        )
    head = [
        f"{found['file']}: {found['name']}, format {found['format_version']}, {_amount(found['file_bytes'])}, "
        f"{found['weights']:,} weights in {_amount(found['weight_bytes'])}",
        f"input {found['input_channels']} channel(s), {accepts}; intensities: {rule}",
        f"classes: {labels}",
        f"at {_times(found['size'])}: {found['macs'] / 1e9:.2f} GMAC, {planned}",
        "",
    ]
    return "\n".join(line.rstrip() for line in head + lines)
