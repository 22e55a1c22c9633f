"""What the runtime refuses: a status, a sentence with value, rule and remedy, and no harm done.

Wrong fields stand behind a right checksum, so that the rule itself is met; Python's reader must refuse the same files.
"""

import ctypes
import os
import re
import shutil
import struct
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from native_library import SOURCES, ensure_library, lacking
from paper_program import paper_program
from shared_builds import built_once

from unetq import native
from unetq.errors import DeviceError, ModelFileError
from unetq.export import records
from unetq.export.modelfile import encode, read, save
from unetq.export.program import ModelMeta, Program
from unetq.runtime import Runtime

DAMAGED, VERSION = 3, 4
REMEDY = re.compile(r"\. (Export|Copy|Name|Update|Use) [^.]*\.$")
RECORDS = {
    "header": records.HEADER,
    "program": records.PROGRAM,
    "tensors": records.TENSOR,
    "ops": records.OP,
    "labels": records.LABEL,
}
QUANTIZE, CONV = 0, 1  # operations of the test's model, by number


@pytest.fixture(scope="module", autouse=True)
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_library(tmp_path_factory.mktemp("runtime"))


@pytest.fixture(scope="module")
def program() -> Program:
    return paper_program(2, 2)


@pytest.fixture(scope="module")
def data(program: Program) -> bytes:
    return encode(program, ModelMeta())


@dataclass(frozen=True)
class Wrong:
    """One field of one record set to a value that no version-1 file may have."""

    section: str
    index: int
    field: str
    value: int | float
    told: str
    status: int = DAMAGED
    entry: int = 0  # of a field with several

    def __str__(self) -> str:
        return f"{self.section}{self.index}.{self.field}={self.value}"


def section_start(data: bytes, name: str) -> int:
    if name == "header":
        return 0
    entry = records.SECTION.unpack(data, records.HEADER.size + records.SECTIONS.index(name) * records.SECTION.size)
    return int(str(entry["offset"]))


def spoiled(data: bytes, wrong: Wrong) -> bytes:
    """The file with that one field changed and the checksum made right."""
    record = RECORDS[wrong.section]
    at = section_start(data, wrong.section) + wrong.index * record.size
    for name, code, count in record.fields:
        if name == wrong.field:
            at += wrong.entry * struct.calcsize(code)
            break
        at += struct.calcsize(f"<{count}{code}")
    changed = bytearray(data)
    struct.pack_into(f"<{code}", changed, at, wrong.value)
    changed[12:16] = bytes(4)
    changed[12:16] = struct.pack("<I", zlib.crc32(changed))
    return bytes(changed)


def open_bytes(data: bytes) -> tuple[int, str]:
    """Status and sentence of opening a copy of ``data``."""
    lib = native.load_runtime()
    room = np.zeros(len(data) // 8 + 1, np.uint64)
    room.view(np.uint8)[: len(data)] = np.frombuffer(data, np.uint8)
    model = ctypes.c_void_p()
    status = int(lib.uq_model_open_memory(room.ctypes.data, len(data), None, ctypes.byref(model)))
    assert (status == 0) == bool(model)
    lib.uq_model_close(model)
    return status, lib.uq_last_detail().decode() if status else ""


WRONG = [
    # What a later version may have and this one lacks.
    Wrong("header", 0, "version", 0, "version 0: this library reads", VERSION),
    Wrong("header", 0, "version", records.VERSION + 1, f"version {records.VERSION + 1}: this library reads", VERSION),
    Wrong("header", 0, "version", 0xFFFFFFFF, "version 4294967295", VERSION),
    Wrong("ops", CONV, "kind", 11, "operation kind 11"),
    Wrong("ops", CONV, "kind", 9, "tables in version 1 of the format; they need 3"),
    Wrong("ops", CONV, "kind", 10, "products in version 1 of the format; they need 3"),
    Wrong("ops", CONV, "kind", 0, "operation kind 0"),
    Wrong("ops", CONV, "weight_bits", 9, "weight kind 1 at 9 bits"),
    Wrong("ops", CONV, "weight_bits", 0, "weight kind 1 at 0 bits"),
    Wrong("ops", CONV, "weight_kind", 6, "weight kind 6"),
    Wrong("ops", CONV, "weight_kind", 5, "shifted weights in version 1 of the format; they need 3"),
    Wrong("ops", CONV, "weight_kind", 4, "weight kind 4 at 8 bits"),
    Wrong("ops", CONV + 1, "weight_kind", 4, "codebook weights in version 1 of the format; they need 2"),
    Wrong("ops", CONV, "codebook", 64, "have no codebook"),
    Wrong("ops", QUANTIZE, "codebook", 64, "reserved bytes"),
    Wrong("ops", CONV, "weight_kind", 0, "weight kind 0"),
    Wrong("ops", CONV, "weight_kind", 2, "weight kind 2 at 8 bits"),
    Wrong("ops", CONV, "mode", 2, "unknown mode"),
    Wrong("ops", CONV, "flags", 31, "unknown mode or flags"),
    Wrong("ops", QUANTIZE, "flags", 1, "unknown mode or flags"),
    Wrong("ops", CONV, "norm_groups", 1, "norm groups in version 1 of the format; they need 3"),
    Wrong("ops", CONV, "group_size", 1, "group sizes in version 1 of the format; they need 3"),
    Wrong("tensors", 1, "bits", 9, "9 bits"),
    Wrong("tensors", 1, "bits", 0, "0 bits"),
    Wrong("tensors", 1, "zero_point", 3, "zero-points in version 1 of the format; they need 3"),
    Wrong("tensors", 1, "narrow", 1, "narrow grids in version 1 of the format; they need 3"),
    Wrong("tensors", 1, "dynamic", 1, "dynamic grids in version 1 of the format; they need 3"),
    Wrong("tensors", 1, "rounding", 2, "rounding"),
    Wrong("tensors", 1, "type", 2, "type"),
    Wrong("program", 0, "spatial_rank", 4, "rank 4"),
    Wrong("program", 0, "normalize", 3, "unknown choice"),
    # What is impossible in any version.
    Wrong("tensors", 1, "scale", float("nan"), "scale nan"),
    Wrong("tensors", 1, "scale", 1e-45, "finite inverse"),
    Wrong("tensors", 1, "channels", 0, "0 channels"),
    Wrong("tensors", 1, "channels", 65537, "65537 channels"),
    Wrong("ops", CONV, "groups", 0, "groups 0"),
    Wrong("ops", CONV, "row_bytes", 1, "rows of 1 bytes"),
    Wrong("ops", CONV, "weight", 1 << 40, "1099511627776"),
    Wrong("ops", CONV, "gain", 8, "multiple of 64"),
    Wrong("ops", CONV, "kernel", 65537, "kernel = 65537", entry=2),
    Wrong("ops", CONV, "stride", 0, "stride = 0", entry=1),
    Wrong("ops", CONV, "dilation", 3, "dilation in depth = 3", entry=0),
    Wrong("ops", CONV, "output", 4000, "tensor 4000"),
    Wrong("ops", CONV, "operand_count", 4097, "operands"),
    Wrong("ops", CONV, "name_offset", 1 << 30, "name at 1073741824"),
    Wrong("program", 0, "input", 4000, "input or output tensor"),
    Wrong("program", 0, "input_multiple", 0, "input multiple = 0", entry=2),
    Wrong("labels", 0, "reserved", 1, "reserved"),
    Wrong("header", 0, "file_bytes", 64, "the file says it has 64"),
    Wrong("header", 0, "section_count", 9, "section count"),
]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_field_that_is_refused(wrong: Wrong, data: bytes) -> None:
    changed = spoiled(data, wrong)
    status, detail = open_bytes(changed)
    assert status == wrong.status, detail
    assert wrong.told in detail and REMEDY.search(detail), detail
    with pytest.raises(ModelFileError):
        read(changed, "spoiled")


def test_the_file_itself_is_good(data: bytes) -> None:
    """What is refused above is refused for the changed field alone."""
    assert open_bytes(data)[0] == 0
    assert open_bytes(spoiled(data, Wrong("labels", 0, "value", 7, "")))[0] == 0


def test_a_new_version_is_told_before_its_checksum(data: bytes) -> None:
    """Another version may have another checksum: the version is what the person must hear."""
    changed = bytearray(data)
    changed[8:12] = struct.pack("<I", records.VERSION + 1)
    status, detail = open_bytes(bytes(changed))
    assert status == VERSION and f"version {records.VERSION + 1}" in detail
    with pytest.raises(ModelFileError, match=f"version {records.VERSION + 1}"):
        read(bytes(changed), "new")


def test_older_versions_are_read(data: bytes) -> None:
    """A file of today's first version is one of all later versions, too."""
    for version in range(1, records.VERSION + 1):
        changed = spoiled(data, Wrong("header", 0, "version", version, ""))
        assert open_bytes(changed)[0] == 0, version
        read(changed, "old")


def test_an_unknown_scheme_is_told(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt UNETQ_SCHEME would otherwise time something else than what was asked for."""
    save(program, tmp_path / "m.uqm")
    monkeypatch.setenv("UNETQ_SCHEME", "winogard")
    with pytest.raises(DeviceError, match=r'"winogard".*Unset'):
        Runtime(tmp_path / "m.uqm")


@pytest.mark.parametrize("size", [(1 << 21, 8), (8, (1 << 20) + 8), (0xFFFFFFF8, 0xFFFFFFF8)])
def test_an_axis_beyond_the_limit(size: tuple[int, int], program: Program, tmp_path: Path) -> None:
    save(program, tmp_path / "m.uqm")
    with Runtime(tmp_path / "m.uqm") as runtime, pytest.raises(DeviceError, match=f"{max(size)}.*at most 1048576.*Pad"):
        runtime.plan(size)


def compile_and_run(compiler: str, flags: list[str], link: list[str], model: Path, folder: Path, *run: str) -> str:
    binary = folder / "errors"
    command = [compiler, "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{SOURCES / 'include'}", *flags]
    subprocess.run([*command, "-o", str(binary), str(SOURCES / "tests" / "errors.c"), *link], check=True)
    done = subprocess.run([*run, str(binary), str(model)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_misuse_from_c(program: Program, tmp_path: Path) -> None:
    """Arenas, buffers, threads, sizes, NaN: errors.c."""
    compiler = shutil.which(os.environ.get("CC", "gcc")) or shutil.which("cc")
    if compiler is None:
        lacking("no C compiler")
    path, shared = tmp_path / "m.uqm", native.runtime_path()
    save(program, path)
    told = compile_and_run(compiler, [], [str(shared), f"-Wl,-rpath,{shared.parent}", "-lm"], path, tmp_path)
    assert "64 bits: 0 failures" in told or ctypes.sizeof(ctypes.c_size_t) == 4


def test_every_misuse_on_32_bits(program: Program, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same under qemu: sizes whose product leaves 32 bits are refused, not wrapped around."""
    prefix = "arm-linux-gnueabihf-"
    emulator = shutil.which("qemu-arm") or shutil.which("qemu-arm-static")
    if emulator is None or not shutil.which(f"{prefix}g++") or not shutil.which("make"):
        lacking("no qemu-arm or no arm-linux-gnueabihf-g++: apt-get install qemu-user g++-arm-linux-gnueabihf")

    def build(place: Path) -> None:
        settings = [f"CXX={prefix}g++", "CXXFLAGS=-O1", f"BUILD={place}.parts", f"OUT_A={place}"]
        done = subprocess.run(
            ["make", "-s", "-j2", "-C", str(SOURCES), *settings, "archive"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]

    archive = built_once(tmp_path_factory, "errors-armhf.a", build)
    path = tmp_path / "m.uqm"
    save(program, path)
    link = [str(archive), "-static", "-lstdc++", "-lm", "-pthread"]
    told = compile_and_run(f"{prefix}gcc", [], link, path, tmp_path, emulator, "-cpu", "cortex-a15")
    assert "32 bits: 0 failures" in told
