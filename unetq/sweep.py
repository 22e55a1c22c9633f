"""Many runs with one command: planned, made one after the other, never made twice, told in ``sweep.json``."""

import importlib.metadata
import platform
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import __version__, files
from .errors import CheckpointError, ConfigError, OutputError
from .folds import Fold
from .metrics import headline
from .sweep_plan import Grid, Planned, Standing, count_folds, find_data, plan, read_object, standing
from .sweep_process import Ended, Stop, locked, run_apart

RECORD = "sweep.json"
SCHEMA = 1
DONE, FAILED, INTERRUPTED, WAITING, PLANNED, RUNNING = "done", "failed", "interrupted", "waiting", "planned", "running"
_TODO: dict[Standing, str] = {
    "new": "to train", "resume": "to go on with", "evaluate": "to evaluate", "done": "done before"
}  # fmt: skip

Start = Callable[[dict[str, Any], Stop, int], Ended]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Sweep:
    """What is asked for; see ``unetq sweep --help``.

    Attributes:
        config: as in ``unetq train``; ``settings`` and ``data`` likewise.
        out: the sweep's folder, one run folder below it for each run.
        splits: what each run is evaluated on.
        command: as recorded.
    """

    config: str
    grid: Grid
    out: Path
    settings: tuple[str, ...] = ()
    data: Path | None = None
    splits: tuple[str, ...] = ("validation",)
    command: str = ""


@dataclass(frozen=True)
class Outcome:
    """``states`` a run, in the plan's order: done, failed, interrupted, waiting (its float run failed), planned."""

    states: dict[str, str]
    messages: dict[str, str]
    record: dict[str, Any]

    @property
    def exit_code(self) -> int:
        """0 where all is done, 130 after an interruption, else 1."""
        found = set(self.states.values())
        return 130 if INTERRUPTED in found else 0 if found == {DONE} else 1


def preview(asked: Sweep) -> str:
    """What ``sweep`` would do, a line a run; nothing is written.

    Raises:
        ConfigError: as ``sweep``.
    """
    runs, found = _planned(asked)
    lines = []
    for number, run in enumerate(runs, 1):
        problem = found[run.name]
        what = f"fails: {problem}" if isinstance(problem, CheckpointError) else _TODO[problem]
        lines.append(f"{number} of {len(runs)}: {run.name}: {what}\n  {run.command}")
    return "\n".join(lines)


def sweep(asked: Sweep, tell: Tell = lambda line: None, start: Start = run_apart) -> Outcome:
    """Make all runs that are not done yet; what fails is named and the rest goes on.

    Args:
        asked: what to do.
        tell: is given a line for every run as it comes.
        start: does one job (see ``sweep_worker``); in a process of its own.

    Raises:
        ConfigError, DataError: the plan cannot be made, the data are not there or have fewer groups than there are
            folds, or a run that is there has another config; before anything is trained.
        OutputError: ``out`` holds other things, another sweep is at work in it, or it cannot be written.
    """
    runs, _ = _planned(asked)
    data = runs[0].experiment.data
    if data.fold is not None and asked.grid.folds != 0:  # with 0 they were counted for the plan
        count_folds(data, Fold(data.fold, data.folds, data.by))
    else:
        find_data(data)
    try:
        asked.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create {asked.out}: {error.strerror or error}; choose another -o.") from None
    with locked(asked.out) as lock, Stop() as stop:
        maker = _Maker(asked, runs, tell, start, stop, lock)
        for number, run in enumerate(runs, 1):
            if stop.requested:
                break
            tell(f"{number} of {len(runs)}: {run.name}")
            maker.make(run)
    return maker.outcome()


def describe(asked: Sweep, outcome: Outcome) -> str:
    """How it went and what comes next."""
    done = [name for name, state in outcome.states.items() if state == DONE]
    lines = [f"{asked.out}: {len(done)} of {len(outcome.states)} runs done"]
    for name, state in outcome.states.items():
        if state in (FAILED, WAITING):
            lines.append(f"  {name} {'failed' if state == FAILED else 'not made'}: {outcome.messages[name]}")
    if outcome.exit_code == 130:
        lines.append(f"Interrupted; all is saved. The same command goes on: {asked.command}".removesuffix(": "))
    if done:
        whole = len(done) == len(outcome.states)
        folders = f"{shlex.quote(str(asked.out))}/*" if whole else shlex.join(str(asked.out / name) for name in done)
        report = asked.out.with_name(f"{asked.out.name}-report")
        lines.append(f"Next: unetq report {folders} -o {shlex.quote(str(report))}")
    return "\n".join(lines)


def _planned(asked: Sweep) -> tuple[tuple[Planned, ...], dict[str, Standing | CheckpointError]]:
    """The plan, and how far each run is; all that is wrong with it as a whole is found here."""
    runs = plan(asked.config, asked.grid, asked.out, asked.settings, asked.data)
    _check_folder(asked.out)
    found: dict[str, Standing | CheckpointError] = {}
    for run in runs:
        try:
            found[run.name] = standing(asked.out / run.name, run, asked.splits)
        except CheckpointError as error:
            found[run.name] = error
    return runs, found


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; a sweep is a folder. Choose another -o.")
    if not out.is_dir() or (out / RECORD).is_file():
        return
    other = min((entry.name for entry in out.iterdir() if not entry.name.startswith(".")), default=None)
    if other is not None:
        raise OutputError(
            f"{out} holds {other} and no {RECORD}: a sweep has its folder to itself. Choose another -o, such as a "
            "folder in it."
        )


class _Maker:
    def __init__(
        self, asked: Sweep, runs: tuple[Planned, ...], tell: Tell, start: Start, stop: Stop, lock: int
    ) -> None:
        self.asked, self.runs, self.tell, self.start, self.stop, self.lock = asked, runs, tell, start, stop, lock
        self.states = dict.fromkeys((run.name for run in runs), PLANNED)
        self.messages: dict[str, str] = {}
        self.entries = self._before()
        self.started = _now()
        self._write()

    def make(self, run: Planned) -> None:
        """One run, whatever comes of it."""
        folder = self.asked.out / run.name
        if run.source is not None and self.states[run.source] != DONE:
            self._set(run, WAITING, f"the float run it starts from, {run.source}, is not done.")
            return
        try:
            there = standing(folder, run, self.asked.splits)
        except (CheckpointError, ConfigError) as error:
            self._set(run, FAILED, str(error))
            return
        if there == "done":
            self.tell(f"{run.name}: {_TODO[there]}")
            self._set(run, DONE)
            return
        self._set(run, RUNNING)
        began = time.monotonic()
        ended = self.start(self._job(run, there), self.stop, self.lock)
        seconds = round(time.monotonic() - began, 1)
        if ended.interrupted:
            self._set(run, INTERRUPTED, seconds=seconds)
        elif ended.error:
            self.tell(f"{run.name}: failed: {ended.error}")
            self._set(run, FAILED, ended.error, seconds=seconds)
        else:
            first = ended.dice.get(self.asked.splits[0], {})
            shown = f"Dice {100 * headline(first):.2f} ({self.asked.splits[0]}), " if first else ""
            self.tell(f"{run.name}: {shown}{seconds:.0f} s")
            self._set(run, DONE, seconds=seconds, dice=ended.dice)

    def outcome(self) -> Outcome:
        """After the last run; what was not come to is interrupted, too."""
        if self.stop.requested:
            for run in self.runs:
                if self.states[run.name] == PLANNED:
                    self.states[run.name] = INTERRUPTED
        return Outcome(dict(self.states), dict(self.messages), self._record())

    def _job(self, run: Planned, there: Standing) -> dict[str, Any]:
        return {
            "experiment": run.experiment.model_dump(),
            "out": str(self.asked.out / run.name),
            "standing": there,
            "splits": list(self.asked.splits),
            "command": run.command,
        }

    def _set(self, run: Planned, state: str, message: str = "", **facts: Any) -> None:
        self.states[run.name] = state
        entry = self.entries[run.name]
        entry.pop("message", None)
        entry.update(state=state, **facts)
        if message:
            self.messages[run.name] = entry["message"] = message
        self._write()

    def _before(self) -> dict[str, dict[str, Any]]:
        """An entry a run: what an earlier command of this sweep recorded, under this plan."""
        listed = read_object(self.asked.out / RECORD).get("runs")
        entries: dict[str, dict[str, Any]] = {}
        for item in listed if isinstance(listed, list) else []:
            if isinstance(item, dict) and isinstance(item.get("name"), str):
                entries[item["name"]] = item
        for run in self.runs:
            fresh = {"name": run.name, "state": PLANNED, "source": run.source, "command": run.command}
            entries[run.name] = {**entries.get(run.name, {}), **fresh}
        return entries

    def _record(self) -> dict[str, Any]:
        asked, grid = self.asked, self.asked.grid
        return {
            "schema": SCHEMA,
            "command": asked.command,
            "config": asked.config,
            "settings": list(asked.settings),
            "bits": [f"{weight}/{act}" for weight, act in grid.bits],
            "methods": list(grid.methods),
            "seeds": grid.seeds,
            "folds": grid.folds,
            "splits": list(asked.splits),
            "versions": _versions(),
            "started": self.started,
            "changed": _now(),
            "runs": list(self.entries.values()),
        }

    def _write(self) -> None:
        files.write_json(self.asked.out / RECORD, self._record())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"unetq": __version__, "python": platform.python_version()}
    for name in ("torch", "monai", "numpy"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def parse_splits(text: str) -> tuple[str, ...]:
    """``validation,test`` as words.

    Raises:
        ConfigError: another word, or none.
    """
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not words or set(words) - {"validation", "test"}:
        raise ConfigError(f"--split {text}: a run is evaluated on validation, test or both; write validation,test.")
    return words
