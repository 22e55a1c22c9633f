"""Builds the C++ runtime with the package; everything else is in pyproject.toml.

The library is loaded with ctypes, so one wheel serves every Python of a platform (py3-none-<platform>).
The wheel also carries the runtime's sources, so that an installed user can build for another board.
"""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
RUNTIME = ROOT / "deploy" / "runtime"
LIBRARY = Path("unetq", "_native", "libunetq.so")
NOT_SOURCES = shutil.ignore_patterns("build", "*.o", "*.d", "*.a", "*.so", "__pycache__")


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


def compile_runtime(target: Path) -> None:
    """Compile deploy/runtime into the shared library ``target``."""
    compiler = find_compiler()
    target.parent.mkdir(parents=True, exist_ok=True)
    jobs = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        subprocess.run(["make", "-C", str(RUNTIME), f"-j{jobs}", f"OUT={target}", f"CXX={compiler}"], check=True)
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
        compile_runtime(built / LIBRARY)
        sources = built / LIBRARY.parent / "runtime"
        shutil.rmtree(sources, ignore_errors=True)
        shutil.copytree(RUNTIME, sources, ignore=NOT_SOURCES)


class PlatformWheel(bdist_wheel):
    """Any Python 3, this platform."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


class BinaryDistribution(Distribution):
    """Has compiled code, though no extension module."""

    def has_ext_modules(self) -> bool:
        return True


setup(cmdclass={"build_py": BuildPython, "bdist_wheel": PlatformWheel}, distclass=BinaryDistribution)
