"""Reading a model file: every size, offset, number and reference is checked before it is used."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..errors import ConfigError, ModelFileError, UnsupportedError
from ..fixedpoint import F32, Grid
from . import records
from .packing import FLOAT_BITS, row_bytes, unpack_weights
from .program import (
    Add,
    Concat,
    Conv,
    Epilogue,
    InstanceNorm,
    MaxPool,
    ModelMeta,
    Op,
    Pad,
    Pointwise,
    Preprocessing,
    Program,
    Quantize,
    TensorSpec,
    Upsample,
)
from .records import LABEL, MAX_CHANNELS, MAX_EXTENT, MAX_NAME, OP, PROGRAM, RECORD_BYTES, SECTIONS, TENSOR, padded
from .validate import check_meta, check_program

REMEDY = "copy the file again from its source or export the model again"


def _fail(text: str) -> NoReturn:
    raise ModelFileError(f"{text}; {REMEDY}.")


def _require(condition: bool, text: str) -> None:
    if not condition:
        _fail(text)


def _check_whole(data: memoryview) -> None:
    """Magic, version, size and checksum, in the order that gives the most telling message."""
    _require(len(data) >= records.HEADER.size, f"{len(data)} bytes: a model file has at least {records.HEADER.size}")
    header = records.HEADER.unpack(data)
    _require(
        header["magic"] == records.MAGIC,
        f"it starts with {bytes(data[:8])!r}: a model file starts with {records.MAGIC!r}",
    )
    version = header["version"]
    _require(version == records.VERSION, f"version {version}: this unetq reads version {records.VERSION}")
    size = header["file_bytes"]
    _require(size == len(data), f"{len(data)} bytes: the file says it has {size}; it was cut or extended")
    found = zlib.crc32(data[16:], zlib.crc32(bytes(data[:12]) + bytes(4)))
    said = header["checksum"]
    _require(found == said, f"checksum {found:#010x}: the file says {said:#010x}; at least one bit was changed")
    plain = header["section_count"] == len(SECTIONS) and header["section_record_bytes"] == records.SECTION.size
    _require(
        plain and not any(bytes(data[32:64])), "the header's section count, record size or reserved bytes are wrong"
    )


def _sections(data: memoryview) -> dict[str, memoryview]:
    """The sections by name; they must follow each other exactly as the writer lays them out."""
    table_end = records.HEADER.size + len(SECTIONS) * records.SECTION.size
    _require(len(data) >= padded(table_end), f"{len(data)} bytes: the table of sections ends at {table_end}")
    found: dict[str, memoryview] = {}
    expected = padded(table_end)
    for i, name in enumerate(SECTIONS):
        entry: dict[str, Any] = records.SECTION.unpack(data, records.HEADER.size + i * records.SECTION.size)
        offset, size = entry["offset"], entry["bytes"]
        shape = entry["kind"] == i + 1 and entry["record_bytes"] == RECORD_BYTES[name] and entry["reserved"] == 0
        _require(
            shape and size == entry["count"] * RECORD_BYTES[name], f"section {name}: its entry in the table is wrong"
        )
        _require(
            offset == expected and offset + size <= len(data),
            f"section {name} at {offset} with {size} bytes does not fit",
        )
        found[name] = data[offset : offset + size]
        expected = padded(offset + size)
    _require(expected == len(data), f"the sections end at {expected}: the file at {len(data)}")
    return found


class _Reader:
    """The sections with checked access to names, blobs and operands."""

    def __init__(self, sections: dict[str, memoryview]) -> None:
        self.sections = sections

    def rows(self, name: str, record: records.Record) -> list[dict[str, Any]]:
        data = self.sections[name]
        values = [record.unpack(data, at) for at in range(0, len(data), record.size)]
        for i, row in enumerate(values):
            clean = not any(any(v) if isinstance(v, bytes) else v for k, v in row.items() if k.startswith("reserved"))
            _require(clean, f"section {name}, record {i}: its reserved bytes are not zero")
        return values

    def name(self, row: dict[str, Any]) -> str:
        offset, size, strings = row["name_offset"], row["name_bytes"], self.sections["strings"]
        inside = size <= MAX_NAME and offset + size < len(strings) and strings[offset + size] == 0
        _require(inside, f"a name at {offset} with {size} bytes does not fit into the names")
        try:
            return bytes(strings[offset : offset + size]).decode()
        except UnicodeDecodeError:
            _fail(f"the name at {offset} is not UTF-8")

    def blob(self, offset: int, size: int) -> memoryview:
        data = self.sections["data"]
        inside = offset % records.ALIGNMENT == 0 and offset + size <= len(data)
        _require(
            inside, f"data at {offset} with {size} bytes: it must start at a multiple of 64 and lie in the data section"
        )
        return data[offset : offset + size]

    def floats(self, offset: int, count: int) -> F32:
        return np.frombuffer(self.blob(offset, 4 * count), dtype="<f4").astype(np.float32)

    def inputs(self, row: dict[str, Any]) -> tuple[int, ...]:
        first, count, operands = row["first_operand"], row["operand_count"], self.sections["operands"]
        _require(4 * (first + count) <= len(operands), f"operands {first} to {first + count} do not exist")
        return struct.unpack_from(f"<{count}I", operands, 4 * first)

    def epilogue(self, row: dict[str, Any], channels: int) -> Epilogue:
        flags, norm = row["flags"], None
        if flags & records.INSTANCE_NORM:
            weight, bias = self.floats(row["norm_weight"], channels), self.floats(row["norm_bias"], channels)
            norm = InstanceNorm(row["eps"], weight, bias)
        return Epilogue(
            gain=self.floats(row["gain"], channels),
            offset=self.floats(row["offset"], channels),
            slope=self.floats(row["slope"], channels) if flags & records.SLOPE else None,
            gain2=self.floats(row["gain2"], channels) if flags & records.SECOND else None,
            offset2=self.floats(row["offset2"], channels) if flags & records.SECOND else None,
            instance_norm=norm,
        )

    def conv(self, row: dict[str, Any], base: dict[str, Any], total: int, channels: int) -> Conv:
        groups, kind = row["groups"], row["weight_kind"]
        _require(
            1 <= groups <= MAX_CHANNELS and total % groups == 0, f"groups = {groups}: they must divide {total} channels"
        )
        _require(1 <= kind <= len(records.WEIGHT_KINDS), f"weight kind {kind} is not known")
        name = records.WEIGHT_KINDS[kind - 1]
        bits = row["weight_bits"]
        widths = {"twos_complement": (1, 8), "binary": (1, 1), "float32": (FLOAT_BITS, FLOAT_BITS)}[name]
        _require(widths[0] <= bits <= widths[1], f"weight bits = {bits}: {name} has {widths[0]} to {widths[1]}")
        kernel = row["kernel"]
        _require(all(1 <= k <= MAX_EXTENT for k in kernel), f"kernel = {kernel}: allowed are 1 to {MAX_EXTENT}")
        count = total // groups * kernel[0] * kernel[1] * kernel[2]
        _require(
            row["row_bytes"] == row_bytes(count, bits),
            f"rows of {row['row_bytes']} bytes: {count} codes need another size",
        )
        scales = row["weight_scale_count"]
        _require(scales in (1, channels), f"{scales} weight scales: 1 or {channels} are needed")
        data = self.blob(row["weight"], channels * row["row_bytes"])
        return Conv(
            **base,
            weight=unpack_weights(data, (channels, total // groups, *kernel), bits, name),
            weight_bits=bits,
            weight_kind=name,
            weight_scale=self.floats(row["weight_scale"], scales),
            epilogue=self.epilogue(row, channels),
            stride=row["stride"],
            pad_before=row["before"],
            pad_after=row["after"],
            dilation=row["dilation"],
            groups=groups,
            transposed=bool(row["mode"]),
            output_padding=row["output_padding"],
        )


# By operation: the highest mode, and the flags that may be set (EPILOGUE itself is needed where any is).
_MODES = (0, 1, 1, 0, 0, 0, 0, 1)
_HAS_EPILOGUE = (False, True, None, False, True, True, False, False)


def _read_op(reader: _Reader, row: dict[str, Any], tensors: tuple[TensorSpec, ...]) -> Op:
    kind, flags, mode = row["kind"], row["flags"], row["mode"]
    _require(1 <= kind <= len(_MODES), f"operation kind {kind} is not known")
    name, inputs, output = reader.name(row), reader.inputs(row), row["output"]
    _require(
        all(t < len(tensors) for t in (*inputs, output)), f"operation {name} refers to a tensor beyond {len(tensors)}"
    )
    _require(mode <= _MODES[kind - 1], f"operation {name}: mode {mode} is not known")
    wanted = _HAS_EPILOGUE[kind - 1] if _HAS_EPILOGUE[kind - 1] is not None else mode == 1
    _require(
        flags <= 15 and (bool(flags & records.EPILOGUE) if wanted else flags == 0),
        f"operation {name}: flags {flags} are wrong",
    )
    channels = tensors[output].channels
    base: dict[str, Any] = {"name": name, "inputs": inputs, "output": output}
    if kind == 1:
        return Quantize(**base)
    if kind == 2:
        return reader.conv(row, base, sum(tensors[t].channels for t in inputs), channels)
    if kind == 3:
        epilogue = reader.epilogue(row, channels) if mode else None
        return Upsample(**base, mode="linear" if mode else "nearest", factor=row["kernel"], epilogue=epilogue)
    if kind == 4:
        return MaxPool(**base, kernel=row["kernel"], stride=row["stride"], padding=row["before"])
    if kind == 5:
        return Add(**base, input_gain=row["input_gain"], epilogue=reader.epilogue(row, channels))
    if kind == 6:
        return Pointwise(**base, epilogue=reader.epilogue(row, channels))
    if kind == 7:
        return Concat(**base)
    return Pad(**base, mode="replicate" if mode else "zero", before=row["before"], after=row["after"])


def _read_tensor(reader: _Reader, row: dict[str, Any]) -> TensorSpec:
    name = reader.name(row)
    _require(
        row["type"] <= 1 and row["signed"] <= 1 and row["rounding"] <= 1,
        f"tensor {name}: unknown type, sign or rounding",
    )
    _require(1 <= row["channels"] <= MAX_CHANNELS, f"tensor {name}: {row['channels']} channels")
    if row["type"] == 0:
        _require(
            not any(row[k] for k in ("bits", "signed", "rounding", "scale", "zero_point")),
            f"tensor {name}: float32 has no grid",
        )
        return TensorSpec(name, row["channels"], None)
    rounding = records.ROUNDINGS[row["rounding"]]
    grid = Grid(
        row["bits"],
        bool(row["signed"]),
        row["scale"],
        row["zero_point"],
        "toward_zero" if rounding == "toward_zero" else "half_even",
    )
    return TensorSpec(name, row["channels"], grid)


def _parse(data: memoryview) -> tuple[Program, ModelMeta]:
    _check_whole(data)
    reader = _Reader(_sections(data))
    programs = reader.rows("program", PROGRAM)
    _require(len(programs) == 1, f"{len(programs)} program records: exactly one is needed")
    head = programs[0]
    _require(
        head["has_fixed_size"] <= 1 and head["normalize"] < len(records.NORMALIZE),
        "the program record has an unknown choice",
    )
    tensors = tuple(_read_tensor(reader, row) for row in reader.rows("tensors", TENSOR))
    ops = tuple(_read_op(reader, row, tensors) for row in reader.rows("ops", OP))
    program = Program(
        tensors=tensors,
        ops=ops,
        input=head["input"],
        output=head["output"],
        spatial_rank=head["spatial_rank"],
        input_multiple=head["input_multiple"],
        fixed_size=head["fixed_size"] if head["has_fixed_size"] else None,
    )
    check_program(program)
    labels = reader.rows("labels", LABEL)
    try:
        provenance = json.loads(bytes(reader.sections["provenance"]))
    except ValueError as error:
        _fail(f"the provenance is not JSON ({error})")
    _require(isinstance(provenance, dict), "the provenance is not a JSON object")
    normalize = records.NORMALIZE[head["normalize"]]
    rule = "zscore" if normalize == "zscore" else "window" if normalize == "window" else "none"
    meta = ModelMeta(
        name=reader.name(head),
        labels=tuple(reader.name(row) for row in labels),
        label_values=tuple(row["value"] for row in labels),
        preprocessing=Preprocessing(rule, head["low"], head["high"]),
        provenance=provenance,
    )
    check_meta(program, meta)
    return program, meta


def read(data: bytes | memoryview, where: str = "model") -> tuple[Program, ModelMeta]:
    """Parse the bytes of a model file; ``where`` names it in messages.

    Raises:
        ModelFileError: damaged, of another version, or breaking a rule of the format.
    """
    try:
        return _parse(memoryview(data))
    except ModelFileError as error:
        raise ModelFileError(f"{where}: {error}") from None
    except (ConfigError, UnsupportedError) as error:
        raise ModelFileError(f"{where}: {error} Export the model again.") from error


def load(path: str | Path) -> tuple[Program, ModelMeta]:
    """Read a model file: the program (weights unpacked to int8 codes) and what it knows beside it.

    Raises:
        ModelFileError: missing, unreadable, damaged, of another version, or breaking a rule of the format.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ModelFileError(
            f"{path}: cannot be read ({error.strerror or error}); name an existing model file."
        ) from error
    return read(data, str(path))
