"""The wheels of `make wheels`: contents, honest tags, and libraries that run on their machines."""

import importlib.util
import os
import platform
import shutil
import site
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from device_bundles import call, need, need_zig
from paper_program import paper_program
from shared_builds import built_once

from unetq.errors import ToolchainError
from unetq.export import golden, targets
from unetq.export.elf import read_elf
from unetq.export.program import ModelMeta
from unetq.preprocess import decide

ROOT = Path(__file__).resolve().parent.parent
WHEELS = ("x86_64-linux", "aarch64-linux")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    specification = importlib.util.spec_from_file_location("wheels_script", ROOT / "scripts" / "wheels.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def wheel_of(factory: pytest.TempPathFactory, script: ModuleType, target: str) -> Path:
    need_zig()
    need("make")
    folder = built_once(factory, f"wheel {target}", lambda place: script.build(targets.find(target), place))
    (wheel,) = folder.iterdir()
    return wheel


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, golden.Golden]:
    """The paper's network with random weights, and logits of the NumPy executor."""
    program = paper_program()
    path = tmp_path_factory.mktemp("model") / "m.uqm"
    program.save(path, ModelMeta("paper", ("membrane", "cell"), (0, 255)))
    return path, golden.make(program)


@pytest.mark.parametrize("target", WHEELS)
def test_contents_and_tag(
    target: str, script: ModuleType, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    wheel = wheel_of(tmp_path_factory, script, target)
    recipe = targets.find(target)
    assert wheel.name.endswith(f"-py3-none-{recipe.wheel_platform}.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = next(name for name in names if name.endswith(".dist-info/WHEEL"))
        assert f"Tag: py3-none-{recipe.wheel_platform}\n" in archive.read(metadata).decode()
        library = read_elf(Path(archive.extract(script.LIBRARY, tmp_path)))
        sources = ROOT / "deploy" / "runtime"
        for path in (*sources.glob("src/**/*.cpp"), *sources.glob("tools/*.cpp"), sources / "Makefile"):
            assert archive.read(f"unetq/_native/runtime/{path.relative_to(sources).as_posix()}") == path.read_bytes()
    assert not [name for name in names if name.endswith((".o", ".d", ".a", ".pyc"))]
    assert {f"unetq/_native/targets/{name}.toml" for name in targets.names()} <= names
    assert library is not None and library.machine == recipe.machine and library.kind == "shared"
    assert library.glibc is not None and library.glibc <= (2, 17)


@pytest.mark.parametrize("target", WHEELS)
def test_a_dishonest_tag_is_refused(
    target: str, script: ModuleType, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    wheel = wheel_of(tmp_path_factory, script, target)
    other = targets.find(next(name for name in WHEELS if name != target))
    for name, said in (
        (wheel.name.replace("2_17", "2_4"), "the tag promises"),
        (wheel.name.replace(targets.find(target).machine, other.machine), "its library is for"),
        (wheel.name.replace("manylinux_2_17", "linux"), "not py3-none-manylinux"),
    ):
        shutil.copy(wheel, tmp_path / name)
        with pytest.raises(ToolchainError, match=said):
            script.check(tmp_path / name, targets.find(target))


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no wheel for this machine")
def test_installed_in_a_fresh_environment(
    script: ModuleType, model: tuple[Path, golden.Golden], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """Only the wheel is installed there; its dependencies are seen through PYTHONPATH."""
    wheel = wheel_of(tmp_path_factory, script, f"{platform.machine()}-linux")
    path, made = model
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = ["-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    # Without PYTHONPATH, through which pip could take a source tree for an installed unetq.
    bare = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([sys.executable, *install], check=True, env=bare)
    np.save(tmp_path / "x.npy", made.input[None])
    code = (
        "import sys, numpy, unetq; from unetq.export import targets; from unetq import native\n"
        "print(unetq.__file__, native.runtime_path(), targets.runtime_sources())\n"
        "numpy.save(sys.argv[3], unetq.Runtime(sys.argv[1]).run(numpy.load(sys.argv[2])))\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "UNETQ_LIBRARY"}
    environment["PYTHONPATH"] = os.pathsep.join(site.getsitepackages())
    arguments = [str(path), str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    done = subprocess.run(
        [python, "-c", code, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert all(word.startswith(str(tmp_path / "venv")) for word in done.stdout.split()), done.stdout
    assert np.array_equal(np.load(tmp_path / "y.npy")[0], made.logits)
    # What it exports for a device is built from the wheel's sources: the Makefile finds all that it names.
    sources = Path(done.stdout.split()[2])
    goals = ["all", "archive", "run", "OUT=out/l.so", "OUT_A=out/l.a", "OUT_RUN=out/r"]
    clean = {key: value for key, value in environment.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    dry = subprocess.run(["make", "-n", *goals], cwd=sources, env=clean, capture_output=True, text=True, check=False)
    assert dry.returncode == 0 and "tools/main.cpp" in dry.stdout, dry.stderr


def test_the_arm_library_runs(
    script: ModuleType, model: tuple[Path, golden.Golden], tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """Through the C example: there is no Python for that machine here."""
    recipe = targets.find("aarch64-linux")
    need(recipe.qemu, "aarch64-linux-gnu-gcc")
    path, made = model
    wheel = wheel_of(tmp_path_factory, script, "aarch64-linux")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    native = tmp_path / "unetq" / "_native"
    example, header = native / "runtime" / "examples" / "example.c", native / "runtime" / "include"
    command = ["aarch64-linux-gnu-gcc", "-std=c99", "-O2", f"-I{header}", str(example), f"-L{native}", "-lunetq"]
    subprocess.run([*command, f"-Wl,-rpath,{native}", "-o", str(tmp_path / "example")], check=True)
    (tmp_path / "x.f32").write_bytes(made.input.tobytes())
    counts = Counter(decide(made.logits).flat)
    for cpu in recipe.qemu_cpus:
        emulator = [recipe.qemu, "-cpu", cpu, "-L", recipe.sysroot]
        done = call([*emulator, tmp_path / "example", path, tmp_path / "x.f32", "1", *map(str, made.input.shape[1:])])
        assert done.returncode == 0 and done.stdout == f"membrane: {counts[0]}\ncell: {counts[1]}\n", done.stderr


def test_what_is_missing_is_told(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from unetq.export import toolchain

    monkeypatch.setattr(toolchain, "zig_binary", lambda: None)
    monkeypatch.setattr(sys, "argv", ["wheels.py", "--out", str(tmp_path / "dist")])
    with pytest.raises(SystemExit, match=r"error: .*pip install 'unetq\[cross\]'"):
        script.main()
    monkeypatch.setattr(sys, "argv", ["wheels.py", "armv7-linux"])
    with pytest.raises(SystemExit, match="no wheel is built for it"):
        script.main()
    assert not (tmp_path / "dist").exists()
