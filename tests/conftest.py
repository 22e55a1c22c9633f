"""What all tests share: one seed, quiet plots, the way to real data."""

import importlib
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from device_program import program, write_model
from gm_trees import BidsScan, bids_tree
from hypothesis import settings
from native_library import ensure_library

if TYPE_CHECKING:
    from unetq.experiment import Experiment

ROOT = Path(__file__).resolve().parent.parent

# Examples follow from the test's own text, so that a failure comes back on every machine.
settings.register_profile("unetq", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("unetq")
os.environ.setdefault("MPLBACKEND", "Agg")
# A shell that starts the tests in its background has them ignore Ctrl-C, and so would all programs that they start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Tests of these skip where they are missing; a gate that skips them has not looked.
if os.environ.get("CI") == "true":
    for needed in ("SimpleITK", "gdcm", "highdicom", "onnx", "onnxruntime", "openjpeg", "playwright"):
        importlib.import_module(needed)


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """``real_data("em")`` is the folder of that real data set; the test is skipped where there is none."""

    def find(name: str) -> Path:
        places = [Path(os.environ["UNETQ_DATA"])] if os.environ.get("UNETQ_DATA") else []
        places += [ROOT / "data", ROOT.parent / "shared" / "data"]
        for place in places:
            if (place / name).is_dir():
                return place / name
        pytest.skip(f"no real {name} data in {', '.join(map(str, places))}; put it there or set UNETQ_DATA")

    return find


@pytest.fixture
def full_disk() -> Callable[[], AbstractContextManager[None]]:
    """``with full_disk(): …``: no file can grow beyond 64 bytes, so that writing more fails as on a full disk."""

    @contextmanager
    def limited() -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)

    return limited


@pytest.fixture(scope="session")
def device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``unetq-run``, beside a runtime library that is there, too."""
    ensure_library(tmp_path_factory.mktemp("library"))
    return program(tmp_path_factory)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model file that ``device`` can run."""
    return write_model(tmp_path / "model.uqm")


@pytest.fixture
def scans() -> list[BidsScan]:
    """Four persons of two slices each; "4" validates in the tests of bad data."""
    return [BidsScan(f"sub-{number}", seed=number, slices=2) for number in (1, 2, 3, 4)]


@pytest.fixture
def bids(tmp_path: Path, scans: list[BidsScan]) -> Path:
    """A BIDS folder of ``scans``."""
    folder = tmp_path / "gm"
    folder.mkdir()
    return bids_tree(folder, scans)


@pytest.fixture(scope="session", params=["32", "bf16"])
def uninterrupted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> "tuple[Experiment, Path]":
    """A small experiment and its run, which nothing broke off; tests only read it."""
    from small_runs import small

    from unetq.train import train

    experiment = small(train={"precision": request.param})
    return experiment, train(experiment, tmp_path_factory.mktemp("run") / "whole")
