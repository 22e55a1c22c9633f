"""Counting under qemu: exact on a loop of known length, and a small model that gives this machine's bits."""

import shutil
from pathlib import Path

import fixed_bench as fixed
import numpy as np
import pytest
from native_library import ensure_library, lacking
from shared_builds import built_once

from unetq.bench import counted, cycles
from unetq.errors import DeviceError

# Between the markers: 1 instruction, 1000 times a loop of 4 (aarch64) or 3 (Arm), 1 more.
LOOPS = {
    "aarch64": (
        "hint #45\n mov x9, #1000\n1: mla v0.16b, v1.16b, v2.16b\n ldr q3, [sp]\n subs x9, x9, #1\n b.ne 1b\n"
        " add x9, x9, #1\n hint #46",
        '"x9", "v0", "v3", "cc", "memory"',
        {"movz": 1, "mla.16b": 1000, "ldr.q": 1000, "subs": 1000, "b.ne": 1000, "add": 1},
    ),
    "armv7": (
        "mov r10, r10\n mov r9, #1000\n1: vmla.i8 q0, q1, q2\n subs r9, r9, #1\n bne 1b\n add r9, r9, #1\n"
        " mov r11, r11",
        '"r9", "q0", "cc", "memory"',
        {"mov": 1, "vmla.i8.q": 1000, "subs": 1000, "bne": 1000, "add": 1},
    ),
}
MACHINES = {"aarch64": (counted.AARCH64, "cortex-a72"), "armv7": (counted.ARMV7, "cortex-a7")}


def need(*machines: counted.Machine) -> None:
    try:
        counted.require_tools(machines)
    except DeviceError as error:
        lacking(str(error))


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("cc"):
        lacking("cc is not installed")

    def build(place: Path) -> None:
        place.mkdir()
        counted.build_plugin(place)

    return built_once(tmp_path_factory, "count-plugin", build) / "libicount.so"


@pytest.mark.parametrize("name", LOOPS)
def test_a_known_loop_is_counted_exactly(name: str, plugin: Path, tmp_path: Path) -> None:
    machine, cpu = MACHINES[name]
    need(machine)
    assembly, clobbers, expected = LOOPS[name]
    text = assembly.replace("\n", "\\n")
    # What lies before and behind the markers, the printing included, must not be counted.
    source = tmp_path / "loop.c"
    source.write_text(
        "#include <stdio.h>\nint main(void) {\n"
        f'  for (int i = 0; i < 77; ++i) printf(" ");\n  __asm__ volatile("{text}" ::: {clobbers});\n'
        '  puts("{}");\n  return 0;\n}\n'
    )
    flags = [*machine.flags, *(["-mfpu=neon"] if name == "armv7" else [])]
    program = tmp_path / "loop"
    counted._call([machine.compiler("gcc"), "-O1", "-static", *flags, source, "-o", program], "compiling")
    _, found = counted.run_counted(machine, cpu, plugin, [str(program)])
    assert found["histogram"] == expected
    assert found["instructions"] == sum(expected.values())


def test_a_program_without_markers_is_refused(plugin: Path, tmp_path: Path) -> None:
    need(counted.AARCH64)
    source, program = tmp_path / "empty.c", tmp_path / "empty"
    source.write_text('#include <stdio.h>\nint main(void) { puts("{}"); return 0; }\n')
    counted._call([counted.AARCH64.compiler("gcc"), "-static", source, "-o", program], "compiling")
    with pytest.raises(DeviceError, match="0 regions"):
        counted.run_counted(counted.AARCH64, "cortex-a72", plugin, [str(program)])


def test_a_small_model_gives_the_same_bits(plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    need(counted.AARCH64)
    folder = tmp_path_factory.mktemp("count")
    ensure_library(folder)
    model = fixed.packed(folder)

    def build(place: Path) -> None:
        place.mkdir()
        counted.build_program(counted.AARCH64, place)

    program = built_once(tmp_path_factory, "count-aarch64-build", build) / "count-aarch64"
    size = (32, 32)
    expected = counted._own_hash(model, size)
    totals = {}
    for cpu in ("cortex-a72", "cortex-a76", "max,pauth=off,sve=off,sme=off"):
        command = [str(program), str(model), *map(str, size)]
        said, found = counted.run_counted(counted.AARCH64, cpu, plugin, command)
        assert said["hash"] == expected, f"{cpu} with {said['isa']}"
        assert sum(found["histogram"].values()) == found["instructions"] > 10_000
        assert any("uq" in name for name in found["functions"])
        again = counted.run_counted(counted.AARCH64, cpu, plugin, command)[1]
        assert again == found, "counting is repeatable"
        totals[said["isa"]] = found
    if "dotprod" in totals:
        assert totals["dotprod"]["histogram"].get("sdot.4s", 0) + totals["dotprod"]["histogram"].get("udot.4s", 0) > 0


def test_hash_and_image_are_those_of_the_program() -> None:
    assert counted.fnv1a(np.zeros(0, np.float32)) == "cbf29ce484222325"
    image = counted.count_image((2, 3))
    assert image.shape == (1, 1, 2, 3) and np.abs(image).max() <= 1 and len(set(image.ravel().tolist())) == 6


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted.shutil, "which", lambda tool: None if tool == "qemu-arm" else f"/{tool}")
    with pytest.raises(DeviceError, match=r"qemu-arm; Debian, Ubuntu: apt-get install qemu-user"):
        counted.require_tools([counted.ARMV7])


def test_estimates_reproduce_published_inner_loops() -> None:
    """Multiplications alone: 8 MACs an SMLAL, one a cycle on A72; 16 an MLA of bytes, one in two."""
    smlal = cycles.mix_of({"smlal.8h": 500, "smlal2.8h": 500})
    assert cycles.a72(smlal) == 1000 and cycles.a53(smlal)[0] == 1000 and 1400 <= cycles.a53(smlal)[1] <= 1500
    mla = cycles.mix_of({"mla.16b": 1000})
    assert 16 * 1000 / cycles.a72(mla) == 8
    binary = cycles.mix_of({"eor.16b": 1000, "cnt.16b": 1000})
    assert cycles.a72(binary) == 1000, "CNT one a cycle, EOR beside it"
    mixed = cycles.mix_of({"ldr.q": 10, "ldp.q": 5, "str.q": 4, "add": 7, "mul": 2, "b.ne": 3, "stp": 1, "fmul.4s": 6})
    assert (mixed.loads, mixed.wide_loads, mixed.stores) == (20, 20, 10)
    assert (mixed.integer, mixed.integer_multiply, mixed.branches, mixed.either_pipe) == (9, 2, 3, 12)
    assert mixed.total == 38 and cycles.a72(mixed) == 20
