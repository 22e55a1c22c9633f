"""Commands of ``unetq`` as a user gives them, in this process or in one of their own, and programs of the tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unetq import cli

ROOT = Path(__file__).resolve().parent.parent


def unetq(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run a command in this process: exit code, stdout, stderr."""
    argv = sys.argv
    sys.argv = ["unetq", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as left:
            cli.main()
    finally:
        sys.argv = argv
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return int(left.value.code or 0), out, err


def start(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "datasets")])}
    command = [sys.executable, "-m", "unetq.cli", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def run_program(name: str, folder: Path) -> None:
    """Run ``tests/name``, which may start further processes, on ``folder``; it ends well."""
    paths = [str(ROOT), str(ROOT / "datasets"), str(ROOT / "tests")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    program = [sys.executable, str(ROOT / "tests" / name), str(folder)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
