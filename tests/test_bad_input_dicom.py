"""A DICOM tree with mistakes, through the command line: each is named, other patients go on."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from bad_data import Capture, cut, resave, skipped, train, voxels
from dicom_tree import NAME, write_series
from gm_trees import save

NIH = {"name": "nih", "options": {"validation": [53], "test": []}, "preprocessing": {"context": 0}}
SHAPE = (5, 24, 20)  # slices, columns, rows


def patient(root: Path, number: int, **options: Any) -> tuple[list[Path], Path]:
    """A block of soft tissue in fat; its DICOM files and its label."""
    name = f"PANCREAS_{number:04d}"
    rng = np.random.default_rng(number)
    volume = np.rint(rng.normal(-100, 12, SHAPE))
    marked = np.zeros(SHAPE, np.uint8)
    marked[1:4, 6:14, 8:15] = 1
    volume[marked > 0] += 180
    written = write_series(root / name / "1" / "2", volume, (2.5, 0.8, 0.8), patient=name, key=str(number), **options)
    label = root / f"label{number:04d}.nii.gz"
    save(label, np.ascontiguousarray(marked.transpose(1, 2, 0)), written.affine)
    return written.files, label


@pytest.fixture
def tcia(tmp_path: Path) -> Path:
    for number in (1, 3, 53):
        patient(tmp_path / "nih", number)
    return tmp_path / "nih"


def other_patient(files: list[Path], label: Path) -> None:
    """A slice of somebody else among the files."""
    data = pydicom.dcmread(files[2])
    data.PatientID = "PANCREAS_0009"
    data.save_as(files[2])


def other_values(files: list[Path], label: Path) -> None:
    values = voxels(label)
    values[0, 0, 0] = 2
    resave(label, values)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda files, label: files[2].unlink(), ["missing", "slice"]),
        (lambda files, label: files[4].unlink(), ["label0003.nii.gz", "another grid", "5 x 24 x 20"]),
        (lambda files, label: files[2].write_bytes(b""), [".dcm", "empty"]),
        (lambda files, label: cut(files[2]), [".dcm"]),
        (other_patient, ["PANCREAS_0003", "PANCREAS_0009"]),
        (lambda files, label: label.unlink(), ["label0003.nii.gz", "not there"]),
        (lambda files, label: label.write_bytes(b""), ["label0003.nii.gz", "0 bytes"]),
        (other_values, ["label0003.nii.gz", "0, 1, 2"]),
        (lambda files, label: resave(label, voxels(label)[1:]), ["label0003.nii.gz", "another grid"]),
        (lambda files, label: resave(label, voxels(label) * 0), ["label0003.nii.gz", "no voxel"]),
    ],
    ids=[
        "missing slice", "missing last slice", "empty file", "cut file", "mixed patients", "no label", "empty label",
        "three values", "other grid", "nothing marked",
    ],
)  # fmt: skip
def test_one_bad_patient_is_skipped_and_named(
    spoil: Callable[[list[Path], Path], object], words: list[str], tcia: Path, capsys: Capture, tmp_path: Path
) -> None:
    spoil(sorted((tcia / "PANCREAS_0003").rglob("*.dcm")), tcia / "label0003.nii.gz")
    code, out, err = train(capsys, tmp_path, NIH, tcia)
    assert code == 0 and "trained" in out, err
    assert "nih-0003: " in err and NAME not in err and "Traceback" not in err
    reason = skipped(tmp_path)["nih-0003"]
    for word in words:
        assert word in reason and word in err


def test_a_patient_on_two_sides_stops(tcia: Path, capsys: Capture, tmp_path: Path) -> None:
    both = {**NIH, "options": {"validation": [3, 53], "test": [3]}}
    code, _, err = train(capsys, tmp_path, both, tcia)
    assert code == 3 and "patient 3 would be in validation and in test" in err
    shutil.copytree(tcia / "PANCREAS_0003", tcia / "PANCREAS_0053b" / "PANCREAS_0053", dirs_exist_ok=True)
    shutil.rmtree(tcia / "PANCREAS_0053")
    code, _, err = train(capsys, tmp_path, NIH, tcia)
    assert code == 3 and "PANCREAS_0003" in err and "PANCREAS_0053" in err
    assert not (tmp_path / "run").exists()
