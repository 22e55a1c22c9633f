"""A compiler for a target: zig from its wheel, or one that the user names. Imports no torch."""

import importlib.util
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..errors import ToolchainError
from .elf import read_elf
from .targets import Target

PROBE = '#include <stdint.h>\nextern "C" int32_t probe() { constexpr int32_t answer = 42; return answer; }\n'


@dataclass(frozen=True)
class Recipe:
    """What the runtime's Makefile is told: ``cxx`` is a command with its arguments."""

    cxx: tuple[str, ...]
    ar: tuple[str, ...] = ()
    ldflags: tuple[str, ...] = ()

    def variables(self) -> dict[str, str]:
        """The Makefile's variables; a dollar sign in a path is doubled for make."""
        words = {"CXX": self.cxx, "AR": self.ar, "LDFLAGS": self.ldflags}
        return {name: shlex.join(value).replace("$", "$$") for name, value in words.items() if value}


@dataclass(frozen=True)
class Toolchain:
    """``library`` makes libunetq.so and libunetq.a, ``program`` the static program; they may be one.

    ``version`` is the compiler's own line, for the record; ``first_build`` what to tell before the first build.
    """

    version: str
    libraries: Recipe
    program: Recipe
    first_build: str = ""


def zig_binary() -> Path | None:
    """zig of the ``ziglang`` wheel, or None where that is not installed."""
    found = importlib.util.find_spec("ziglang")
    places = [Path(place) for place in (found.submodule_search_locations or [])] if found else []
    return next((place / "zig" for place in places if (place / "zig").is_file()), None)


def choose(target: Target, cxx: str | None) -> Toolchain:
    """The toolchain for ``target``: the command line ``cxx``, or zig. It has compiled a probe.

    Raises:
        ToolchainError: there is none, it does not run, or it makes code for another machine.
    """
    toolchain = _given(cxx) if cxx is not None else _zig(target)
    for recipe in dict.fromkeys((toolchain.libraries, toolchain.program)):
        _probe(recipe, target)
    return toolchain


def _zig(target: Target) -> Toolchain:
    binary = zig_binary()
    if binary is None:
        raise ToolchainError(
            f"no compiler for {target.name}: the ziglang package is not installed; pip install 'unetq[cross]', "
            f'or name a compiler of your own, such as --cxx "{target.gnu_cxx}" '
            f"(Debian, Ubuntu: apt-get install {target.gnu_debian})."
        )
    zig = str(binary)
    library, program = (
        # The runtime needs nothing of the C++ library, so that zig need not build it for the target.
        Recipe(
            cxx=(zig, "c++", "-target", triple, "-g0", *target.zig_flags),  # zig adds debug information otherwise
            ar=(zig, "ar"),
            ldflags=("-s", "-nostdlib++"),
        )
        for triple in (target.zig_library, target.zig_program)
    )
    return Toolchain(
        version=f"zig {_first_line([zig, 'version'])}",
        libraries=library,
        program=program,
        first_build="zig prepares a C library for a target once, which takes about a minute",
    )


def _given(cxx: str) -> Toolchain:
    try:
        words = tuple(shlex.split(cxx))
    except ValueError as error:
        raise ToolchainError(f"--cxx {cxx!r}: {error}; quote it as a shell would read it.") from error
    if not words:
        raise ToolchainError('--cxx is empty; name a compiler, such as --cxx "aarch64-linux-gnu-g++".')
    recipe = Recipe(words, ldflags=("-s",))
    return Toolchain(_first_line([*words, "--version"]), recipe, recipe)


def _run(command: list[str], given: str = "") -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, input=given, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise ToolchainError(
            f"the compiler {command[0]} does not run: {error.strerror or error}; install it, or name another in --cxx."
        ) from error


def _first_line(command: list[str]) -> str:
    return (_run(command).stdout.splitlines() or [""])[0].strip()


def _probe(recipe: Recipe, target: Target) -> None:
    """Compile a few lines; a wrong machine is told now, not after minutes."""
    command = shlex.join(recipe.cxx)
    try:
        with tempfile.TemporaryDirectory(prefix="unetq-probe-") as folder:
            made = Path(folder) / "probe.o"
            done = _run([*recipe.cxx, "-std=c++17", "-x", "c++", "-c", "-o", str(made), "-"], PROBE)
            elf = read_elf(made) if made.is_file() else None
    except OSError as error:
        raise ToolchainError(
            f"a compiler needs a place for temporary files: {error.strerror or error}; free some space or set TMPDIR."
        ) from error
    if done.returncode != 0 or elf is None:
        raise ToolchainError(
            f"the compiler {command} does not compile two lines of C++17 (exit code {done.returncode}); "
            f"check its arguments, or name another in --cxx. It said:\n{done.stderr.strip()[-2000:]}"
        )
    if elf.machine != target.machine:
        raise ToolchainError(
            f"the compiler {command} makes code for {elf.machine}, {target.name} needs {target.machine}; "
            f'name another, such as --cxx "{target.gnu_cxx}", or leave --cxx out to use zig.'
        )
