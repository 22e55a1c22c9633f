"""The packed model file (``.uqm``): writing a program, reading it back; see deploy/runtime/FORMAT.md."""

import dataclasses
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UnsupportedError
from ..files import write_bytes
from . import records
from .packing import FLOAT_BITS, codebook, pack_weights, row_bytes, unshifted
from .preprocessing import needs_geometry, rule_values
from .program import Add, Conv, Epilogue, MaxPool, ModelMeta, Mul, Op, Pad, Program, Table, TensorSpec, Upsample
from .reader import load, read
from .records import (
    CODEBOOK_VERSION,
    GEOMETRY_VERSION,
    LABEL,
    METHODS_VERSION,
    OP,
    PROGRAM,
    RECORD_BYTES,
    SECTIONS,
    TENSOR,
    padded,
)
from .validate import OP_TYPES, check_meta, check_program

__all__ = ["encode", "load", "read", "save"]

Values = dict[str, object]


class _Builder:
    """Collects the sections; names and blobs give back where they landed."""

    def __init__(self) -> None:
        self.sections: dict[str, bytearray] = {name: bytearray() for name in SECTIONS}

    def name(self, text: str) -> Values:
        strings, encoded = self.sections["strings"], text.encode()
        place: Values = {"name_offset": len(strings), "name_bytes": len(encoded)}
        strings += encoded + b"\0"
        return place

    def blob(self, data: bytes) -> int:
        section = self.sections["data"]
        offset = len(section)
        section += data + bytes(padded(len(data)) - len(data))
        return offset

    def floats(self, values: Any) -> int:
        return self.blob(np.asarray(values, dtype="<f4").tobytes())

    def operands(self, inputs: tuple[int, ...]) -> Values:
        section = self.sections["operands"]
        first = len(section) // 4
        section += struct.pack(f"<{len(inputs)}I", *inputs)
        return {"first_operand": first, "operand_count": len(inputs)}


def _epilogue(builder: _Builder, epilogue: Epilogue) -> Values:
    values: Values = {"gain": builder.floats(epilogue.gain), "offset": builder.floats(epilogue.offset)}
    flags = records.EPILOGUE
    if epilogue.slope is not None:
        flags |= records.SLOPE
        values["slope"] = builder.floats(epilogue.slope)
    if epilogue.gain2 is not None:
        flags |= records.SECOND
        values |= {"gain2": builder.floats(epilogue.gain2), "offset2": builder.floats(epilogue.offset2)}
    norm = epilogue.instance_norm
    if norm is not None:
        flags |= records.INSTANCE_NORM
        values |= {
            "eps": float(norm.eps),
            "norm_groups": norm.groups,
            "norm_weight": builder.floats(norm.weight),
            "norm_bias": builder.floats(norm.bias),
        }
    return values | {"flags": flags}


def _conv(builder: _Builder, op: Conv) -> Values:
    _, inputs, *kernel = op.weight.shape
    count = inputs * kernel[0] * kernel[1] * kernel[2]
    bits = FLOAT_BITS if op.weight_kind == "float32" else op.weight_bits
    codes = op.weight
    if op.weight_shift is not None:
        codes, _ = unshifted(op.weight, op.weight_shift, op.group_size)
    values: Values = {
        "kernel": tuple(kernel),
        "stride": op.stride,
        "before": op.pad_before,
        "after": op.pad_after,
        "dilation": op.dilation,
        "output_padding": op.output_padding,
        "groups": op.groups,
        "mode": int(op.transposed),
        "weight_bits": op.weight_bits,
        "weight_kind": records.WEIGHT_KINDS.index(op.weight_kind) + 1,
        "row_bytes": row_bytes(count, bits),
        "weight": builder.blob(pack_weights(codes, op.weight_bits, op.weight_kind)),
        "weight_scale": builder.floats(op.weight_scale),
        "weight_scale_count": int(np.size(op.weight_scale)),
    }
    if op.weight_kind == "codebook":
        values["codebook"] = builder.blob(codebook(op.weight, bits).tobytes())
    elif op.weight_shift is not None:
        shifts = np.ascontiguousarray(op.weight_shift, dtype=np.uint8)
        values |= {"codebook": builder.blob(shifts.tobytes()), "group_size": op.group_size}
    return values


def _op(builder: _Builder, op: Op) -> bytes:
    values: Values = {"kind": OP_TYPES.index(type(op)) + 1, "output": op.output}
    values |= builder.name(op.name) | builder.operands(op.inputs)
    if isinstance(op, Conv):
        values |= _conv(builder, op)
    elif isinstance(op, Upsample):
        values |= {"kernel": op.factor, "mode": int(op.mode == "linear")}
    elif isinstance(op, MaxPool):
        values |= {"kernel": op.kernel, "stride": op.stride, "before": op.padding}
    elif isinstance(op, Add):
        values |= {"input_gain": (float(op.input_gain[0]), float(op.input_gain[1]))}
    elif isinstance(op, Pad):
        values |= {"before": op.before, "after": op.after, "mode": int(op.mode == "replicate")}
    elif isinstance(op, Table):
        values |= {"codebook": builder.blob((op.table & 0xFF).astype(np.uint8).tobytes())}
    epilogue = getattr(op, "epilogue", None)
    if isinstance(epilogue, Epilogue):
        values |= _epilogue(builder, epilogue)
    return OP.pack(values)


def _tensor(builder: _Builder, tensor: TensorSpec) -> bytes:
    values: Values = {"channels": tensor.channels} | builder.name(tensor.name)
    if tensor.grid is not None:
        grid = tensor.grid
        values |= {"type": 1, "bits": grid.bits, "signed": int(grid.signed), "scale": grid.scale}
        values |= {"rounding": records.ROUNDINGS.index(grid.rounding), "zero_point": grid.zero_point}
        values |= {"narrow": int(grid.narrow), "dynamic": int(grid.dynamic)}
    return TENSOR.pack(values)


def with_labels(program: Program, meta: ModelMeta) -> ModelMeta:
    """Meta as given, but numbered class names where the two default labels cannot fit the network."""
    classes = program.tensors[program.output].channels
    default = ModelMeta()
    if classes > 2 and (meta.labels, meta.label_values) == (default.labels, default.label_values):
        names = tuple(f"class_{i}" for i in range(classes))
        return dataclasses.replace(meta, labels=names, label_values=tuple(range(classes)))
    return meta


def _needs_methods(program: Program) -> bool:
    if any(t.grid is not None and (t.grid.zero_point or t.grid.narrow or t.grid.dynamic) for t in program.tensors):
        return True
    for op in program.ops:
        epilogue = getattr(op, "epilogue", None)
        norm = epilogue.instance_norm if isinstance(epilogue, Epilogue) else None
        if isinstance(op, Table | Mul) or (norm is not None and norm.groups):
            return True
        if isinstance(op, Conv) and op.weight_kind == "shifted":
            return True
    return False


def version_of(program: Program, meta: ModelMeta | None = None) -> int:
    """The lowest version of the format that can say ``program`` and ``meta``: the one that is written."""
    if meta is not None and needs_geometry(meta.preprocessing):
        return GEOMETRY_VERSION
    if _needs_methods(program):
        return METHODS_VERSION
    books = any(isinstance(op, Conv) and op.weight_kind == "codebook" for op in program.ops)
    return CODEBOOK_VERSION if books else 1


def encode(program: Program, meta: ModelMeta) -> bytes:
    """The whole file as bytes; equal programs and metas give equal bytes.

    Raises:
        UnsupportedError: the program or meta breaks a rule of the format (see ``validate``).
    """
    meta = with_labels(program, meta)
    check_program(program)
    check_meta(program, meta)
    builder = _Builder()
    values: Values = {"spatial_rank": program.spatial_rank, "input": program.input, "output": program.output}
    values |= {"input_multiple": program.input_multiple} | rule_values(meta.preprocessing) | builder.name(meta.name)
    if program.fixed_size is not None:
        values |= {"has_fixed_size": 1, "fixed_size": program.fixed_size}
    sections = builder.sections
    sections["program"] += PROGRAM.pack(values)
    for tensor in program.tensors:
        sections["tensors"] += _tensor(builder, tensor)
    for op in program.ops:
        sections["ops"] += _op(builder, op)
    for label, value in zip(meta.labels, meta.label_values, strict=True):
        sections["labels"] += LABEL.pack(builder.name(label) | {"value": int(value)})
    try:
        if not isinstance(meta.provenance, dict):
            raise TypeError(f"a {type(meta.provenance).__name__} is no JSON object")
        provenance = json.dumps(meta.provenance, sort_keys=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise UnsupportedError(
            f"provenance: it must be plain JSON without NaN ({error}); remove what is not."
        ) from error
    sections["provenance"] += provenance.encode()
    return _assemble(sections, version_of(program, meta))


def _assemble(sections: dict[str, bytearray], version: int) -> bytes:
    """Header, table and sections in their order, each at a multiple of the alignment, then the checksum."""
    table, body = bytearray(), bytearray()
    start = padded(records.HEADER.size + len(SECTIONS) * records.SECTION.size)
    for kind, name in enumerate(SECTIONS, start=1):
        data, size = sections[name], RECORD_BYTES[name]
        place: Values = {"kind": kind, "record_bytes": size, "offset": start + len(body), "bytes": len(data)}
        table += records.SECTION.pack(place | {"count": len(data) // size})
        body += data + bytes(padded(len(data)) - len(data))
    header: Values = {"magic": records.MAGIC, "version": version, "file_bytes": start + len(body)}
    header |= {"section_count": len(SECTIONS), "section_record_bytes": records.SECTION.size}
    head = records.HEADER.pack(header) + table
    whole = bytearray(head + bytes(start - len(head)) + body)
    struct.pack_into("<I", whole, 12, zlib.crc32(whole))
    return bytes(whole)


def save(program: Program, path: str | Path, meta: ModelMeta | None = None) -> None:
    """Write the packed model file, whole or not at all.

    With more than two classes and no labels given, classes are named ``class_0``, ``class_1``, ….

    Raises:
        UnsupportedError: the program or meta breaks a rule of the format.
        OutputError: the file cannot be written.
    """
    write_bytes(path, encode(program, meta or ModelMeta()))
