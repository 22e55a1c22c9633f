"""The EM challenge's layouts and splits, and every way in which the files can be wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from unetq_datasets.em import DATASET, load_unlabelled

from unetq.errors import ConfigError, DataError
from unetq.samples import check_no_leak

SPLITS = {"train": range(20), "validation": range(20, 24), "test": range(24, 30)}


def stacks(slices: int = 30, size: tuple[int, int] = (24, 32)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(8)
    images = rng.integers(0, 255, (slices, *size), dtype=np.uint8)
    return images, np.where(images > 60, 255, 0).astype(np.uint8)


def write(root: Path, images: np.ndarray, labels: np.ndarray) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(root / "train-volume.tif", images, photometric="minisblack")
    tifffile.imwrite(root / "train-labels.tif", labels, photometric="minisblack")
    return root


def write_folder(folder: Path, slices: np.ndarray, name: Callable[[int], str]) -> None:
    folder.mkdir(parents=True)
    for number, page in enumerate(slices):
        Image.fromarray(page).save(folder / f"{name(number)}.png")


def test_splits_of_the_official_stack(tmp_path: Path) -> None:
    images, labels = stacks()
    root = write(tmp_path, images, labels)
    splits = {split: DATASET.load(root, split, min_size=16) for split in DATASET.splits}
    for split, numbers in SPLITS.items():
        assert [sample.id for sample in splits[split]] == [f"em-{number:03d}" for number in numbers]
        for number, sample in zip(numbers, splits[split], strict=True):
            assert sample.volume == "em" and sample.image.dtype == np.uint8
            assert (sample.image[0] == images[number]).all()
            assert (sample.label == (labels[number] == 255)).all()
    check_no_leak(splits)


def test_few_training_slices_are_the_first_ones_and_other_splits_stay_whole(tmp_path: Path) -> None:
    root = write(tmp_path, *stacks())
    few = {split: DATASET.load(root, split, {"train_slices": 3}, min_size=16) for split in ("train", "validation")}
    assert [sample.id for sample in few["train"]] == ["em-000", "em-001", "em-002"] and len(few["validation"]) == 4
    for count in (0, 21):
        with pytest.raises(ConfigError, match=rf"train_slices = {count} .* give 1 to 20"):
            DATASET.load(root, "train", {"train_slices": count}, min_size=16)


@pytest.mark.parametrize(
    ("slices", "given", "refused"),
    [
        (24, ("train", "validation"), {"test": "none of it"}),
        (29, ("train", "validation"), {"test": "only a part"}),
        (22, ("train",), {"validation": "only a part", "test": "none of it"}),
        (5, (), {"train": "only a part", "validation": "none of it"}),
        (33, ("train", "validation", "test"), {}),
    ],
)
def test_shorter_stacks_say_which_split_they_cannot_give(
    tmp_path: Path, slices: int, given: tuple[str, ...], refused: dict[str, str]
) -> None:
    root = write(tmp_path, *stacks(slices))
    for split in given:
        assert len(DATASET.load(root, split)) == len(SPLITS[split])
    for split, words in refused.items():
        with pytest.raises(DataError) as error:
            DATASET.load(root, split)
        message = str(error.value)
        assert f"{slices} labelled slices" in message and f"the {split} split is the slices" in message
        assert words in message and f"it can give: {', '.join(given) or 'none'}" in message


def test_png_folders_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    images, labels = stacks()
    write_folder(tmp_path / "train" / "images", images, str)  # 0, 1, … 29: as text, 10 would come before 2
    write_folder(tmp_path / "train" / "labels", labels, str)
    write_folder(tmp_path / "test" / "images", images[:3], lambda number: f"slice{number}")
    for split, numbers in SPLITS.items():
        samples = DATASET.load(tmp_path, split)
        for number, sample in zip(numbers, samples, strict=True):
            assert (sample.image[0] == images[number]).all() and (sample.label == (labels[number] == 255)).all()
    assert len(load_unlabelled(tmp_path)) == 3


def test_stacks_win_over_folders(tmp_path: Path) -> None:
    images, labels = stacks()
    write(tmp_path, images, labels)
    write_folder(tmp_path / "train" / "images", images[::-1], str)
    write_folder(tmp_path / "train" / "labels", labels[::-1], str)
    assert (DATASET.load(tmp_path, "train")[0].image[0] == images[0]).all()


def test_the_unlabelled_volume_has_any_number_of_slices(tmp_path: Path) -> None:
    images, _ = stacks(7)
    tifffile.imwrite(tmp_path / "test-volume.tif", images, photometric="minisblack")
    samples = load_unlabelled(tmp_path)
    assert [sample.id for sample in samples] == [f"em-test-{number:03d}" for number in range(7)]
    assert all(sample.label is None for sample in samples)
    tifffile.imwrite(tmp_path / "test-volume.tif", images[0], photometric="minisblack")
    assert len(load_unlabelled(tmp_path)) == 1


def refuse(root: Path, words: str, split: str = "train") -> None:
    with pytest.raises(DataError, match=words):
        DATASET.load(root, split, min_size=16)


def test_missing_files(tmp_path: Path) -> None:
    refuse(tmp_path, "neither train-volume.tif nor train/images.*Put train-volume.tif")
    for missing in ("train-volume.tif", "train-labels.tif"):
        root = write(tmp_path / missing, *stacks())
        (root / missing).unlink()
        refuse(root, f"{missing} is missing")
    (tmp_path / "png" / "train").mkdir(parents=True)
    refuse(tmp_path / "png", "images holds no PNG")
    with pytest.raises(DataError, match="holds no PNG"):
        load_unlabelled(tmp_path)


@pytest.mark.parametrize("name", ["train-volume.tif", "train-labels.tif"])
def test_truncated_and_corrupt_stacks(tmp_path: Path, name: str) -> None:
    root = write(tmp_path, *stacks())
    whole = (root / name).read_bytes()
    for length in (0, 3, 100, len(whole) // 3, len(whole) // 2, len(whole) - 20):
        (root / name).write_bytes(whole[:length])
        refuse(root, name)
    (root / name).write_bytes(b"II*\0" + bytes(5000))
    refuse(root, name)


def test_labels_of_another_shape_or_count(tmp_path: Path) -> None:
    images, labels = stacks()
    refuse(write(tmp_path / "a", images, labels[:29]), "30 slices of 24 x 32.*29 slices of 24 x 32")
    refuse(write(tmp_path / "b", images, labels[:, :20]), "30 slices of 24 x 32.*30 slices of 20 x 32")
    root = tmp_path / "c" / "train"
    write_folder(root / "images", images, str)
    write_folder(root / "labels", labels[:29], str)
    refuse(tmp_path / "c", r"29.png has no counterpart in .*labels")
    Image.fromarray(labels[29][:20]).save(root / "labels" / "29.png")
    refuse(tmp_path / "c", "29.png is 20 x 32 pixels.*equal")


def test_unexpected_label_values(tmp_path: Path) -> None:
    images, labels = stacks()
    labels[4, 2, 2] = 254
    labels[6, 1, 1] = 128
    refuse(write(tmp_path / "a", images, labels), r"\(128, 254; first in slice 4\).*0 \(membrane\) or 255")
    refuse(write(tmp_path / "b", images, np.where(labels == 255, 1, 0).astype(np.uint8)), r"unexpected values \(1;")
    refuse(write(tmp_path / "c", images, np.zeros_like(labels)), "all labels .* are 0")


def test_unusable_images(tmp_path: Path) -> None:
    images, labels = stacks()
    broken = images.astype(np.float32)
    broken[3, 5, 6] = np.nan
    refuse(write(tmp_path / "nan", broken, labels), r"1 pixels in slice 3.*NaN")
    constant = images.copy()
    constant[2] = 90
    refuse(write(tmp_path / "constant", constant, labels), "em-002 .*constant .every pixel is 90")
    refuse(write(tmp_path / "small", images[:, :12, :12], labels[:, :12, :12]), "em-000 .*12 x 12.*stride 16 x 16")
    root = write(tmp_path / "rgb", images, labels)
    tifffile.imwrite(root / "train-volume.tif", np.zeros((24, 32, 3), np.uint8), photometric="rgb")
    refuse(root, "grey is expected")


def test_a_copy_of_a_training_slice_in_validation_is_refused(tmp_path: Path) -> None:
    images, labels = stacks()
    images[22] = images[3]
    for split in SPLITS:
        refuse(write(tmp_path, images, labels), "em-022 of validation is also in train .there em-003", split)


def test_the_real_stack(real_data: Callable[[str], Path]) -> None:
    root = real_data("em")
    slices = len(tifffile.TiffFile(root / "train-labels.tif").pages)
    for split, numbers in SPLITS.items():
        if numbers.stop > slices:
            refuse(root, f"{slices} labelled slices.*the {split} split is the slices", split)
            continue
        samples = DATASET.load(root, split, min_size=16)
        assert len(samples) == len(numbers)
        for sample in samples:
            assert sample.image.shape == (1, 512, 512) and sample.label is not None
            assert 0.7 < sample.label.mean() < 0.85  # about four fifths are cell
            assert sample.image[0][sample.label == 0].mean() < sample.image[0][sample.label == 1].mean() - 20
    assert all(sample.image.shape == (1, 512, 512) for sample in load_unlabelled(root))
