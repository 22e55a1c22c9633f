"""A device's folder: whole, checked, and computing on the device what is computed here."""

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import tifffile
from device_bundles import ZIG, bundle_of, call, emulators, native_target, need, run_folder
from native_library import ensure_library

from unetq.errors import ConfigError, ModelFileError, OutputError, ToolchainError
from unetq.export import bundle as bundles
from unetq.export import targets
from unetq.export.bundle import bundle
from unetq.export.elf import read_elf
from unetq.export.modelfile import load
from unetq.export.run import export
from unetq.predict import predict
from unetq.preprocess import decide
from unetq.runtime import Runtime

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = {
    "LICENSE", "README.txt", "SHA256SUMS", "example.c", "libunetq.a", "libunetq.so", "model.uqm", "unetq-run",
    "unetq.h", "self-test/input.npy", "self-test/logits.npy", "self-test/model.uqm",
}  # fmt: skip
MISMATCH = 8  # unetq-run's exit code for a failed self-test
# (target, compiler): the native one, the distribution's cross-compilers, zig.
BUNDLES = [
    pytest.param(native_target(), "g++", id="native"),
    pytest.param("aarch64-linux", "aarch64-linux-gnu-g++", id="aarch64-gnu"),
    pytest.param("armv7-linux", "arm-linux-gnueabihf-g++", id="armv7-gnu"),
    pytest.param("aarch64-linux", ZIG, id="aarch64-zig"),
    pytest.param("armv7-linux", ZIG, id="armv7-zig"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_folder(tmp_path_factory)


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_of(tmp_path_factory, native_target(), "g++")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Odd sides, so that the program has to extend and crop."""
    path = tmp_path_factory.mktemp("image") / "image.tif"
    yy, xx = np.mgrid[:45, :61]
    noise = np.random.default_rng(7).normal(0, 25, yy.shape)
    tifffile.imwrite(path, np.clip(128 + 80 * np.sin(yy / 5) * np.cos(xx / 7) + noise, 0, 255).astype(np.uint8))
    return path


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_is_in_it(native: Path, run: Path, tmp_path: Path) -> None:
    assert files(native) == FILES
    listed = dict(reversed(line.split("  ")) for line in (native / "SHA256SUMS").read_text().splitlines())
    assert set(listed) == FILES - {"SHA256SUMS"}
    for name, expected in listed.items():
        assert hashlib.sha256((native / name).read_bytes()).hexdigest() == expected, name
    if shutil.which("sha256sum"):
        assert subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=native, check=False).returncode == 0
    export(run, tmp_path / "m.uqm")
    model = (tmp_path / "m.uqm").read_bytes()
    assert (native / "model.uqm").read_bytes() == model == (native / "self-test" / "model.uqm").read_bytes()
    assert (native / "unetq.h").read_bytes() == (ROOT / "deploy/runtime/include/unetq.h").read_bytes()
    assert os.access(native / "unetq-run", os.X_OK) and native.stat().st_mode & 0o777 == 0o755 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_the_readme_tells_the_truth(native: Path, tmp_path: Path) -> None:
    text = (native / "README.txt").read_text()
    assert all(name in text for name in FILES if "/" not in name and name != "README.txt")
    ensure_library(tmp_path)
    with Runtime(native / "model.uqm", "scalar") as runtime:
        for size in ((512, 512), np.load(native / "self-test" / "input.npy").shape[1:]):
            assert f"{runtime.plan(size).arena_bytes:,} bytes" in text
    library = read_elf(native / "libunetq.so")
    assert library is not None and library.glibc is not None
    assert f"glibc {'.'.join(map(str, library.glibc))} or newer" in text
    provenance = json.loads(text[text.index("\n{") : text.rindex("}") + 1])
    assert provenance["target"] == native_target() and provenance["model"]["dataset"] == "phantom"
    assert "g++" in provenance["compiler"] or "GCC" in provenance["compiler"]


def test_the_golden_vectors_are_the_reference(native: Path, tmp_path: Path) -> None:
    program, _ = load(native / "model.uqm")
    given, expected = (np.load(native / "self-test" / f"{name}.npy") for name in ("input", "logits"))
    assert given.dtype == expected.dtype == np.float32 and given.shape[-1] != given.shape[-2]
    assert np.array_equal(program.run(given[None])[0], expected)
    assert len(np.unique(expected)) > 100, "logits that hardly differ prove little"
    ensure_library(tmp_path)
    with Runtime(native / "model.uqm") as runtime:
        assert np.array_equal(runtime.run(given[None])[0], expected)


@pytest.mark.parametrize(("target", "compiler"), BUNDLES)
def test_the_program_is_static_and_for_its_target(
    target: str, compiler: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = bundle_of(tmp_path_factory, target, compiler)
    recipe = targets.find(target)
    program, library = read_elf(folder / "unetq-run"), read_elf(folder / "libunetq.so")
    assert program is not None and program.is_static and program.kind != "object"
    assert library is not None and library.kind == "shared" and program.machine == library.machine == recipe.machine
    assert program.hard_float == (recipe.machine == "arm")
    if compiler == ZIG:
        assert library.glibc is not None and library.glibc <= (2, 17)


@pytest.mark.parametrize(("target", "compiler"), BUNDLES)
def test_self_test(target: str, compiler: str, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    folder = bundle_of(tmp_path_factory, target, compiler)
    for emulator in emulators(target):
        done = call([*emulator, folder / "unetq-run", "--self-test"])
        assert done.returncode == 0, f"{emulator}: {done.stdout}{done.stderr}"
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    logits = np.load(broken / "self-test" / "logits.npy")
    logits.flat[-1] = np.nextafter(logits.flat[-1], np.float32(np.inf))  # one bit of one value
    np.save(broken / "self-test" / "logits.npy", logits)
    done = call([*emulators(target)[0], broken / "unetq-run", "--self-test"])
    assert done.returncode == MISMATCH, done.stdout + done.stderr


@pytest.mark.parametrize(("target", "compiler"), BUNDLES)
def test_the_mask_is_the_same_everywhere(
    target: str, compiler: str, image: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    folder = bundle_of(tmp_path_factory, target, compiler)
    ensure_library(tmp_path)
    predict(folder / "model.uqm", image, tmp_path / "here.tif", allow_small=True)
    expected = tifffile.imread(tmp_path / "here.tif")
    assert set(np.unique(expected)) == {0, 255}
    for emulator in emulators(target):
        out = tmp_path / "there.tif"
        done = call([*emulator, folder / "unetq-run", folder / "model.uqm", image, "-o", out])
        assert done.returncode == 0, f"{emulator}: {done.stderr}"
        assert np.array_equal(tifffile.imread(out), expected), f"{emulator}: another mask"


@pytest.mark.parametrize(("target", "compiler"), BUNDLES)
def test_the_example(target: str, compiler: str, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    """With the commands of the README, the compiler's name apart."""
    folder = tmp_path / "folder"
    shutil.copytree(bundle_of(tmp_path_factory, target, compiler), folder)
    text = (folder / "README.txt").read_text()
    (compile_it,) = re.findall(r"^  (cc .*)$", text, re.M)
    (cut,) = re.findall(r"^  (tail .*)$", text, re.M)
    (start,) = re.findall(r"^  \./example (.*)$", text, re.M)
    recipe = targets.find(target)
    compiler_c = "gcc" if target == native_target() else recipe.gnu_cxx.replace("g++", "gcc")
    need(compiler_c)
    strict = ["-Wall", "-Wextra", "-pedantic", "-Werror"]
    made = subprocess.run(
        [compiler_c, *shlex.split(compile_it)[1:], *strict], cwd=folder, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    subprocess.run(cut, cwd=folder, shell=True, check=True)
    emulator = emulators(target)[0]
    if emulator:
        emulator = [*emulator, "-L", recipe.sysroot]
    done = subprocess.run(
        [*emulator, "./example", *shlex.split(start)], cwd=folder, capture_output=True, text=True, check=False
    )
    counts = Counter(decide(np.load(folder / "self-test" / "logits.npy")).flat)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"membrane: {counts[0]}\ncell: {counts[1]}\n"


def test_the_example_refuses(native: Path, tmp_path: Path) -> None:
    need("gcc")
    program = tmp_path / "example"
    subprocess.run(
        ["gcc", "-std=c99", "example.c", "libunetq.a", "-lm", "-pthread", "-o", program], cwd=native, check=True
    )
    (tmp_path / "short.f32").write_bytes(bytes(12))
    for arguments, said in (
        ((), "usage"),
        (("none.uqm", "short.f32", "1", "32", "32"), "none.uqm"),
        ((native / "model.uqm", tmp_path / "short.f32", "1", "32", "32"), "not 1024 float32 values"),
        ((native / "model.uqm", tmp_path / "short.f32", "1", "33", "32"), "33"),
        ((native / "model.uqm", tmp_path / "none.f32", "1", "32", "32"), "none.f32"),
    ):
        done = call([program, *arguments])
        assert done.returncode in (1, 2) and said in done.stderr, done.stderr


def test_two_bundles_are_equal(native: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a model file, into a path with a space, with settings of a native build about that must not get in."""
    monkeypatch.setenv("CXXFLAGS", "--no-such-flag")
    monkeypatch.setenv("MAKEFLAGS", "-n")
    out = tmp_path / "a b" / "again"
    out.mkdir(parents=True)  # empty: may be there
    ticks: list[tuple[str, int, int, bool]] = []
    found = bundle(
        native / "model.uqm", native_target(), out, "g++", lambda what, *rest: ticks.append((what, *rest[:2], rest[3]))
    )
    assert (out / "SHA256SUMS").read_text() == (native / "SHA256SUMS").read_text()
    assert list(out.parent.iterdir()) == [out]
    assert set(found["files"]) == FILES - {"SHA256SUMS"} and "scalar" in found["isas"]
    what, done, total, finished = ticks[-1]
    assert what == "runtime" and done == total > 10 and finished
    assert [tick[1] for tick in ticks] == sorted(tick[1] for tick in ticks)


class Refused:
    """A bundle that must not be made: nothing is left where it would lie."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model

    def __call__(self, error: type[Exception], match: str, out: str = "out", **options: str | None) -> None:
        options = {"target_name": native_target(), "cxx": "g++"} | options
        before = files(self.folder)
        with pytest.raises(error, match=match):
            bundle(self.model, out=self.folder / out, **options)  # type: ignore[arg-type]
        assert files(self.folder) == before
        assert not [path for path in self.folder.iterdir() if path.name.startswith(".")]


@pytest.fixture
def refused(tmp_path: Path, native: Path) -> Refused:
    return Refused(tmp_path, native / "model.uqm")


def test_a_place_that_is_taken(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    refused(OutputError, "not empty", out="full")
    (tmp_path / "file").write_text("mine")
    refused(OutputError, "is a file", out="file")
    refused(OutputError, "does not exist", out="missing/out")
    refused(OutputError, "cannot write", out="/proc/unetq-bundle")


def test_a_target_or_source_that_is_not_there(refused: Refused, tmp_path: Path) -> None:
    refused(ConfigError, "'riscv-linux': known are aarch64-linux, armv7-linux, x86_64-linux", target_name="riscv-linux")
    refused.model = tmp_path / "none.uqm"
    refused(ModelFileError, "no such file")
    damaged = tmp_path / "damaged.uqm"
    damaged.write_bytes(b"not a model")
    refused.model = damaged
    refused(ModelFileError, r"/damaged\.uqm: 11 bytes")


def test_a_disk_that_is_full(
    refused: Refused,
    native: Path,
    monkeypatch: pytest.MonkeyPatch,
    full_disk: Callable[[], AbstractContextManager[None]],
) -> None:
    monkeypatch.setattr(bundles, "choose", lambda *_: None)
    with full_disk():
        refused(OutputError, "nothing was changed")


def test_a_compilation_that_fails(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy = tmp_path / "sources"
    shutil.copytree(ROOT / "deploy", deploy, ignore=shutil.ignore_patterns("build"))
    (deploy / "runtime" / "src" / "api.cpp").write_text("this is no C++;\n")
    monkeypatch.setattr(targets, "PLACES", (deploy,))
    shutil.copy(ROOT / "LICENSE", deploy)
    refused(ToolchainError, r"(?s)did not compile \(make left with 2\).*api\.cpp.*error")


def test_a_program_that_is_not_static(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "compile_all", lambda *_: (built, ["scalar"]))
    built = tmp_path / "built"
    built.mkdir()
    for name in ("unetq-run", "libunetq.so", "libunetq.a"):
        shutil.copy(Path(sys.executable).resolve(), built / name)
    refused(ToolchainError, "not static")


def test_an_installation_without_sources(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "PLACES", (tmp_path / "a", tmp_path / "b"))
    refused(ToolchainError, "installation is incomplete")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(number: signal.Signals, native: Path, tmp_path: Path) -> None:
    """Ctrl-C in the middle of a compilation: exit code 130, nothing is left, no compiler goes on."""
    need("make", "g++")
    slow = tmp_path / "slow"
    started = tmp_path / "started"
    # The probe and the questions before it are answered at once, a source file takes a minute.
    slow.write_text(f'#!/bin/sh\ncase "$*" in *src/*) echo $$ >> {started}; exec sleep 60;; esac\nexec g++ "$@"\n')
    slow.chmod(0o755)
    place, temporary = tmp_path / "place", tmp_path / "temporary"
    place.mkdir()
    temporary.mkdir()
    environment = os.environ | {
        "TMPDIR": str(temporary),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "datasets")]),
    }
    command = [sys.executable, "-m", "unetq.cli", "export", str(native / "model.uqm"), "--target", native_target()]
    process = subprocess.Popen(
        [*command, "--cxx", str(slow), "-o", str(place / "out")],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # a background job may have it ignored
    )
    deadline = time.monotonic() + 60
    while not (started.exists() and started.read_text().endswith("\n")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number and "Traceback" not in err
    assert not list(place.iterdir()) and not list(temporary.iterdir())
    for pid in started.read_text().split():
        state = Path("/proc", pid, "stat")
        assert not state.exists() or state.read_text().split()[2] == "Z", f"compiler {pid} goes on"


def test_the_command_line(native: Path, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "datasets")])}
    command: list[str | Path] = [sys.executable, "-m", "unetq.cli", "export", native / "model.uqm"]
    done = call([*command, "--cxx", "g++", "-o", tmp_path / "m.uqm"], **environment)
    assert done.returncode == 2 and "add --target" in done.stderr
    done = call([*command, "--cxx", "no-such-g++", "--target", "aarch64-linux", "-o", tmp_path / "out"], **environment)
    assert done.returncode == 9 and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
