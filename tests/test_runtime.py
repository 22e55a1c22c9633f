"""The Python face and the C face: sizes, plans, call-backs, misuse, damaged files."""

import ctypes
import os
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from native_library import SOURCES, ensure_library, instruction_sets, lacking
from paper_program import paper_program
from random_programs import random_input, random_integer_program

from unetq import native
from unetq.errors import DeviceError, ModelFileError
from unetq.export import records
from unetq.export.modelfile import encode, save
from unetq.export.program import ModelMeta, Preprocessing, Program
from unetq.runtime import Runtime

META = ModelMeta("test", ("membrane", "cell"), (0, 255), Preprocessing("zscore"), {"a": 1})


@pytest.fixture(scope="module", autouse=True)
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_library(tmp_path_factory.mktemp("runtime"))


@pytest.fixture(scope="module")
def small() -> Program:
    """A 2-D program that takes several sizes, with one input and one output channel."""
    return paper_program(2, 2)


@pytest.fixture(scope="module")
def path(small: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("model") / "m.uqm"
    save(small, target, META)
    return target


def test_what_the_file_says(path: Path) -> None:
    with Runtime(path) as runtime:
        assert runtime.meta == META
        assert (runtime.spatial_rank, runtime.input_channels, runtime.output_channels) == (2, 1, 1)
        assert runtime.input_multiple == (8, 8) and runtime.fixed_size is None
        assert runtime.isa == instruction_sets()[-1]


def test_the_plan_is_lean(path: Path) -> None:
    with Runtime(path) as runtime:
        plan = runtime.plan((64, 96))
        assert plan.input_size == plan.output_size == (1, 64, 96)
        assert plan.tensor_bytes[2] == 64 * 96 * 64 * 2 // 8  # 64 channels at 2 bits
        assert plan.peak_tensor_bytes <= plan.arena_bytes <= plan.peak_tensor_bytes + 2 * plan.peak_work_bytes
        assert plan.arena_bytes - plan.peak_work_bytes < sum(plan.tensor_bytes)  # at this size weights are most


def test_progress_rises_and_cancels(path: Path) -> None:
    x = np.zeros((2, 1, 16, 16), np.float32)
    seen: list[tuple[int, int]] = []
    with Runtime(path) as runtime:
        runtime.run(x, progress=lambda done, total: bool(seen.append((done, total))) or True)
        done = [d for d, _ in seen]
        assert done == sorted(done) and done[-1] == seen[0][1]
        with pytest.raises(DeviceError, match="cancelled"):
            runtime.run(x, progress=lambda done, total: done < total / 3)
        assert runtime.run(x).shape == x.shape


def test_input_that_is_refused(path: Path) -> None:
    with Runtime(path) as runtime:
        for shape, told in (
            ((1, 1, 16, 20), "multiple"),
            ((1, 2, 16, 16), "takes"),
            ((1, 16, 16), "takes"),
            ((1, 1, 0, 16), "positive"),
        ):
            with pytest.raises(DeviceError, match=told):
                runtime.run(np.zeros(shape, np.float32))
        for bad in (np.nan, np.inf, -np.inf):
            x = np.zeros((1, 1, 16, 16), np.float32)
            x[0, 0, 3, 5] = bad
            with pytest.raises(DeviceError, match="value 53 is NaN or infinite"):
                runtime.run(x)
        with pytest.raises(DeviceError, match=r"size \(16,\)"):
            runtime.plan((16,))
        with pytest.raises(DeviceError, match="image"):
            runtime.plan((1 << 25, 8))
        assert runtime.run(np.zeros((0, 1, 16, 16), np.float32)).shape == (0, 1, 16, 16)


def test_a_closed_runtime_says_so(path: Path) -> None:
    runtime = Runtime(path)
    runtime.close()
    runtime.close()
    with pytest.raises(DeviceError, match="closed"):
        runtime.run(np.zeros((1, 1, 16, 16), np.float32))


def test_isa_by_environment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNETQ_ISA", "scalar")
    with Runtime(path) as runtime:
        assert runtime.isa == "scalar"
    monkeypatch.setenv("UNETQ_ISA", "mmx")
    with pytest.raises(DeviceError, match='"mmx" is not in this library'):
        Runtime(path)


def test_a_missing_library_says_how_to_build_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNETQ_LIBRARY", "/nowhere/libunetq.so")
    with pytest.raises(DeviceError, match="make native"):
        Runtime(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"none\.uqm"):
        Runtime(tmp_path / "none.uqm")
    with pytest.raises(ModelFileError, match="not a regular file"):
        Runtime(tmp_path)


def open_bytes(data: bytes) -> int:
    """The status of opening a copy of ``data`` in memory; a model that opens is planned, run and closed."""
    lib = native.load_runtime()
    room = np.zeros(len(data) // 8 + 1, np.uint64)
    room.view(np.uint8)[: len(data)] = np.frombuffer(data, np.uint8)
    model, layout = ctypes.c_void_p(), ctypes.c_void_p()
    status = int(lib.uq_model_open_memory(room.ctypes.data, len(data), None, ctypes.byref(model)))
    assert (status == 0) == bool(model)
    if status == 0 and lib.uq_plan(model, 1, 6, 6, ctypes.byref(layout)) == 0:
        info = native.LayoutInfo(struct_bytes=ctypes.sizeof(native.LayoutInfo))
        lib.uq_layout_get_info(layout, ctypes.byref(info))
        if info.arena_bytes < 1 << 24 and info.work_units < 1 << 24:
            arena = np.empty(info.arena_bytes + 64, np.uint8)
            at = -(-arena.ctypes.data // 64) * 64
            x, y = np.ones(info.input_count, np.float32), np.empty(info.output_count, np.float32)
            assert lib.uq_run(layout, at, info.arena_bytes, x.ctypes.data, x.size, y.ctypes.data, y.size, None) == 0
        lib.uq_layout_free(layout)
    lib.uq_model_close(model)
    return status


@pytest.fixture(scope="module")
def data() -> bytes:
    return next(
        encode(p, ModelMeta())
        for p in map(random_integer_program, range(400))
        if p.spatial_rank == 2 and p.fixed_size is None and len({type(op) for op in p.ops}) >= 5
    )


def test_cut_files(data: bytes, tmp_path: Path) -> None:
    assert open_bytes(data) == 0
    for size in range(0, len(data), 100):
        if size:
            assert open_bytes(data[:size]) == 3, size
        (tmp_path / "cut.uqm").write_bytes(data[:size])
        with pytest.raises(ModelFileError):
            Runtime(tmp_path / "cut.uqm")


def test_flipped_bits(data: bytes) -> None:
    damaged = bytearray(data)
    for bit in [*range(64 * 8), *(int(b) for b in np.random.default_rng(3).integers(0, len(data) * 8, 300))]:
        damaged[bit // 8] ^= 1 << bit % 8
        assert open_bytes(bytes(damaged)) in (3, 4), bit
        damaged[bit // 8] ^= 1 << bit % 8
    assert open_bytes(bytes(damaged)) == 0


@pytest.mark.parametrize("seed", range(8))
def test_hostile_files_never_crash(seed: int, data: bytes) -> None:
    """Wrong fields behind a right checksum: refused, or harmless. Mutations aim at the records, not the weights."""
    random = np.random.default_rng(seed)
    start = records.padded(records.HEADER.size + len(records.SECTIONS) * records.SECTION.size)
    entry = records.SECTION.unpack(data, records.HEADER.size + records.SECTIONS.index("data") * records.SECTION.size)
    refused = 0
    for _ in range(150):
        changed = bytearray(data)
        for _ in range(int(random.integers(1, 3))):
            limit = int(entry["offset"]) if random.random() < 0.9 else len(data)  # type: ignore[call-overload]
            at = int(random.integers(16 if random.random() < 0.1 else start, limit)) // 4 * 4
            value = int(
                random.choice([0, 1, 2, 3, 255, 65535, 65536, 1 << 31, (1 << 32) - 1, random.integers(1 << 32)])
            )
            changed[at : at + 4] = struct.pack("<I", value)
        changed[12:16] = bytes(4)
        changed[12:16] = struct.pack("<I", zlib.crc32(changed))
        refused += open_bytes(bytes(changed)) != 0
    assert refused > 20


def test_the_c_face(path: Path, small: Program, tmp_path: Path) -> None:
    """A C99 program, strictly compiled, opens, plans, runs; its logits are NumPy's."""
    compiler = shutil.which(os.environ.get("CC", "gcc")) or shutil.which("cc")
    if compiler is None:
        lacking("no C compiler")
    binary, library = tmp_path / "run_c99", native.runtime_path()
    flags = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{SOURCES / 'include'}"]
    link = [str(SOURCES / "tests" / "run.c"), str(library), f"-Wl,-rpath,{library.parent}"]
    subprocess.run([compiler, *flags, "-o", str(binary), *link], check=True)
    subprocess.run([str(binary)], check=True)
    for isa in instruction_sets():
        out = tmp_path / f"{isa}.bin"
        command = [str(binary), str(path), "1", "16", "24", str(out)]
        subprocess.run(command, check=True, env={**os.environ, "UNETQ_ISA": isa})
        i = np.arange(16 * 24, dtype=np.uint64)
        x = ((i * 2654435761 % 4096).astype(np.float32) / np.float32(512) - np.float32(4)).reshape(1, 1, 16, 24)
        np.testing.assert_array_equal(np.fromfile(out, np.float32).reshape(1, 1, 16, 24), small.run(x))


def test_two_runtimes_side_by_side(tmp_path: Path) -> None:
    """Models share nothing: interleaved runs of two give what each gives alone."""
    results = {}
    for seed in (1, 2):
        program = random_integer_program(seed)
        save(program, tmp_path / f"{seed}.uqm")
        results[seed] = (random_input(program, seed), program.run(random_input(program, seed)))
    with Runtime(tmp_path / "1.uqm") as a, Runtime(tmp_path / "2.uqm") as b:
        for _ in range(2):
            np.testing.assert_array_equal(a.run(results[1][0]), results[1][1])
            np.testing.assert_array_equal(b.run(results[2][0]), results[2][1])
