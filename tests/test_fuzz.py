"""The fuzz targets for some seconds under each sanitizer, and their random models against NumPy.

``make -C deploy/runtime fuzz-run`` is the long run. A finding prints how to come back to it: the program with
``--seed S --start N --runs 1``.
"""

import os
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from native_library import SOURCES, ensure_library, lacking
from shared_builds import built_once

from unetq.export.modelfile import load
from unetq.export.program import Add, Conv, Op, Program
from unetq.export.validate import OP_TYPES
from unetq.runtime import Runtime, available_isas

FUZZ = SOURCES / "fuzz"
FLAGS = {"asan": "-fsanitize=address,undefined", "tsan": "-fsanitize=thread"}
SHORT = 600  # seconds until a hung program is stopped


def compiler() -> str:
    found = shutil.which(os.environ.get("CXX", "").split(" ")[0] or "c++") or shutil.which("g++")
    if found is None or shutil.which("make") is None:
        lacking("no C++ compiler or no make")
    return found


def launcher(kind: str) -> list[str]:
    """Old ThreadSanitizers know no address space as random as new kernels make it."""
    setarch = shutil.which("setarch")
    if kind != "tsan" or setarch is None:
        return []
    prefix = [setarch, platform.machine(), "-R"]
    return prefix if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0 else []


def programs(factory: pytest.TempPathFactory, kind: str) -> Path:
    """The folder with fuzz_loader and fuzz_run under the sanitizers of ``kind``; a skip where the compiler has none."""
    cxx = compiler()
    probe = factory.mktemp("probe") / "probe"
    source = "int main() { return 0; }"
    command = [cxx, "-x", "c++", FLAGS[kind], "-o", str(probe), "-"]
    if subprocess.run(command, input=source, text=True, capture_output=True, check=False).returncode:
        lacking(f"{cxx} has no library for {FLAGS[kind]}: install the compiler's libasan, libubsan and libtsan")
    if subprocess.run([*launcher(kind), str(probe)], capture_output=True, check=False).returncode:
        lacking(f"a program with {FLAGS[kind]} does not start on this kernel")

    def build(place: Path) -> None:
        command = ["make", "-s", "-j2", "-C", str(SOURCES), f"CXX={cxx}", f"BUILD={place}.part", f"{kind}-programs"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"the fuzz targets do not compile:\n{done.stderr[-3000:]}"
        Path(f"{place}.part").rename(place)

    return built_once(factory, f"fuzz-{kind}", build) / kind


@pytest.fixture(scope="module")
def asan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return programs(tmp_path_factory, "asan")


@pytest.fixture(scope="module")
def tsan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return programs(tmp_path_factory, "tsan")


def run(kind: str, *command: str | Path) -> subprocess.CompletedProcess[str]:
    # Another library's environment must not choose here, and a run that is bounded needs no more of the machine.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("UNETQ_", "ASAN_", "UBSAN_", "TSAN_"))}
    return subprocess.run(
        [*launcher(kind), *map(str, command)],
        capture_output=True,
        text=True,
        errors="replace",
        env=environment,
        timeout=SHORT,
        check=False,
    )


def no_finding(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0 and "no finding" in done.stdout, f"{done.args}:\n{done.stderr[-4000:]}"


def test_the_loader_takes_no_harm(asan: Path) -> None:
    no_finding(run("asan", asan / "fuzz_loader", "--runs", "8000", FUZZ / "corpus" / "loader"))


def test_every_kernel_is_scalar_on_random_graphs(asan: Path) -> None:
    no_finding(run("asan", asan / "fuzz_run", "--runs", "800", FUZZ / "corpus" / "run"))


def test_threads_share_a_model(tsan: Path) -> None:
    no_finding(run("tsan", tsan / "fuzz_run", "--threads", "--runs", "30", FUZZ / "corpus" / "run"))


@pytest.mark.parametrize(
    ("program", "told"), [("fuzz_loader", "heap-buffer-overflow"), ("fuzz_run", "values differ from scalar")]
)
def test_a_defect_is_found(program: str, told: str, asan: Path) -> None:
    """A byte read behind the model, a bit flipped in a result: the targets see it and tell how to come back to it."""
    done = run("asan", asan / program, "--spoil", "--seed", "3", "--start", "5", "--runs", "1")
    assert done.returncode != 0 and "no finding" not in done.stdout
    assert told in done.stderr and "The input was --seed 3 --start 5 --runs 1." in done.stderr, done.stderr[-2000:]


def test_misuse_of_a_target(asan: Path, tmp_path: Path) -> None:
    done = run("asan", asan / "fuzz_run", tmp_path / "none")
    assert done.returncode == 2 and "it cannot be read. Name an existing file" in done.stderr
    assert run("asan", asan / "fuzz_run", "--walk").returncode == 2


def sums_floats(program: Program, op: Op) -> bool:
    """Whether the result depends on the order of a sum of float32 numbers."""
    floats = any(program.tensors[t].grid is None for t in op.inputs)
    if isinstance(op, Conv):
        return floats or op.weight_kind == "float32"
    epilogue = getattr(op, "epilogue", None)
    return epilogue is not None and epilogue.instance_norm is not None and (floats or isinstance(op, Add))


def test_random_models_are_numpys(asan: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The generator's models, hostile parameters among them, are valid for Python, and both executors agree."""
    ensure_library(tmp_path_factory.mktemp("runtime"))
    no_finding(run("asan", asan / "fuzz_run", "--seed", "9", "--runs", "150", "--save", f"{tmp_path}/m"))
    compared = placed = 0
    for number in range(150):
        program, meta = load(tmp_path / f"m{number}.uqm")
        with Runtime(tmp_path / f"m{number}.uqm") as runtime:
            assert runtime.meta.preprocessing == meta.preprocessing, f"seed 9, number {number}"
        placed += bool(meta.preprocessing.orientation or meta.preprocessing.window)
        if any(sums_floats(program, op) for op in program.ops):
            continue
        compared += 1
        x, expected = np.load(tmp_path / f"m{number}.npy"), {}
        with np.errstate(all="ignore"):
            program.run(x, expected)
        for isa in available_isas():
            found: dict[str, np.ndarray] = {}
            with Runtime(tmp_path / f"m{number}.uqm", isa=isa) as runtime:
                runtime.run(x, found)
            for name, values in expected.items():
                np.testing.assert_array_equal(found[name], values, err_msg=f"seed 9, number {number}, {isa}, {name}")
    assert compared > 100 and placed > 15


def test_the_corpus_is_small_and_valid() -> None:
    models = sorted((FUZZ / "corpus" / "loader").iterdir())
    files = [*models, *(FUZZ / "corpus" / "run").iterdir()]
    assert len(models) >= 4 and sum(p.stat().st_size for p in files) < 32 * 1024
    assert {type(op) for p in models for op in load(p)[0].ops} == set(OP_TYPES)
    rules = [load(p)[1].preprocessing for p in models]
    assert all(any(getattr(rule, name) for rule in rules) for name in ("orientation", "spacing", "context", "window"))
