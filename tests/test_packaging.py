"""The wheel, the constraints, and what set-up says on a machine that lacks something."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "unetq", "datasets", "configs", "deploy")
FAKE_MAKE = """#!/bin/sh
for word in "$@"; do case "$word" in OUT=*) echo library > "${word#OUT=}" ;; esac; done
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what a wheel is built from."""
    copy = tmp_path / "source"
    copy.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "build", "_native"))
        else:
            shutil.copy(ROOT / name, copy / name)
    return copy


def pip_wheel(tree: Path, out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        str(out),
        str(tree),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)


def test_wheel(tree: Path, tmp_path: Path) -> None:
    """Compiling is another test's business (`make test` has just done it): a stand-in for make writes the library."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "make").write_text(FAKE_MAKE)
    (tools / "make").chmod(0o755)
    result = pip_wheel(tree, tmp_path / "out", PATH=f"{tools}{os.pathsep}{os.environ['PATH']}", CXX=sys.executable)
    assert result.returncode == 0, result.stdout + result.stderr
    (wheel,) = (tmp_path / "out").iterdir()
    assert re.fullmatch(r"unetq-[\d.]+-py3-none-(?!any)\w+\.whl", wheel.name)
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "unetq/__init__.py",
        "unetq/py.typed",
        "unetq/_native/libunetq.so",
        "unetq/_native/runtime/Makefile",
        "unetq/_native/runtime/include/unetq.h",
        "unetq/_native/runtime/examples/example.c",
        "unetq/_native/targets/aarch64-linux.toml",
        "unetq/_native/LICENSE",
        "unetq/report/page.html.j2",
        "unetq/report/style.css",
        "unetq/report/script.js",
        "unetq_configs/em.yaml",
        "unetq_datasets/em.py",
    } <= names
    modules = {f"unetq/{path.relative_to(ROOT / 'unetq')}" for path in (ROOT / "unetq").rglob("*.py")}
    assert modules <= names, "a subpackage is missing from pyproject.toml"
    assert {name.split("/")[0] for name in names} == {
        "unetq",
        "unetq_configs",
        "unetq_datasets",
        *(name.split("/")[0] for name in names if ".dist-info/" in name),
    }
    assert not [name for name in names if name.endswith((".o", ".d", ".pyc"))]


def test_no_compiler(tree: Path, tmp_path: Path) -> None:
    result = pip_wheel(tree, tmp_path / "out", CXX="no-such-compiler")
    assert result.returncode != 0
    said = result.stdout + result.stderr
    assert "no C++ compiler: looked for no-such-compiler" in said and "apt-get install g++ make" in said


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (("PYTHON=no-such-python",), "unetq needs Python 3.11 or newer"),
        (
            (f"PYTHON={sys.executable}", "CXX=no-such-compiler"),
            "no C++ compiler (no-such-compiler): apt-get install g++",
        ),
    ],
)
def test_make_says_what_is_missing(tmp_path: Path, variables: tuple[str, ...], said: str) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    result = subprocess.run(
        ["make", "-C", str(ROOT), "venv", f"VENV={tmp_path / 'venv'}", *variables],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert result.returncode != 0 and said in result.stderr
    assert not (tmp_path / "venv").exists()


def test_constraints_are_exact_and_cover_the_dependencies() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[\w.]+", line) for line in lines)
    pinned = {normal(line.partition("==")[0]) for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [name for extra in project["optional-dependencies"].values() for name in extra]
    assert {normal(re.split(r"[<>=!~\[ ]", requirement)[0]) for requirement in wanted} <= pinned


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
