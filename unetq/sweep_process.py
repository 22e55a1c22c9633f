"""The sweep's side of a worker: start it, hand on a wish to stop, read its answer.

Each run has a process of its own: torch gives its memory back only with the process, a run that is killed (by a
machine short of memory, say) takes nothing along, and what a run sets (threads, generators) cannot reach the next, so
that it has the bits that ``unetq train`` alone gives it.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from . import files
from .errors import OutputError
from .sweep_worker import INTERRUPTED


@dataclass(frozen=True)
class Ended:
    """How a run went: ``dice`` a split and label, or ``error``, or ``interrupted``."""

    dice: dict[str, dict[str, float]] = field(default_factory=dict)
    error: str = ""
    interrupted: bool = False


class Stop:
    """Ctrl-C, SIGTERM and a closed terminal, handed on to the process at work; between two runs they end the sweep."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.requested = False
        self.process: subprocess.Popen[bytes] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def __enter__(self) -> "Stop":
        for number in self.SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # as nohup wants it
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


@contextmanager
def locked(folder: Path, what: str = "sweep") -> Iterator[int]:
    """Hold ``folder`` against a second ``what``, for as long as this process or one of its workers lives.

    Raises:
        OutputError: another one is at work there.
    """
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutputError(
                f"{folder}: another {what}, or a run that one has left behind, is at work there; one at a time. "
                "Wait for it, or choose another -o."
            ) from None
        yield descriptor
    finally:
        os.close(descriptor)


def run_apart(job: Mapping[str, Any], stop: Stop, lock: int) -> Ended:
    """Do ``job`` (see ``sweep_worker``) in a process of its own, which keeps the descriptor ``lock`` open."""
    with tempfile.TemporaryDirectory(prefix="unetq-sweep-") as name:
        request, answer = Path(name) / "job.json", Path(name) / "answer.json"
        files.write_json(request, {**job, "answer": str(answer)})
        process = subprocess.Popen(
            [sys.executable, "-m", "unetq.sweep_worker", str(request)],
            stdin=subprocess.DEVNULL,
            stdout=2,  # standard output is the sweep's own
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            pass_fds=(lock,),
            start_new_session=True,  # a terminal's Ctrl-C then comes once, through `stop`
        )
        stop.process = process
        if stop.requested:  # it came before there was a process to tell
            process.send_signal(signal.SIGINT)
        try:
            code = process.wait()
        finally:
            stop.process = None
        if code == INTERRUPTED or (code != 0 and stop.requested):
            return Ended(interrupted=True)
        try:
            told: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            told = {"error": _ending(code)}
        return Ended(told.get("dice", {}), told.get("error", ""))


def _ending(code: int) -> str:
    if code == -signal.SIGKILL:
        return "its process was killed (signal 9), as a machine does that runs out of memory; use a smaller batch."
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return f"its process ended {how} and left no word; what it printed is above."
