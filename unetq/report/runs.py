"""Read a run folder; what is missing, damaged or of another schema is named."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from ..errors import CheckpointError
from .compressed import Compressed
from .layers import Layers
from .schema import HistoryPoint, Metrics

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Run:
    """One finished run, as its folder tells it.

    Attributes:
        folder: where it was read.
        name: the folder's own (a folder can be moved after its run), unique among the runs of one report.
        facts: ``run.json`` (versions, seed, command, seconds), empty where absent.
        config: ``config.yaml`` as text, empty where absent.
        layers: ``layers.json``, None where absent. compressed: ``compress.json``, None where absent.
        names: of an anonymous run: what stands for an id -> the id, as the files of the folder are called; else None.
    """

    folder: Path
    name: str
    metrics: Metrics
    facts: dict[str, Any]
    config: str
    history: tuple[HistoryPoint, ...]
    layers: Layers | None = None
    compressed: Compressed | None = None
    names: Mapping[str, str] | None = None

    def stored(self, name: str) -> str:
        """The id that ``name`` stands for in the folder's files."""
        return name if self.names is None else self.names.get(name, name)


def load_runs(folders: list[Path]) -> list[Run]:
    """Read every folder, in the order given.

    Raises:
        CheckpointError: no folder given, one given twice, or one that ``load_run`` refuses.
    """
    if not folders:
        raise CheckpointError(
            "no run folder was given; a report needs at least one. Name them: unetq report runs/* -o report/"
        )
    resolved = [folder.resolve() for folder in folders]
    for index, folder in enumerate(resolved):
        if folder in resolved[:index]:
            raise CheckpointError(f"{folders[index]} is given twice; a report lists a run once. Remove one of them.")
    names = _short_names(resolved)
    return [replace(load_run(folder), name=name) for folder, name in zip(folders, names, strict=True)]


def _short_names(folders: list[Path]) -> list[str]:
    """Of each path as many last parts as tell it from the others: ``em-w4a6``, or ``seed1/em`` and ``seed2/em``."""
    names = []
    for folder in folders:
        length = 1
        while length < len(folder.parts) and any(
            other is not folder and other.parts[-length:] == folder.parts[-length:] for other in folders
        ):
            length += 1
        names.append("/".join(folder.parts[-length:]))
    return names


def load_run(folder: Path) -> Run:
    """Read one run folder: ``metrics.json`` must be there, the rest is optional but must be sound.

    Raises:
        CheckpointError: naming the file, what is wrong with it and the remedy.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is not a folder; a report reads run folders that `unetq train` wrote. Check the path."
        )
    metrics_path = folder / "metrics.json"
    if not metrics_path.is_file():
        raise CheckpointError(
            f"{metrics_path} is missing; a report reads the scores from it. Make it with: unetq evaluate {folder}"
        )
    raw = _read(metrics_path, _parse_object)
    if raw.get("schema") != 1:
        raise CheckpointError(
            f"{metrics_path}: schema {raw.get('schema')!r}, this version reads schema 1. "
            f"Evaluate the run again with this version: unetq evaluate {folder}"
        )
    metrics = _validate(metrics_path, Metrics, raw)
    if not any(split.quoted for split in metrics.splits.values()):
        raise CheckpointError(
            f"{metrics_path} holds no evaluation; a report needs one. Make it with: unetq evaluate {folder}"
        )
    facts_path, config_path, history_path = folder / "run.json", folder / "config.yaml", folder / "history.jsonl"
    layers_path, compressed_path = folder / "layers.json", folder / "compress.json"
    return Run(
        folder=folder,
        name=folder.resolve().name,
        metrics=metrics,
        facts=_read(facts_path, _parse_object) if facts_path.exists() else {},
        config=_read(config_path, str) if config_path.exists() else "",
        history=_read_history(history_path) if history_path.exists() else (),
        layers=_validate(layers_path, Layers, _read(layers_path, _parse_object)) if layers_path.exists() else None,
        compressed=_validate(compressed_path, Compressed, _read(compressed_path, _parse_object))
        if compressed_path.exists()
        else None,
    )


def _read_history(path: Path) -> tuple[HistoryPoint, ...]:
    lines = _read(path, str.splitlines)
    points = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            raw = _parse_object(line)
        except ValueError as error:
            if number == len(lines):  # a run that was killed in the middle of a line is still a run
                break
            _damaged(path, f"line {number}: {error}")
        points.append(_validate(path, HistoryPoint, raw))
    return tuple(points)


def _read(path: Path, parse: Callable[[str], T]) -> T:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror or error}); a report needs it. Check it."
        ) from error
    except (ValueError, RecursionError) as error:
        _damaged(path, str(error))


def _parse_object(text: str) -> dict[str, Any]:
    value = json.loads(text, parse_constant=_reject_constant)
    if not isinstance(value, dict):
        raise ValueError(f"a {type(value).__name__} where an object belongs")
    return value


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _validate(path: Path, model: type[M], raw: dict[str, Any]) -> M:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        _damaged(path, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}")


def _damaged(path: Path, problem: str) -> NoReturn:
    raise CheckpointError(
        f"{path} is damaged: {problem}. It must be as unetq wrote it; evaluate or train the run again."
    )
