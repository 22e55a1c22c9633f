"""What ``config.yaml`` of a run says that a report needs: what tells configurations apart, and the fold."""

import json
from copy import deepcopy
from functools import lru_cache
from typing import Any

import yaml

from .runs import Run

OWN = ("seed", "run", "name", "out")  # what may differ between runs of one configuration
FOLD = "fold"
PLACES = {"data": ("root",), "train": ("from_run", "accelerator", "devices", "strategy", "threads", "workers")}


def configuration_key(run: Run, without_fold: bool = False) -> str:
    """What tells configurations apart: network, bits and ``config.yaml``, less the seed, places and devices.

    Args:
        run: the run.
        without_fold: also less the fold, for gathering a cross-validation.
    """
    metrics = run.metrics
    config = _config(run)
    for section, names in PLACES.items():
        if isinstance(config.get(section), dict):
            config[section] = {key: value for key, value in config[section].items() if key not in names}
    if without_fold and isinstance(config.get("data"), dict):
        config["data"].pop(FOLD, None)
    kept = {key: value for key, value in config.items() if key not in OWN}
    return json.dumps([metrics.network.model_dump(), metrics.bits.model_dump(), kept], sort_keys=True, default=str)


def fold_of(run: Run) -> int | None:
    """``data.fold`` of the run's configuration, None where it has none."""
    data = _config(run).get("data")
    fold = data.get(FOLD) if isinstance(data, dict) else None
    return fold if isinstance(fold, int) and not isinstance(fold, bool) else None


def _config(run: Run) -> dict[str, Any]:
    return deepcopy(_parsed(run.config))


@lru_cache(maxsize=256)
def _parsed(text: str) -> dict[str, Any]:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return {"text": text}
    return value if isinstance(value, dict) else {}
