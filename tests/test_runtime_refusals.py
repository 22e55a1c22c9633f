"""What the runtime refuses of version 3: grids, tables, products, norm groups and shifted weights that break a rule.

As in ``test_runtime_errors``: one field, or one byte of a blob, behind a right checksum; Python's reader must refuse it
too.
"""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from native_library import ensure_library
from test_runtime_errors import DAMAGED, REMEDY, Wrong, open_bytes, section_start, spoiled

from unetq.errors import ModelFileError
from unetq.export import records
from unetq.export.modelfile import encode, read
from unetq.export.program import (
    Concat,
    Conv,
    Epilogue,
    InstanceNorm,
    ModelMeta,
    Mul,
    Pointwise,
    Program,
    Quantize,
    Table,
    TensorSpec,
)
from unetq.fixedpoint import Grid

X, Y, Z, PRODUCT, BIG, JOINED = 1, 2, 3, 4, 5, 6  # tensors
CONV, TABLE, MUL, TRANSPOSED, CONCAT = 1, 2, 3, 4, 5  # operations
FILTERS = 6


@pytest.fixture(scope="module", autouse=True)
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_library(tmp_path_factory.mktemp("runtime"))


def plain(channels: int, norm: InstanceNorm | None = None) -> Epilogue:
    return Epilogue(np.full(channels, 0.1, np.float32), np.zeros(channels, np.float32), instance_norm=norm)


@pytest.fixture(scope="module")
def data() -> bytes:
    ones = np.ones(FILTERS, np.float32)
    norm = InstanceNorm(1e-5, ones, ones, 3)
    shifts = np.full((FILTERS, 2), 2, np.uint8)
    weight = np.full((FILTERS, 4, 1, 1, 1), 4, np.int8)
    unsigned = Grid(4, False, 1.0)
    table = np.zeros(256, np.int16)
    table[:16] = np.arange(16) // 2
    tensors = (
        TensorSpec("input", 4, None),
        TensorSpec("x", 4, Grid(4, True, 0.5, narrow=True)),
        TensorSpec("y", FILTERS, unsigned),
        TensorSpec("z", FILTERS, Grid(4, True, 1.0)),
        TensorSpec("product", FILTERS, unsigned),
        TensorSpec("big", FILTERS, unsigned),
        TensorSpec("joined", 2 * FILTERS, unsigned),
        TensorSpec("logits", 2 * FILTERS, None),
    )
    ops = (
        Quantize("quantize", (0,), X),
        Conv("conv", (X,), Y, weight, 3, "shifted", ones[:1], plain(FILTERS, norm), weight_shift=shifts, group_size=2),
        Table("table", (Y,), Z, table),
        Mul("mul", (Y, Z), PRODUCT, plain(FILTERS)),
        Conv(
            "up", (PRODUCT,), BIG, np.ones((FILTERS, FILTERS, 1, 1, 1), np.int8), 2, "twos_complement", ones[:1],
            plain(FILTERS), transposed=True,
        ),
        Concat("concat", (Y, BIG), JOINED),
        Pointwise("logits", (JOINED,), 7, plain(2 * FILTERS)),
    )  # fmt: skip
    return encode(Program(tensors, ops, 0, 7, 2, (1, 1, 1)), ModelMeta())


def test_the_file_itself_is_good(data: bytes) -> None:
    assert struct.unpack_from("<I", data, 8)[0] == 3
    assert open_bytes(data) == (0, "")


WRONG = [
    Wrong("tensors", X, "narrow", 2, "reserved bytes"),
    Wrong("tensors", X, "dynamic", 2, "reserved bytes"),
    Wrong("tensors", 0, "narrow", 1, "float32 has no grid"),
    Wrong("tensors", 0, "dynamic", 1, "float32 has no grid"),
    Wrong("tensors", 0, "zero_point", 1, "float32 has no grid"),
    Wrong("tensors", Y, "narrow", 1, "a narrow grid of 4 bits"),
    Wrong("tensors", X, "bits", 1, "a narrow grid of 1 bit"),
    Wrong("tensors", X, "zero_point", 1, "zero-point 1 on a grid that is signed"),
    Wrong("tensors", Y, "zero_point", 16, "zero-point 16"),
    Wrong("tensors", Y, "zero_point", -1, "zero-point -1"),
    Wrong("tensors", X, "dynamic", 1, "says scale 1"),
    Wrong("tensors", Y, "zero_point", 3, "mul: an input has zero-point 3; products and transposed convolutions take 0"),
    Wrong("tensors", PRODUCT, "zero_point", 3, "up: an input has zero-point 3"),
    Wrong("tensors", JOINED, "zero_point", 3, "concat: inputs and output must share one grid"),
    Wrong("tensors", JOINED, "dynamic", 1, "concat: inputs and output must share one grid"),
    Wrong("tensors", Y, "dynamic", 1, "table: a table is between grids that are not dynamic"),
    Wrong("tensors", Z, "dynamic", 1, "table: a table is between grids that are not dynamic"),
    Wrong("ops", CONV, "norm_groups", 4, "group norm of 4 groups; they must divide 6"),
    Wrong("ops", CONV, "norm_groups", 0xFFFFFFFF, "group norm of 4294967295 groups"),
    Wrong("ops", MUL, "norm_groups", 1, "reserved bytes"),
    Wrong("ops", MUL, "group_size", 1, "reserved bytes"),
    Wrong("ops", TRANSPOSED, "group_size", 1, "groups of 1 channels"),
    Wrong("ops", CONV, "group_size", 0, "groups of 0 channels"),
    Wrong("ops", CONV, "group_size", 65537, "groups of 65537 channels"),
    Wrong("ops", CONV, "weight_bits", 1, "weight kind 5 at 1 bits"),
    Wrong("ops", CONV, "weight_bits", 9, "weight kind 5 at 9 bits"),
    Wrong("ops", CONV, "codebook", 32, "multiple of 64"),
    Wrong("ops", TABLE, "codebook", 1 << 40, "do not lie in the data section"),
    Wrong("ops", TABLE, "flags", 1, "unknown mode or flags"),
    Wrong("ops", TABLE, "operand_count", 2, "2 inputs; 1 needed"),
    Wrong("ops", MUL, "flags", 0, "unknown mode or flags"),
    Wrong("ops", MUL, "mode", 1, "unknown mode or flags"),
    Wrong("ops", MUL, "operand_count", 1, "1 inputs; 2 needed"),
    Wrong("ops", MUL, "first_operand", 0, "differ in channels"),
    Wrong("ops", CONV, "kind", 11, "operation kind 11"),
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_field_that_is_refused(wrong: Wrong, data: bytes) -> None:
    changed = spoiled(data, wrong)
    status, detail = open_bytes(changed)
    assert status == wrong.status, detail
    assert wrong.told in detail and REMEDY.search(detail), detail
    with pytest.raises(ModelFileError):
        read(changed, "spoiled")


@dataclass(frozen=True)
class WrongByte:
    """One byte of an operation's ``codebook`` blob, or of its ``weight``."""

    op: int
    field: str
    at: int
    value: int
    told: str


BYTES = [
    WrongByte(TABLE, "codebook", 3, 8, "entry 8 of its table for code 3; -8 to 7 are allowed"),
    WrongByte(TABLE, "codebook", 3, 0xF7, "entry -9 of its table for code 3"),
    WrongByte(TABLE, "codebook", 16, 1, "entry 1 of its table for code 16; 0 to 0 are allowed"),
    WrongByte(TABLE, "codebook", 255, 1, "for code 255"),
    WrongByte(CONV, "codebook", 5, 8, "is shifted by 8; at most 7"),
    WrongByte(CONV, "codebook", 5, 7, "shifted weights of 0 to 128; they must fit 8 bits"),
]


@pytest.mark.parametrize("wrong", BYTES, ids=lambda wrong: wrong.told)
def test_a_byte_that_is_refused(wrong: WrongByte, data: bytes) -> None:
    at = section_start(data, "ops") + wrong.op * records.OP.size
    offset = int(str(records.OP.unpack(data, at)[wrong.field]))
    changed = bytearray(data)
    changed[section_start(data, "data") + offset + wrong.at] = wrong.value
    changed[12:16] = bytes(4)
    changed[12:16] = struct.pack("<I", zlib.crc32(changed))
    status, detail = open_bytes(bytes(changed))
    assert status == DAMAGED and wrong.told in detail and REMEDY.search(detail), detail
    with pytest.raises(ModelFileError):
        read(bytes(changed), "spoiled")


@pytest.mark.parametrize("conv", [False, True])
def test_several_inputs_with_a_scale_each(conv: bool) -> None:
    """Two dynamic tensors have two scales: neither a concat nor a convolution over both can have one gain."""
    grid, ones = Grid(4, False, 1.0), np.ones(1, np.float32)
    names = ("input", "a", "b", "joined", "logits")
    grids = (None, grid, grid, None if conv else grid, None)
    tensors = tuple(
        TensorSpec(name, 2 if conv and i > 2 else 4 if i > 2 else 2, grids[i]) for i, name in enumerate(names)
    )
    weight = np.ones((2, 4, 1, 1, 1), np.int8)
    join = Conv("both", (1, 2), 3, weight, 2, "twos_complement", ones, plain(2)) if conv else Concat("both", (1, 2), 3)
    head = Pointwise("logits", (3,), 4, plain(tensors[3].channels))
    ops = (Quantize("first", (0,), 1), Quantize("second", (0,), 2), join, head)
    changed = encode(Program(tensors, ops, 0, 4, 2, (1, 1, 1)), ModelMeta())
    for tensor in (1, 2) if conv else (1, 2, 3):
        changed = spoiled(changed, Wrong("tensors", tensor, "dynamic", 1, ""))
    changed = spoiled(changed, Wrong("header", 0, "version", 3, ""))
    status, detail = open_bytes(changed)
    assert status == DAMAGED and detail.startswith("both: several inputs, one of them on a dynamic grid"), detail
    assert REMEDY.search(detail)
    with pytest.raises(ModelFileError):
        read(changed, "spoiled")
