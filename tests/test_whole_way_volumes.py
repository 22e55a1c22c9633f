"""Neighbour slices and 3-D volumes the whole way: train, evaluate, verify, export, predict the same mask."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from unetq.config import build
from unetq.evaluate import evaluate
from unetq.export.run import export
from unetq.onnx.evaluate import evaluate_onnx
from unetq.onnx.run import export_onnx
from unetq.predict import predict
from unetq.ptq.network import Options
from unetq.ptq.run import ptq
from unetq.runs import load_split
from unetq.train import train
from unetq.verify import verify

SHAPE, SPACING = (22, 18, 12), (1.0, 1.0, 2.0)  # voxels and mm of (i, j, k)
OBLIQUE = np.array([[-0.99, 0.1, 0.0], [0.1, 0.99, 0.0], [0.0, 0.0, 1.0]])


def write_case(root: Path, name: str, seed: int) -> None:
    """A bright ball in noise, lying LAS and a little oblique."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1) * np.array(SPACING)
    centre = rng.uniform(8, 13, 3)
    label = ((grid - centre) ** 2).sum(-1) < 25
    image = rng.normal(100, 10, SHAPE) + 80 * label
    affine = np.eye(4)
    affine[:3, :3] = OBLIQUE * np.array(SPACING)
    for folder, values in (("images", image.astype(np.float32)), ("labels", label.astype(np.uint8))):
        (root / folder).mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(values, affine), root / folder / f"{name}.nii.gz")


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("balls")
    for seed, name in enumerate("abcd"):
        write_case(root, name, seed)
    return root


NET: dict[str, Any] = {"channels": [4, 8], "strides": [2], "num_res_units": 0, "norm": "batch"}
KINDS: dict[str, dict[str, Any]] = {
    "2.5-D": {
        "data": {"preprocessing": {"normalize": "zscore", "over": "volume", "orientation": "RAS", "context": 1}},
        "network": {"name": "unet", "options": {**NET, "in_channels": 3}},
        "train": {"crop": 12},
    },
    "2-D windows": {
        "data": {"preprocessing": {"normalize": "zscore", "spacing": [1.3, 0.8], "window": [12, 8], "overlap": 0.4}},
        "network": {"name": "unet", "options": NET},
        "train": {"crop": [12, 8]},
    },
    "3-D": {
        "data": {
            "dimensions": 3,
            "preprocessing": {
                "normalize": "window",
                "low": 50.0,
                "high": 250.0,
                "orientation": "PSR",
                "spacing": [1.2, 1.0, 1.5],
                "window": [8, 12, 12],
                "overlap": 0.5,
            },
        },
        "network": {"name": "unet", "options": {**NET, "spatial_dims": 3}},
        "train": {"crop": [8, 12, 12]},
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_that_is_scored_is_the_one_that_is_predicted(kind: str, balls: Path, tmp_path: Path) -> None:
    chosen = KINDS[kind]
    experiment = build(
        {
            "data": {
                "name": "folder",
                "root": str(balls),
                "options": {"validation": ["c", "d"]},
                **chosen["data"],
            },
            "network": chosen["network"],
            "quant": {"weight_bits": 4, "act_bits": 6, "calibration_batches": 2},
            "train": {
                "batch": 4,
                "float_steps": 30,
                "quant_steps": 10,
                "warmup": 2,
                "lr": 1e-2,
                "validate_every": 30,
                "precision": "32",
                "foreground": 0.5,
                **chosen["train"],
            },
        }
    )
    run = train(experiment, tmp_path / "run")
    metrics = evaluate(run)
    assert metrics["splits"]["validation"]["integer"]["volume_dice"]["foreground"] > 0.1  # it has seen something
    assert sum(e["mismatches"] for e in verify(run, limit=2)["executors"]) == 0

    model = tmp_path / "model.uqm"
    export(run, model)
    for record in metrics["splits"]["validation"]["integer"]["cases"]:
        name = record["id"]
        out = tmp_path / f"{name}.nii.gz"
        predict(model, balls / "images" / f"{name}.nii.gz", out)
        mask = np.asarray(nibabel.load(out).dataobj)  # type: ignore[attr-defined]
        truth = np.asarray(nibabel.load(balls / "labels" / f"{name}.nii.gz").dataobj)  # type: ignore[attr-defined]
        both = 2 * int((mask & truth).sum()) / (int(mask.sum()) + int(truth.sum()))
        assert record["classes"]["foreground"]["dice"] == pytest.approx(both, abs=1e-12), name
    assert {sample.volume for sample in load_split(experiment, "validation")} == {"c", "d"}

    pytest.importorskip("onnxruntime")
    standard = tmp_path / "model.onnx"
    export_onnx(run, standard)
    agreement = evaluate_onnx(standard, data=balls, against=model)["agreement"]
    assert agreement["equal"] == agreement["pixels"] == 2 * int(np.prod(SHAPE))

    quantised = tmp_path / "ptq"
    ptq(run, quantised, {"weight_bits": 8, "act_bits": 8}, Options(adaround=True, iterations=5), samples=4)
    assert evaluate(quantised)["bits"]["weight"] == 8
