"""Reading a model file: every size, offset, number and reference is checked before it is used."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, ModelFileError, UnsupportedError
from ..fixedpoint import F32, Grid
from . import records
from .container import check_whole, fail, find_sections, require
from .packing import LEVELS, WEIGHT_WIDTHS, row_bytes, unpack_weights
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
from .records import LABEL, MAX_CHANNELS, MAX_EXTENT, MAX_NAME, OP, PROGRAM, TENSOR
from .validate import check_meta, check_program


class _Reader:
    """The sections with checked access to names, blobs and operands."""

    def __init__(self, sections: dict[str, memoryview], version: int) -> None:
        self.sections = sections
        self.version = version

    def rows(self, name: str, record: records.Record) -> list[dict[str, Any]]:
        data = self.sections[name]
        values = [record.unpack(data, at) for at in range(0, len(data), record.size)]
        for i, row in enumerate(values):
            clean = not any(any(v) if isinstance(v, bytes) else v for k, v in row.items() if k.startswith("reserved"))
            require(clean, f"section {name}, record {i}: its reserved bytes are not zero")
        return values

    def name(self, row: dict[str, Any]) -> str:
        offset, size, strings = row["name_offset"], row["name_bytes"], self.sections["strings"]
        inside = size <= MAX_NAME and offset + size < len(strings) and strings[offset + size] == 0
        require(inside, f"a name at {offset} with {size} bytes does not fit into the names")
        try:
            return bytes(strings[offset : offset + size]).decode()
        except UnicodeDecodeError:
            fail(f"the name at {offset} is not UTF-8")

    def blob(self, offset: int, size: int) -> memoryview:
        data = self.sections["data"]
        inside = offset % records.ALIGNMENT == 0 and offset + size <= len(data)
        require(
            inside, f"data at {offset} with {size} bytes: it must start at a multiple of 64 and lie in the data section"
        )
        return data[offset : offset + size]

    def floats(self, offset: int, count: int) -> F32:
        return np.frombuffer(self.blob(offset, 4 * count), dtype="<f4").astype(np.float32)

    def levels(self, row: dict[str, Any]) -> NDArray[np.int8] | None:
        """The codebook of a convolution; None where its weights are of another kind."""
        kind = records.WEIGHT_KINDS[row["weight_kind"] - 1]
        if kind != "codebook":
            require(row["codebook"] == 0, f"weights that are {kind} have no codebook")
            return None
        first = records.CODEBOOK_VERSION
        require(self.version >= first, f"codebook weights in version {self.version} of the format: they need {first}")
        levels = np.frombuffer(self.blob(row["codebook"], LEVELS), dtype=np.int8)
        used = 1 << row["weight_bits"]
        tidy = bool((levels[1:used] >= levels[: used - 1]).all()) and not levels[used:].any()
        require(tidy, f"codebook {levels.tolist()}: its {used} levels must not fall, what follows must be 0")
        return levels

    def inputs(self, row: dict[str, Any]) -> tuple[int, ...]:
        first, count, operands = row["first_operand"], row["operand_count"], self.sections["operands"]
        require(4 * (first + count) <= len(operands), f"operands {first} to {first + count} do not exist")
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
        require(
            1 <= groups <= MAX_CHANNELS and total % groups == 0, f"groups = {groups}: they must divide {total} channels"
        )
        require(1 <= kind <= len(records.WEIGHT_KINDS), f"weight kind {kind} is not known")
        name = records.WEIGHT_KINDS[kind - 1]
        bits = row["weight_bits"]
        widths = WEIGHT_WIDTHS[name]
        require(widths[0] <= bits <= widths[1], f"weight bits = {bits}: {name} has {widths[0]} to {widths[1]}")
        kernel = row["kernel"]
        require(all(1 <= k <= MAX_EXTENT for k in kernel), f"kernel = {kernel}: allowed are 1 to {MAX_EXTENT}")
        count = total // groups * kernel[0] * kernel[1] * kernel[2]
        require(
            row["row_bytes"] == row_bytes(count, bits),
            f"rows of {row['row_bytes']} bytes: {count} codes need another size",
        )
        scales = row["weight_scale_count"]
        require(scales in (1, channels), f"{scales} weight scales: 1 or {channels} are needed")
        data = self.blob(row["weight"], channels * row["row_bytes"])
        return Conv(
            **base,
            weight=unpack_weights(data, (channels, total // groups, *kernel), bits, name, self.levels(row)),
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
    require(1 <= kind <= len(_MODES), f"operation kind {kind} is not known")
    name, inputs, output = reader.name(row), reader.inputs(row), row["output"]
    require(
        all(t < len(tensors) for t in (*inputs, output)), f"operation {name} refers to a tensor beyond {len(tensors)}"
    )
    require(mode <= _MODES[kind - 1], f"operation {name}: mode {mode} is not known")
    wanted = _HAS_EPILOGUE[kind - 1] if _HAS_EPILOGUE[kind - 1] is not None else mode == 1
    require(
        flags <= 15 and (bool(flags & records.EPILOGUE) if wanted else flags == 0),
        f"operation {name}: flags {flags} are wrong",
    )
    require(kind == 2 or row["codebook"] == 0, f"operation {name}: it has no weights, but a codebook")
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
    require(
        row["type"] <= 1 and row["signed"] <= 1 and row["rounding"] <= 1,
        f"tensor {name}: unknown type, sign or rounding",
    )
    require(1 <= row["channels"] <= MAX_CHANNELS, f"tensor {name}: {row['channels']} channels")
    if row["type"] == 0:
        require(
            not any(row[k] for k in ("bits", "signed", "rounding", "scale", "zero_point")),
            f"tensor {name}: float32 has no grid",
        )
        return TensorSpec(name, row["channels"], None)
    rounding = records.ROUNDINGS[row["rounding"]]
    grid = Grid(row["bits"], bool(row["signed"]), row["scale"], row["zero_point"], rounding)
    return TensorSpec(name, row["channels"], grid)


def _parse(data: memoryview) -> tuple[Program, ModelMeta]:
    version = check_whole(data)
    reader = _Reader(find_sections(data), version)
    programs = reader.rows("program", PROGRAM)
    require(len(programs) == 1, f"{len(programs)} program records: exactly one is needed")
    head = programs[0]
    require(
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
        fail(f"the provenance is not JSON ({error})")
    require(isinstance(provenance, dict), "the provenance is not a JSON object")
    rule = records.NORMALIZE[head["normalize"]]
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
