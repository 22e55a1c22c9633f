"""Compilers are found, tried before they are used, and refused in one sentence."""

import shlex
from pathlib import Path

import pytest
from device_bundles import native_target, need, need_zig

from unetq.errors import ToolchainError
from unetq.export import build, targets, toolchain
from unetq.export.toolchain import Recipe, choose


def test_every_recipe_is_whole() -> None:
    assert targets.names() == ["aarch64-linux", "armv7-linux", "x86_64-linux"]
    for name in targets.names():
        target = targets.find(name)
        assert target.machine in ("aarch64", "arm", "x86_64") and target.zig_library.endswith(".2.17")
        assert target.wheel_platform in (None, f"manylinux_2_17_{target.machine}")
        assert target.boards and target.description and target.gnu_cxx.endswith("g++")


def test_a_given_compiler() -> None:
    need("g++")
    found = choose(targets.find(native_target()), "g++ -O2 '-DNAME=a b'")
    assert found.libraries == found.program and found.libraries.cxx == ("g++", "-O2", "-DNAME=a b")
    assert found.version and found.libraries.variables()["CXX"] == "g++ -O2 '-DNAME=a b'"


@pytest.mark.parametrize("name", targets.names())
def test_zig(name: str) -> None:
    need_zig()
    found = choose(targets.find(name), None)
    assert found.version.startswith("zig 0.") and found.libraries != found.program and found.first_build


@pytest.mark.parametrize(
    ("cxx", "said"),
    [
        ("", "--cxx is empty"),
        ("g++ 'unbalanced", "quote it as a shell"),
        ("no-such-g++", "no-such-g\\+\\+ does not run: No such file"),
        ("/", "does not run"),
        ("true", "does not compile two lines"),
        ("false", "does not compile two lines"),
        ("g++ --no-such-flag", r"(?s)does not compile two lines.*no-such-flag"),
        ("g++ -std=c++98 -include /no/such/header.h", "does not compile two lines"),
    ],
)
def test_a_compiler_that_does_not_do(cxx: str, said: str) -> None:
    need("g++")
    with pytest.raises(ToolchainError, match=said):
        choose(targets.find(native_target()), cxx)


def test_another_machines_compiler() -> None:
    need("g++")
    other = next(name for name in targets.names() if name != native_target())
    with pytest.raises(ToolchainError, match=f"makes code for .*, {other} needs .* --cxx") as refused:
        choose(targets.find(other), "g++")
    assert "\n" not in str(refused.value)


def test_no_zig(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "zig_binary", lambda: None)
    with pytest.raises(ToolchainError) as refused:
        choose(targets.find("armv7-linux"), None)
    said = str(refused.value)
    assert "pip install 'unetq[cross]'" in said and '--cxx "arm-linux-gnueabihf-g++"' in said and "\n" not in said
    assert "apt-get install g++-arm-linux-gnueabihf" in said


def test_no_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    recipe = Recipe(("g++",))
    with pytest.raises(ToolchainError, match=r"no make: .*apt-get install make"):
        build.compile_all(
            targets.find(native_target()), toolchain.Toolchain("", recipe, recipe), tmp_path, lambda *_: None
        )


def test_words_for_make() -> None:
    """A path with a space or a dollar sign arrives whole in the shell that make starts."""
    variables = Recipe(("/a b/$c/zig", "c++"), ("/a b/zig", "ar")).variables()
    assert set(variables) == {"CXX", "AR"}
    assert shlex.split(variables["CXX"].replace("$$", "$")) == ["/a b/$c/zig", "c++"]
