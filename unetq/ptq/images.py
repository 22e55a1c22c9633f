"""Images to calibrate on: files and folders, or the run's own training slices. No labels are read."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..batches import CropDataset
from ..cases import Case, Cases, samples_of
from ..errors import DataError
from ..export.program import Preprocessing
from ..imageio import SUFFIXES, read_image
from ..samples import Sample, check_size

CANDIDATES = 4  # crops looked at for each that is kept, where predictions decide


def find_files(paths: Sequence[Path]) -> list[Path]:
    """The image files of files and folders (not of folders in them), each once, folders in the order of names.

    Raises:
        DataError: a path that does not exist, or a folder without an image.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)  # its reader says what is wrong with it
            continue
        inside = sorted(p for p in path.iterdir() if p.is_file() and p.name.lower().endswith(tuple(SUFFIXES)))
        if not inside:
            raise DataError(f"folder {path} has 0 images ({', '.join(SUFFIXES)}); give one that has some.")
        found += inside
    return list(dict.fromkeys(found))


def read_samples(
    paths: Sequence[Path], preprocessing: Preprocessing, channels: int, stride: int, axes: int = 2
) -> list[Sample]:
    """Every slice (for a network of 3 ``axes``: every volume) of every image as a sample without label.

    Raises:
        DataError: no image, an image that cannot be read or used (NaN, constant, smaller than the network's
            ``stride``), or a network that takes other channels; the message names the file.
    """
    files = find_files(paths)
    if not files:
        raise DataError("calibration got 0 images; give files or folders, or leave --images out for the run's own.")
    gives = 2 * preprocessing.context + 1
    if channels != gives:
        raise DataError(
            f"the network takes {channels} channels and {files[0]} gives {gives} (grey): such a network is calibrated "
            "on the run's own training slices; leave --images out."
        )
    samples: list[Sample] = []
    for path in files:
        volume = read_image(path)
        case = Case(str(path), volume.data, spacing=volume.spacing or (), axes=volume.axes or "")
        seen = samples_of(Cases([case]), preprocessing, axes)
        check_size(seen, preprocessing, stride)
        # Empty slices at the ends of a volume are common; they say nothing about ranges.
        telling = [sample for sample in seen if sample.image.min() < sample.image.max()]
        if not telling:
            raise DataError(f"image {path} is constant: it says nothing about ranges; check that it is the right file.")
        samples += telling
    return samples


def own_samples(samples: Sequence[Sample], preprocessing: Preprocessing, channels: int, stride: int) -> list[Sample]:
    """A data set's slices without their labels.

    Raises:
        DataError: slices of other than ``channels`` channels, or smaller than the network's ``stride``.
    """
    if samples[0].image.shape[0] != channels:
        raise DataError(
            f"slice {samples[0].id} has {samples[0].image.shape[0]} channels and the network takes {channels}; "
            "give the data that the run was trained on."
        )
    plain = [replace(sample, label=None) for sample in samples]
    check_size(plain, preprocessing, stride)
    return plain


def crops(
    samples: Sequence[Sample], preprocessing: Preprocessing, size: Sequence[int], count: int, seed: int
) -> list[Tensor]:
    """``count`` crops (C, *size) of normalised samples, every one once before any comes again, places by ``seed``."""
    blank = [replace(s, label=np.zeros(s.image.shape[1:], dtype=np.uint8)) for s in samples]
    drawn = CropDataset(blank, preprocessing, size, seed, augment=False)
    return [drawn.view(0, index, count)[0] for index in range(count)]


def batches(images: Sequence[Tensor], batch: int) -> Iterator[Tensor]:
    """Stacks of up to ``batch`` images."""
    for first in range(0, len(images), batch):
        yield torch.stack(list(images[first : first + batch]))
