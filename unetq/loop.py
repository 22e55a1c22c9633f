"""One training stage: steps, validations, checkpoints, and a state from which it continues to the last bit.

All that decides the next step is the network, the optimizer's state, torch's generator and the step's number:
learning rates and batches are functions of (seed, step). A checkpoint therefore holds just these.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from . import checkpoint as checkpoints
from .checkpoint import State
from .errors import UnetqError
from .experiment import TrainConfig
from .history import History
from .metrics import SliceScore, headline, volume_dice
from .progress import Progress
from .scoring import Forward, Scorer
from .sharpness.descent import Descent

LOG_EVERY = 10
Batches = Callable[[int], Iterator[tuple[Tensor, Tensor]]]
"""From a first step to the (images, labels) of that and all following steps."""


def channels_last(axes: int) -> torch.memory_format:
    """torch's layout with the channels last, for 2 or 3 spatial axes."""
    return torch.channels_last_3d if axes == 3 else torch.channels_last


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop; what was done is saved."""


class StopSignal:
    """Ctrl-C and SIGTERM ask for a stop at the next safe point; a second one stops at once."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in self.SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def schedule_factor(config: TrainConfig, step: int, steps: int) -> float:
    """What the learning rates are multiplied by in step ``step`` (from 0) of ``steps``; 0 < factor <= 1."""
    warm = min(1.0, (step + 1) / (config.warmup + 1))
    if config.schedule == "constant":
        return warm
    if config.schedule == "step":
        return float(warm * 0.1 ** (5 * step // steps))
    return warm * 0.5 * (1.0 + math.cos(math.pi * step / steps))


@dataclass
class Stage:
    """What a stage trains with. ``evaluate`` maps (1, C, H, W) to logits in the arithmetic that is validated.

    ``optimizer`` groups carry their own ``base_lr``. ``freeze`` is called once ``freeze_at`` steps are done.
    ``first`` counts steps of the same name that went before, as a phase; histories and messages count on from there.
    ``descent`` makes a step. ``advance`` is called before every step with the number of steps done, earlier phases
    included.
    """

    name: str
    steps: int
    folder: Path
    network: nn.Module
    wrapped: nn.Module
    optimizer: Any
    batches: Batches
    descent: Descent
    evaluate: Forward
    record: dict[str, Any]
    freeze_at: int | None = None
    freeze: Callable[[], None] = field(default=lambda: None)
    first: int = 0
    advance: Callable[[int], None] = field(default=lambda step: None)


class Loop:
    """Runs one stage to its end, or to an interruption that leaves a checkpoint."""

    def __init__(
        self,
        stage: Stage,
        config: TrainConfig,
        fabric: Fabric,
        scorer: Scorer,
        labels: tuple[str, ...],
        history: History,
        progress: Progress,
        stop: StopSignal,
        on_step: Callable[[str, int], None] | None = None,
    ) -> None:
        self.stage, self.config, self.fabric, self.scorer = stage, config, fabric, scorer
        self.labels, self.history, self.progress, self.stop, self.on_step = labels, history, progress, stop, on_step
        self.state = State()
        self._finite: Tensor = torch.ones((), dtype=torch.bool, device=fabric.device)
        self._frozen = False
        self._clock = time.monotonic()

    def run(self) -> State:
        """Train from the last checkpoint (or the start) to the end.

        Raises:
            Interrupted: a stop was asked for; the state is saved.
            UnetqError: the loss or the weights are not finite; the last good checkpoint stays.
        """
        self._resume()
        if self.state.done:
            return self.state
        self.progress.start(self.stage.name, self.state.step, self.stage.steps)
        self._clock = time.monotonic() - self.state.seconds
        try:
            self._train()
        finally:
            self.progress.stop()
        return self.state

    @property
    def _last(self) -> Path:
        return self.stage.folder / "last.safetensors"

    @property
    def _at(self) -> int:
        """The step, earlier phases included."""
        return self.stage.first + self.state.step

    def _resume(self) -> None:
        if self._last.is_file():
            checkpoint = checkpoints.load(self._last)
            state = checkpoints.state_of(checkpoint)
            checkpoints.load_model(self.stage.network, checkpoint)
            checkpoints.restore_optimizer(self.stage.optimizer, checkpoint)
            checkpoints.restore_rng(checkpoint)
            self.state = state
        # The lines after a finished phase are those of the next ones.
        if self.fabric.is_global_zero and not self.state.done:
            self.history.cut(self.stage.name, self._at)

    def _train(self) -> None:
        state, steps = self.state, self.stage.steps
        if self._validation_due():
            self._report()
        batches = self.stage.batches(self._at)
        while state.step < steps and not self._patience_is_over():
            self._maybe_freeze()
            loss = self._one_step(*next(batches))
            state.step += 1
            due = self._validation_due()
            if due or state.step % LOG_EVERY == 0 or state.step == steps:
                if not bool(self._finite):
                    raise self._diverged("the loss")
                state.loss = float(loss)
                self.progress.step(state.step, state.loss)
                self._report()
            if self.on_step is not None:
                self.on_step(self.stage.name, self._at)
            stopping = self._agreed_stop()
            if stopping or state.step % self.config.checkpoint_every == 0:
                self._save_last()
            if stopping:
                raise Interrupted(f"stopped after step {self._at} of the {self.stage.name} stage")
        state.done = True
        self._save_last()

    def _one_step(self, images: Tensor, labels: Tensor) -> Tensor:
        self.stage.wrapped.train()
        self.stage.advance(self._at)
        factor = schedule_factor(self.config, self.state.step, self.stage.steps)
        for group in self.stage.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        images = images.to(self.fabric.device, non_blocking=True)
        if self.config.channels_last:
            images = images.to(memory_format=channels_last(images.ndim - 2))
        loss = self.stage.descent.step(images, labels.to(self.fabric.device, non_blocking=True), self._at)
        # Kept on the device: asking the value every step would make the processor wait for it.
        self._finite &= torch.isfinite(loss)
        return loss

    def _maybe_freeze(self) -> None:
        at = self.stage.freeze_at
        if not self._frozen and at is not None and self.state.step >= at:
            self.stage.freeze()
            self._frozen = True

    def _diverged(self, what: str) -> UnetqError:
        kept = f"the last good checkpoint is {self._last}" if self._last.is_file() else "there was no checkpoint yet"
        rate = "train.lr" if self.stage.name == "float" else "train.quant_lr"
        return UnetqError(
            f"{what} is not finite by step {self._at} of the {self.stage.name} stage; "
            f"training stopped and {kept}. "
            f"Start a new run with a smaller {rate}, a longer train.warmup or train.precision=32."
        )

    def _validation_due(self) -> bool:
        step = self.state.step
        on_time = step % self.config.validate_every == 0 or step == self.stage.steps
        return step > 0 and on_time and self.state.validated != step

    def _patience_is_over(self) -> bool:
        return 0 < self.config.early_stop_patience <= self.state.since_best

    def _report(self) -> None:
        """A line of history; with a validation where one is due."""
        state = self.state
        base = float(self.stage.optimizer.param_groups[0]["base_lr"])
        lr = base * schedule_factor(self.config, state.step - 1, self.stage.steps)
        dice = self._validate() if self._validation_due() else None
        state.seconds = time.monotonic() - self._clock
        if self.fabric.is_global_zero:
            self.history.add(self.stage.name, self._at, state.loss, lr, state.seconds, dice)

    def _validate(self) -> dict[str, float]:
        self._require_finite_weights()
        dice: dict[str, float] = {}
        if self.fabric.is_global_zero:
            dice = volume_dice(self._scores(), self.labels)
        dice = self.fabric.broadcast(dice)
        state, value = self.state, headline(dice)
        state.validated = state.step
        better = state.best is None or value > state.best
        if better:
            state.best, state.best_step, state.since_best = value, state.step, 0
            self._save("best", {"dice": dice})
        else:
            state.since_best += 1
        self.progress.validated(state.step, dice, better)
        return dice

    def _scores(self) -> list[SliceScore]:
        network = self.stage.network
        network.eval()
        scores: list[SliceScore] = []
        for sample, prediction in self.scorer.predict(self.stage.evaluate):
            scores.append(self.scorer.score(sample, prediction))
            if self.stop.requested and self.fabric.world_size == 1:
                self._save_last()  # `validated` is still behind, so that a resumed run validates first
                raise Interrupted(f"stopped while validating step {self._at} of the {self.stage.name} stage")
        return scores

    def _agreed_stop(self) -> bool:
        """All processes stop at one step: the wish is shared, but only where the processor waits anyway."""
        if self.fabric.world_size == 1:
            return self.stop.requested
        if self.state.step % LOG_EVERY:
            return False
        wish = torch.tensor(float(self.stop.requested), device=self.fabric.device)
        return bool(torch.as_tensor(self.fabric.all_reduce(wish, reduce_op="sum")) > 0)

    def _require_finite_weights(self) -> None:
        if not bool(self._finite):
            raise self._diverged("the loss")
        if not checkpoints.all_finite(self.stage.network):
            raise self._diverged("a weight")

    def _save_last(self) -> None:
        self._require_finite_weights()
        self.state.seconds = time.monotonic() - self._clock
        self._save("last", {}, self.stage.optimizer)

    def _save(self, which: str, extra: dict[str, Any], optimizer: Any = None) -> None:
        if self.fabric.is_global_zero:
            info = {"stage": self.stage.name, **self.stage.record, "state": asdict(self.state), **extra}
            checkpoints.save(self.stage.folder / f"{which}.safetensors", self.stage.network, info, optimizer)
        self.fabric.barrier()
