"""What the gate judges, read from a run's ``metrics.json``: Dice of every unit in both arithmetics, a class."""

import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .errors import CheckpointError, ConfigError, DataError
from .report.schema import Evaluation, Metrics, shown_labels

METRICS = "metrics.json"


@dataclass(frozen=True)
class Pair:
    """One unit's Dice of one class, 0 to 1, in the integer arithmetic and in the float reference."""

    id: str
    site: str
    integer: float
    reference: float


@dataclass(frozen=True)
class Pairs:
    """A split's pairs by class; ``undefined`` counts units that have no Dice of a class in either arithmetic."""

    path: Path
    run: str
    unit: str
    seed: int
    classes: dict[str, list[Pair]]
    undefined: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_pairs(run: Path, split: str, classes: Sequence[str] = ()) -> Pairs:
    """The pairs of ``classes`` (none: all but the background) of a split.

    A unit without a Dice in one arithmetic only was empty there in truth and mask, which the evaluation left out
    (``evaluation.empty=skip``): it counts as 1, or masks with false findings would leave the comparison.

    Raises:
        ConfigError: a class that there is not, or one named twice.
        CheckpointError: a file that is missing, damaged, of another checkpoint or an earlier version, a split that
            was not evaluated, or no float reference.
        DataError: no units.
    """
    path = run / METRICS
    again = f"run: unetq evaluate {shlex.quote(str(run))}" + ("" if split == "validation" else f" --split {split}")
    raw = _read(run, path, again)
    try:
        metrics = Metrics.model_validate(raw)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise CheckpointError(f"{path} is damaged ({key}: {problem['msg'].lower()}); {again}") from None
    _check_current(run, path, raw, again)
    labels = _labels(metrics, classes)
    integer, reference = _evaluations(path, metrics, split, again)
    units = {case.id: case for case in integer.cases}
    others = {case.id: case for case in reference.cases}
    if not units:
        raise DataError(f"{path} has an evaluation of zero cases in split {split!r}: nothing to judge; {again}")
    if units.keys() != others.keys() or len(units) != len(integer.cases):
        odd = min(units.keys() ^ others.keys(), default="one twice")
        raise CheckpointError(f"{path}: integer and float_reference do not list the same cases ({odd}); {again}")
    found: dict[str, list[Pair]] = {}
    undefined: dict[str, int] = {}
    for label in labels:
        both = [(case, case.value(label), others[case.id].value(label)) for case in integer.cases]
        found[label] = [
            Pair(case.id, case.site, 1.0 if mine is None else mine, 1.0 if other is None else other)
            for case, mine, other in both
            if mine is not None or other is not None
        ]
        undefined[label] = len(both) - len(found[label])
    notes = [str(note) for note in (metrics.notes.get(split), integer.bootstrap.get("note")) if note]
    return Pairs(path, run.resolve().name, integer.unit_name, metrics.seed or 0, found, undefined, tuple(notes))


def _read(run: Path, path: Path, again: str) -> Any:
    if not path.is_file():
        what = "is not evaluated" if run.is_dir() else "is no run folder"
        raise CheckpointError(f"{run} {what}: it has no {METRICS}; {again}, or add --evaluate.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); {again}") from None


def _check_current(run: Path, path: Path, raw: Any, again: str) -> None:
    """The file speaks of the checkpoint beside it, where both are there."""
    identity = raw.get("checkpoint")
    stage, digest = (identity.get(key) if isinstance(identity, dict) else None for key in ("stage", "sha256"))
    best = run / str(stage) / "best.safetensors"
    if digest is None or stage not in ("float", "quant") or not best.is_file():
        return
    if hashlib.sha256(best.read_bytes()).hexdigest() != digest:
        raise CheckpointError(f"{path} is of another checkpoint than {best} is now; {again}, or add --evaluate.")


def _labels(metrics: Metrics, classes: Sequence[str]) -> tuple[str, ...]:
    for name in classes:
        if name not in metrics.labels:
            near = get_close_matches(name, metrics.labels, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"--class {name}: the classes are {', '.join(metrics.labels)}{hint}")
        if list(classes).count(name) > 1:
            raise ConfigError(f"--class {name} is given twice; leave one out.")
    return tuple(classes) or shown_labels(metrics.labels)


def _evaluations(path: Path, metrics: Metrics, split: str, again: str) -> tuple[Evaluation, Evaluation]:
    if split not in metrics.splits:
        there = ", ".join(metrics.splits) or "none"
        raise CheckpointError(f"{path} has no split {split!r}, only {there}; {again}, or add --evaluate.")
    found = metrics.splits[split]
    if metrics.bits.is_float:
        raise CheckpointError(f"{path} is of a float run: there is no low-bit network to judge; name a low-bit run.")
    if found.integer is None:
        raise CheckpointError(f"{path} has no 'integer' evaluation of split {split!r}; {again}, or add --evaluate.")
    if found.float_reference is None:
        raise CheckpointError(
            f"{path} has no 'float_reference' of split {split!r}: the gate compares with the float network that the "
            f"run was tuned from. Train with train.from_run, or with a float stage, and then {again}"
        )
    for evaluation in (found.integer, found.float_reference):
        if evaluation.unit is None:
            raise CheckpointError(f"{path} was written by an earlier version, without cases; {again}")
    return found.integer, found.float_reference
