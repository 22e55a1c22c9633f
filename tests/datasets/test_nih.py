"""Pancreas-CT in TCIA's layout: what is found, where labels are put, what is skipped and why."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from dicom_tree import write_series
from nih_tree import SPACING, add_patient, turned, volume, write_label
from unetq_datasets._nih_label import Scan, evidence, place_label

from unetq.config import load_experiment
from unetq.data import Samples, find_root, resolve_dataset
from unetq.errors import ConfigError, DataError
from unetq.folds import Fold

OPTIONS = {"validation": [3], "test": [4]}


def load(root: Path, split: str = "train", **options: Any) -> Samples:
    options = {**OPTIONS, **options}
    return resolve_dataset("nih", options).load(root, split, options)


def reasons(samples: Samples) -> dict[str, str]:
    return {item.case: item.reason for item in samples.skipped if not item.reason.startswith("not in")}


def test_a_tree_becomes_upright_slices(tmp_path: Path) -> None:
    add_patient(tmp_path / "manifest" / "Pancreas-CT", 1)
    add_patient(tmp_path / "manifest" / "Pancreas-CT", 2, syntax="rle", multiframe=True)
    samples = load(tmp_path)
    assert [sample.id for sample in samples] == [f"nih-000{p}-{k:03d}" for p in (1, 2) for k in range(4)]
    assert {sample.subject for sample in samples} == {"PANCREAS_0001", "PANCREAS_0002"}
    for sample in samples:
        image, label = volume(int(sample.subject[-1]))
        # rows to the back, columns to the left, slices upward: the stored ones run to the front and the feet
        stored = 3 - sample.index
        np.testing.assert_array_equal(sample.image[0], image[stored].T[::-1])
        np.testing.assert_array_equal(sample.label, label[stored].T[::-1])
        assert sample.spacing == pytest.approx(SPACING)


@pytest.mark.parametrize("inside", ["", "PANCREAS_0001"])
def test_converted_volumes(tmp_path: Path, inside: str) -> None:
    """A volume converted to NIfTI, with its label beside it, gives what the series gives."""
    written = add_patient(tmp_path / "dicom", 1)
    image, label = volume(1)
    write_label(tmp_path / "nifti" / inside / "PANCREAS_0001.nii.gz", image, written.affine)
    write_label(tmp_path / "nifti" / "label0001.nii", label, written.affine)
    for one, two in zip(load(tmp_path / "nifti"), load(tmp_path / "dicom"), strict=True):
        assert one.id == two.id and one.spacing == pytest.approx(two.spacing)
        np.testing.assert_array_equal(one.image, two.image)
        np.testing.assert_array_equal(one.label, two.label)


def test_splits_are_by_patient_and_absent_ones_are_told_once(tmp_path: Path) -> None:
    for number in (1, 2, 3, 4):
        add_patient(tmp_path, number)
    assert {s.subject for s in load(tmp_path, "validation")} == {"PANCREAS_0003"}
    assert {s.subject for s in load(tmp_path, "test")} == {"PANCREAS_0004"}
    (absent,) = load(tmp_path).skipped
    assert absent.case == "PANCREAS_0005 and 75 more up to PANCREAS_0082" and "unetq download nih" in absent.reason
    spec = resolve_dataset("nih", OPTIONS)
    sides = [
        {s.subject for s in spec.load(tmp_path, "validation", OPTIONS, fold=Fold(fold, 3, "subject"))}
        for fold in range(3)
    ]
    assert sorted(map(sorted, sides)) == [["PANCREAS_0001"], ["PANCREAS_0002"], ["PANCREAS_0003"]]


def test_the_fixed_split() -> None:
    defaults = resolve_dataset("nih").defaults
    assert defaults["validation"] == list(range(53, 64))
    assert defaults["test"] == [*range(64, 70), *range(71, 83)]


def test_withdrawn_patients_are_never_used(tmp_path: Path) -> None:
    for number in (1, 25):
        add_patient(tmp_path, number)
    samples = load(tmp_path)
    assert {s.subject for s in samples} == {"PANCREAS_0001"}
    assert "withdrew this patient as a copy of patient 2" in reasons(samples)["nih-0025"]


def test_training_slices_without_pancreas_may_be_left_out_but_never_validated_ones(tmp_path: Path) -> None:
    for number in (1, 3):
        written = add_patient(tmp_path, number, label=False)
        label = volume(number)[1].copy()
        label[1] = 0
        write_label(tmp_path / f"label{number:04d}.nii.gz", label, written.affine)
    assert len(load(tmp_path)) == 4
    assert [s.index for s in load(tmp_path, slices="pancreas")] == [0, 1, 3]
    assert len(load(tmp_path, "validation", slices="pancreas")) == 4


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_labels_in_another_order_that_their_affine_tells(tmp_path: Path, axis: int) -> None:
    written = add_patient(tmp_path, 1, label=False)
    image, label = volume(1)
    write_label(tmp_path / "label0001.nii.gz", *turned(label, written.affine, axis))
    placed, note = place_label(tmp_path / "label0001.nii.gz", Scan(image, written.affine, "LAI", SPACING), "auto")
    np.testing.assert_array_equal(placed, label)
    assert note == "" and reasons(load(tmp_path)) == {}


@pytest.mark.parametrize(("flip", "axes"), [("none", ()), ("rows", (2,)), ("slices", (0,)), ("rows+slices", (0, 2))])
@pytest.mark.parametrize("knows", [True, False])
def test_lying_affines_are_found_out_by_what_is_under_the_label(
    tmp_path: Path, flip: str, axes: tuple[int, ...], knows: bool
) -> None:
    written = add_patient(tmp_path, 1, label=False)
    image, label = volume(1)
    affine = written.affine.copy()
    affine[:3, 3] += 50
    path = tmp_path / "label0001.nii.gz"
    write_label(path, np.flip(label, axes), affine)
    if not knows:
        forget_directions(path)
    placed, note = place_label(path, Scan(image, written.affine, "LAI", SPACING), "auto")
    np.testing.assert_array_equal(placed, label)
    assert "disagrees with the image's" in note and "HU" in note
    assert ("flipped" in note) == bool(axes)
    (told,) = reasons(load(tmp_path)).values()
    assert told == note
    other, _ = place_label(path, Scan(image, written.affine, "LAI", SPACING), flip)
    np.testing.assert_array_equal(other, label)
    with pytest.raises(DataError, match="lie apart by their affines"):
        place_label(path, Scan(image, written.affine, "LAI", SPACING), "affine")


def forget_directions(path: Path) -> None:
    image: Any = nibabel.load(path)  # type: ignore[attr-defined]
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(image, path)  # type: ignore[attr-defined]


def test_a_place_that_cannot_be_decided_is_no_place(tmp_path: Path) -> None:
    written = add_patient(tmp_path, 1, label=False)
    image, _ = volume(1)
    blob = np.zeros_like(image, dtype=np.uint8)
    blob[:, 20:44, 20:44] = 1  # the same wherever it is flipped to
    affine = written.affine.copy()
    affine[:3, 3] += 50
    write_label(tmp_path / "label0001.nii.gz", blob, affine)
    with pytest.raises(DataError, match=r"no flip is clearly the right one .*none: median .*set data.options.flip"):
        place_label(tmp_path / "label0001.nii.gz", Scan(image, written.affine, "LAI", SPACING), "auto")


def test_affines_that_agree_on_a_lie(tmp_path: Path) -> None:
    """Image and label agree, and the labelled voxels are air: something is wrong, and nothing is guessed."""
    written = add_patient(tmp_path, 1, label=False)
    air = np.zeros_like(volume(1)[1])
    air[:, :6, :6] = 1
    write_label(tmp_path / "label0001.nii.gz", air, written.affine)
    with pytest.raises(DataError, match=r"nih-0001: .*labelled voxels have a median of -\d+ HU .*do not fit"):
        load(tmp_path)


def test_real_outlines_score_best_where_they_are(real_data: Any) -> None:
    folder = real_data("nih") / "slices"
    for first in (0, 5):
        image, mask = (
            np.stack([np.load(folder / f"{kind}_{number:03d}.npy") for number in range(first, first + 5)])
            for kind in ("img", "mask")
        )
        here = evidence(mask, image)
        assert here.plausible
        for axes in ((1,), (2,), (1, 2)):
            assert evidence(np.flip(mask, axes), image).score < here.score - 20


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda label: label[:-1], "on another grid than its image: 3 x 64 x 64 and 4 x 64 x 64"),
        (lambda label: label + (label > 0) * (np.arange(64) % 2), "holds the values 0, 1, 2: a label is 0 and 1"),
        (lambda label: label * 0, "marks no voxel"),
    ],
)
def test_labels_that_are_none(tmp_path: Path, change: Any, words: str) -> None:
    add_patient(tmp_path, 1)
    written = add_patient(tmp_path, 2, label=False)
    write_label(tmp_path / "labels" / "label0002.nii.gz", change(volume(2)[1]).astype(np.uint8), written.affine)
    samples = load(tmp_path)
    assert {s.subject for s in samples} == {"PANCREAS_0001"}
    assert words in reasons(samples)["nih-0002"]


def test_one_bad_patient_does_not_stop_the_others(tmp_path: Path) -> None:
    add_patient(tmp_path, 1)
    add_patient(tmp_path, 2, label=False)
    add_patient(tmp_path, 5).files[2].unlink()
    add_patient(tmp_path, 6).files[1].write_bytes(b"")
    add_patient(tmp_path, 7, patient="PANCREAS_0009")
    add_patient(tmp_path, 8)
    (tmp_path / "labels" / "label0008.nii.gz").write_bytes(b"")
    add_patient(tmp_path, 9)
    write_label(tmp_path / "again" / "label0009.nii.gz", volume(9)[1], np.eye(4))
    write_label(tmp_path / "labels" / "label0010.nii.gz", volume(9)[1], np.eye(4))
    add_patient(tmp_path, 11)
    add_patient(tmp_path, 11, key="second", patient="PANCREAS_0012")
    samples = load(tmp_path)
    assert {s.subject for s in samples} == {"PANCREAS_0001"}
    told = reasons(samples)
    assert "its label label0002.nii.gz is not there" in told["nih-0002"]
    assert "1 slice is missing between 5-002.dcm" in told["nih-0005"]
    assert "has 0 bytes" in told["nih-0006"]
    assert "are of patient PANCREAS_0009 and lie in the folder PANCREAS_0007" in told["nih-0007"]
    assert "label0008" in told["nih-0008"]
    assert "2 times a label" in told["nih-0009"]
    assert "its image (a folder PANCREAS_0010" in told["nih-0010"]
    assert "series" in told["nih-0011"]


def test_of_two_series_the_one_that_fits_the_label(tmp_path: Path) -> None:
    add_patient(tmp_path, 1)
    image = volume(1)[0]
    write_series(tmp_path / "PANCREAS_0001" / "b", image[:2], SPACING, patient="PANCREAS_0001", key="thick")
    samples = load(tmp_path)
    assert len(samples) == 4 and "of its 2 series" in reasons(samples)["nih-0001"]


def test_nobody_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds nothing of Pancreas-CT"):
        load(tmp_path)
    add_patient(tmp_path, 1, label=False)
    with pytest.raises(DataError, match=r"no patient of the train split .*label0001.nii.gz is not there"):
        load(tmp_path)
    with pytest.raises(DataError, match=r"no patient of the validation split .*options\.validation"):
        load(tmp_path, "validation")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"flip": "row"}, ConfigError, "flip = 'row': the pancreas data have auto, affine"),
        ({"slices": "some"}, ConfigError, "slices = 'some'"),
        ({"test": ["a"]}, ConfigError, "option test has the entry 'a'"),
        ({"validation": [4]}, DataError, "patient 4 would be in validation and in test"),
        ({"cases": ["1"]}, ConfigError, "entry '1': it is PATIENT:FIRST-LAST"),
        ({"cases": ["1:0-4", "2:4-8"]}, ConfigError, "slice 004 to patients 0001 and 0002"),
        ({"cases": ["1:0-4", "1:5-8"]}, ConfigError, "patient 0001 twice"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, options: dict[str, Any], error: type, words: str) -> None:
    add_patient(tmp_path, 1)
    with pytest.raises(error, match=words):
        load(tmp_path, **options)


def write_slices(folder: Path) -> None:
    folder.mkdir(parents=True)
    for index in range(5):
        image, label = volume(index // 3)
        np.save(folder / f"img_{index:03d}.npy", image[index % 3].T)
        np.save(folder / f"mask_{index:03d}.npy", label[index % 3].T)


def test_single_slices(tmp_path: Path) -> None:
    write_slices(tmp_path / "slices")
    options = {"cases": ["0001:0-2", "0002:3-4"], "validation": [2], "test": []}
    train, validation = load(tmp_path, **options), load(tmp_path, "validation", **options)
    assert [s.id for s in train] == [f"nih-0001-{k:03d}" for k in range(3)]
    assert [s.subject for s in validation] == ["PANCREAS_0002"] * 2
    np.testing.assert_array_equal(train[1].image[0], volume(0)[0][1].T[::-1])  # upright, as the DICOM slices
    np.testing.assert_array_equal(train[1].label, volume(0)[1][1].T[::-1])
    (tmp_path / "slices" / "mask_003.npy").unlink()
    with pytest.raises(DataError, match=r"mask_003\.npy"):
        load(tmp_path, "validation", **options)


def test_the_real_slices(real_data: Any) -> None:
    root = real_data("nih")
    experiment = load_experiment("nih-slices", [], {})
    spec = resolve_dataset("nih", experiment.data.options)
    train, validation = (spec.load(root, split, experiment.data.options) for split in ("train", "validation"))
    assert (len(train), len(validation)) == (5, 5)
    assert find_root(spec, root) == root
    for sample in [*train, *validation]:
        image = sample.image[0].astype(float)
        assert image[:100].min() >= -1100 and sample.label is not None and sample.label.any()
        # Upright: the spine is in the lower half.
        rows = np.argwhere(image > 400)[:, 0]
        assert rows.mean() > 256
