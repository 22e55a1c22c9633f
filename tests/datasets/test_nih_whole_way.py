"""A tree of DICOM series the whole way: trained on, evaluated, exported, predicted on, the mask where the series lies.

The series of the five patients are in five transfer syntaxes, one of them a multi-frame file.
"""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from dicom_tree import NAME, Written
from native_library import ensure_library
from nih_tree import add_patient, volume, write_label
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import JPEG2000Lossless
from small_runs import SMALL

from unetq.config import build, overlay
from unetq.evaluate import evaluate
from unetq.export.run import export
from unetq.predict import predict
from unetq.train import train


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[int, Written]]:
    """A folder with ``data``, ``run`` and ``nih.uqm``; the run's metrics; what was written of each patient."""
    folder = tmp_path_factory.mktemp("nih")
    ensure_library(tmp_path_factory.mktemp("library"))
    root = folder / "data"
    compressed = "jpeg2000" if get_encoder(JPEG2000Lossless).is_available else "implicit"
    written = {
        1: add_patient(root, 1),
        2: add_patient(root, 2, syntax="rle", multiframe=True),
        3: add_patient(root, 3, syntax=compressed, suffix="", descending=True),
        4: add_patient(root, 4, syntax="deflated", label=False),
        5: add_patient(root, 5, syntax="big", signed=True),
    }
    sections = {
        "data": {
            "name": "nih", "root": str(root), "options": {"validation": [3, 5], "test": [4]},
            "preprocessing": {"spacing": [1.0, 1.0], "context": 1, "window": [32, 32]},
        },
        "network": {"options": {"widths": [4, 8], "in_channels": 3}},
        "train": {"crop": 32, "foreground": 0.5},
    }  # fmt: skip
    run = train(build(overlay(SMALL, sections)), folder / "run")
    metrics = evaluate(run)
    export(run, folder / "nih.uqm")
    return folder, metrics, written


def test_evaluation_is_of_whole_patients(whole: Any) -> None:
    folder, metrics, _ = whole
    scores = metrics["splits"]["validation"]["integer"]
    assert scores["unit"] == "case" and [case["id"] for case in scores["cases"]] == ["nih-0003", "nih-0005"]
    case = scores["cases"][0]
    assert (case["subject"], case["slices"]) == ("PANCREAS_0003", 4)
    assert case["spacing_mm"] == pytest.approx([2.5, 0.8, 0.8])
    voxel = 2.5 * 0.8 * 0.8 / 1000
    assert case["classes"]["pancreas"]["true_volume_ml"] == pytest.approx(int(volume(3)[1].sum()) * voxel)
    assert metrics["skipped"] == {"validation": []}
    absent = json.loads((folder / "run" / "run.json").read_text())["skipped"]["train"]
    assert [item["case"] for item in absent] == ["PANCREAS_0006 and 74 more up to PANCREAS_0082"]


def test_the_mask_lies_where_the_series_lies(whole: Any) -> None:
    """Also the mask of the same volume as a NIfTI file that runs the other ways: equal in space, voxel by voxel."""
    folder, _, written = whole
    series = written[3].files[0].parent
    summary = predict(folder / "nih.uqm", series, folder / "mask.nii.gz")
    mask: Any = nib.load(folder / "mask.nii.gz")
    assert mask.shape == (64, 64, 4) and set(np.unique(mask.dataobj)) <= {0, 1}
    np.testing.assert_allclose(mask.affine, written[3].affine, atol=1e-4)
    assert NAME.partition("^")[0] not in str(summary)
    write_label(folder / "copy.nii.gz", volume(3)[0], written[3].affine)
    turned: Any = nib.as_closest_canonical(nib.load(folder / "copy.nii.gz"))
    assert nib.aff2axcodes(turned.affine) == ("R", "A", "S")
    nib.save(turned, folder / "turned.nii.gz")
    predict(folder / "nih.uqm", folder / "turned.nii.gz", folder / "turned-mask.nii.gz")
    other: Any = nib.load(folder / "turned-mask.nii.gz")
    np.testing.assert_array_equal(nib.as_closest_canonical(mask).dataobj, other.dataobj)
    assert np.asarray(mask.dataobj).any() or not np.asarray(other.dataobj).any()


def test_a_multiframe_file_is_an_image(whole: Any) -> None:
    folder, _, written = whole
    predict(folder / "nih.uqm", written[2].files[0].parent, folder / "frames.nii.gz")
    mask: Any = nib.load(folder / "frames.nii.gz")
    np.testing.assert_allclose(mask.affine, written[2].affine, atol=1e-4)


def test_what_is_evaluated_is_what_is_predicted(whole: Any) -> None:
    """The volume in the metrics is that of the mask that the model file gives of the same series."""
    folder, metrics, written = whole
    predict(folder / "nih.uqm", written[3].files[0].parent, folder / "again.nii.gz")
    mask: Any = nib.load(folder / "again.nii.gz")
    case = metrics["splits"]["validation"]["integer"]["cases"][0]
    voxels = int((np.asarray(mask.dataobj) == 1).sum())
    assert case["classes"]["pancreas"]["volume_ml"] == pytest.approx(voxels * 2.5 * 0.8 * 0.8 / 1000)
