"""The worker's protocol, and what its process is given."""

import io
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import fixed_bench as fixed
import numpy as np
import pytest
from native_library import ensure_library

from unetq.bench import worker as workers
from unetq.bench.job import Job
from unetq.bench.peers.loaded import Loaded
from unetq.bench.process import WorkerError, WorkerProcess


def engine(scale: float = 1.0) -> ModuleType:
    """An engine whose logits are its image, times ``scale``."""

    def convert(job: Job) -> None:
        job.file("converted").write_text(job.option)

    def load(job: Job) -> Loaded:
        if not job.file("converted").exists():
            raise RuntimeError("was not converted")
        return Loaded(lambda x: x * np.float32(scale), "3.1", "by heart", {"isa": "none"})

    return SimpleNamespace(convert=convert, load=load)  # type: ignore[return-value]  # a module for this purpose


def ask(worker: workers.Worker, *requests: Any) -> list[dict[str, Any]]:
    lines = "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in requests)
    answers = io.StringIO()
    workers.serve(worker, io.StringIO(lines), answers)
    return [json.loads(line) for line in answers.getvalue().splitlines()]


def job_in(folder: Path, **more: Any) -> dict[str, Any]:
    return {"folder": str(folder), "network": "x", "channels": 1, "size": [16, 16], **more}


def test_a_whole_conversation(tmp_path: Path) -> None:
    job = job_in(tmp_path, option="w4a6")
    np.save(tmp_path / "reference.npy", Job.from_json(json.dumps(job)).input() * 2)
    converted, loaded, ran, checked, memory, left = ask(
        workers.Worker(engine()),
        {"do": "convert", "job": job},
        {"do": "load", "job": job},
        {"do": "run", "warm": 1, "times": 3},
        {"do": "check"},
        {"do": "memory"},
        {"do": "quit"},
        {"do": "memory"},
    )
    assert converted["ok"] and (tmp_path / "converted").read_text() == "w4a6"
    assert (loaded["version"], loaded["settings"], loaded["facts"]) == ("3.1", "by heart", {"isa": "none"})
    assert len(ran["ms"]) == len(ran["cpu_ms"]) == 3 and all(value > 0 for value in ran["ms"])
    assert checked["correlation"] == pytest.approx(1.0)
    assert memory["peak_life_bytes"] >= memory["peak_bytes"] > 0
    assert left == {"ok": True}


def test_refusals_are_answers(tmp_path: Path) -> None:
    answers = ask(
        workers.Worker(engine()),
        "not json",
        '"text"',
        {"do": "fly"},
        {"do": "run", "warm": 0, "times": 1},
        {"do": "load", "job": job_in(tmp_path)},
    )
    assert [answer["ok"] for answer in answers] == [False] * 5
    assert "not a request" in answers[0]["error"] and "not a request" in answers[1]["error"]
    assert "nothing is loaded" in answers[3]["error"]
    assert answers[4]["error"] == "RuntimeError: was not converted"


def test_correlation_of_noise_and_of_damage() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal(4000)
    assert workers.correlation(a, -3 * a + 1) == pytest.approx(-1.0)
    assert abs(workers.correlation(a, rng.standard_normal(4000))) < 0.1
    assert workers.correlation(a, np.ones(4000)) == workers.correlation(a * np.nan, a) == 0.0
    assert workers.correlation(a, a[:-1]) == 0.0


def test_a_process_of_its_own(tmp_path: Path) -> None:
    ensure_library(tmp_path)
    job = Job(tmp_path, str(fixed.packed(tmp_path)), 1, (16, 16), option="own")
    with WorkerProcess("ours", {"UNETQ_ISA": "scalar"}, tmp_path / "log") as worker:
        worker.ask("convert", job)
        loaded = worker.ask("load", job)
        assert loaded["facts"]["isa"] == "scalar", "the cap goes through the environment"
        assert worker.ask("run", warm=0, times=2)["ms"]
        assert worker.ask("check") == {"correlation": None}
        with pytest.raises(WorkerError, match="KeyError"):
            worker.ask("load")


def test_a_process_that_dies_is_named(tmp_path: Path) -> None:
    with (
        WorkerProcess("nobody", {}, tmp_path / "log") as worker,
        pytest.raises(WorkerError, match=r"exit code 1.*No module named"),
    ):
        worker.ask("memory")


def test_what_an_engine_prints_stays_out_of_the_answers(tmp_path: Path) -> None:
    code = (
        "import sys, types, os; from unetq.bench import worker; import importlib\n"
        "fake = types.SimpleNamespace(convert=lambda job: (print('chatter'), os.system('echo more')))\n"
        "worker.import_module = lambda name, package: fake\n"
        "sys.argv = ['worker', 'fake']; worker.main()"
    )
    request = json.dumps({"do": "convert", "job": job_in(tmp_path)}) + "\n"
    done = subprocess.run([sys.executable, "-c", code], input=request, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 1 and json.loads(done.stdout)["ok"]
    assert "chatter" in done.stderr and "more" in done.stderr
