"""``unetq study regularisation``: train, measure, and write what was found as ``study.json`` and one page."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast, get_args

from ..errors import ConfigError, OutputError
from ..sweep_process import run_apart
from .measure import RECORD, Measures, gather, measure_all
from .page.build import write_page
from .plan import Grid, plan
from .train import DONE, INTERRUPTED, RUNS, Start, remaining, train_all

Part = Literal["train", "measure", "page"]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Study:
    """What is asked for; see ``unetq study regularisation --help``.

    Attributes:
        config: a shipped config or a YAML file; ``settings`` and ``data`` as in ``unetq train``.
        out: the study's folder: ``runs/NAME``, ``study.json``, ``study.html`` and ``study.md``.
        command: as recorded. measures: how runs are measured.
    """

    config: str
    grid: Grid
    out: Path
    settings: tuple[str, ...] = ()
    data: Path | None = None
    command: str = ""
    measures: Measures = field(default_factory=Measures)


@dataclass(frozen=True)
class Outcome:
    """``states`` a run; ``text`` is for a person."""

    states: dict[str, str]
    text: str

    @property
    def exit_code(self) -> int:
        """0 where all that was asked for is done, 130 after an interruption, else 1."""
        found = set(self.states.values())
        return 0 if found <= {DONE} else 130 if "interrupted" in found else 1


def parse_part(text: str | None) -> Part | None:
    """The word after ``--only``.

    Raises:
        ConfigError: another one.
    """
    if text is None:
        return None
    for part in get_args(Part):
        if text == part:
            return cast("Part", part)
    raise ConfigError(f"--only {text}: it is train, measure or page; choose one, or leave it out for all.")


def study(asked: Study, only: Part | None = None, tell: Tell = lambda line: None, start: Start = run_apart) -> Outcome:
    """Do all parts, or ``only`` one; the same again goes on where it stopped.

    Args:
        start: does one training job; see ``train_all``.

    Raises:
        ConfigError, CheckpointError, DataError: the plan cannot be made, or a run that is there has another config.
        OutputError: ``out`` holds other things, or cannot be written.
        UnetqError: nothing is measured of which a page could tell.
    """
    if only != "page" or not (asked.out / RECORD).is_file():  # all that a page is made of
        _check_folder(asked.out)
    if only == "page":
        return Outcome({}, _written(asked.out))
    runs = plan(asked.config, asked.grid, asked.out / RUNS, asked.settings, asked.data)
    states = train_all(asked.out, runs, tell, start) if only != "measure" else {}
    lines = [f"{asked.out}: {_count(states, 'trained')}"] if states else []
    if only != "train" and INTERRUPTED not in states.values():
        measured = measure_all(asked.out, runs, asked.measures, tell)
        lines.append(f"{asked.out}: {_count(measured, 'measured')}")
        states = measured | {name: state for name, state in states.items() if state != DONE}
        if INTERRUPTED not in states.values():
            gather(asked.out, runs, asked.grid, asked.measures, asked.command)
            lines += [f"{asked.out / RECORD}: written", *([_written(asked.out)] if only is None else [])]
    lines += filter(None, [remaining(states, asked.command)])
    return Outcome(states, "\n".join(lines))


def _written(out: Path) -> str:
    return f"{write_page(out)}: written"


def _count(states: dict[str, str], what: str) -> str:
    return f"{sum(state == DONE for state in states.values())} of {len(states)} runs {what}"


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; a study is a folder. Choose another -o.")
    if not out.is_dir() or (out / RUNS).is_dir():
        return
    other = min((entry.name for entry in out.iterdir() if not entry.name.startswith(".")), default=None)
    if other is not None:
        raise OutputError(
            f"{out} holds {other} and no {RUNS}: a study has its folder to itself. Choose another -o, such as a "
            "folder in it."
        )
