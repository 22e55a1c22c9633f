"""Codebook weights: packed, written, refused where they are wrong, and summed exactly by every scheme."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exact_runs import compare, one_conv, plain_epilogue
from native_library import ensure_library

from unetq.cost import cost
from unetq.errors import ModelFileError, UnsupportedError
from unetq.export import records
from unetq.export.modelfile import encode, load, read, version_of
from unetq.export.packing import LEVELS, codebook, pack_weights, row_bytes, unpack_weights
from unetq.export.program import Conv, Epilogue, ModelMeta, Program
from unetq.fixedpoint import Grid
from unetq.inspect import describe, inspect
from unetq.runtime import Runtime


@pytest.fixture(scope="module", autouse=True)
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_library(tmp_path_factory.mktemp("runtime"))


def program_of(weight: np.ndarray, bits: int, kind: str = "codebook", grid: Grid | None = None, **how: Any) -> Program:
    grid = grid or Grid(4, False, 0.5)
    reach = float(np.abs(weight.astype(int)).reshape(weight.shape[0], -1).sum(axis=1).max()) * grid.high / 8 + 1
    op = Conv(
        "conv", (1,), 2, weight.astype(np.int8), bits, kind, np.ones(1, np.float32),  # type: ignore[arg-type]
        plain_epilogue(weight.shape[0], reach), **how,
    )  # fmt: skip
    return one_conv(op, grid, weight.shape[1] * how.get("groups", 1), Grid(8, True, 0.5))


def some_weight(seed: int, levels: list[int], shape: tuple[int, ...] = (5, 3, 1, 3, 3)) -> np.ndarray:
    weight = np.random.default_rng(seed).choice(levels, shape).astype(np.int8)
    weight.flat[: len(levels)] = levels  # every level is used
    return weight


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("inputs", [1, 3, 8, 13])
def test_weights_come_back_at_their_bits(bits: int, inputs: int) -> None:
    random = np.random.default_rng(bits * 100 + inputs)
    levels = np.sort(random.permutation(np.arange(-128, 128))[: 1 << bits]).astype(np.int8)
    weight = random.choice(levels, (5, inputs, 1, 3, 2))
    packed = pack_weights(weight, bits, "codebook")
    assert len(packed) == 5 * row_bytes(inputs * 6, bits)
    book = codebook(weight, bits)
    np.testing.assert_array_equal(unpack_weights(packed, weight.shape, bits, "codebook", book), weight)


def test_packing_by_hand() -> None:
    weight = np.array([7, -100, 7, 0, -100], np.int8).reshape(1, 5, 1, 1, 1)  # levels -100, 0, 7: codes 2 0 2 1 0
    assert codebook(weight, 2).tolist() == [-100, 0, 7, 7] + 12 * [0]
    assert pack_weights(weight, 2, "codebook") == bytes([0b01_10_00_10, 0b00])
    with pytest.raises(UnsupportedError, match="3 different weights: a codebook of 1 bit has at most 2"):
        pack_weights(weight, 1, "codebook")
    with pytest.raises(UnsupportedError, match="200"):
        pack_weights(weight.astype(np.int16) + 193, 2, "codebook")


def test_what_cannot_be_a_codebook_is_refused() -> None:
    for weight, bits, told in (
        (some_weight(1, [-3, 0, 4, 9, 11]), 2, "5 different weights: 2 bit has 4 levels"),
        (some_weight(1, [-3, 4]), 5, "weight_bits = 5: codebook has 1 to 4"),
        (some_weight(1, [-3, 4]), 0, "weight_bits = 0: codebook has 1 to 4"),
    ):
        with pytest.raises(UnsupportedError, match=told):
            encode(program_of(weight, bits), ModelMeta())


def test_only_files_with_a_codebook_need_the_new_version() -> None:
    book = program_of(some_weight(2, [-3, 0, 9]), 2)
    plain = program_of(some_weight(2, [-2, 0, 1]), 2, "twos_complement")
    for program, version in ((book, 2), (plain, 1)):
        data = encode(program, ModelMeta())
        assert version_of(program) == version == data[8]
        found = read(data)[0].ops[1]
        assert isinstance(found, Conv) and found.weight_kind == program.ops[1].weight_kind  # type: ignore[union-attr]
        np.testing.assert_array_equal(found.weight, program.ops[1].weight)  # type: ignore[union-attr]


# Where an operation's fields lie in its record (FORMAT.md), and the second operation's record in the file.
KIND, WEIGHT_BITS, WEIGHT_KIND, CODEBOOK = 0, 104, 108, 216


def place(data: bytes | bytearray, section: str, number: int = 0) -> int:
    i = records.SECTIONS.index(section)
    entry = records.SECTION.unpack(data, records.HEADER.size + i * records.SECTION.size)
    return int(entry["offset"]) + number * int(entry["record_bytes"])  # type: ignore[call-overload]


def set_field(at: int, value: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        struct.pack_into("<I", data, place(data, "ops", 1) + at, value)

    return change


def set_level(index: int, value: int) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        (book,) = struct.unpack_from("<Q", data, place(data, "ops", 1) + CODEBOOK)
        struct.pack_into("<b", data, place(data, "data") + book + index, value)

    return change


def set_version(value: int) -> Callable[[bytearray], None]:
    return lambda data: struct.pack_into("<I", data, 8, value)


BINARY = ((WEIGHT_KIND, 2), (WEIGHT_BITS, 1), (112, 4))  # kind, bits, and bytes of a row of 27 of them
DAMAGE: dict[str, tuple[Callable[[bytearray], Any], str]] = {
    "version 1": (set_version(1), "codebook weights in version 1"),
    "version 5": (set_version(5), "version 5"),
    "version 0": (set_version(0), "version 0"),
    "falling levels": (set_level(1, -128), "must not fall"),
    "levels behind the last": (set_level(15, 1), "must not fall"),
    "no such place": (set_field(CODEBOOK, 1 << 30), "multiple of 64"),
    "not aligned": (set_field(CODEBOOK, 4), "multiple of 64"),
    "too many bits": (set_field(WEIGHT_BITS, 5), "weight"),
    "unknown kind": (set_field(WEIGHT_KIND, 6), "weight kind 6"),
    "a codebook of binary weights": (lambda data: [set_field(at, v)(data) for at, v in BINARY], "no codebook"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_refused_by_both_readers(name: str, tmp_path: Path) -> None:
    change, told = DAMAGE[name]
    data = bytearray(encode(program_of(some_weight(3, [-90, -5, 0, 60]), 2), ModelMeta()))
    book = place(data, "ops", 1) + CODEBOOK
    assert read(bytes(data)) and struct.unpack_from("<Q", data, book)[0] > 0  # 0 is what other kinds have there
    change(data)
    data[12:16] = bytes(4)
    data[12:16] = struct.pack("<I", zlib.crc32(data))
    path = tmp_path / "m.uqm"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=told) as found:
        load(path)
    assert str(found.value).endswith(".")
    with pytest.raises(ModelFileError, match=told) as found:
        Runtime(path)
    assert str(found.value).endswith(".")


def test_a_new_version_without_anything_new_is_read(tmp_path: Path) -> None:
    data = bytearray(encode(program_of(some_weight(4, [-1, 0, 1]), 2, "twos_complement"), ModelMeta()))
    set_version(2)(data)
    data[12:16] = bytes(4)
    data[12:16] = struct.pack("<I", zlib.crc32(data))
    (tmp_path / "m.uqm").write_bytes(data)
    load(tmp_path / "m.uqm")
    Runtime(tmp_path / "m.uqm").close()
    assert inspect(tmp_path / "m.uqm", (8, 8))["format_version"] == 2


def test_inspect_and_cost_show_the_levels(tmp_path: Path) -> None:
    program = program_of(some_weight(5, [-90, -5, 60]), 2)
    program.save(tmp_path / "m.uqm")
    found = inspect(tmp_path / "m.uqm", (8, 8))
    layer = found["layers"][1]
    assert layer["weight_kind"] == "codebook" and layer["weight_levels"] == [-90, -5, 60]
    assert found["format_version"] == 2 and " 2c " in describe(found)
    plain = program_of(some_weight(5, [-2, 0, 1]), 2, "twos_complement")
    assert cost(program, (8, 8)).weight_bytes == cost(plain, (8, 8)).weight_bytes + LEVELS


SHAPES: dict[str, dict[str, Any]] = {
    "3x3": {"pad_before": (0, 1, 1), "pad_after": (0, 1, 1)},
    "strided": {"stride": (1, 2, 2), "pad_before": (0, 1, 1), "pad_after": (0, 1, 1)},
    "dilated": {"dilation": (1, 2, 2), "pad_before": (0, 2, 2), "pad_after": (0, 2, 2)},
    "transposed": {"transposed": True, "stride": (1, 2, 2), "pad_before": (0, 1, 1), "output_padding": (0, 1, 1)},
    "grouped": {"groups": 3, "pad_before": (0, 1, 1), "pad_after": (0, 1, 1)},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
@pytest.mark.parametrize("reach", [7, 127])
def test_every_scheme_sums_the_levels(shape: str, bits: int, reach: int, tmp_path: Path) -> None:
    """Small levels, which Winograd holds, and the largest, at whose sums narrow lanes would overflow."""
    random = np.random.default_rng(bits * 1000 + reach)
    inner = random.permutation(np.arange(-reach, reach))[: (1 << bits) - 2]
    weight = some_weight(bits, [-reach - (reach == 127), reach, *map(int, inner)], (21, 35, 1, 3, 3))
    for grid in (Grid(6, False, 1.0), Grid(2, True, 1.0), Grid(8, False, 1.0)):
        program = program_of(weight, bits, grid=grid, **SHAPES[shape])
        x = random.choice([0, 1e9, -1e9, grid.high / 2], (1, program.tensors[0].channels, 6, 7)).astype(np.float32)
        compare(program, x, tmp_path / "m.uqm", f"{shape}, {bits} bits, levels to {reach}, {grid.bits}-bit codes")


def test_weights_of_a_float_layer_may_come_from_a_codebook(tmp_path: Path) -> None:
    program = program_of(some_weight(6, [-9, 2, 50]), 2, pad_before=(0, 1, 1), pad_after=(0, 1, 1))
    conv = program.ops[1]
    assert isinstance(conv, Conv)
    ones = np.ones(5, np.float32)
    floats = Conv("conv", (0,), 1, conv.weight, 2, "codebook", ones[:1], Epilogue(ones, ones))
    whole = Program((program.tensors[0], program.tensors[3]), (floats,), 0, 1, 2, (1, 1, 1))
    x = np.random.default_rng(6).standard_normal((1, 3, 6, 7)).astype(np.float32)
    compare(whole, x, tmp_path / "m.uqm", "float32 input", tolerance=1e-5)
