"""Float first, then low-bit fine-tuning, in one run folder that can be interrupted and resumed."""

import importlib.metadata
import json
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy
from torch import Tensor, nn

from . import checkpoint as checkpoints
from . import files
from .config import Experiment, differences, to_yaml
from .data import Sample, check_no_leak, train_batches
from .errors import CheckpointError, ConfigError, OutputError
from .history import History
from .loop import Batches, Interrupted, Loop, Stage, State, StopSignal
from .losses import build_loss
from .nets import build_network
from .progress import Progress, Silent
from .quant import QuantNet, calibrate
from .runs import (
    CONFIG,
    FACTS,
    FLOAT,
    QUANT,
    build_quantized,
    checkpoint_path,
    dataset_of,
    holds_run,
    load_split,
    meta_json,
    network_record,
    read_experiment,
)
from .scoring import Scorer, check_classes, input_multiple, probe

MAY_DIFFER = {
    "data.root",
    "train.accelerator",
    "train.devices",
    "train.strategy",
    "train.threads",
    "train.checkpoint_every",
    "train.from_run",
}
"""Keys that a resumed run may change: they say where and how, not what."""
RANK_SEED = 1_000_003  # processes draw different batches from one seed
STAGE_SEED = {FLOAT: 0, QUANT: 500_009}  # stages draw different batches too

OnStep = Callable[[str, int], None]


@dataclass(frozen=True)
class _Data:
    train: list[Sample]
    scorer: Scorer
    labels: tuple[str, ...]
    channels: int


def train(
    experiment: Experiment,
    out: Path,
    *,
    resume: bool = False,
    data: Path | None = None,
    progress: Progress | None = None,
    command: str = "",
    on_step: OnStep | None = None,
) -> Path:
    """Run ``experiment`` into the folder ``out``; return ``out``.

    With ``resume`` an interrupted run goes on from its last checkpoints, on the CPU to the same bits as if it
    had never stopped. ``on_step(stage, step)`` is called after every step.

    Raises:
        ConfigError, DataError: before anything is written.
        OutputError: ``out`` holds a run and ``resume`` is False, or the disk is full.
        CheckpointError: nothing to resume, another config, or ``train.from_run`` of another network.
        Interrupted: Ctrl-C or SIGTERM; the state is saved.
    """
    progress = progress or Silent()
    fabric = _fabric(experiment)
    if fabric.local_rank == 0 and not _is_child():
        _check_folder(experiment, out, resume)
    fabric.launch()
    if experiment.train.threads:
        torch.set_num_threads(experiment.train.threads)
    network = _new_network(experiment)
    loaded = _load_data(experiment, network, data)
    source = _float_source(experiment, out)
    if fabric.is_global_zero:
        _open_folder(experiment, out, source)
    fabric.barrier()
    steps = experiment.train.float_steps
    history = History(out, {FLOAT: 0, QUANT: 0 if experiment.train.from_scratch or source else steps})
    facts = Facts(out, experiment, fabric, command)
    try:
        with StopSignal() as stop:
            trainer = _Trainer(experiment, out, fabric, loaded, history, progress, stop, on_step, facts)
            if not experiment.train.from_scratch and source is None:
                trainer.run_float(network)
            if not experiment.quant.is_float:
                trainer.run_quant()
    finally:
        history.close()
    facts.finish()
    return out


class Facts:
    """``run.json``: versions, seed, command, times."""

    def __init__(self, out: Path, experiment: Experiment, fabric: Fabric, command: str) -> None:
        self._path, self._write = out / FACTS, fabric.is_global_zero
        old: dict[str, Any] = {}
        if self._path.is_file():
            try:
                old = json.loads(self._path.read_text(encoding="utf-8"))
            except ValueError:
                old = {}
        self._values: dict[str, Any] = {
            **{name: _version(name) for name in ("unetq", "torch", "monai", "numpy")},
            "python": platform.python_version(),
            "platform": platform.platform(),
            "device": str(fabric.device),
            "threads": torch.get_num_threads(),
            "processes": fabric.world_size,
            "seed": experiment.seed,
            "command": old.get("command") or command,
            "started": old.get("started") or _now(),
            "finished": old.get("finished"),
            "seconds": old.get("seconds") or {FLOAT: 0.0, QUANT: 0.0},
        }
        self._save()

    def stage(self, name: str, state: State) -> None:
        """Record how long a stage has taken."""
        self._values["seconds"][name] = round(state.seconds, 3)
        self._save()

    def finish(self) -> None:
        """Record the end, once."""
        self._values["finished"] = self._values["finished"] or _now()
        self._save()

    def _save(self) -> None:
        if self._write:
            files.write_json(self._path, self._values)


class _Trainer:
    def __init__(
        self,
        experiment: Experiment,
        out: Path,
        fabric: Fabric,
        data: _Data,
        history: History,
        progress: Progress,
        stop: StopSignal,
        on_step: OnStep | None,
        facts: Facts,
    ) -> None:
        self.experiment, self.config, self.out, self.fabric, self.data = experiment, experiment.train, out, fabric, data
        self.history, self.progress, self.stop, self.on_step, self.facts = history, progress, stop, on_step, facts

    def run_float(self, network: nn.Module) -> None:
        """Train the float network."""
        groups = _groups(list(network.parameters()), self.config.lr, self.config.weight_decay)
        self._run(FLOAT, network, groups, self.config.float_steps, None)

    def run_quant(self) -> None:
        """Calibrate on the float stage's best network (or random weights), then fine-tune."""
        network = _new_network(self.experiment)
        if not self.config.from_scratch:
            best = checkpoints.load(checkpoint_path(self.out, FLOAT, "best"))
            checkpoints.check_network(best, network_record(self.experiment), FLOAT)
            checkpoints.load_model(network, best)
        example = torch.zeros(1, self.data.channels, self.config.crop, self.config.crop)
        torch.manual_seed(self.experiment.seed + STAGE_SEED[QUANT])
        quantized = build_quantized(network, self.experiment, example).to(self.fabric.device)
        if not checkpoint_path(self.out, QUANT, "last").is_file():
            self._calibrate(quantized)
        quantizers = list(quantized.quantizer_parameters())
        groups = _groups(list(quantized.network_parameters()), self.config.quant_lr, self.config.weight_decay)
        if quantizers:
            groups.append({"params": quantizers, "base_lr": self.config.step_size_lr, "weight_decay": 0.0})
        refine = self.experiment.quant.refine_step_sizes
        freeze_at = round(self.experiment.quant.freeze_after * self.config.quant_steps) if refine else 0
        self._run(QUANT, quantized, groups, self.config.quant_steps, freeze_at)

    def _calibrate(self, quantized: QuantNet) -> None:
        count = self.experiment.quant.calibration_batches
        self.progress.note(f"calibrating on {count} batches")
        batches = self._batches(QUANT, count, augment=False, same_on_all=True)(0)
        calibrate(quantized, (images.to(self.fabric.device) for images, _ in batches))

    def _batches(self, stage: str, steps: int, *, augment: bool, same_on_all: bool = False) -> Batches:
        config, rank = self.config, 0 if same_on_all else self.fabric.global_rank

        def start(first: int) -> Iterator[tuple[Tensor, Tensor]]:
            return iter(
                train_batches(
                    self.data.train,
                    self.data.scorer.preprocessing,
                    crop=config.crop,
                    batch=config.batch,
                    seed=self.experiment.seed + STAGE_SEED[stage] + RANK_SEED * rank,
                    start_step=first,
                    steps=steps,
                    augment=augment,
                )
            )

        return start

    def _run(self, name: str, network: nn.Module, groups: list[dict[str, Any]], steps: int, freeze_at: int | None) -> None:
        if self.config.channels_last:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        torch.manual_seed(self.experiment.seed + STAGE_SEED[name] + RANK_SEED * self.fabric.global_rank)
        wrapped, optimizer = self.fabric.setup(network, _optimizer(self.config, groups))
        quantized = network if isinstance(network, QuantNet) else None
        folder = self.out / name
        if self.fabric.is_global_zero:
            folder.mkdir(exist_ok=True)
        self.fabric.barrier()
        stage = Stage(
            name=name,
            steps=steps,
            folder=folder,
            network=network,
            wrapped=wrapped,
            optimizer=optimizer,
            batches=self._batches(name, steps, augment=self.config.augment),
            loss=build_loss(len(self.data.labels) if self.channels_out > 1 else 1, self.config.loss),
            # Low bits are validated in the integer arithmetic that ships; DDP's wrapper has no part in that.
            evaluate=quantized if quantized is not None else wrapped.module if self.fabric.world_size > 1 else wrapped,
            record=self._record(name),
            freeze_at=freeze_at,
            freeze=quantized.freeze_step_sizes if quantized is not None else lambda: None,
        )
        loop = Loop(
            stage, self.config, self.fabric, self.data.scorer, self.data.labels, self.history, self.progress, self.stop, self.on_step
        )
        try:
            loop.run()
        except Interrupted as interrupted:
            raise Interrupted(f"{interrupted}; all is saved. Continue with: unetq train --resume --out {self.out}") from None
        finally:
            self.facts.stage(name, loop.state)

    channels_out: int = 1

    def _record(self, stage: str) -> dict[str, Any]:
        record: dict[str, Any] = {
            "network": network_record(self.experiment),
            "input": [self.data.channels, self.config.crop, self.config.crop],
            "dataset": self.experiment.data.name,
            "data": meta_json(self.data.scorer.preprocessing, self.data.labels),
            "seed": self.experiment.seed,
        }
        if stage == QUANT:
            record["quant"] = self.experiment.quant.model_dump()
        return record
