"""What a compiled file says of itself."""

import shutil
import subprocess
from pathlib import Path

import pytest
from device_bundles import need

from unetq.export.elf import read_elf

COMPILERS = {
    "gcc": None,
    "aarch64-linux-gnu-gcc": ("aarch64", 64, False),
    "arm-linux-gnueabihf-gcc": ("arm", 32, True),
}


@pytest.mark.parametrize("compiler", COMPILERS)
def test_against_the_compiler(compiler: str, tmp_path: Path) -> None:
    need(compiler)
    source = tmp_path / "a.c"
    source.write_text(
        "#include <math.h>\n#include <stdio.h>\n"
        'int main(int n, char** v) { return printf("%s%f", v[0], sqrt(n)) < 0; }\n'
    )
    kinds = {"dynamic": [], "static": ["-static"], "shared": ["-shared", "-fPIC"], "object": ["-c"]}
    found = {}
    for name, options in kinds.items():
        libraries = [] if name == "object" else ["-lm"]
        subprocess.run(
            [compiler, *options, "-fno-builtin", str(source), "-o", str(tmp_path / name), *libraries], check=True
        )
        found[name] = read_elf(tmp_path / name)
        assert found[name] is not None
        expected = COMPILERS[compiler]
        if expected is not None:
            assert (found[name].machine, found[name].bits) == expected[:2]
            assert name == "object" or found[name].hard_float == expected[2]  # an object's is in its attributes
    assert found["static"].is_static and found["static"].kind == "executable" and found["static"].glibc is None
    assert not found["dynamic"].is_static and found["dynamic"].interpreter
    assert found["shared"].kind == "shared" and not found["shared"].interpreter
    assert {"libc.so.6", "libm.so.6"} <= set(found["shared"].needed) and found["object"].kind == "object"
    readelf = shutil.which(compiler.replace("gcc", "readelf"))
    if readelf:
        said = subprocess.run(
            [readelf, "-V", str(tmp_path / "shared")], capture_output=True, text=True, check=True
        ).stdout
        newest = max(
            tuple(map(int, word[6:].split(".")))
            for word in said.split()
            if word.startswith("GLIBC_") and word[6:7].isdigit()
        )
        assert found["shared"].glibc == newest


def test_what_is_no_elf(tmp_path: Path) -> None:
    need("gcc")
    path = tmp_path / "file"
    for data in (b"", b"#!/bin/sh\n", b"\x7fELF" + bytes(100)):
        path.write_bytes(data)
        assert read_elf(path) is None or read_elf(path).machine == "machine 0"  # type: ignore[union-attr]
    whole = Path(shutil.which("gcc") or "").resolve().read_bytes()  # its section table lies at the end
    for cut in (50, 60, 100, 1000, len(whole) // 2, len(whole) - 64):
        path.write_bytes(whole[:cut])
        assert read_elf(path) is None
