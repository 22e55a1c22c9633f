"""A decathlon folder and MONAI's datalists, made small; what is wrong with a list is named."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from test_geometry import affine_for

from unetq.data import Samples, check_no_leak, resolve_dataset
from unetq.errors import ConfigError, DataError

LABELS = {"0": "background", "1": "organ", "2": "tumour"}
CLASSES = ["background", "organ", "tumour"]
AFFINE = affine_for("LAS")


def write(path: Path, voxels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), path)


def pair(root: Path, name: str, channels: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(sum(map(ord, name)))
    write(root / "imagesTr" / f"{name}.nii.gz", rng.normal(size=(18, 20, 4, channels)[: 4 if channels else 3]))
    write(root / "labelsTr" / f"{name}.nii.gz", rng.integers(0, 3, (18, 20, 4), dtype=np.uint8))
    return {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}


def describe(root: Path, name: str = "dataset.json", **content: Any) -> Path:
    (root / name).write_text(json.dumps({"labels": LABELS, **content}))
    return root


def load(root: Path, split: str, dimensions: int = 2, **options: Any) -> Samples:
    options = {"classes": CLASSES, **options}
    return resolve_dataset("msd", options).load(root, split, options, dimensions=dimensions)


def volumes(samples: Samples) -> list[str]:
    return list(dict.fromkeys(sample.volume for sample in samples))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten training cases, and two for a test without labels."""
    training = [pair(tmp_path, f"case_{number:02d}") for number in range(10)]
    return describe(tmp_path, training=training, test=["./imagesTs/x.nii.gz", "./imagesTs/y.nii.gz"])


def test_a_decathlon_folder(root: Path) -> None:
    parts = {split: load(root, split) for split in ("train", "validation")}
    assert [len(volumes(part)) for part in parts.values()] == [8, 2]
    check_no_leak(parts)
    sample = parts["train"][0]
    stored = nibabel.load(root / "imagesTr" / f"{sample.volume}.nii.gz").get_fdata()
    np.testing.assert_array_equal(sample.image[0], stored[:, :, sample.index])
    assert sample.spacing == pytest.approx((3.0, 0.5, 0.7))
    assert volumes(load(root, "train")) == volumes(parts["train"]) != volumes(load(root, "train", seed=1))
    with pytest.raises(DataError, match="no case with a label belongs to test"):
        load(root, "test")
    three = {split: volumes(load(root, split, fractions=[0.6, 0.2, 0.2])) for split in ("train", "validation", "test")}
    assert [len(names) for names in three.values()] == [6, 2, 2] and len(
        {name for names in three.values() for name in names}
    ) == 10


def test_lists_of_their_own_and_folds(root: Path) -> None:
    pairs = [pair(root, f"f{number}") for number in range(6)]
    describe(root, "datalist.json", training=pairs[:3], validation=pairs[3:5], test=pairs[5:])
    found = [volumes(load(root, split, datalist="datalist.json")) for split in ("train", "validation", "test")]
    assert found == [["f0", "f1", "f2"], ["f3", "f4"], ["f5"]]
    describe(root, "folds.json", training=[{**entry, "fold": i % 3} for i, entry in enumerate(pairs)])
    for fold in range(3):
        assert volumes(load(root, "validation", datalist="folds.json", fold=fold)) == [f"f{fold}", f"f{fold + 3}"]
        assert len(volumes(load(root, "train", datalist="folds.json", fold=fold))) == 4
    with pytest.raises(ConfigError, match=r"fold = 7.*folds \[0, 1, 2\]"):
        load(root, "train", datalist="folds.json", fold=7)


@pytest.mark.parametrize("files", [False, True])
def test_channels(tmp_path: Path, files: bool) -> None:
    """A fourth axis, or a file each."""
    entry = pair(tmp_path, "a", channels=2)
    stored = nibabel.load(tmp_path / "imagesTr" / "a.nii.gz").get_fdata()
    if files:
        for channel in range(2):
            write(tmp_path / f"a_{channel}.nii.gz", stored[..., channel])
        entry["image"] = ["a_0.nii.gz", "a_1.nii.gz"]
    describe(tmp_path, training=[entry])
    samples = load(tmp_path, "train", 3, fractions=[1.0, 0.0, 0.0])
    np.testing.assert_array_equal(samples[0].image, stored.transpose(3, 2, 0, 1))


def test_channels_of_different_grids(tmp_path: Path) -> None:
    entry = pair(tmp_path, "a")
    write(tmp_path / "b.nii.gz", np.ones((18, 21, 4)))
    describe(tmp_path, training=[{**entry, "image": [entry["image"], "b.nii.gz"]}, pair(tmp_path, "c")])
    samples = load(tmp_path, "train", fractions=[1.0, 0.0, 0.0])
    assert volumes(samples) == ["c"] and "channels of an image lie on one grid" in samples.skipped[0].reason


def test_classes_have_to_be_those_of_the_list(root: Path) -> None:
    with pytest.raises(ConfigError, match=r'classes to \["background", "organ", "tumour"\]\.'):
        load(root, "train", classes=["background", "organ"])
    describe(root, training=[pair(root, "a")], labels={"0": "nothing", "4": "organ"})
    with pytest.raises(
        ConfigError, match=r'classes to \["nothing", "organ"\] and data.options.label_values to \[0, 4\]'
    ):
        load(root, "train", classes=["background", "organ"])
    describe(root, training=[pair(root, "a")], labels={"background": 0, "organ": 1, "tumour": 2})  # nnU-Net's way
    assert volumes(load(root, "train", fractions=[1.0, 0.0, 0.0])) == ["a"]


def test_a_value_has_the_name_that_the_list_gives_it(root: Path) -> None:
    """The same values are not enough: with two classes mixed up, every result would carry the wrong name."""
    with pytest.raises(ConfigError) as caught:
        load(root, "train", classes=["background", "tumour", "organ"])
    for words in ("value 1 'organ'", "'tumour'", 'data.options.classes to ["background", "organ", "tumour"],'):
        assert words in str(caught.value)
    assert load(root, "train", classes=["bg", " Organ", "TUMOUR"])
    with pytest.raises(ConfigError, match="value 0 'background' and the options call it 'bones'"):
        load(root, "train", classes=["bones", "organ", "tumour"])
    describe(root, training=[pair(root, "a")], labels={"0": "bg", "4": "organ", "2": "tumour"})
    with pytest.raises(
        ConfigError, match=r'\["bg", "tumour", "organ"\] and data.options.label_values to \[0, 2, 4\], or'
    ):
        load(root, "train", label_values=[0, 2, 4])


def test_bad_cases_are_skipped(root: Path) -> None:
    (root / "imagesTr" / "case_00.nii.gz").write_bytes(b"")
    (root / "imagesTr" / "case_01.nii.gz").unlink()
    write(root / "labelsTr" / "case_02.nii.gz", np.full((18, 20, 4), 9, np.uint8))
    samples = load(root, "train", fractions=[1.0, 0.0, 0.0])
    reasons = {item.case: item.reason for item in samples.skipped}
    assert set(reasons) == {"case_00", "case_01", "case_02"} and len(volumes(samples)) == 7
    assert "0 bytes" in reasons["case_00"] and "does not exist" in reasons["case_01"]
    assert "unexpected values (9)" in reasons["case_02"]


def test_what_is_wrong_with_a_list(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset\.json cannot be read .No such file"):
        load(tmp_path, "train")
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DataError, match="is no JSON"):
        load(tmp_path, "train")
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(DataError, match="holds list"):
        load(tmp_path, "train")
    a, b = pair(tmp_path, "a"), pair(tmp_path, "b")
    for content, words in [
        ({"training": [a, b], "validation": [a]}, "case a is in train and in validation"),
        ({"training": [a, a]}, "case a is twice in train"),
        ({"training": [a, {**b, "image": "other/a.nii.gz"}]}, "have one name"),
        ({"training": [{"label": "x"}]}, r"training\[0\] is .*an image and one label"),
        ({"training": [{"image": 3}]}, "has the path 3"),
        ({"training": "all"}, "'training' is no list"),
        (
            {"training": [{**a, "subject": "s"}], "validation": [{**b, "subject": "s"}]},
            "subject s is in train and in val",
        ),
    ]:
        describe(tmp_path, **content)
        with pytest.raises(DataError, match=words):
            load(tmp_path, "train")
