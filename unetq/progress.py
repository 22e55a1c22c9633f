"""What a person sees while training: a live bar on a terminal, plain lines elsewhere, nothing in tests."""

import sys
import time
from collections.abc import Mapping
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

PLAIN_SECONDS = 10.0


class Progress(Protocol):
    """A face for a stage: ``start``, then ``step`` and ``validated`` as they come, then ``stop``."""

    def start(self, stage: str, step: int, steps: int) -> None:
        """A stage begins (or continues) at ``step`` of ``steps``."""

    def step(self, step: int, loss: float) -> None:
        """``step`` steps are done; ``loss`` is the latest one known."""

    def validated(self, step: int, dice: Mapping[str, float], best: bool) -> None:
        """Validation Dice a label, in 0…1, after ``step`` steps."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def stop(self) -> None:
        """The stage ended, for whatever reason."""


def dice_text(dice: Mapping[str, float]) -> str:
    """Dice a label in per cent."""
    return ", ".join(f"{label} {100 * value:.2f}" for label, value in dice.items())


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


class Silent:
    """Says nothing."""

    def start(self, stage: str, step: int, steps: int) -> None: ...
    def step(self, step: int, loss: float) -> None: ...
    def validated(self, step: int, dice: Mapping[str, float], best: bool) -> None: ...
    def note(self, text: str) -> None: ...
    def stop(self) -> None: ...


class Plain:
    """One line every ten seconds and at every validation, for logs and pipes."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._stage, self._first, self._steps = "", 0, 0
        self._began = self._printed = time.monotonic()

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def start(self, stage: str, step: int, steps: int) -> None:
        """Open the stage."""
        self._stage, self._first, self._steps = stage, step, steps
        self._began = self._printed = time.monotonic()
        self._print(f"{stage}: from step {step} of {steps}")

    def step(self, step: int, loss: float) -> None:
        """Print when enough time has passed."""
        now = time.monotonic()
        if now - self._printed < PLAIN_SECONDS and step < self._steps:
            return
        self._printed = now
        left = (now - self._began) / max(step - self._first, 1) * (self._steps - step)
        self._print(f"{self._stage}: step {step}/{self._steps}  loss {loss:.4f}  left {_clock(left)}")

    def validated(self, step: int, dice: Mapping[str, float], best: bool) -> None:
        """Print the Dice."""
        self._print(
            f"{self._stage}: step {step}/{self._steps}  validation Dice {dice_text(dice)}{'  (best)' if best else ''}"
        )

    def note(self, text: str) -> None:
        """Print the text."""
        self._print(text)

    def stop(self) -> None:
        """Nothing is open."""


class Live:
    """A rich bar with loss, validation Dice and time left."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar: Bar | None = None
        self._task = TaskID(0)

    def start(self, stage: str, step: int, steps: int) -> None:
        """Open the stage's bar."""
        self._bar = Bar(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("Dice {task.fields[dice]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._task = self._bar.add_task(stage, total=steps, completed=step, loss="-", dice="-")
        self._bar.start()

    def step(self, step: int, loss: float) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step, loss=f"{loss:.4f}")

    def validated(self, step: int, dice: Mapping[str, float], best: bool) -> None:
        """Show the Dice in the bar and keep a line of it above."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step, dice=dice_text(dice))
            self._bar.console.print(
                f"step {step}: validation Dice {dice_text(dice)}{'  (best)' if best else ''}", highlight=False
            )

    def note(self, text: str) -> None:
        """Print above the bar."""
        (self._bar.console if self._bar else self._console).print(text, highlight=False, markup=False)

    def stop(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def for_terminal() -> Progress:
    """The live bar when stderr is a terminal, plain lines otherwise."""
    return Live() if sys.stderr.isatty() else Plain()


def count_slices(done: int, total: int) -> None:
    """Slices done of all, rewritten in place on a terminal; silent elsewhere."""
    if sys.stderr.isatty():
        print(f"\rslice {done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def count_compiled(what: str, done: int, total: int, seconds: float, finished: bool) -> None:
    """Files compiled of all and the time, rewritten in place on a terminal; elsewhere one line at the end."""
    if sys.stderr.isatty():
        text = (
            f"{what}: compiled {total} files in {seconds:.0f} s"
            if finished
            else (f"{what}: compiling {done}/{total}, {seconds:.0f} s")
        )
        print(f"\r{text:<60}", end="\n" if finished else "", file=sys.stderr, flush=True)
    elif finished:
        print(f"{what}: compiled {total} files in {seconds:.0f} s", file=sys.stderr, flush=True)
