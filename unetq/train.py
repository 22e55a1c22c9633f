"""Float first, then low-bit fine-tuning, in one run folder that can be interrupted and resumed."""

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from . import checkpoint as checkpoints
from . import left_out
from .batches import train_batches
from .distill import Distiller
from .experiment import Experiment
from .facts import Facts
from .history import History
from .loop import Batches, Interrupted, Loop, Stage, StopSignal, channels_last
from .losses import build_loss
from .optimizers import build_optimizer, parameter_groups
from .prepare import (
    TrainingData,
    check_folder,
    check_same_slices,
    check_source,
    example_input,
    load_data,
    new_network,
    open_folder,
)
from .processes import build_fabric, launched
from .progress import Progress, Silent
from .progressive import Phase, phases, widened
from .quant.calibrate import calibrate
from .quant.network import QuantNet
from .runs import FLOAT, QUANT, build_quantized, build_training, checkpoint_path, network_record
from .sharpness.build import build_descent, check_sharpness
from .sharpness.descent import Descent, Guide, Objective

STAGE_SEED = {FLOAT: 0, QUANT: 500_009}
"""Added to the seed, so that the stages draw different batches. From scratch there is one stage, and a float run draws
what the low-bit run of its seed draws: the two differ in their bits alone."""

OnStep = Callable[[str, int], None]


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
        ConfigError, DataError, UnsupportedError: before anything is written.
        OutputError: ``out`` holds a run and ``resume`` is False, or the disk is full.
        CheckpointError: nothing to resume, other slices than before, or a ``train.from_run`` of another network
            or trained on this run's validation slices.
        Interrupted: Ctrl-C or SIGTERM; the state is saved.
    """
    config = experiment.train
    check_sharpness(experiment)
    fabric = build_fabric(config)
    check_folder(experiment, out, resume)
    with launched(fabric):
        _train(experiment, out, fabric, resume, data, progress, command, on_step)
    return out


def _train(
    experiment: Experiment,
    out: Path,
    fabric: Fabric,
    resume: bool,
    data: Path | None,
    progress: Progress | None,
    command: str,
    on_step: OnStep | None,
) -> None:
    config = experiment.train
    if config.threads:
        torch.set_num_threads(config.threads)
    network = new_network(experiment)
    loaded = load_data(experiment, network, data, fabric.device)
    if resume:
        check_same_slices(out, loaded)
    source = check_source(experiment, out, loaded)
    if fabric.is_global_zero:
        open_folder(experiment, out, source)
    fabric.barrier()
    has_float_stage = source is None and (experiment.quant.is_float or not config.from_scratch)
    history = History(out, {FLOAT: 0, QUANT: config.float_steps if has_float_stage else 0})
    splits = {"train": loaded.train, "validation": loaded.validation}
    facts = Facts(out, experiment, fabric, command, left_out.record(splits))
    shown = progress if progress is not None and fabric.is_global_zero else Silent()
    for line in left_out.tell(splits):
        shown.note(line)
    try:
        with StopSignal() as stop:
            trainer = _Trainer(experiment, out, fabric, loaded, history, shown, stop, on_step, facts)
            if has_float_stage:
                trainer.run_float(network)
            if not experiment.quant.is_float:
                trainer.run_quant()
    finally:
        history.close()
    facts.finish()


class _Trainer:
    def __init__(
        self,
        experiment: Experiment,
        out: Path,
        fabric: Fabric,
        data: TrainingData,
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
        groups = parameter_groups(list(network.parameters()), self.config.lr, self.config.weight_decay)
        self._run(FLOAT, network, groups, Phase(None, 0, self.config.float_steps), None)

    def run_quant(self) -> None:
        """Phase by phase: calibrate on what is there (the best float network, or random weights), then train."""
        network = new_network(self.experiment) if self.config.from_scratch else self._float_network()
        for phase in phases(self.experiment):
            network = self._run_phase(network, phase).net.train()

    def _float_network(self) -> nn.Module:
        network = new_network(self.experiment)
        best = checkpoints.load(checkpoint_path(self.out, FLOAT, "best"))
        checkpoints.check_network(best, network_record(self.experiment), FLOAT)
        checkpoints.load_model(network, best)
        return network

    def _run_phase(self, network: nn.Module, phase: Phase) -> QuantNet:
        experiment = widened(self.experiment, phase.bits)
        example = example_input(experiment, self.data.channels)
        torch.manual_seed(experiment.seed + STAGE_SEED[QUANT] + phase.first)
        quantized = build_training(network, experiment, example).to(self.fabric.device)
        if not (self.out / phase.folder / "last.safetensors").is_file():
            self._calibrate(quantized)
        snapping = {id(p) for p in quantized.snapping_parameters()}
        parameters = quantized.quantizer_parameters()
        quantizers = [[p for p in parameters if (id(p) in snapping) is snaps] for snaps in (True, False)]
        groups = parameter_groups(list(quantized.network_parameters()), self.config.quant_lr, self.config.weight_decay)
        for some in filter(None, quantizers):
            groups.append({"params": some, "base_lr": self.config.step_size_lr, "weight_decay": 0.0})
        refine = experiment.quant.refine_step_sizes
        freeze_at = round(experiment.quant.freeze_after * phase.steps) if refine else 0
        guide = self._guide(quantized, experiment) if self.config.distill.is_on else None
        self._run(QUANT, quantized, groups, phase, freeze_at, guide)
        return quantized

    def _guide(self, student: QuantNet, experiment: Experiment) -> Distiller:
        teacher = build_quantized(self._float_network(), experiment, example_input(experiment, self.data.channels))
        teacher = teacher.to(self.fabric.device)
        if self.config.channels_last:
            teacher = teacher.to(memory_format=channels_last(self.experiment.data.dimensions))  # type: ignore[call-overload]  # torch's stub lacks it
        return Distiller(teacher, student, self.config.distill, self.fabric.autocast)

    def _calibrate(self, quantized: QuantNet) -> None:
        count = self.experiment.quant.calibration_batches
        self.progress.note(f"calibrating on {count} batches")
        batches = self._batches(QUANT, count, augment=False, alone=True)(0)
        for finding in calibrate(quantized, (images.to(self.fabric.device) for images, _ in batches)):
            self.progress.note(f"warning: {finding}")

    def _batches(self, stage: str, steps: int, *, augment: bool, alone: bool = False) -> Batches:
        def start(first: int) -> Iterator[tuple[Tensor, Tensor]]:
            return train_batches(
                self.data.train,
                self.data.scorer.preprocessing,
                crop=self.experiment.crop_size,
                batch=self.config.batch,
                seed=self.experiment.seed + STAGE_SEED[QUANT if self.config.from_scratch else stage],
                start_step=first,
                steps=steps,
                augment=augment,
                foreground=self.config.foreground if augment else 0.0,
                classes=len(self.data.labels),
                rank=0 if alone else self.fabric.global_rank,
                world_size=1 if alone else self.fabric.world_size,
            )

        return start

    def _run(
        self,
        name: str,
        network: nn.Module,
        groups: list[dict[str, Any]],
        phase: Phase,
        freeze_at: int | None,
        guide: Distiller | None = None,
    ) -> None:
        if self.config.channels_last:
            network = network.to(memory_format=channels_last(self.experiment.data.dimensions))  # type: ignore[call-overload]  # torch's stub lacks it
        torch.manual_seed(self.experiment.seed + STAGE_SEED[name] + phase.first + self.fabric.global_rank)
        wrapped, optimizer = self.fabric.setup(network, build_optimizer(self.config, groups))
        quantized = network if isinstance(network, QuantNet) else None
        early = "" if phase.bits is None else f"{phase.bits}-bit"
        folder = self.out / name / early
        if self.fabric.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
        self.fabric.barrier()
        stage = Stage(
            name=name,
            steps=phase.steps,
            first=phase.first,
            folder=folder,
            network=network,
            wrapped=wrapped,
            optimizer=optimizer,
            batches=self._batches(name, phase.first + phase.steps, augment=self.config.augment),
            descent=self._descent(name, wrapped, optimizer, network, guide),
            # Low bits are validated in the integer arithmetic that ships.
            evaluate=network if quantized is not None or self.fabric.world_size > 1 else wrapped,
            record=self._record(name, phase),
            freeze_at=freeze_at,
            freeze=lambda: self._freeze(quantized, optimizer),
            advance=lambda step: self._advance(quantized, step),
        )
        loop = Loop(
            stage,
            self.config,
            self.fabric,
            self.data.scorer,
            self.data.labels,
            self.history,
            self.progress,
            self.stop,
            self.on_step,
        )
        try:
            loop.run()
        except Interrupted as interrupted:
            raise Interrupted(
                f"{interrupted}; all is saved. Continue with: unetq train --resume --out {shlex.quote(str(self.out))}"
            ) from None
        finally:
            self.facts.stage(f"{name} {early}".strip(), loop.state)

    def _descent(self, stage: str, wrapped: Any, optimizer: Any, network: nn.Module, guide: Guide | None) -> Descent:
        objective = Objective(wrapped, build_loss(self.data.channels_out, self.config.loss), guide)
        return build_descent(
            self.config.sharpness, stage, objective, optimizer, self.fabric, network, self.experiment.seed
        )

    def _freeze(self, quantized: QuantNet | None, optimizer: Any) -> None:
        if quantized is None:
            return
        if self.fabric.world_size == 1:
            quantized.freeze_step_sizes()
            return
        # DDP waits for every gradient it saw at the start, so the parameters stay and only their rate goes.
        steps = {id(parameter) for parameter in quantized.snapping_parameters()}
        for group in optimizer.param_groups:
            if any(id(parameter) in steps for parameter in group["params"]):
                group["base_lr"] = group["lr"] = 0.0

    def _advance(self, quantized: QuantNet | None, step: int) -> None:
        if quantized is not None:
            quantized.set_progress(step / self.config.quant_steps, step)

    def _record(self, stage: str, phase: Phase) -> dict[str, Any]:
        record: dict[str, Any] = {
            "network": network_record(self.experiment),
            "input": [self.data.channels, *self.experiment.crop_size],
            "dataset": self.experiment.data.name,
            "data": self.data.record,
            "seed": self.experiment.seed,
        }
        if stage == QUANT:
            record["quant"] = widened(self.experiment, phase.bits).quant.model_dump()
            taught = {"distill": self.config.distill.model_dump(), "progressive": list(self.config.progressive)}
            record["train"] = {**taught, "from_scratch": self.config.from_scratch}
        return record
