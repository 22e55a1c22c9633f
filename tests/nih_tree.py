"""A tree in TCIA's layout of Pancreas-CT, from phantom slices: DICOM series a patient, labels as NIfTI."""

from functools import cache
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from dicom_tree import Written, write_series
from numpy.typing import NDArray
from unetq_datasets.phantom import make

FEET_FIRST_UP = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)  # as the collection: rows grow to the front, the normal to the feet
SPACING = (2.5, 0.8, 0.8)


@cache
def volume(number: int, slices: int = 4, size: int = 64) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Image in HU and label of patient ``number``, (slices, columns, rows) as ``read_series`` gives the series."""
    pairs = [make("abdomen", number, index, size) for index in range(slices)]
    image, label = (np.stack([pair[part][::-1].T for pair in pairs]) for part in (0, 1))
    return image, label


def add_patient(root: Path, number: int, *, labels: str = "labels", label: bool = True, **options: Any) -> Written:
    """Write one patient: its series (``options`` go to ``write_series``) and, with ``label``, its label."""
    name = f"PANCREAS_{number:04d}"
    image, truth = volume(number)
    options = {"spacing": SPACING, "orientation": FEET_FIRST_UP, "patient": name, "key": f"{number}", **options}
    written = write_series(root / name / "11-24-2015-study" / "series-1", image, **options)
    if label:
        write_label(root / labels / f"label{number:04d}.nii.gz", truth, written.affine)
    return written


def write_label(path: Path, truth: NDArray[Any], affine: NDArray[Any] | None) -> None:
    """``truth`` (slices, columns, rows) as NIfTI; without an affine, the file tells no directions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(np.moveaxis(truth, 0, 2), affine)  # type: ignore[attr-defined]
    nibabel.save(image, path)  # type: ignore[attr-defined]


def turned(truth: NDArray[Any], affine: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Array (slices, columns, rows) with one axis reversed, and the affine that says so."""
    place = {0: 2, 1: 0, 2: 1}[axis]  # of (i, j, k)
    changed = affine.copy()
    changed[:3, 3] += affine[:3, place] * (truth.shape[axis] - 1)
    changed[:3, place] *= -1
    return np.flip(truth, axis), changed
