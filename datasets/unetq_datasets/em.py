"""ISBI 2012 EM segmentation challenge: 30 labelled slices of fly brain, 512 x 512, membrane against cell.

A folder holds either the official stacks

    train-volume.tif  train-labels.tif  [test-volume.tif]

or one PNG a slice, image and label under the same name, in the order of the numbers in their names:

    train/images/*.png  train/labels/*.png  [test/images/*.png]

Where both are present, the stacks are read. Labels are 0 (membrane, class 0) and 255 (cell, class 1).
The splits are cut from the labelled slices by number: train 0-19, validation 20-23, test 24-29. A stack
with fewer slices serves the splits it holds whole, and says which it cannot give. The option ``train_slices``
keeps the first ones of the training split only, for questions about few data. The challenge's own
test volume has no public labels: ``load_unlabelled`` reads it, for prediction.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetq.data import DatasetSpec
from unetq.errors import ConfigError, DataError
from unetq.export.program import Preprocessing
from unetq.imageio import read_image
from unetq.samples import Sample, check_no_leak

CITATION = (
    "Cardona A, Saalfeld S, Preibisch S, Schmid B, Cheng A, Pulokas J, Tomancak P, Hartenstein V (2010). "
    "An Integrated Micro- and Macroarchitectural Analysis of the Drosophila Brain by Computer-Assisted Serial "
    "Section Electron Microscopy. PLoS Biology 8(10): e1000502. Cite TrakEM2 as well. "
    "Terms: free for non-commercial segmentation software."
)
SPLITS = {"train": range(20), "validation": range(20, 24), "test": range(24, 30)}
LABELS = ("membrane", "cell")
LABEL_VALUES = (0, 255)
LAYOUT = (
    "Put train-volume.tif and train-labels.tif there (and test-volume.tif, if you like), "
    "or PNG files train/images/*.png and train/labels/*.png with equal names."
)


def load_unlabelled(root: Path) -> list[Sample]:
    """The slices of ``test-volume.tif`` or ``test/images/*.png``, any number, without labels.

    Raises:
        DataError: missing or damaged files.
    """
    if (root / "test-volume.tif").exists():
        images = _read_stack(root / "test-volume.tif")
    else:
        images = _read_folder(_png_files(root / "test" / "images"))
    return [
        Sample(f"em-test-{index:03d}", "em-test", image[None], None, index=index) for index, image in enumerate(images)
    ]


def _load(root: Path | None, split: str, options: Mapping[str, Any]) -> list[Sample]:
    if root is None:
        raise DataError(f"the EM data need a folder. {LAYOUT}")
    images, labels = _read_pair(root)
    samples = {
        number: Sample(f"em-{number:03d}", "em", image[None], label, index=number)
        for number, (image, label) in enumerate(zip(images, _classes(root, labels), strict=True))
    }
    wanted = SPLITS[split]
    if len(samples) < wanted.stop:
        given = [name for name, numbers in SPLITS.items() if numbers.stop <= len(samples)]
        raise DataError(
            f"{root} has {len(samples)} labelled slices (0 to {len(samples) - 1}) and the {split} split is the slices "
            f"{wanted.start} to {wanted.stop - 1}, so it cannot give that split "
            f"({'only a part of it is there' if len(samples) > wanted.start else 'none of it is there'}); "
            f"it can give: {', '.join(given) or 'none'}. Use one of those, or the full 30-slice stack."
        )
    check_no_leak(
        {
            name: [samples[number] for number in numbers if number in samples]
            for name, numbers in {**SPLITS, "no split": range(30, len(samples))}.items()
        }
    )
    return [samples[number] for number in (wanted[: _train_slices(options)] if split == "train" else wanted)]


def _train_slices(options: Mapping[str, Any]) -> int:
    count: int = options["train_slices"]
    most = len(SPLITS["train"])
    if not 1 <= count <= most:
        raise ConfigError(f"option train_slices = {count} of data set 'em': the split has {most}; give 1 to {most}.")
    return count


def _read_pair(root: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Images and labels, (slices, H, W) each, of equal shape."""
    volume, truth = root / "train-volume.tif", root / "train-labels.tif"
    if volume.exists() or truth.exists():
        for path in (volume, truth):
            if not path.exists():
                raise DataError(f"{path} is missing: the stacks come as a pair; copy it beside the other one.")
        images, labels = _read_stack(volume), _read_stack(truth)
        names = (volume.name, truth.name)
    elif (root / "train").is_dir():
        folders = (root / "train" / "images", root / "train" / "labels")
        files, label_files = (_png_files(folder) for folder in folders)
        _check_names(files, label_files)
        images, labels = _read_folder(files), _read_folder(label_files)
        names = (str(folders[0]), str(folders[1]))
    else:
        raise DataError(f"{root} holds neither train-volume.tif nor train/images: there is no EM data in it. {LAYOUT}")
    if images.shape != labels.shape:
        raise DataError(
            f"in {root}, {names[0]} is {_shape(images)} and {names[1]} is {_shape(labels)}: "
            "every slice needs a label of its own size; export both from the same data."
        )
    return images, labels


def _read_stack(path: Path) -> NDArray[Any]:
    return read_image(path).data


def _read_folder(files: list[Path]) -> NDArray[Any]:
    slices: list[NDArray[Any]] = []
    for path in files:
        image = read_image(path).data[0]
        if slices and image.shape != slices[0].shape:
            raise DataError(
                f"{path} is {image.shape[0]} x {image.shape[1]} pixels and {files[0].name} is "
                f"{slices[0].shape[0]} x {slices[0].shape[1]}: the slices of a stack are equal; export them again."
            )
        slices.append(image)
    return np.stack(slices)


def _png_files(folder: Path) -> list[Path]:
    """The PNG files of a folder in the order of the numbers in their names (2 before 10)."""
    files = [path for path in folder.glob("*.png") if not path.name.startswith(".")] if folder.is_dir() else []
    if not files:
        raise DataError(f"{folder} holds no PNG file: one a slice is expected. {LAYOUT}")
    return sorted(files, key=_numeric)


def _numeric(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.findall(r"\d+|\D+", path.stem)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts], path.stem


def _check_names(images: list[Path], labels: list[Path]) -> None:
    odd = {path.stem for path in images} ^ {path.stem for path in labels}
    if odd:
        name = min(odd)
        has = images if any(path.stem == name for path in images) else labels
        lacks = labels if has is images else images
        raise DataError(
            f"{has[0].parent / name}.png has no counterpart in {lacks[0].parent} ({len(odd)} such names): "
            "image and label of a slice have the same name; add or rename it."
        )


def _classes(root: Path, labels: NDArray[Any]) -> NDArray[np.uint8]:
    """Stored label values to class indices; only 0 and 255 are known."""
    unexpected = ~np.isin(labels, LABEL_VALUES)
    if unexpected.any():
        number = int(np.argwhere(unexpected)[0][0])
        values = np.unique(labels[unexpected])
        shown = ", ".join(f"{value:g}" for value in values[:5]) + (" …" if len(values) > 5 else "")
        raise DataError(
            f"the labels in {root} hold unexpected values ({shown}; first in slice {number}): a label is 0 (membrane) "
            "or 255 (cell); map them to these two, without interpolation or JPEG in between."
        )
    classes = np.where(labels == LABEL_VALUES[1], 1, 0).astype(np.uint8)
    if classes.min() == classes.max():
        raise DataError(
            f"all labels in {root} are {LABEL_VALUES[classes.min()]} ({LABELS[classes.min()]}) and both classes are "
            "expected; check that the label stack is the right file."
        )
    return classes


def _shape(stack: NDArray[Any]) -> str:
    return f"{stack.shape[0]} slices of {stack.shape[1]} x {stack.shape[2]}"


DATASET = DatasetSpec(
    name="em",
    labels=LABELS,
    label_values=LABEL_VALUES,
    preprocessing=Preprocessing("zscore"),
    loader=_load,
    defaults={"train_slices": len(SPLITS["train"])},
    splits=tuple(SPLITS),
    layout=LAYOUT,
    test_apart=True,
    citation=CITATION,
)
