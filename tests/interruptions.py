"""Trainings that are broken off, and what must be the same when they go on."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from small_runs import assert_same_tensors, tensors

from unetq import checkpoint as checkpoints

STAGES = ("float", "quant")


class Crash(Exception):
    """Stands for a killed process: nothing is saved on the way out."""


def crash() -> None:
    """An action for ``at``."""
    raise Crash


def press_control_c() -> None:
    """As a person at the keyboard would."""
    os.kill(os.getpid(), signal.SIGINT)


def at(stage: str, step: int, action: Callable[[], None]) -> Callable[[str, int], None]:
    """An ``on_step`` that acts once, when ``step`` steps of ``stage`` are done."""

    def on_step(now: str, done: int) -> None:
        if (now, done) == (stage, step):
            action()

    return on_step


def history(run: Path) -> list[dict[str, Any]]:
    """The lines of history.jsonl without their times."""
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def assert_same_run(a: Path, b: Path, stages: tuple[str, ...] = STAGES) -> None:
    """Equal bits in every checkpoint, and the same history."""
    for stage in stages:
        for which in ("best", "last"):
            assert_same_tensors(tensors(a, stage, which), tensors(b, stage, which))
    assert history(a) == history(b)


def rewrite_info(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the header of a checkpoint."""
    from safetensors.torch import save

    loaded = checkpoints.load(path)
    change(loaded.info)
    path.write_bytes(save(loaded.tensors, metadata={"unetq": json.dumps(loaded.info)}))
