"""Builds the wheels of every target that has a platform tag, with zig, and checks that each tag is honest.

python scripts/wheels.py [--out dist] [TARGET …]
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from unetq.errors import ToolchainError, UnetqError
from unetq.export import targets
from unetq.export.elf import read_elf
from unetq.export.targets import Target
from unetq.export.toolchain import choose

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "unetq", "datasets", "configs", "deploy")
LIBRARY = "unetq/_native/libunetq.so"
# What every Linux with glibc has; manylinux allows no more to a library without C++.
ALLOWED = re.compile(r"(libc|libm|libpthread)\.so\.6|libpthread\.so\.0|ld-linux[-\w]*\.so\.\d")


def build(target: Target, out: Path) -> Path:
    """The wheel of ``target`` in ``out``, built from a copy of the tree: nothing old gets into it."""
    recipe = choose(target, None).libraries
    with tempfile.TemporaryDirectory(prefix="unetq-wheel-") as folder:
        tree = Path(folder) / "source"
        tree.mkdir()
        ignore = shutil.ignore_patterns("__pycache__", "build", "_native", "*.egg-info")
        for name in SOURCES:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, tree / name, ignore=ignore)
            else:
                shutil.copy(ROOT / name, tree / name)
        made = Path(folder) / "wheel"
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
        command += ["-w", str(made), f"--config-settings=--build-option=--plat-name={target.wheel_platform}", str(tree)]
        environment = os.environ | {
            "CXX": shlex.join(recipe.cxx),
            "LDFLAGS": shlex.join(recipe.ldflags),
            "UNETQ_TARGET": target.runtime,
        }
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode != 0:
            raise ToolchainError(f"the wheel of {target.name} was not built; pip said:\n{done.stdout}{done.stderr}")
        (wheel,) = made.iterdir()
        check(wheel, target)
        out.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(wheel, out))


def check(wheel: Path, target: Target) -> None:
    """Stop unless the library in ``wheel`` is the target's and asks for no newer glibc than the tag promises."""
    tag = re.fullmatch(r"unetq-[\d.]+-py3-none-manylinux_(\d+)_(\d+)_(\w+)\.whl", wheel.name)
    if tag is None:
        raise ToolchainError(f"{wheel.name}: not py3-none-manylinux_X_Y; look at setup.py's tag.")
    with tempfile.TemporaryDirectory() as folder:
        elf = read_elf(Path(zipfile.ZipFile(wheel).extract(LIBRARY, folder)))
    promised = (int(tag[1]), int(tag[2]))
    if elf is None or elf.machine != target.machine or tag[3] != target.machine:
        raise ToolchainError(f"{wheel.name}: its library is for {elf.machine if elf else 'an unknown machine'}.")
    if elf.glibc is None or elf.glibc > promised:
        raise ToolchainError(f"{wheel.name}: its library needs glibc {elf.glibc}, the tag promises {promised}.")
    foreign = [name for name in elf.needed if not ALLOWED.fullmatch(name)]
    if foreign:
        raise ToolchainError(f"{wheel.name}: its library needs {', '.join(foreign)}, which a board may lack.")


def main() -> None:
    """Parse, build, tell."""
    with_tag = [name for name in targets.names() if targets.find(name).wheel_platform]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"by default {' '.join(with_tag)}")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="the folder of the wheels")
    options = parser.parse_args()
    try:
        for name in options.targets or with_tag:
            target = targets.find(name)
            if target.wheel_platform is None:
                raise ToolchainError(f"{name}: no wheel is built for it; choose from {', '.join(with_tag)}.")
            print(build(target, options.out), flush=True)
    except UnetqError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
