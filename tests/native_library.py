"""The compiled runtime for tests: the package's own, or one built for the session when there is none."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from unetq import native

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "deploy" / "runtime"


def lacking(what: str) -> NoReturn:
    """A tool is missing: a failure under CI, elsewhere a skip with the reason."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}; CI installs what the tests need")
    pytest.skip(what)


def ensure_library(folder: Path) -> Path:
    """The library's path; builds it into ``folder`` and points UNETQ_LIBRARY there where it is missing."""
    if native.runtime_path().exists():
        return native.runtime_path()
    if not shutil.which("make"):
        lacking("no compiled runtime and no make to build it")
    target = folder / "libunetq.so"
    command = ["make", "-C", str(SOURCES), f"OUT={target}", f"BUILD={folder / 'build'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"the runtime does not compile:\n{done.stderr[-3000:]}")
    os.environ["UNETQ_LIBRARY"] = str(target)
    return target


def instruction_sets() -> list[str]:
    """What this processor can be tested with."""
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.exists() else set()
    sets = {
        "avx2": {"avx2"},
        "avxvnni": {"avx2", "avx_vnni"},
        "avx512vnni": {"avx2", "avx512f", "avx512bw", "avx512vl", "avx512_vnni"},
        "amx": {"avx512_vnni", "amx_tile", "amx_int8"},
    }
    return ["scalar", *(name for name, needs in sets.items() if needs <= flags)]
