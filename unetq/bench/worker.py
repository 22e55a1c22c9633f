"""A contender's process: ``python -m unetq.bench.worker MODULE`` answers JSON lines on stdin with JSON lines on stdout.

Requests: ``{"do": "convert" | "load", "job": {…}}``, ``{"do": "run", "warm": 1, "times": 1}``, ``{"do": "check"}``,
``{"do": "memory"}``, ``{"do": "quit"}``. Every answer has ``ok``; a refusal says why in ``error``. What an engine
prints goes to stderr.
"""

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

import numpy as np

from .job import Job
from .peers.loaded import Loaded

SMALLEST = 1e-12


def memory_bytes(field: str) -> int:
    """VmHWM (the peak so far) or VmRSS of this process; 0 where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    line = next((line for line in status.splitlines() if line.startswith(field + ":")), None)
    return int(line.split()[1]) * 1024 if line else 0


def _forget_peak() -> None:
    """Start the peak anew from what is resident now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def correlation(a: Any, b: Any) -> float:
    """Pearson's, 0 where either is constant or not finite."""
    a, b = np.asarray(a, np.float64).ravel(), np.asarray(b, np.float64).ravel()
    if a.shape != b.shape or not np.isfinite(a).all() or min(a.std(), b.std()) < SMALLEST:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


class Worker:
    """The state of one process."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.job: Job | None = None
        self.loaded: Loaded | None = None
        self.image: Any = None
        self.peak_loading = 0

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request's answer; everything an engine can throw is a refusal."""
        try:
            return {"ok": True, **getattr(self, "do_" + str(request["do"]))(request)}
        except (Exception, SystemExit) as error:  # any engine, any failure
            text = " ".join(str(error).split())[:500]
            return {"ok": False, "error": f"{type(error).__name__}: {text}" if text else type(error).__name__}

    def do_convert(self, request: dict[str, Any]) -> dict[str, Any]:
        """Write the engine's files."""
        started = time.perf_counter()
        self.module.convert(Job.from_json(json.dumps(request["job"])))
        return {"seconds": round(time.perf_counter() - started, 3)}

    def do_load(self, request: dict[str, Any]) -> dict[str, Any]:
        """Open the engine's files; the peak of memory is counted anew behind it."""
        interpreter = memory_bytes("VmHWM")
        self.job = Job.from_json(json.dumps(request["job"]))
        self.image = self.job.input()
        loaded: Loaded = self.module.load(self.job)
        self.loaded = loaded
        self.peak_loading = memory_bytes("VmHWM")
        _forget_peak()
        return {
            "version": loaded.version,
            "settings": loaded.settings,
            "facts": loaded.facts,
            "interpreter_bytes": interpreter,
        }

    def _ready(self) -> Loaded:
        if self.loaded is None:
            raise RuntimeError("nothing is loaded")
        return self.loaded

    def do_run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Milliseconds of each timed run: wall clock, and processor time of all this process's threads."""
        run, wall, cpu = self._ready().run, [], []
        for _ in range(int(request["warm"])):
            run(self.image)
        for _ in range(int(request["times"])):
            cpu_start, start = time.process_time(), time.perf_counter()
            run(self.image)
            wall.append((time.perf_counter() - start) * 1e3)
            cpu.append((time.process_time() - cpu_start) * 1e3)
        return {"ms": wall, "cpu_ms": cpu}

    def do_check(self, _: dict[str, Any]) -> dict[str, Any]:
        """How the logits correlate with the float network's; None where there is none."""
        logits = self._ready().run(self.image)
        assert self.job is not None
        reference = self.job.reference()
        return {"correlation": None if reference is None else correlation(logits, reference)}

    def do_memory(self, _: dict[str, Any]) -> dict[str, Any]:
        """Peak resident bytes: of the runs, and of the whole life of the process."""
        running = memory_bytes("VmHWM")
        return {"peak_bytes": running, "peak_life_bytes": max(running, self.peak_loading)}

    def do_quit(self, _: dict[str, Any]) -> dict[str, Any]:
        """Nothing; the loop leaves."""
        return {}


def serve(worker: Worker, requests: TextIO, answers: TextIO) -> None:
    """Answer until asked to quit, or until nobody asks any more."""
    for line in requests:
        try:
            request = json.loads(line)
        except ValueError:
            request = None
        if not isinstance(request, dict) or "do" not in request:
            result: dict[str, Any] = {"ok": False, "error": f"not a request: {line.strip()[:80]}"}
        else:
            result = worker.answer(request)
        print(json.dumps(result), file=answers, flush=True)
        if isinstance(request, dict) and request.get("do") == "quit":
            return


def main() -> None:
    """Keep stdout for the answers alone, whatever an engine prints."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(Worker(import_module(f".peers.{sys.argv[1]}", __package__)), sys.stdin, answers)


if __name__ == "__main__":
    main()
