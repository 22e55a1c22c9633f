"""The parent's side of a worker."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import UnetqError
from .job import Job


class WorkerError(UnetqError):
    """A worker refused or died; its sentence is the message."""


def single_threaded(threads: int) -> dict[str, str]:
    """Variables that keep every engine's thread pools at ``threads``."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return dict.fromkeys(names, str(threads))


class WorkerProcess:
    """One worker; ``with`` ends it."""

    def __init__(self, module: str, environment: Mapping[str, str], log: Path) -> None:
        package = str(Path(__file__).resolve().parents[2])
        paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._log = log
        self._errors = open(log, "wb")  # noqa: SIM115  (closed in close)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "unetq.bench.worker", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(paths)},
            text=True,
        )

    def ask(self, do: str, job: Job | None = None, **values: Any) -> dict[str, Any]:
        """One request and its answer.

        Raises:
            WorkerError: a refusal, or the process died.
        """
        request = {"do": do, **values}
        if job is not None:
            request["job"] = asdict(job) | {"folder": str(job.folder)}
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"its process ended ({self._ending()})")
        answer: dict[str, Any] = json.loads(line)
        if not answer.pop("ok"):
            raise WorkerError(answer["error"])
        return answer

    def _ending(self) -> str:
        code = self._process.wait()
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"{how}; {lines[-1].strip()[:300]}" if lines else how

    def close(self) -> None:
        """Ask it to leave; kill it where it does not."""
        if self._process.poll() is None:
            try:
                self.ask("quit")
                self._process.wait(timeout=20)
            except (WorkerError, subprocess.TimeoutExpired, OSError):
                self._process.kill()
                self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
