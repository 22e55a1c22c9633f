"""Builds the C++ runtime with the package; everything else is in pyproject.toml.

The library is loaded with ctypes, so one wheel serves every Python of a platform (py3-none-<platform>).
The wheel also carries the runtime's sources, so that an installed user can build for another board.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
RUNTIME = ROOT / "deploy" / "runtime"
LIBRARY = Path("unetq", "_native", "libunetq.so")
NOT_SOURCES = shutil.ignore_patterns("build", "results", "*.o", "*.d", "*.a", "*.so", "__pycache__")


def find_compiler() -> str:
    """The C++ compiler's command; stops with one readable sentence where it or make is missing."""
    compilers = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "c++", "clang++"]
    found = next((name for name in compilers if shutil.which(shlex.split(name)[0])), None)
    if found is None:
        raise SystemExit(
            f"no C++ compiler: looked for {', '.join(compilers)}; unetq compiles its runtime (C++17) when it is "
            "installed. Install one (Debian, Ubuntu: apt-get install g++ make) or name yours in CXX, then try again."
        )
    if not shutil.which("make"):
        raise SystemExit("no make: the runtime is compiled with it. Debian, Ubuntu: apt-get install make.")
    return found


def compile_runtime(target: Path, *variables: str) -> None:
    """Compile deploy/runtime into the shared library ``target``; ``variables`` are the Makefile's, as NAME=VALUE."""
    compiler = find_compiler()
    target.parent.mkdir(parents=True, exist_ok=True)
    jobs = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        command = ["make", "-C", str(RUNTIME), f"-j{jobs}", f"OUT={target}", f"CXX={compiler}", *variables]
        subprocess.run(command, check=True)
    except subprocess.CalledProcessError as error:
        raise SystemExit(f"the C++ runtime did not compile (make left with {error.returncode}); see above.") from error


class BuildPython(build_py):
    """Copies the Python files, then puts the library (and, in a wheel, the runtime's sources) beside them."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            compile_runtime(ROOT / LIBRARY)
            return
        built = Path(self.build_lib).resolve()
        # UNETQ_TARGET: another machine than this one, for a compiler that does not tell which (scripts/wheels.py).
        other = [f"TARGET={os.environ['UNETQ_TARGET']}"] if os.environ.get("UNETQ_TARGET") else []
        with tempfile.TemporaryDirectory() as objects:  # those lying in the tree may be another machine's
            compile_runtime(built / LIBRARY, f"BUILD={objects}", *other)
        native = built / LIBRARY.parent
        for name in ("runtime", "targets"):
            shutil.rmtree(native / name, ignore_errors=True)
            shutil.copytree(RUNTIME.parent / name, native / name, ignore=NOT_SOURCES)
        shutil.copy(ROOT / "LICENSE", native)  # it goes with what is built for a device


class PlatformWheel(bdist_wheel):
    """Any Python 3, this platform."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


class BinaryDistribution(Distribution):
    """Has compiled code, though no extension module."""

    def has_ext_modules(self) -> bool:
        return True


setup(cmdclass={"build_py": BuildPython, "bdist_wheel": PlatformWheel}, distclass=BinaryDistribution)
