"""The model file: what is written comes back, and nothing damaged is ever accepted."""

import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deep_equality import same
from paper_program import paper_program
from random_programs import random_float_program, random_integer_program

from unetq.errors import ModelFileError, OutputError, UnsupportedError
from unetq.export import records
from unetq.export.modelfile import encode, load, read, save
from unetq.export.packing import pack_weights, row_bytes, unpack_weights
from unetq.export.program import Conv, ModelMeta, Pointwise, Preprocessing, Program
from unetq.fixedpoint import Grid

META = ModelMeta(
    "EM, schön", ("membrane", "cell"), (0, 255), Preprocessing("window", -2.5, 400.0), {"epochs": 3, "w": [1, None]}
)


def small_program() -> Program:
    """Some program with one output channel, a convolution and several kinds of operation."""
    for seed in range(200):
        program = random_integer_program(seed)
        if program.tensors[program.output].channels == 1 and len({type(op) for op in program.ops}) >= 3:
            return program
    raise LookupError("no such program in 200 seeds")


@pytest.mark.parametrize("seed", range(0, 120, 2))
def test_programs_come_back(seed: int) -> None:
    for program in (random_integer_program(seed), random_float_program(seed + 1)):
        found, _ = read(encode(program, ModelMeta()))
        assert same(found, program), f"seed {seed}"


def test_meta_comes_back(tmp_path: Path) -> None:
    program = small_program()
    save(program, tmp_path / "m.uqm", META)
    found, meta = load(tmp_path / "m.uqm")
    assert same(found, program) and meta == META
    assert encode(program, META) == (tmp_path / "m.uqm").read_bytes() == encode(found, meta)


def test_classes_without_names_are_numbered() -> None:
    for seed in range(200):
        program = random_integer_program(seed)
        classes = program.tensors[program.output].channels
        if classes > 2:
            _, meta = read(encode(program, ModelMeta()))
            assert meta.labels == tuple(f"class_{i}" for i in range(classes))
            assert meta.label_values == tuple(range(classes))
            with pytest.raises(UnsupportedError, match="labels"):
                encode(program, replace(ModelMeta(), labels=("a", "b", "c")[:1], label_values=(0,)))
            return


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("inputs", [1, 3, 8, 13])
def test_weights_come_back_at_their_bits(bits: int, inputs: int) -> None:
    random = np.random.default_rng(bits * 100 + inputs)
    weight = random.integers(-(1 << (bits - 1)), 1 << (bits - 1), (5, inputs, 1, 3, 2)).astype(np.int8)
    packed = pack_weights(weight, bits, "twos_complement")
    assert len(packed) == 5 * row_bytes(inputs * 6, bits)
    np.testing.assert_array_equal(unpack_weights(packed, weight.shape, bits, "twos_complement"), weight)
    signs = np.where(weight < 0, -1, 1).astype(np.int8)
    np.testing.assert_array_equal(unpack_weights(pack_weights(signs, 1, "binary"), weight.shape, 1, "binary"), signs)


def test_packing_by_hand() -> None:
    # One row of taps (kw = 2) with 3 input channels: canonical order is tap by tap, channels inside.
    weight = np.array([[1, -1], [-2, 3], [0, -4]], np.int8).reshape(1, 3, 1, 1, 2)  # codes 1 -2 0 | -1 3 -4 at 3 bits
    stream = 0b001 | 0b110 << 3 | 0b000 << 6 | 0b111 << 9 | 0b011 << 12 | 0b100 << 15
    assert pack_weights(weight, 3, "twos_complement") == stream.to_bytes(3, "little")
    with pytest.raises(UnsupportedError, match="-4 to 3"):
        pack_weights(weight, 2, "twos_complement")
    with pytest.raises(UnsupportedError, match="binary"):
        pack_weights(np.zeros((1, 1, 1, 1, 1), np.int8), 1, "binary")


def test_the_papers_network_fits() -> None:
    data = encode(paper_program(4, 6), META)
    assert len(data) <= 2_600_000, len(data)
    assert len(data) % records.ALIGNMENT == 0
    for i in range(len(records.SECTIONS)):
        entry = records.SECTION.unpack(data, records.HEADER.size + i * records.SECTION.size)
        assert entry["offset"] % records.ALIGNMENT == 0  # type: ignore[operator]


def test_cut_files_are_refused(tmp_path: Path) -> None:
    data = encode(small_program(), META)
    for size in range(0, len(data), 100):
        (tmp_path / "cut.uqm").write_bytes(data[:size])
        with pytest.raises(ModelFileError, match=r"cut\.uqm.*bytes"):
            load(tmp_path / "cut.uqm")
    with pytest.raises(ModelFileError, match="cut or extended"):
        read(data + bytes(64))


def test_any_flipped_bit_is_found() -> None:
    data = bytearray(encode(small_program(), META))
    random = np.random.default_rng(2)
    bits = [*range(64 * 8), *(int(b) for b in random.integers(0, len(data) * 8, 300))]
    for bit in bits:
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ModelFileError):
            read(bytes(data))
        data[bit // 8] ^= 1 << bit % 8
    read(bytes(data))


def sealed(data: bytearray) -> bytes:
    """The bytes with a right checksum: what a hostile or buggy writer could make."""
    data[12:16] = bytes(4)
    data[12:16] = struct.pack("<I", zlib.crc32(data))
    return bytes(data)


def section(data: bytes | bytearray, name: str) -> int:
    """Where a section starts."""
    i = records.SECTIONS.index(name)
    return int(records.SECTION.unpack(data, records.HEADER.size + i * records.SECTION.size)["offset"])  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("where", "offset", "value", "told"),
    [
        ("program", 0, 4, "spatial rank"),
        ("program", 4, 99, "input"),
        ("program", 16, 0, "input_multiple"),
        ("program", 40, 9, "unknown choice"),
        ("tensors", 4, 1 << 30, "name"),
        ("tensors", 8, 0, "channels"),
        ("tensors", 12, 7, "type"),
        ("ops", 0, 77, "kind 77"),
        ("ops", 12, 1 << 20, "operands"),
        ("ops", 20, 1 << 20, "tensor"),
        ("ops", 216, 1, "codebook"),
        ("ops", 140, 1, "groups of one"),
        ("ops", 224, 1, "groups of them"),
        ("ops", 228, 1, "reserved"),
        ("tensors", 24, 1, "float32 has no grid"),
        ("tensors", 28, 1, "reserved"),
        ("labels", 12, 1, "reserved"),
        ("provenance", 0, 0x22222222, "JSON"),
    ],
)
def test_rules_hold_behind_a_right_checksum(where: str, offset: int, value: int, told: str) -> None:
    data = bytearray(encode(small_program(), META))
    at = section(data, where) + offset
    data[at : at + 4] = struct.pack("<I", value)
    with pytest.raises(ModelFileError, match=told) as error:
        read(sealed(data))
    assert str(error.value).endswith(".")


def test_another_version_is_named() -> None:
    data = bytearray(encode(small_program(), META))
    data[8] = 5
    with pytest.raises(ModelFileError, match="version 5: this unetq reads versions 1 to 4"):
        read(sealed(data))


def break_last(program: Program, **changes: Any) -> Program:
    return replace(program, ops=(*program.ops[:-1], replace(program.ops[-1], **changes)))


def test_broken_programs_are_refused() -> None:
    program = small_program()
    last = program.ops[-1]
    assert isinstance(last, Pointwise)
    bad_gain = replace(last.epilogue, gain=np.full_like(last.epilogue.gain, np.inf))
    for broken, told in (
        (break_last(program, epilogue=bad_gain), "gain is not finite"),
        (break_last(program, inputs=(program.output,)), "made before it is read"),
        (break_last(program, output=0), "made once"),
        (replace(program, output=program.ops[0].output), "must be float32"),
        (
            replace(program, input_multiple=(2, 1, 1))
            if program.spatial_rank == 2
            else replace(program, input_multiple=(0, 1, 1)),
            "multiple",
        ),
    ):
        with pytest.raises(UnsupportedError, match=told):
            encode(broken, META)


def test_accumulators_beyond_int32_are_refused() -> None:
    program = next(
        p
        for p in map(random_integer_program, range(50))
        if isinstance(p.ops[1], Conv) and p.tensors[p.ops[1].inputs[0]].grid
    )
    conv = program.ops[1]
    assert isinstance(conv, Conv)
    kernel = (1, 2600, 2600)
    huge = replace(
        conv, weight=np.full((1, 1, *kernel), -128, np.int8), weight_bits=8, weight_kind="twos_complement", groups=1
    )
    small = replace(huge, inputs=huge.inputs[:1], weight_scale=np.ones(1, np.float32))
    tensors = list(program.tensors)
    tensors[small.inputs[0]] = replace(tensors[small.inputs[0]], channels=1, grid=Grid(8, False, 1.0))
    tensors[small.output] = replace(tensors[small.output], channels=1)
    tensors[0] = replace(tensors[0], channels=1)
    with pytest.raises(UnsupportedError, match="int32"):
        encode(replace(program, tensors=tuple(tensors), ops=(program.ops[0], small, *program.ops[2:])), META)


def test_convolutions_beyond_the_format_are_refused() -> None:
    seeds = map(random_integer_program, range(400))
    found = (
        (p, op) for p in seeds for op in p.ops[1:2] if isinstance(op, Conv) and op.transposed and p.spatial_rank == 2
    )
    program, conv = next((p, op) for p, op in found if op.weight_kind == "twos_complement")
    for changes, told in (
        ({"stride": (1, 32, 32)}, "phases"),
        ({"groups": 7}, "groups"),
        ({"dilation": (1, 1, 0)}, "dilation"),
        ({"pad_before": (0, -1, 0)}, "pad_before"),
        ({"weight_scale": np.ones(99, np.float32)}, "weight_scale"),
        ({"weight_bits": 9}, "weight_bits"),
        ({"weight_bits": 32, "weight_kind": "float32"}, "kind says float32"),
    ):
        with pytest.raises(UnsupportedError, match=told):
            encode(replace(program, ops=(program.ops[0], replace(conv, **changes), *program.ops[2:])), ModelMeta())


def test_provenance_must_be_json() -> None:
    for bad in ({"x": float("nan")}, {"x": object()}):
        with pytest.raises(UnsupportedError, match="JSON"):
            encode(small_program(), replace(META, provenance=bad))
    assert json.loads(json.dumps(META.provenance)) == META.provenance


def test_a_failed_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "m.uqm"
    save(small_program(), target, META)
    before = target.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        save(small_program(), target, ModelMeta())
    assert target.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.uqm"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"none\.uqm: cannot be read"):
        load(tmp_path / "none.uqm")
