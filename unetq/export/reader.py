"""Reading a model file: every size, offset, number and reference is checked before it is used."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, ModelFileError, UnsupportedError
from ..fixedpoint import Grid
from . import records
from .container import check_whole, fail, find_sections, require
from .fields import Fields
from .packing import WEIGHT_WIDTHS, row_bytes, shift_of_each, unpack_weights
from .preprocessing import AT, read_rule
from .program import (
    Add,
    Concat,
    Conv,
    MaxPool,
    ModelMeta,
    Mul,
    Op,
    Pad,
    Pointwise,
    Program,
    Quantize,
    Table,
    TensorSpec,
    Upsample,
)
from .records import LABEL, MAX_CHANNELS, MAX_EXTENT, METHODS_VERSION, OP, PROGRAM, TENSOR
from .validate import check_meta, check_program


def _shifted(codes: NDArray[Any], shifts: NDArray[np.uint8], group_size: int) -> NDArray[np.int8]:
    """Codes (O, I, kd, kh, kw) with the shift of their group applied."""
    most = int(shifts.max(initial=0))
    require(most <= records.MAX_SHIFT, f"a group of weights is shifted by {most}: at most {records.MAX_SHIFT}")
    weight = codes.astype(np.int16) << shift_of_each(shifts, codes.shape[1], group_size).astype(np.int16)
    least, most = int(weight.min()), int(weight.max())
    require(least >= -128 and most <= 127, f"shifted weights of {least} to {most}: they must fit 8 bits")
    return weight.astype(np.int8)


def _read_conv(fields: Fields, row: dict[str, Any], base: dict[str, Any], total: int, channels: int) -> Conv:
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
    data = fields.blob(row["weight"], channels * row["row_bytes"])
    weight = unpack_weights(data, (channels, total // groups, *kernel), bits, name, fields.levels(row))
    shifts = fields.shifts(row, (channels, total // groups))
    if shifts is not None:
        weight = _shifted(weight, shifts, row["group_size"])
    return Conv(
        **base,
        weight=weight,
        weight_bits=bits,
        weight_kind=name,
        weight_scale=fields.floats(row["weight_scale"], scales),
        epilogue=fields.epilogue(row, channels),
        stride=row["stride"],
        pad_before=row["before"],
        pad_after=row["after"],
        dilation=row["dilation"],
        groups=groups,
        transposed=bool(row["mode"]),
        output_padding=row["output_padding"],
        group_size=row["group_size"],
        weight_shift=shifts,
    )


# By operation: the highest mode, and the flags that may be set (EPILOGUE itself is needed where any is).
_MODES = (0, 1, 1, 0, 0, 0, 0, 1, 0, 0)
_HAS_EPILOGUE = (False, True, None, False, True, True, False, False, False, True)
_CONV, _TABLE, _MUL = 2, 9, 10


def _read_op(fields: Fields, row: dict[str, Any], tensors: tuple[TensorSpec, ...]) -> Op:
    kind, flags, mode = row["kind"], row["flags"], row["mode"]
    require(1 <= kind <= len(_MODES), f"operation kind {kind} is not known")
    name, inputs, output = fields.name(row), fields.inputs(row), row["output"]
    require(
        all(t < len(tensors) for t in (*inputs, output)), f"operation {name} refers to a tensor beyond {len(tensors)}"
    )
    require(mode <= _MODES[kind - 1], f"operation {name}: mode {mode} is not known")
    wanted = _HAS_EPILOGUE[kind - 1] if _HAS_EPILOGUE[kind - 1] is not None else mode == 1
    require(
        flags <= 15 and (bool(flags & records.EPILOGUE) if wanted else flags == 0),
        f"operation {name}: flags {flags} are wrong",
    )
    require(kind in (_CONV, _TABLE) or row["codebook"] == 0, f"operation {name}: it has no weights, but a codebook")
    require(kind == _CONV or row["group_size"] == 0, f"operation {name}: it has no weights, but groups of them")
    if kind in (_TABLE, _MUL):
        fields.needs(METHODS_VERSION, "tables and products")
    if row["norm_groups"]:
        require(bool(flags & records.INSTANCE_NORM), f"operation {name}: it has no norm, but groups of one")
        fields.needs(METHODS_VERSION, "group norms")
    channels = tensors[output].channels
    base: dict[str, Any] = {"name": name, "inputs": inputs, "output": output}
    if kind == 1:
        return Quantize(**base)
    if kind == 2:
        return _read_conv(fields, row, base, sum(tensors[t].channels for t in inputs), channels)
    if kind == 3:
        epilogue = fields.epilogue(row, channels) if mode else None
        return Upsample(**base, mode="linear" if mode else "nearest", factor=row["kernel"], epilogue=epilogue)
    if kind == 4:
        return MaxPool(**base, kernel=row["kernel"], stride=row["stride"], padding=row["before"])
    if kind == 5:
        return Add(**base, input_gain=row["input_gain"], epilogue=fields.epilogue(row, channels))
    if kind == 6:
        return Pointwise(**base, epilogue=fields.epilogue(row, channels))
    if kind == 7:
        return Concat(**base)
    if kind == _TABLE:
        require(len(inputs) == 1, f"operation {name}: {len(inputs)} inputs, 1 needed")
        return Table(**base, table=fields.table(row, tensors[inputs[0]].grid, tensors[output].grid))
    if kind == _MUL:
        return Mul(**base, epilogue=fields.epilogue(row, channels))
    return Pad(**base, mode="replicate" if mode else "zero", before=row["before"], after=row["after"])


_GRID_FIELDS = ("bits", "signed", "rounding", "scale", "zero_point", "narrow", "dynamic")


def _read_tensor(fields: Fields, row: dict[str, Any]) -> TensorSpec:
    name = fields.name(row)
    require(
        all(row[k] <= 1 for k in ("type", "signed", "rounding", "narrow", "dynamic")),
        f"tensor {name}: unknown type, sign or rounding",
    )
    require(1 <= row["channels"] <= MAX_CHANNELS, f"tensor {name}: {row['channels']} channels")
    if row["type"] == 0:
        require(
            not any(row[k] for k in _GRID_FIELDS),
            f"tensor {name}: float32 has no grid",
        )
        return TensorSpec(name, row["channels"], None)
    if row["zero_point"] or row["narrow"] or row["dynamic"]:
        fields.needs(METHODS_VERSION, "zero-points, narrow and dynamic grids")
    rounding = records.ROUNDINGS[row["rounding"]]
    narrow, dynamic = bool(row["narrow"]), bool(row["dynamic"])
    grid = Grid(row["bits"], bool(row["signed"]), row["scale"], row["zero_point"], rounding, narrow, dynamic)
    return TensorSpec(name, row["channels"], grid)


def _parse(data: memoryview) -> tuple[Program, ModelMeta]:
    version = check_whole(data)
    fields = Fields(find_sections(data), version)
    programs = fields.rows("program", PROGRAM)
    require(len(programs) == 1, f"{len(programs)} program records: exactly one is needed")
    head = programs[0]
    require(head["has_fixed_size"] <= 1, "the program record has an unknown choice")
    geometry = version >= records.GEOMETRY_VERSION
    if any(fields.sections["program"][AT:]):
        fields.needs(records.GEOMETRY_VERSION, "orientation, spacing, context and windows")
    tensors = tuple(_read_tensor(fields, row) for row in fields.rows("tensors", TENSOR))
    ops = tuple(_read_op(fields, row, tensors) for row in fields.rows("ops", OP))
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
    labels = fields.rows("labels", LABEL)
    try:
        provenance = json.loads(bytes(fields.sections["provenance"]))
    except ValueError as error:
        fail(f"the provenance is not JSON ({error})")
    require(isinstance(provenance, dict), "the provenance is not a JSON object")
    meta = ModelMeta(
        name=fields.name(head),
        labels=tuple(fields.name(row) for row in labels),
        label_values=tuple(row["value"] for row in labels),
        preprocessing=read_rule(head, program.spatial_rank, geometry),
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
