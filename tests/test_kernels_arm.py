"""ARM without a board: every kernel and hundreds of programs under emulated processors, with the dispatcher deciding.

The emulator raises SIGILL for an instruction that the chosen processor lacks, so a wrong choice cannot pass.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from exact_cases import write_cases
from native_library import SOURCES, ensure_library, lacking

PREFIX = {"aarch64": "aarch64-linux-gnu-", "arm": "arm-linux-gnueabihf-"}
MAX = "max,pauth=off,sve=off,sme=off"
# Processor: the sets that it has, the best one last.
PROCESSORS = {
    ("aarch64", "cortex-a53"): ("scalar", "neon"),
    ("aarch64", "cortex-a72"): ("scalar", "neon"),
    ("aarch64", "cortex-a76"): ("scalar", "neon", "dotprod"),
    ("aarch64", MAX): ("scalar", "neon", "dotprod", "i8mm"),
    ("arm", "cortex-a7"): ("scalar", "neon"),
    ("arm", "cortex-a15"): ("scalar", "neon"),
}
each_processor = pytest.mark.parametrize(
    ("machine", "cpu"), PROCESSORS, ids=[cpu.split(",")[0] for _, cpu in PROCESSORS]
)


class Emulator:
    """Builds for the machines on first use and runs programs of theirs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.built: dict[str, Path] = {}

    def build(self, machine: str) -> Path:
        if machine not in self.built:
            prefix = PREFIX[machine]
            for tool in ("make", f"{prefix}gcc", f"{prefix}g++", f"qemu-{machine}"):
                if not shutil.which(tool):
                    lacking(f"no {tool} (Debian: qemu-user, g++-{prefix.rstrip('-')})")
            build = self.folder / machine
            command = ["make", "-j2", "-C", str(SOURCES), f"BUILD={build}", f"CXX={prefix}g++", f"CC={prefix}gcc"]
            done = subprocess.run(
                [*command, "TEST_LDFLAGS=-static", "test-tools"], capture_output=True, text=True, check=False
            )
            if done.returncode:
                pytest.fail(f"the runtime does not compile for {machine}:\n{done.stderr[-3000:]}")
            self.built[machine] = build
        return self.built[machine]

    def run(self, machine: str, cpu: str, program: str | Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.start(machine, cpu, self.build(machine) / program, *arguments)

    def start(self, machine: str, cpu: str, path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("UNETQ_")}
        return subprocess.run(
            [f"qemu-{machine}", "-cpu", cpu, str(path), *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=600,
        )


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    return Emulator(tmp_path_factory.mktemp("arm"))


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ensure_library(tmp_path_factory.mktemp("runtime"))
    return write_cases(tmp_path_factory.mktemp("cases"))


@each_processor
def test_every_kernel_against_scalar(machine: str, cpu: str, emulator: Emulator) -> None:
    done = emulator.run(machine, cpu, "test-kernels", "--rounds", "30")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    sets = dict.fromkeys(line.split()[0] for line in done.stdout.splitlines() if " cases, " in line)
    assert tuple(name for name in sets if name != "emulated") == PROCESSORS[machine, cpu]


@each_processor
def test_programs_against_numpy(machine: str, cpu: str, emulator: Emulator, cases: Path) -> None:
    lines = cases.read_text().splitlines()
    if cpu in ("cortex-a53", "cortex-a15"):  # the same kernels as cortex-a72's and cortex-a7's
        lines = lines[::5]
    chosen = cases.with_name(f"{cpu.split(',')[0]}.txt")
    chosen.write_text("\n".join(lines) + "\n")
    done = emulator.run(machine, cpu, "test-programs", str(chosen), PROCESSORS[machine, cpu][-1])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert f"{len(lines)} cases" in done.stdout


def test_kernels_as_clang_compiles_them(emulator: Emulator, tmp_path: Path) -> None:
    """The device programs come from zig, which is clang: it believes the alignment of typed pointers, gcc does not."""
    if importlib.util.find_spec("ziglang") is None:
        if os.environ.get("UNETQ_NO_ZIG"):
            pytest.skip("the ziglang package cannot be had here")
        lacking("the ziglang package is not installed (pip install 'unetq[cross]')")
    for tool in ("make", "qemu-arm"):
        if not shutil.which(tool):
            lacking(f"no {tool}")
    target = "arm-linux-musleabihf"
    compiler = f"{sys.executable} -m ziglang c++ -target {target} -mcpu=cortex_a7"
    command = ["make", "-j2", "-C", str(SOURCES), f"BUILD={tmp_path}", f"CXX={compiler}", f"TARGET={target}"]
    done = subprocess.run([*command, f"{tmp_path}/test-kernels"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    run = emulator.start("arm", "cortex-a7", tmp_path / "test-kernels", "--rounds", "30")
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-1000:]


def test_a_wrong_tensor_is_told(emulator: Emulator, cases: Path, tmp_path: Path) -> None:
    """The comparison above can fail: one flipped bit in what is expected of one case."""
    name = cases.read_text().splitlines()[7].split()[0]
    for suffix in (".uqm", ".in", ".out"):
        shutil.copy(cases.parent / f"{name}{suffix}", tmp_path)
    expected = bytearray((tmp_path / f"{name}.out").read_bytes())
    expected[0] ^= 1
    (tmp_path / f"{name}.out").write_bytes(expected)
    (tmp_path / "cases.txt").write_text(cases.read_text().splitlines()[7] + "\n")
    done = emulator.run("aarch64", "cortex-a72", "test-programs", str(tmp_path / "cases.txt"), "neon")
    assert done.returncode == 1 and "[0]" in done.stdout and "1 failed" in done.stdout


@pytest.mark.parametrize(
    ("machine", "cpu", "isa"),
    [("aarch64", "cortex-a72", "dotprod"), ("aarch64", "cortex-a76", "i8mm"), ("arm", "cortex-a7", "dotprod")],
)
def test_a_forced_set_that_is_not_there_is_refused(machine: str, cpu: str, isa: str, emulator: Emulator) -> None:
    done = emulator.run(machine, cpu, "test-kernels", "--isa", isa)
    assert done.returncode == 2 and isa in done.stderr and "Unset UNETQ_ISA" in done.stderr


def test_a_wrong_choice_would_trap(emulator: Emulator, tmp_path: Path) -> None:
    """Without this, the runs above would not prove that no dot product is executed where there is none."""
    emulator.build("aarch64")
    source, program = tmp_path / "sdot.c", tmp_path / "sdot"
    source.write_text('int main(void) { __asm__ volatile(".inst 0x4e829420" ::: "v0"); return 0; }\n')
    subprocess.run([f"{PREFIX['aarch64']}gcc", "-static", "-o", str(program), str(source)], check=True)
    assert emulator.run("aarch64", "cortex-a76", program).returncode == 0
    assert emulator.run("aarch64", "cortex-a72", program).returncode != 0


def test_scalar_for_armv7_needs_no_neon(emulator: Emulator) -> None:
    """An Armv7 without NEON (as Debian's armhf allows) must not meet it before the dispatcher has looked."""
    build = emulator.build("arm")
    told = f"{PREFIX['arm']}readelf"
    found = 0
    for path in sorted(build.rglob("*.o")):
        if "neon" in path.parts or "tests" in path.parts:
            continue
        attributes = subprocess.run([told, "-A", str(path)], capture_output=True, text=True, check=True).stdout
        assert "Advanced_SIMD" not in attributes, path.name
        found += "Tag_FP_arch" in attributes
    assert found > 10
