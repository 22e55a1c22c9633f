"""docs/DATA.md: every YAML block is a config that trains, on files that are laid out as it says."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from gm_trees import affine, challenge_tree, cord_volume, save
from unetq_datasets.phantom import make

from unetq import config as configs
from unetq.runs import dataset_of
from unetq.train import train

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "DATA.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
TINY = {
    "float_steps": 1, "quant_steps": 1, "batch": 1, "warmup": 0, "precision": "32", "augment": False,
    "accelerator": "cpu",
}  # fmt: skip


def cords(folder: Path) -> None:
    """images/anna-1.nii.gz …, labels likewise: seven scans of five persons, three classes."""
    for number, name in enumerate(("anna-1", "anna-2", "bert-1", "cora-1", "dora-1", "dora-2", "emil-1")):
        image, classes = cord_volume(number, 4)
        save(folder / "images" / f"{name}.nii.gz", image, affine())
        save(folder / "labels" / f"{name}.nii.gz", classes, affine())


def arrays(folder: Path) -> None:
    """img_000.npy in HU and mask_000.npy, ten slices."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(10):
        image, label = make("abdomen", 0, number, 48)
        np.save(folder / f"img_{number:03d}.npy", image[::-1])
        np.save(folder / f"mask_{number:03d}.npy", label[::-1])


def decathlon(folder: Path) -> None:
    """dataset.json with six labelled cases."""
    entries = []
    for number in range(6):
        pairs = [make("abdomen", number, index, 48) for index in (0, 1)]
        image, label = (np.stack([pair[part] for pair in pairs], axis=2) for part in (0, 1))
        name = f"spleen_{number}.nii.gz"
        save(folder / "imagesTr" / name, image, affine((0.8, 0.8, 3.0)))
        save(folder / "labelsTr" / name, label, affine((0.8, 0.8, 3.0)))
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    listed = {"labels": {"0": "background", "1": "spleen"}, "training": entries, "test": []}
    (folder / "dataset.json").write_text(json.dumps(listed))


def membranes(folder: Path) -> None:
    """Thirty slices in the official stacks."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [make("membranes", 0, number, 32) for number in range(30)]
    tifffile.imwrite(folder / "train-volume.tif", np.stack([image for image, _ in pairs]))
    tifffile.imwrite(folder / "train-labels.tif", np.stack([label * np.uint8(255) for _, label in pairs]))


def challenge(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    challenge_tree(folder, sites=2, subjects=9, slices=1)


def pancreas(folder: Path) -> None:
    """Three patients as NIfTI, soft tissue in fat."""
    for number in (1, 2, 3):
        volume = np.rint(np.random.default_rng(number).normal(-100, 12, (96, 80, 5))).astype(np.int16)
        label = np.zeros(volume.shape, np.uint8)
        label[30:50, 20:45, 1:4] = 1
        volume[label > 0] += 180
        save(folder / f"PANCREAS_{number:04d}.nii.gz", volume, affine((0.9, 0.9, 2.0)))
        save(folder / f"label{number:04d}.nii.gz", label, affine((0.9, 0.9, 2.0)))


MAKERS: dict[str, Callable[[Path], None]] = {
    "images/anna-1": cords, "img_000.npy": arrays, "dataset.json": decathlon, "# em": membranes, "# gm": challenge,
    "# nih": pancreas, "# phantom": lambda folder: folder.mkdir(), "dimensions: 3": cords,
}  # fmt: skip


def maker_of(block: str) -> Callable[[Path], None] | None:
    return next((make for key, make in MAKERS.items() if key in block), None)


def test_they_are_found() -> None:
    assert len(BLOCKS) >= 10 and sum(maker_of(block) is not None for block in BLOCKS) == len(BLOCKS) - 1
    assert "evaluation:" in next(block for block in BLOCKS if maker_of(block) is None)


@pytest.mark.parametrize("block", BLOCKS, ids=[block.splitlines()[0][:30] for block in BLOCKS])
def test_a_block_trains(block: str, tmp_path: Path) -> None:
    values = yaml.safe_load(block)
    experiment = configs.build(values, "docs/DATA.md")
    if (make_files := maker_of(block)) is None:
        assert set(values) == {"evaluation"}
        return
    dataset_of(experiment)
    data = tmp_path / "data"
    make_files(data)
    crop = values.get("train", {}).get("crop", 16)
    small: dict[str, Any] = {"train": {**TINY, "crop": crop}, "quant": {"calibration_batches": 1}}
    if experiment.network.name == "paper":
        small["network"] = {"options": {"widths": [2, 4]}}
    values = configs.merge(values, small)
    needs_folder = experiment.data.name != "phantom"
    run = train(configs.build(values), tmp_path / "run", data=data if needs_folder else None)
    facts = json.loads((run / "run.json").read_text())
    skipped = {item["case"] for items in facts["skipped"].values() for item in items}
    assert facts["finished"] and all("PANCREAS" in name for name in skipped)  # the collection has more than three


def test_every_key_and_option_is_told() -> None:
    for key in configs.KNOWN_KEYS:
        if key.startswith(("data.", "evaluation.")) and key != "data.preprocessing":
            assert re.search(rf"\b{key.rsplit('.', 1)[-1]}\b", TEXT), f"{key} is not in docs/DATA.md"
    for name in ("folder", "msd"):
        spec, _ = dataset_of(configs.build({"data": {"name": name}}))
        for option in spec.defaults:
            assert f"`{option}`" in TEXT or f"{option}:" in TEXT, f"option {option} of {name} is not in docs/DATA.md"
