"""What the tests of bad data share: a training of one step through the command line, and ways to spoil files."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import yaml
from commands import unetq
from gm_trees import affine, save
from pytest import CaptureFixture

Capture = CaptureFixture[str]
Result = tuple[int, str, str]
TINY: dict[str, Any] = {
    "network": {"name": "paper", "options": {"widths": [2, 4]}},
    "quant": {"weight_bits": 32, "act_bits": 32},
    "train": {
        "float_steps": 1, "batch": 1, "crop": 16, "warmup": 0, "precision": "32", "augment": False,
        "accelerator": "cpu",
    },
}  # fmt: skip


def tiny(folder: Path, data: Any, **sections: Any) -> Path:
    """A config of a one-step training on ``data``."""
    path = folder / "my.yaml"
    path.write_text(yaml.safe_dump({**TINY, "data": data, **sections}))
    return path


def train(capsys: Capture, folder: Path, data: dict[str, Any], root: Path, *more: object) -> Result:
    return unetq(capsys, "train", tiny(folder, data), "--data", root, "--out", folder / "run", *more)


def skipped(folder: Path, split: str = "train") -> dict[str, str]:
    """What run.json says was skipped."""
    facts = json.loads((folder / "run" / "run.json").read_text())
    return {item["case"]: item["reason"] for item in facts["skipped"][split]}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def third_value(path: Path) -> None:
    values = voxels(path)
    values[5, 5, 0] = 7
    save(path, values, affine())


def resave(path: Path, values: np.ndarray) -> None:
    """Other voxels in the same place."""
    save(path, values, nib.load(path).affine)
