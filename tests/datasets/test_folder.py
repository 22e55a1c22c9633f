"""Data of one's own: whatever layout, told in options; what is wrong with it is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from dicom_tree import write_series
from PIL import Image
from test_geometry import affine_for

from unetq.data import Samples, check_no_leak, resolve_dataset
from unetq.errors import ConfigError, DataError

AFFINE = affine_for("LAS")


def case(seed: int, slices: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Image and label, (slices, rows, columns)."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 900, (slices, 18, 20)).astype(np.int16)
    return image, (image > 600).astype(np.uint8)


def nifti(path: Path, stack: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.moveaxis(stack, 0, 2), affine), path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six NIfTI cases in the default layout."""
    for number in range(6):
        image, label = case(number)
        nifti(tmp_path / "images" / f"c{number}.nii.gz", image)
        nifti(tmp_path / "labels" / f"c{number}.nii.gz", label)
    return tmp_path


def load(root: Path, split: str, dimensions: int = 2, **options: Any) -> Samples:
    return resolve_dataset("folder", options).load(root, split, options, dimensions=dimensions)


def volumes(samples: Samples) -> list[str]:
    return list(dict.fromkeys(sample.volume for sample in samples))


# ---------------------------------------------------------------------------------------------- what it reads


def test_the_default_layout(root: Path) -> None:
    parts = {split: load(root, split) for split in ("train", "validation", "test")}
    found = {split: volumes(samples) for split, samples in parts.items()}
    assert (
        sorted(name for names in found.values() for name in names) == [f"c{i}" for i in range(6)]
        and len(found["train"]) == 4
    )
    check_no_leak(parts)
    sample = parts["train"][1]
    number = int(sample.volume[1:])
    image, label = case(number)
    np.testing.assert_array_equal(sample.image[0], image[sample.index])
    np.testing.assert_array_equal(sample.label, label[sample.index])
    assert sample.spacing == pytest.approx((3.0, 0.5, 0.7)) and sample.subject == sample.volume
    again = {split: volumes(load(root, split)) for split in found}
    other = {split: volumes(load(root, split, seed=3)) for split in found}
    assert again == found != other


def test_stars_that_meet(root: Path) -> None:
    nifti(root / "of" / "c7" / "c7_t1.nii.gz", case(7)[0])
    nifti(root / "of" / "c7" / "c8_t1.nii.gz", case(8)[0])
    nifti(root / "labels" / "c7.nii.gz", case(7)[1])
    options = {"labels": "labels/{id}*.nii.gz", "fractions": [1, 0, 0]}
    for pattern in ("of/{id}/{id}*.nii.gz", "**/{id}/*{id}_*"):
        assert volumes(load(root, "train", images=pattern, **options)) == ["c7"]


def test_characters_that_are_left_out(root: Path) -> None:
    options = {"images": "images/{id}[!1-5].nii.gz", "labels": "labels/{id}0.nii.gz", "fractions": [1, 0, 0]}
    assert volumes(load(root, "train", **options)) == ["c"]


def test_volumes(root: Path) -> None:
    samples = load(root, "train", 3, fractions=[1, 0, 0])
    assert len(samples) == 6 and samples[0].image.shape == (1, 4, 18, 20)


def test_splits_by_name(root: Path) -> None:
    options = {"validation": ["c1"], "test": ["c[45]"]}
    assert volumes(load(root, "train", **options)) == ["c0", "c2", "c3"]
    assert volumes(load(root, "test", **options)) == ["c4", "c5"]
    assert volumes(load(root, "train", train=["c0"], **options)) == ["c0"]


def test_slices_of_plain_arrays(tmp_path: Path) -> None:
    """Files of single slices, a mapping of subjects, the geometry told by hand: the layout of ``nih/slices``."""
    image, label = case(1, 11)
    for index in range(11):
        np.save(tmp_path / f"img_{index}.npy", image[index])
        Image.fromarray(label[index] * 255).save(tmp_path / f"mask_{index}.png")
    options: dict[str, Any] = {
        "images": "img_{id}.npy", "labels": "mask_{id}.png", "label_values": [0, 255], "volume": "subject",
        "subjects": {"one": ["[0-4]"], "two": ["[5-9]", "10"]}, "validation": ["two"],
        "axes": "ALS", "spacing": [2.0, 0.5, 0.5],
    }  # fmt: skip
    train, validation = (load(tmp_path, split, **options) for split in ("train", "validation"))
    assert [len(train), len(validation)] == [5, 6] and volumes(train) == ["one"]
    np.testing.assert_array_equal(validation[5].image[0], image[10])  # 10 comes after 9
    np.testing.assert_array_equal(validation[5].label, label[10])
    assert validation[5].spacing == (2.0, 0.5, 0.5)
    whole = load(tmp_path, "validation", 3, **options)
    np.testing.assert_array_equal(whole[0].image[0], image[5:])


def test_the_real_slices(real_data: Callable[[str], Path]) -> None:
    options: dict[str, Any] = {
        "images": "img_{id}.npy", "labels": "mask_{id}.npy", "classes": ["background", "pancreas"], "volume": "subject",
        "subjects": {"0001": ["00[0-4]"], "0002": ["00[5-9]"]}, "axes": "ALS", "train": ["0001"],
        "validation": ["0002"],
    }  # fmt: skip
    for split, person in (("train", "0001"), ("validation", "0002")):
        samples = load(real_data("nih") / "slices", split, **options)
        assert len(samples) == 5 and {sample.subject for sample in samples} == {person}
        assert all(sample.label is not None and sample.label.any() for sample in samples)


def test_subject_and_site_from_the_path(tmp_path: Path) -> None:
    for number, name in enumerate(
        ["siteA/sub-01_ses-1", "siteA/sub-01_ses-2", "siteB/sub-02_ses-1", "siteB/sub-03_ses-1"]
    ):
        image, label = case(number)
        nifti(tmp_path / f"{name}_T2.nii.gz", image)
        nifti(tmp_path / f"{name}_seg.nii.gz", label)
    options: dict[str, Any] = {
        "images": "**/{id}_T2.nii.gz", "labels": "**/{id}_seg.nii.gz", "subject": "sub-(?P<subject>[0-9]+)",
        "site": "site(.)", "validation": ["02"],
    }  # fmt: skip
    train = load(tmp_path, "train", **options)
    assert {(sample.subject, sample.site) for sample in train} == {("01", "A"), ("03", "B")}
    with pytest.raises(DataError, match=r"subject 01 is in validation .*ses-1.*in train .*ses-2"):
        load(tmp_path, "train", **options | {"validation": ["sub-01_ses-1"]})


def test_dicom_images_and_nifti_labels_stored_along_other_axes(tmp_path: Path) -> None:
    image, label = case(3, 5)
    written = write_series(tmp_path / "ct" / "a", image, (2.5, 0.8, 0.9))
    turned = nibabel.as_closest_canonical(nibabel.Nifti1Image(np.moveaxis(label, 0, 2), written.affine))
    (tmp_path / "labels").mkdir()
    nibabel.save(turned, tmp_path / "labels" / "a.nii.gz")
    samples = load(tmp_path, "train", 3, images="ct/{id}", fractions=[1, 0, 0])
    np.testing.assert_array_equal(samples[0].image[0], image)
    np.testing.assert_array_equal(samples[0].label, label)
    assert samples[0].spacing == pytest.approx((2.5, 0.8, 0.9))


def test_images_without_truth(root: Path) -> None:
    assert all(sample.label is None for sample in load(root, "test", labels="", test=["c1"]))


# -------------------------------------------------------------------------------------- what is wrong with cases


def test_bad_cases_are_skipped_with_the_reason(root: Path) -> None:
    (root / "images" / "c0.nii.gz").write_bytes(b"")
    (root / "labels" / "c1.nii.gz").unlink()
    label = case(2)[1]
    label[1, 2, 3:5] = 3
    nifti(root / "labels" / "c2.nii.gz", label)
    nifti(root / "labels" / "c3.nii.gz", case(3)[1][:, :-1])
    moved = AFFINE.copy()
    moved[2, 3] += 3
    nifti(root / "labels" / "c4.nii.gz", case(4)[1], moved)
    samples = load(root, "train", fractions=[1, 0, 0])
    assert volumes(samples) == ["c5"]
    reasons = {item.case: item.reason for item in samples.skipped}
    assert "0 bytes" in reasons["c0"]
    assert "0 labels fit 'labels/c1.nii.gz'" in reasons["c1"]
    assert "2 voxels of unexpected values (3): labels are 0, 1" in reasons["c2"]
    assert "4 x 18 x 20 and 4 x 17 x 20 voxels" in reasons["c3"] and "different grids" in reasons["c3"]
    assert "3 mm apart" in reasons["c4"]
    assert all(reason.endswith(".") for reason in reasons.values())


def test_all_cases_bad(root: Path) -> None:
    for path in (root / "labels").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"no case.*6 skipped.*0 bytes"):
        load(root, "train", fractions=[1, 0, 0])


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"train": ["c0"], "test": ["c0"]}, DataError, "case c0 is in two splits, train and test"),
        ({"test": ["c9"]}, ConfigError, "'c9', which is no case and no subject here .c0, c1"),
        ({"test": [1.5]}, ConfigError, "names are expected"),
        ({"images": "images/x*.nii.gz"}, DataError, "no image in .* fits"),
        ({"images": "images/c0.nii.gz"}, ConfigError, "does not say where the id"),
        ({"images": "../*.nii.gz"}, ConfigError, "below the data folder"),
        ({"images": "images/**.nii.gz"}, ConfigError, r"\*\* is any folders and stands alone"),
        ({"images": "images/**{id}.nii.gz"}, ConfigError, r"\*\* is any folders and stands alone"),
        ({"images": "images/***"}, ConfigError, r"\*\* is any folders and stands alone"),
        ({"images": "images/{id}[z-a]"}, ConfigError, "no path pattern"),
        ({"images": "images/{id}["}, DataError, "no image in .* fits"),
        ({"labels": "labels/{id}**"}, ConfigError, "option labels = .* stands alone"),
        ({"labels": "labels/seg.nii.gz"}, ConfigError, "does not say where the id"),
        ({"images": "*/{id}.nii.gz"}, DataError, "have one id, c0"),
        ({"subject": "sub-([0-9]+)"}, DataError, "does not fit the option subject"),
        ({"subject": "sub-([0-9]+"}, ConfigError, "no regular expression"),
        ({"subjects": {"a": ["c0"]}}, ConfigError, "case c1 belongs to 0 of the subjects"),
        ({"subjects": {"a": ["c*"], "b": ["c1"]}}, ConfigError, "case c1 belongs to 2 of the subjects a, b"),
        ({"subjects": {"a": "c0"}}, ConfigError, "a list of ids"),
        ({"volume": "subject"}, ConfigError, "volume = 'subject' without subjects"),
        ({"classes": ["only"]}, ConfigError, "two or more different names"),
        ({"classes": ["a", "a"]}, ConfigError, "two or more different names"),
        ({"label_values": [0]}, ConfigError, "2 different whole numbers"),
        ({"label_values": [0, 256]}, ConfigError, "2 different whole numbers"),
        ({"spacing": [1.0, 1.0]}, ConfigError, "three lengths in mm"),
        ({"axes": "LRS"}, ConfigError, "option axes 'LRS'"),
        ({"fractions": [0.5, 0.2, 0.2]}, ConfigError, "the sum 1"),
        ({"fractions": [0.1, 0.45, 0.45], "subjects": {"a": ["*"]}}, DataError, "1 subjects cannot be divided"),
        ({"imges": "x"}, ConfigError, "did you mean 'images'"),
        ({"fractions": "half"}, ConfigError, "option fractions = 'half'"),
    ],
)
def test_options_that_cannot_be(root: Path, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        load(root, "train", **options)


def test_slices_of_one_volume_that_do_not_fit(tmp_path: Path) -> None:
    for index, size in enumerate([9, 9, 8]):
        np.save(tmp_path / f"img_{index}.npy", np.arange(9 * size).reshape(9, size))
        np.save(tmp_path / f"mask_{index}.npy", np.zeros((9, size), np.uint8))
    options = {"images": "img_{id}.npy", "labels": "mask_{id}.npy", "volume": "(img)", "fractions": [1, 0, 0]}
    with pytest.raises(DataError, match=r"img_0\.npy and .*img_2\.npy do not fit.*1 x 9 x 9 and 1 x 9 x 8"):
        load(tmp_path, "train", **options)
