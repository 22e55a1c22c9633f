"""The runs of a study made one after the other, each in a process of its own, never twice.

Several commands may work on one folder: each run is held by the one that makes it, and the others leave it alone.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..errors import CheckpointError, ConfigError, OutputError
from ..metrics import headline
from ..sweep_plan import Standing, find_data, read_object, standing
from ..sweep_process import Ended, Stop, locked, run_apart
from .plan import StudyRun

RUNS, LOCKS = "runs", "locks"
DONE, FAILED, INTERRUPTED, ELSEWHERE, WAITING = "done", "failed", "interrupted", "elsewhere", "waiting"
Start = Callable[[dict[str, Any], Stop, int], Ended]
Tell = Callable[[str], None]


def is_trained(out: Path, run: StudyRun) -> bool:
    """True where the run is finished.

    Raises:
        ConfigError: it was made by another config. CheckpointError: its config is damaged.
    """
    return _standing(out, run) == "done"


def _standing(out: Path, run: StudyRun) -> Standing:
    found = standing(out / RUNS / run.name, run.planned, ())
    return "done" if found == "evaluate" else found  # the study has measures of its own


def train_all(out: Path, runs: Sequence[StudyRun], tell: Tell, start: Start = run_apart) -> dict[str, str]:
    """Train what is not trained yet; what fails is named and the rest goes on.

    Args:
        out: the study's folder; runs are folders of ``out/runs``.
        tell: is given a line for every run as it comes.
        start: does one job of ``sweep_worker``.

    Returns:
        A state by run: done, failed, interrupted, or elsewhere (another process is at work on it).

    Raises:
        ConfigError, CheckpointError: a run that is there has another config, or a damaged one; before any training.
        DataError: there are no data. OutputError: ``out`` cannot be written.
    """
    trained = {run.name: is_trained(out, run) for run in runs}
    find_data(runs[0].planned.experiment.data)
    try:
        (out / RUNS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create {out / RUNS}: {error.strerror or error}; choose another -o.") from None
    tell(f"{sum(trained.values())} of {len(runs)} runs are trained")
    states: dict[str, str] = {}
    with Stop() as stop:
        for number, run in enumerate(runs, 1):
            if stop.requested:
                states[run.name] = INTERRUPTED
                continue
            head = f"{number} of {len(runs)}: {run.name}"
            states[run.name], told = _make(out, run, stop, start)
            tell(f"{head}: {told}")
    return states


def _make(out: Path, run: StudyRun, stop: Stop, start: Start) -> tuple[str, str]:
    """One run, whatever comes of it: its state, and what to tell."""
    with ExitStack() as held:
        place = out / LOCKS / run.name
        place.mkdir(parents=True, exist_ok=True)
        try:
            lock = held.enter_context(locked(place))
        except OutputError:
            return ELSEWHERE, "another process is at work on it; left to that"
        try:
            there = _standing(out, run)
        except (CheckpointError, ConfigError) as error:
            return FAILED, f"failed: {error}"
        if there == "done":
            return DONE, "trained before"
        began = time.monotonic()
        ended = start(_job(out, run, there), stop, lock)
        if ended.interrupted:
            return INTERRUPTED, "interrupted; all is saved"
        if ended.error:
            return FAILED, f"failed: {ended.error}"
        return DONE, f"{_dice(out, run)}{time.monotonic() - began:.0f} s"


def _job(out: Path, run: StudyRun, there: Standing) -> dict[str, Any]:
    folder = out / RUNS / run.name
    return {
        "experiment": run.planned.experiment.model_dump(),
        "out": str(folder),
        "standing": there,
        "splits": [],
        "command": run.planned.command,
    }


def _dice(out: Path, run: StudyRun) -> str:
    """The last validation's, in words; empty where there is none."""
    stage = "float" if run.arm == "float" else "quant"
    dice = read_object(out / RUNS / run.name / stage / "best.json").get("dice")
    return f"validation Dice {100 * headline(dice):.2f}, " if isinstance(dice, dict) and dice else ""


def remaining(states: dict[str, str], command: str) -> str:
    """What is not done and why, and how to go on; empty where all is done."""
    groups = {
        state: [n for n, s in states.items() if s == state] for state in (FAILED, WAITING, INTERRUPTED, ELSEWHERE)
    }
    lines = [f"{state}: {', '.join(names)}" for state, names in groups.items() if names]
    if groups[INTERRUPTED]:
        lines.append(f"Interrupted; all is saved. The same command goes on: {command}".removesuffix(": "))
    return "\n".join(lines)
