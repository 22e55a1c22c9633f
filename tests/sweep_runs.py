"""Sweeps without training: what a run leaves behind, made at once."""

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import yaml
from small_runs import SMALL

from unetq.config import Experiment, to_yaml
from unetq.sweep import Sweep
from unetq.sweep_plan import Grid, Planned, parse_bits
from unetq.sweep_process import Ended, Stop

TINY = {
    **SMALL,
    "train": {
        **SMALL["train"],
        "float_steps": 2,
        "quant_steps": 2,
        "warmup": 0,
        "validate_every": 2,
        "precision": "32",
    },
}


def write_config(folder: Path) -> str:
    """The path of ``my.yaml``, a config that shows TINY."""
    path = folder / "my.yaml"
    path.write_text(yaml.safe_dump(TINY))
    return str(path)


def names(runs: tuple[Planned, ...]) -> list[str]:
    return [run.name for run in runs]


def finish(folder: Path, experiment: Experiment, splits: tuple[str, ...] = ("validation",)) -> None:
    """A run folder as training and evaluation leave it, as far as a sweep looks."""
    stage = "float" if experiment.quant.is_float else "quant"
    (folder / stage).mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(experiment))
    (folder / "run.json").write_text('{"finished": "2024-01-01"}')
    (folder / stage / "best.safetensors").write_bytes(b"weights")
    arithmetic = "float" if stage == "float" else "integer"
    checkpoint = {"sha256": hashlib.sha256(b"weights").hexdigest()}
    metrics = {"checkpoint": checkpoint, "splits": {split: {arithmetic: {}} for split in splits}}
    (folder / "metrics.json").write_text(json.dumps(metrics))


class FakeRuns:
    """Stands for the processes: notes the jobs, makes their folders, and fails or stops where it is told to."""

    def __init__(self, fail: str = "", stop_at: str = "") -> None:
        self.fail, self.stop_at = fail, stop_at
        self.jobs: list[dict[str, Any]] = []

    def __call__(self, job: dict[str, Any], stop: Stop, lock: int) -> Ended:
        name = Path(job["out"]).name
        self.jobs.append(job)
        if name == self.fail:
            return Ended(error="the loss is not finite.")
        if name == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)
            return Ended(interrupted=True)
        finish(Path(job["out"]), Experiment.model_validate(job["experiment"]), tuple(job["splits"]))
        return Ended({split: {"background": 0.0, "cell": 0.5} for split in job["splits"]})

    @property
    def made(self) -> list[str]:
        return [Path(job["out"]).name for job in self.jobs]


def asked(config: str, out: Path, bits: str = "32/32,4/6", **grid: Any) -> Sweep:
    return Sweep(config, Grid(parse_bits(bits), **grid), out, command="unetq sweep my.yaml")
