"""A training run of a second: phantom membranes of 48 x 48 pixels and a two-level network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from unetq import checkpoint as checkpoints
from unetq.config import build, merge
from unetq.experiment import Experiment

SMALL: dict[str, Any] = {
    "data": {"name": "phantom", "options": {"size": 48, "train": 4, "validation": 2, "test": 1}},
    "network": {"name": "paper", "options": {"widths": [4, 8]}},
    "quant": {"weight_bits": 4, "act_bits": 6, "calibration_batches": 2},
    "train": {
        "float_steps": 8,
        "quant_steps": 8,
        "batch": 2,
        "crop": 32,
        "warmup": 2,
        "validate_every": 4,
        "checkpoint_every": 3,
        "accelerator": "cpu",
    },
}


def small(**sections: Mapping[str, Any] | int) -> Experiment:
    """The small experiment with ``sections`` merged over it."""
    return build(merge(SMALL, sections))


def tensors(run: Path, stage: str, which: str) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint."""
    return checkpoints.load(run / stage / f"{which}.safetensors").tensors


def assert_same_tensors(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    """Equal names and equal bits."""
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different, f"{len(different)} of {len(a)} tensors differ, first {different[:3]}"
