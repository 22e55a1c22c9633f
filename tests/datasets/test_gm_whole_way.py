"""A grey matter folder the whole way: trained, evaluated, exported, predicted on, the mask back on the image's grid."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from gm_trees import BidsScan, affine, bids_tree, challenge_tree, scan_files
from native_library import ensure_library
from small_runs import SMALL

from unetq.config import build, overlay
from unetq.data import DatasetSpec, resolve_dataset
from unetq.evaluate import evaluate
from unetq.export.run import export
from unetq.predict import predict
from unetq.train import train


def whole_way(
    root: Path, folder: Path, image: Path, options: dict[str, Any], context: int = 0, **data: Any
) -> tuple[dict[str, Any], Any]:
    """Metrics of a small low-bit run, and the mask that its model file gives of ``image``."""
    classes = len(resolve_dataset("gm", options).labels)
    data["preprocessing"] = {"spacing": [1.0, 1.0], "context": context}
    channels = {"in_channels": 1 + 2 * context, "out_channels": 1 if classes == 2 else classes}
    sections = {
        "data": {"name": "gm", "root": str(root), "options": options, **data},
        "network": {"options": {"widths": [4, 8], **channels}},
        "train": {"crop": 16, "foreground": 0.75},
    }
    experiment = build(overlay(SMALL, sections))  # another data set drops the options of the phantom
    run = train(experiment, folder / "run")
    metrics = evaluate(run)
    export(run, folder / "gm.uqm")
    summary = predict(folder / "gm.uqm", image, folder / "mask.nii.gz", allow_small=True)
    assert summary["output"] == str(folder / "mask.nii.gz")
    return metrics, nib.load(folder / "mask.nii.gz")


@pytest.fixture(scope="module", autouse=True)
def library(tmp_path_factory: pytest.TempPathFactory) -> None:
    ensure_library(tmp_path_factory.mktemp("library"))


def check_mask(mask: Any, image: Path, values: set[int]) -> None:
    original = nib.load(image)
    assert mask.shape == original.shape and np.allclose(mask.affine, original.affine, atol=1e-5)
    assert int(mask.header["sform_code"]) == int(original.header["sform_code"])
    assert set(np.unique(np.asarray(mask.dataobj))) <= values


def check_cases(metrics: dict[str, Any], spec: DatasetSpec, subjects: set[str]) -> None:
    scores = metrics["splits"]["validation"]["integer"]
    assert {case["subject"] for case in scores["cases"]} == subjects and scores["unit"] == "case"
    assert all(set(case["classes"]) <= set(spec.labels) for case in scores["cases"])
    assert all(case["site"] for case in scores["cases"])


def test_the_challenge_with_three_classes_and_a_site_left_out(tmp_path: Path) -> None:
    root = challenge_tree(tmp_path / "data", sites=2, subjects=2)
    (root / "site1-sc01-mask-r1.nii.gz").unlink()  # one case cannot be used, the rest goes on
    options = {"structure": "gm+wm", "consensus": "staple", "validation": ["sc02"]}
    image = root / "site2-sc02-image.nii.gz"
    metrics, mask = whole_way(root, tmp_path, image, options, by="site", fold=1)
    check_mask(mask, image, {0, 1, 2})
    check_cases(metrics, resolve_dataset("gm", options), {"site2-sc01", "site2-sc02"})
    told = [item for items in metrics["skipped"].values() for item in items]
    assert {item["case"] for item in told} == {"site1-sc01"} and "rater r1 is missing" in told[0]["reason"]


def test_bids_with_neighbour_slices_and_volumes_that_lie_differently(tmp_path: Path) -> None:
    turned = BidsScan("sub-3", seed=3, place=affine((0.5, 0.6, 4.0), (1, -1, 1)), sform=0, slices=4, undrawn=(3,))
    scans = [*(BidsScan(f"sub-{seed}", seed=seed, slices=2) for seed in (1, 2, 4)), turned]
    root = bids_tree(tmp_path / "data", scans)
    image = scan_files(root, turned)[0]
    options: dict[str, Any] = {"validation": [3, 4]}
    metrics, mask = whole_way(root, tmp_path, image, options, context=1)
    check_mask(mask, image, {0, 1})
    check_cases(metrics, resolve_dataset("gm", options), {"sub-3", "sub-4"})
    case = metrics["splits"]["validation"]["integer"]["cases"][0]
    assert case["slices"] == 3 and case["spacing_mm"] == pytest.approx([4.0, 0.5, 0.6], abs=1e-4)
