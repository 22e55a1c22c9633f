"""``run.json``: versions, seed, command, times."""

import importlib.metadata
import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from . import __version__, files
from .checkpoint import State
from .experiment import Experiment


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class Facts:
    """Written at the start, after each stage and at the end; a resumed run keeps its first start.

    ``skipped`` are the cases that the data set could not use, by split; see ``unetq.left_out``.
    """

    def __init__(
        self,
        out: Path,
        experiment: Experiment,
        fabric: Fabric,
        command: str,
        skipped: Mapping[str, list[dict[str, str]]] | None = None,
    ) -> None:
        self._path, self._write = out / "run.json", fabric.is_global_zero
        old = self._read()
        seconds = old.get("seconds")
        self._values: dict[str, Any] = {
            "unetq": __version__,
            **{name: _version(name) for name in ("torch", "monai", "numpy")},
            "python": platform.python_version(),
            "platform": platform.platform(),
            "device": str(fabric.device),
            "threads": torch.get_num_threads(),
            "processes": fabric.world_size,
            "seed": experiment.seed,
            "skipped": dict(skipped or {}),
            "command": old.get("command") or command,
            "started": old.get("started") or _now(),
            "finished": old.get("finished"),
            "seconds": {"float": 0.0, "quant": 0.0, **(seconds if isinstance(seconds, dict) else {})},
        }
        self._save()

    def _read(self) -> dict[str, Any]:
        """What is there already; a damaged file is dropped, since the state is in the checkpoints."""
        try:
            old = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return old if isinstance(old, dict) else {}

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
