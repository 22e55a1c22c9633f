"""A process of its own that loads a model and runs it: what it reports, and what it says where it cannot."""

import importlib.util
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from unetq import footprint as module
from unetq.export.program import ModelMeta, Program
from unetq.footprint import Footprint, footprint, measure
from unetq.nets import build_network
from unetq.runtime import Runtime

SIZE = (64, 96)


@pytest.fixture(scope="module")
def program() -> Program:
    from unetq import calibrate, lower, quantize

    torch.manual_seed(0)
    net = build_network("paper", {"widths": [8, 16]}).eval()
    images = torch.randn(1, 1, *SIZE)
    quantized = quantize(net, weight_bits=4, act_bits=6, example_input=images)
    calibrate(quantized, [images])
    return lower(quantized.eval(), images)


@pytest.fixture(scope="module")
def found(program: Program, native: None) -> Footprint:
    return footprint(program, ModelMeta(), SIZE)


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> None:
    from native_library import ensure_library

    ensure_library(tmp_path_factory.mktemp("library"))


def test_sizes_are_those_of_the_file_and_the_plan(program: Program, found: Footprint, tmp_path: Path) -> None:
    path = tmp_path / "m.uqm"
    program.save(path, ModelMeta())
    with Runtime(path) as runtime:
        arena = runtime.plan(SIZE).arena_bytes
    assert (found.model_file_bytes, found.arena_bytes, found.reason) == (path.stat().st_size, arena, "")


def test_the_process_holds_at_least_arena_image_and_logits(found: Footprint) -> None:
    assert found.process_peak_bytes and found.process_base_bytes and found.arena_bytes
    added = found.process_peak_bytes - found.process_base_bytes
    floats = 4 * SIZE[0] * SIZE[1]
    assert found.arena_bytes + floats < added < found.arena_bytes + 2 * floats + 16e6
    assert found.process_base_bytes < 150e6  # no torch in it


def test_a_larger_image_takes_a_larger_process(program: Program, found: Footprint) -> None:
    large = footprint(program, ModelMeta(), (512, 512))
    assert large.process_peak_bytes and found.process_peak_bytes and large.arena_bytes and found.arena_bytes
    grown = large.process_peak_bytes - found.process_peak_bytes
    assert grown > 0.8 * (large.arena_bytes - found.arena_bytes) > 0


def test_latency_is_of_warm_runs(found: Footprint) -> None:
    latency = found.latency
    assert latency is not None and latency.seconds > 0 and latency.runs >= 5 and latency.threads == 1 and latency.isa


def test_the_record_as_metrics_json_has_it(found: Footprint) -> None:
    mine, other = found.record(), found.record("float_")
    assert set(mine) == {"model_file_bytes", "arena_bytes", "process_peak_bytes", "process_base_bytes", "latency"}
    assert set(other) == {
        "float_model_file_bytes", "float_arena_bytes", "float_process_peak_bytes", "float_latency"
    }  # fmt: skip
    assert set(mine["latency"]) == {"seconds", "runs", "threads", "isa"}


def test_without_the_library_the_reason_is_told(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNETQ_LIBRARY", str(tmp_path / "missing.so"))
    lost = footprint(program, ModelMeta(), SIZE)
    assert lost.model_file_bytes and lost.arena_bytes is None and lost.latency is None
    assert "missing.so" in lost.reason and "make native" in lost.record()["footprint_note"]


def test_other_failures_are_told_too(native: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "damaged.uqm"
    path.write_bytes(b"no model")
    damaged = measure(path, SIZE)
    assert damaged.model_file_bytes == 8 and damaged.process_peak_bytes is None and damaged.reason
    monkeypatch.setattr(module, "TIMEOUT", 0.001)
    assert "timed out" in measure(path, SIZE).reason


@pytest.mark.parametrize(
    ("first", "each", "runs"), [(0.001, 0.001, 20), (0.5, 0.5, 5), (2.0, 2.0, 3), (5.0, 5.0, 3), (20.0, 20.0, 1)]
)
def test_long_runs_are_repeated_less(first: float, each: float, runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])

    def run() -> None:
        clock[0] += each

    assert len(module._times(run, first)) == runs
    assert np.allclose(module._times(run, first), each)


def test_the_table_by_bits(native: None) -> None:
    """Five rows, the float one first; fewer bits never take more."""
    path = Path(__file__).resolve().parent.parent / "scripts" / "memory_table.py"
    spec = importlib.util.spec_from_file_location("memory_table", path)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = script.table("paper", (32, 32), "the command", {"widths": [8, 16]})
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| ")][1:]
    assert [row[0].strip() for row in rows] == list(script.ROWS) and "    the command" in page
    values = [[float(cell) for cell in row[1:7]] for row in rows]
    for wide, narrow in pairwise(values):
        assert all(a >= b for a, b in zip(wide[:3], narrow[:3], strict=True))
    assert rows[0][7].strip() == "100 %"
