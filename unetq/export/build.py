"""Runs the runtime's Makefile in a folder of its own, with progress, and its output kept for the case of failure."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import ToolchainError
from .targets import Target, runtime_sources
from .toolchain import Recipe, Toolchain

# What is built, files begun, all files, seconds so far, whether it is finished.
Tick = Callable[[str, int, int, float, bool], None]
COMPILES = " -c -o "
ORDER = ("scalar", "neon", "dotprod", "i8mm", "avx2", "avxvnni", "avx512vnni", "amx")  # as they are told, least first
LOG_LINES = 40
POLL_SECONDS = 0.1
# Settings for a native build in the caller's environment must not reach another machine's code.
FOREIGN = frozenset({"CC", "CXX", "AR", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "BUILD", "OUT", "TARGET"})
FROM_MAKE = frozenset({"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEFILES"})


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in FOREIGN | FROM_MAKE}


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End make and the compilers it started (they share its process group)."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _make(folder: Path, arguments: list[str], what: str, tick: Tick) -> None:
    """Run make in ``folder``.

    Raises:
        ToolchainError: it failed; the message ends with the last lines of its output.
    """
    command = ["make", "-C", str(folder), *arguments]
    dry = subprocess.run([*command, "-n"], capture_output=True, text=True, errors="replace", env=_environment())
    total = dry.stdout.count(COMPILES)
    log = folder / f"{what.replace(' ', '-')}.log"
    jobs = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    began = time.monotonic()
    with open(log, "wb") as sink:
        process = subprocess.Popen(
            [*command, f"-j{jobs}"],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=_environment(),
            start_new_session=True,
        )
        try:
            while process.poll() is None:
                begun = log.read_text(errors="replace").count(COMPILES)
                tick(what, min(begun, total), total, time.monotonic() - began, False)
                time.sleep(POLL_SECONDS)
        finally:
            _stop(process)
    if process.returncode != 0:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
        raise ToolchainError(
            f"the {what} did not compile (make left with {process.returncode}); the compiler's output says why, "
            f"another compiler can be named with --cxx. It ends:\n{last}"
        )
    tick(what, total, total, time.monotonic() - began, True)


def compile_all(target: Target, toolchain: Toolchain, folder: Path, tick: Tick) -> tuple[Path, list[str]]:
    """Compile libunetq.so, libunetq.a and unetq-run in ``folder``, a copy of the sources.

    Returns the folder that holds the three, and the instruction sets that were compiled.

    Raises:
        ToolchainError: make is missing, or a compilation failed.
    """
    if not shutil.which("make"):
        raise ToolchainError("no make: the runtime is compiled with it. Debian, Ubuntu: apt-get install make.")
    # In a copy, paths are relative: a folder name with a space does no harm, and none gets into what is compiled.
    sources = folder / "runtime"
    shutil.copytree(runtime_sources(), sources, ignore=shutil.ignore_patterns("build", "*.o", "*.d", "*.a", "*.so"))
    library = ["OUT=out/libunetq.so", "OUT_A=out/libunetq.a", "out/libunetq.so", "archive"]
    program = ["OUT_RUN=out/unetq-run", "STATIC=-static", "run"]
    if toolchain.libraries == toolchain.program:
        _make(sources, [*_variables(target, toolchain.libraries, "build"), *library, *program], "runtime", tick)
    else:
        _make(sources, [*_variables(target, toolchain.libraries, "build"), *library], "library", tick)
        _make(sources, [*_variables(target, toolchain.program, "build-static"), *program], "program", tick)
    compiled = [path.name for path in (sources / "build" / "kernels").iterdir()]
    return sources / "out", sorted(compiled, key=lambda name: ((*ORDER, name).index(name), name))


def _variables(target: Target, recipe: Recipe, build: str) -> list[str]:
    return [f"TARGET={target.runtime}", f"BUILD={build}", *(f"{k}={v}" for k, v in recipe.variables().items())]
