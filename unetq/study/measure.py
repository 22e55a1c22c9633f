"""All that is measured of each run of a study, once, and gathered in ``study.json``; docs/STUDY.md says what it is."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import __version__, files
from ..errors import CheckpointError, ConfigError, OutputError, UnetqError
from ..sweep_plan import read_object
from ..sweep_process import locked
from .bound import measure_bound
from .distortions import DISTORTIONS
from .landscape import measure_landscape
from .loss_surface import loss_surface
from .plan import Grid, StudyRun
from .score import Bench, Trained, checkpoint_digest, open_trained
from .train import DONE, ELSEWHERE, FAILED, INTERRUPTED, LOCKS, RUNS, WAITING, is_trained
from .twins import measure_twins

SCHEMA = 1
FORM = 1
"""Raised with every change of what a measure gives, so that runs are measured anew."""
RECORD = "study.json"
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Measures:
    """How runs are measured; see ``landscape``, ``twins`` and ``bound``.

    Attributes:
        crops: fixed crops of training images for all that is measured on the loss's surface.
        rho, adaptive_rho, steps, probes, products: of ``measure_landscape``; ``probes`` also of ``measure_twins``.
        draws: of ``measure_twins``. confidence: of ``measure_bound``. seed: of all that is drawn.
    """

    crops: int = 8
    rho: float = 0.02
    adaptive_rho: float = 0.25
    steps: int = 5
    probes: int = 16
    products: int = 20
    draws: int = 32
    confidence: float = 0.05
    seed: int = 0


def parse_measures(settings: Sequence[str]) -> Measures:
    """``probes=4`` and the like over the defaults.

    Raises:
        ConfigError: another key, or a value that is no number of its kind or out of its range.
    """
    found: dict[str, Any] = asdict(Measures())
    for setting in settings:
        key, _, text = setting.partition("=")
        if key not in found:
            raise ConfigError(f"--measure {setting}: known are {', '.join(found)}; write one like probes=8.")
        whole = isinstance(found[key], int)
        try:
            value = int(text) if whole else float(text)
        except ValueError:
            raise ConfigError(f"--measure {setting}: {text!r} is no {'whole ' if whole else ''}number.") from None
        least = {"probes": 2, "draws": 2, "seed": 0}.get(key, 1 if whole else 0)
        if value < least or not math.isfinite(value) or (not whole and value == 0):
            raise ConfigError(f"--measure {setting}: it is {'at least' if whole else 'above'} {least}; choose another.")
        found[key] = value
    if found["confidence"] >= 1:
        raise ConfigError(f"--measure confidence={found['confidence']}: it is below 1; 0.05 is usual.")
    return Measures(**found)


def measure_all(out: Path, runs: Sequence[StudyRun], measures: Measures, tell: Tell) -> dict[str, str]:
    """Measure every run that is trained and not measured yet with these settings, checkpoint by checkpoint.

    Returns:
        A state by run: done, failed, waiting (not trained yet), interrupted (Ctrl-C), or elsewhere (another process is
        at work on it).

    Raises:
        ConfigError, CheckpointError, DataError: as ``Bench``, no runs, or a run of another config.
    """
    if not (out / RUNS).is_dir():
        raise CheckpointError(f"{out} has no {RUNS}: there is nothing to measure. Check -o, or leave --only out.")
    benches: list[Bench] = []

    def bench() -> Bench:
        if not benches:
            benches.append(Bench(runs[0].planned.experiment, measures.seed))
        return benches[0]

    states: dict[str, str] = {}
    try:
        for number, run in enumerate(runs, 1):
            states[run.name], told = _measure_one(out, run, bench, measures)
            tell(f"{number} of {len(runs)}: {run.name}: {told}")
    except KeyboardInterrupt:
        states.update({run.name: INTERRUPTED for run in runs if run.name not in states})
    return states


def _measure_one(out: Path, run: StudyRun, bench: Callable[[], Bench], measures: Measures) -> tuple[str, str]:
    """A run's state, and what to tell."""
    with ExitStack() as held:
        place = out / LOCKS / run.name
        place.mkdir(parents=True, exist_ok=True)
        try:
            held.enter_context(locked(place))
        except OutputError:
            return ELSEWHERE, "another process is at work on it; left to that"
        if not is_trained(out, run):
            return WAITING, "not trained yet"
        if record_of(out, run, measures) is not None:
            return DONE, "measured before"
        began, opened = time.monotonic(), bench()
        try:
            record = measure(out, run, opened, measures)
        except UnetqError as error:
            return FAILED, f"failed: {error}"
        return DONE, f"{_headline(record)}, {time.monotonic() - began:.0f} s"


def measure(out: Path, run: StudyRun, bench: Bench, measures: Measures) -> dict[str, Any]:
    """The record of one trained run, written to its folder's ``study.json``.

    Raises:
        UnetqError: something measured is not finite. CheckpointError: see ``open_trained``.
    """
    folder = out / RUNS / run.name
    trained = open_trained(folder, run.arm)
    record = {
        "name": run.name,
        "arm": run.arm,
        "weight_bits": run.weight_bits,
        "act_bits": run.act_bits,
        "seed": run.seed,
        **_scores(bench, trained),
        **_surface(bench, trained, run, measures),
    }
    record["bound"] = measure_bound(
        record["sharpness"], record["twin"], len(bench.train), empirical=record["loss"]["train"],
        confidence=measures.confidence,
    )  # fmt: skip
    for path, value in _numbers(record):
        if not math.isfinite(value):
            raise UnetqError(f"{run.name}: {path} is {value}; what is measured is finite. Train the run anew.")
    whole = {"schema": SCHEMA, "settings": _settings(measures), "checkpoint": trained.sha256, "run": record}
    files.write_json(folder / RECORD, whole)
    return record


def _scores(bench: Bench, trained: Trained) -> dict[str, Any]:
    train, validation = (bench.score(samples, trained.forward) for samples in (bench.train, bench.validation))
    return {
        "loss": {"train": train.loss, "validation": validation.loss},
        "dice": {"train": train.dice, "validation": validation.dice},
        "gap": {"loss": validation.loss - train.loss, "dice": train.dice["mean"] - validation.dice["mean"]},
        "robustness": bench.robustness(trained.forward),
    }


def _surface(bench: Bench, trained: Trained, run: StudyRun, measures: Measures) -> dict[str, Any]:
    images, labels = bench.crops(measures.crops)
    surface = loss_surface(trained.network, images, labels, bench.loss, rounded=trained.rounded)
    sharpness = measure_landscape(
        surface, rho=measures.rho, adaptive_rho=measures.adaptive_rho, steps=measures.steps, probes=measures.probes,
        products=measures.products, seed=measures.seed,
    )  # fmt: skip
    twin = None
    if run.arm != "float":
        twin = measure_twins(
            trained.network, images, labels, bench.loss, draws=measures.draws, probes=measures.probes,
            seed=measures.seed,
        )  # fmt: skip
    return {"sharpness": sharpness, "twin": twin}


def _settings(measures: Measures) -> dict[str, Any]:
    return {
        "form": FORM,
        **asdict(measures),
        "distortions": {name: list(strengths) for name, strengths in DISTORTIONS.items()},
    }


def record_of(out: Path, run: StudyRun, measures: Measures) -> dict[str, Any] | None:
    """What was measured of a run with these settings and at its checkpoint; None where it was not."""
    found = read_object(out / RUNS / run.name / RECORD)
    same = found.get("schema") == SCHEMA and found.get("settings") == _settings(measures)
    record = found.get("run")
    whole = same and found.get("checkpoint") == checkpoint_digest(out / RUNS / run.name, run.arm)
    return record if whole and isinstance(record, dict) else None


def gather(out: Path, runs: Sequence[StudyRun], grid: Grid, measures: Measures, command: str) -> dict[str, Any]:
    """Write and return ``study.json`` of all runs that are measured.

    Raises:
        UnetqError: none is. OutputError: it cannot be written.
    """
    records = [record for run in runs if (record := record_of(out, run, measures)) is not None]
    if not records:
        raise UnetqError(f"no run in {out / RUNS} is trained and measured: there is nothing to show; leave out --only.")
    shown = next((run for run in runs if run.arm == "float"), runs[0]).planned.experiment.model_dump()
    shown["data"]["root"] = None  # where data lie is nothing for a result that is passed on
    study = {
        "schema": SCHEMA,
        "unetq": __version__,
        "command": command,
        "config": shown,
        "settings": {**_settings(measures), "bits": list(grid.bits), "arms": list(grid.arms), "seeds": grid.seeds},
        "runs": records,
    }
    files.write_json(out / RECORD, study)
    return study


def _headline(record: Mapping[str, Any]) -> str:
    dice, gap = record["dice"]["validation"]["mean"], record["gap"]
    return f"validation Dice {100 * dice:.2f}, gap {100 * gap['dice']:.2f} Dice points and {gap['loss']:.4f} loss"


def _numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, float):
        yield path, value
