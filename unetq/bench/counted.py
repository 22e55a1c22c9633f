"""``python -m unetq.bench.counted``: instructions a multiply-accumulate of the ARM kernels, counted under qemu-user.

Builds the runtime and ``deploy/runtime/bench/count.c`` for AArch64 and Armv7, runs networks S and L once on every
processor model of ``CPUS`` under the counting plugin ``icount.c``, checks the logits' hash against this machine's own
kernels, and writes one JSON file. With ``--onnxruntime WHEEL`` (its aarch64 wheel) that engine is counted instead.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..errors import DataError, DeviceError, UnetqError
from ..export.targets import runtime_sources
from ..files import write_json
from ..fixedpoint import F32
from .contenders import own, parse_bits
from .job import Job
from .process import WorkerProcess, single_threaded

SCHEMA = 1
FOR_ARM = "int8-s8s8"


@dataclass(frozen=True)
class Machine:
    """An architecture to build for."""

    name: str
    prefix: str
    qemu: str
    package: str
    flags: tuple[str, ...] = ()

    def compiler(self, language: str) -> str:
        """The cross compiler for "gcc" or "g++"."""
        return f"{self.prefix}-{language}"


AARCH64 = Machine("aarch64", "aarch64-linux-gnu", "qemu-aarch64", "g++-aarch64-linux-gnu")
ARMV7 = Machine("armv7", "arm-linux-gnueabihf", "qemu-arm", "g++-arm-linux-gnueabihf", ("-marm",))
CPUS: dict[str, tuple[Machine, str]] = {
    "cortex-a72": (AARCH64, "Armv8.0"),
    "cortex-a76": (AARCH64, "dotprod"),
    "max,pauth=off,sve=off,sme=off": (AARCH64, "i8mm"),
    "cortex-a7": (ARMV7, "Armv7 NEON"),
    "cortex-a15": (ARMV7, "Armv7 NEON"),
}


@dataclass(frozen=True)
class Count:
    """One run: ``agrees`` is whether the logits are this machine's bit for bit, None where that is not known."""

    network: str
    engine: str
    bits: str
    cpu: str
    architecture: str
    isa: str
    size: tuple[int, int]
    macs: int
    instructions: int
    agrees: bool | None
    histogram: dict[str, int]
    functions: dict[str, int]

    @property
    def per_mac(self) -> float:
        """Instructions a multiply-accumulate."""
        return self.instructions / self.macs


def require_tools(machines: Sequence[Machine]) -> None:
    """Stop where a compiler or emulator is missing.

    Raises:
        DeviceError: with the command that installs them.
    """
    tools = {"cc": "gcc", "make": "make"}
    for machine in machines:
        tools |= {machine.compiler("gcc"): machine.package, machine.compiler("g++"): machine.package}
        tools[machine.qemu] = "qemu-user"
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        packages = " ".join(sorted({tools[tool] for tool in missing}))
        raise DeviceError(f"counting needs {', '.join(missing)}; Debian, Ubuntu: apt-get install {packages}.")


def _call(command: Sequence[str | Path], what: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "UNETQ_ISA")}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, errors="replace", env=environment)
    if done.returncode:
        last = "\n".join((done.stderr or done.stdout).splitlines()[-20:])
        raise DeviceError(f"{what} failed (exit code {done.returncode}):\n{last}")
    return done.stdout


def build_plugin(folder: Path) -> Path:
    """Compile ``icount.c`` for this machine."""
    target = folder / "libicount.so"
    flags = ("-O2", "-shared", "-fPIC", "-fvisibility=hidden")
    _call(["cc", *flags, runtime_sources() / "bench" / "icount.c", "-o", target], "compiling the plugin")
    return target


def build_program(machine: Machine, folder: Path) -> Path:
    """Cross-compile the runtime and ``count.c`` into one static program."""
    library, target = folder / f"libunetq-{machine.name}.a", folder / f"count-{machine.name}"
    compiler = " ".join([machine.compiler("g++"), *machine.flags])
    build = folder / f"build-{machine.name}"
    variables = (f"OUT_A={library}", f"BUILD={build}", f"CXX={compiler}")
    _call(["make", "-C", runtime_sources(), "-j2", "archive", *variables], f"compiling for {machine.name}")
    flags = ("-std=c99", "-O2", *machine.flags, f"-I{runtime_sources() / 'include'}")
    source, unit = runtime_sources() / "bench" / "count.c", folder / f"count-{machine.name}.o"
    _call([machine.compiler("gcc"), *flags, "-c", str(source), "-o", str(unit)], "compiling count.c")
    link = (machine.compiler("g++"), *machine.flags, "-static", str(unit), str(library), "-o", str(target))
    _call(link, f"linking for {machine.name}")
    return target


def run_counted(
    machine: Machine, cpu: str, plugin: Path, command: Sequence[str], sysroot: Path | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run ``command`` under qemu; what it printed (JSON) and what the plugin counted."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "counts.json"
        prefix = [] if sysroot is None else ["-L", str(sysroot)]
        qemu = [machine.qemu, "-cpu", cpu, *prefix, "-plugin", f"{plugin},out={out}"]
        said: dict[str, Any] = json.loads(_call([*qemu, *command], f"{Path(command[0]).name} on {cpu}"))
        counts: dict[str, Any] = json.loads(out.read_text())
    if counts["regions"] != 1:
        raise DeviceError(f"{cpu}: {counts['regions']} regions were counted instead of 1; the markers were not met.")
    return said, counts


def count_image(size: tuple[int, int]) -> F32:
    """The image of ``count.c``."""
    state, values = 12345, []
    for _ in range(size[0] * size[1]):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        values.append((state >> 8) - (1 << 23))
    return (np.array(values, np.float32) / np.float32(1 << 23)).reshape(1, 1, *size)


def fnv1a(values: F32) -> str:
    """The hash of ``count.c``."""
    state = 14695981039346656037
    for byte in values.tobytes():
        state = ((state ^ byte) * 1099511628211) & 0xFFFFFFFFFFFFFFFF
    return f"{state:016x}"


def _own_hash(model: Path, size: tuple[int, int]) -> str:
    from ..runtime import Runtime

    with Runtime(model) as runtime:
        return fnv1a(runtime.run(count_image(size)))


def _convert(module: str, job: Job) -> None:
    with WorkerProcess(module, single_threaded(1), job.file(f"{module}.log")) as worker:
        worker.ask("convert", job)


def _fake_machine(folder: Path, cpu: str) -> Path:
    """A folder for qemu's -L that describes one ARM core: ONNX Runtime reads what the kernel says of the processor."""
    root = folder / f"root-{cpu}"
    part, features = {"cortex-a72": ("0xd08", ""), "cortex-a76": ("0xd0b", " asimdhp asimdrdm asimddp")}[cpu]
    (root / "proc").mkdir(parents=True)
    (root / "sys/devices/system/cpu").mkdir(parents=True)
    (root / "lib").symlink_to(f"/usr/{AARCH64.prefix}/lib")
    (root / "proc/cpuinfo").write_text(
        f"processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid{features}\nCPU implementer\t: 0x41\n"
        f"CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 3\n\n"
    )
    for name in ("possible", "present"):
        (root / "sys/devices/system/cpu" / name).write_text("0\n")
    return root


class Rig:
    """The plugin, the programs and the models of one counting."""

    def __init__(self, folder: Path, size: tuple[int, int], cpus: Sequence[str]) -> None:
        self.folder, self.size, self.cpus = folder, size, cpus
        self.plugin = build_plugin(folder)
        machines = {CPUS[cpu][0].name: CPUS[cpu][0] for cpu in cpus}
        self.programs = {name: build_program(machine, folder) for name, machine in machines.items()}

    def network(self, name: str) -> tuple[Job, int]:
        """The float network's files; its multiply-accumulates."""
        folder = self.folder / name
        folder.mkdir()
        job = Job(folder, name, 1, self.size)
        _convert("network", job)
        return job, int(json.loads(job.file("network.json").read_text())["macs"])

    def ours(self, job: Job, macs: int, bits: str) -> list[Count]:
        """One model on every processor."""
        job = Job(job.folder, job.network, 1, self.size, option=bits)
        _convert("ours", job)
        model, counts = job.file(f"unetq-{bits}.uqm"), []
        expected = _own_hash(model, self.size)
        for cpu in self.cpus:
            machine, architecture = CPUS[cpu]
            command = (str(self.programs[machine.name]), str(model), *map(str, self.size))
            said, found = run_counted(machine, cpu, self.plugin, command)
            same = said["hash"] == expected
            counts.append(
                Count(
                    job.network, own(bits).label, bits, cpu, architecture, said["isa"], self.size, macs,
                    found["instructions"], same, found["histogram"], found["functions"],
                )
            )  # fmt: skip
            print(f"{job.network} {bits} {cpu}: {counts[-1].per_mac:.4f} instructions a MAC", file=sys.stderr)
        return counts

    def onnxruntime(self, job: Job, macs: int, wheel: Path) -> list[Count]:
        """ONNX Runtime in float32 and int8 (S8S8, its recommendation for ARM) on the processors it may tell apart."""
        unpacked = self.folder / "onnxruntime"
        if not unpacked.exists():
            zipfile.ZipFile(wheel).extractall(unpacked)
        library = next(unpacked.glob("onnxruntime/capi/libonnxruntime.so.*"))
        program = self.folder / "count-ort"
        if not program.exists():
            source = runtime_sources() / "bench" / "count_ort.c"
            _call([AARCH64.compiler("gcc"), "-O2", source, "-o", program, "-ldl"], "compiling count_ort.c")
        _convert("onnxruntime", Job(job.folder, job.network, 1, self.size, option=FOR_ARM))
        files = {"float32": "network.onnx", "int8": f"onnxruntime-{FOR_ARM}.onnx"}
        counts = []
        for cpu in (cpu for cpu in self.cpus if cpu in ("cortex-a72", "cortex-a76")):
            root = self.folder / f"root-{cpu}"
            root = root if root.exists() else _fake_machine(self.folder, cpu)
            for bits, file in files.items():
                command = (str(program), str(library), str(job.file(file)), *map(str, self.size))
                said, found = run_counted(AARCH64, cpu, self.plugin, command, root)
                counts.append(
                    Count(
                        job.network, f"ONNX Runtime {said['version']}", bits, cpu, CPUS[cpu][1], "", self.size, macs,
                        found["instructions"], None, found["histogram"], {},
                    )
                )  # fmt: skip
                print(f"{job.network} ONNX Runtime {bits} {cpu}: {counts[-1].per_mac:.4f}", file=sys.stderr)
        return counts


def count(
    networks: Sequence[str], bits: Sequence[str], cpus: Sequence[str], size: tuple[int, int], wheel: Path | None = None
) -> list[Count]:
    """Ours at every one of ``bits`` (none: only the other engine), and ONNX Runtime where its ``wheel`` is given.

    Raises:
        DeviceError: a tool is missing, or a build or a run failed.
    """
    require_tools([CPUS[cpu][0] for cpu in cpus])
    found = []
    with tempfile.TemporaryDirectory(prefix="unetq-count-") as scratch:
        rig = Rig(Path(scratch), size, cpus)
        for network in networks:
            job, macs = rig.network(network)
            for option in bits:
                found += rig.ours(job, macs, option)
            if wheel is not None:
                found += rig.onnxruntime(job, macs, wheel)
    return found


def read_counts(path: Path) -> list[Count]:
    """What ``main`` wrote.

    Raises:
        DataError: no such file or another schema.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["schema"] != SCHEMA:
            raise DataError(f"{path}: schema {value['schema']}, this unetq reads {SCHEMA}; count again.")
        return [Count(**{**item, "size": tuple(item["size"])}) for item in value["counts"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a counts file ({error}); make one with `make bench-arm`.") from error


def main() -> None:
    """Parse, count, write."""
    parser = argparse.ArgumentParser(prog="python -m unetq.bench.counted", description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--networks", nargs="+", default=["s", "l"], choices=["s", "l"])
    parser.add_argument("--bits", default="w4a6,w2a2,w1a1,w8a8")
    parser.add_argument("--cpus", nargs="+", default=list(CPUS), choices=list(CPUS))
    parser.add_argument("--size", type=int, default=208)
    parser.add_argument("--onnxruntime", type=Path, metavar="WHEEL", help="count its aarch64 wheel instead of ours")
    values = parser.parse_args()
    try:
        bits, size = () if values.onnxruntime else parse_bits(values.bits), (values.size, values.size)
        counts = count(values.networks, bits, values.cpus, size, values.onnxruntime)
        write_json(values.out, {"schema": SCHEMA, "unetq": __version__, "counts": [asdict(item) for item in counts]})
    except UnetqError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
