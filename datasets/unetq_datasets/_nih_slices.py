"""Single slices of Pancreas-CT as NumPy files: img_NNN.npy in HU with mask_NNN.npy, and whose slices they are.

The files say neither patient nor place. Their rows run from back to front (pictures look upside down) and their
columns to the patient's left; which way the slices run is not known and taken as upward.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetq.cases import Case
from unetq.errors import ConfigError, DataError
from unetq.imageio import read_image

from ._nih_layout import name_of

AXES = "ALS"
ENTRY = re.compile(r"(\d{1,4}):(\d+)-(\d+)")


def slices_of_cases(entries: Sequence[Any]) -> dict[int, range]:
    """The option ``cases``, "PATIENT:FIRST-LAST" each, as slice numbers by patient.

    Raises:
        ConfigError: an entry of another form, a patient twice, or a slice of two patients.
    """
    found: dict[int, range] = {}
    for entry in entries:
        match = ENTRY.fullmatch(entry) if isinstance(entry, str) else None
        if not match or int(match[2]) > int(match[3]):
            raise ConfigError(
                f"option cases has the entry {entry!r}: it is PATIENT:FIRST-LAST, as in '0001:0-4'; correct it."
            )
        number, numbers = int(match[1]), range(int(match[2]), int(match[3]) + 1)
        if number in found:
            raise ConfigError(f"option cases names patient {number:04d} twice: one entry each; join them.")
        for other, taken in found.items():
            if set(taken) & set(numbers):
                raise ConfigError(
                    f"option cases gives slice {min(set(taken) & set(numbers)):03d} to patients {other:04d} and "
                    f"{number:04d}: a slice is of one patient; correct the ranges."
                )
        found[number] = numbers
    return found


def read_slices(root: Path, number: int, slices: range) -> Case:
    """The slices of one patient, from ``root`` or ``root/slices``.

    Raises:
        DataError: a file that is missing or damaged, another size, or a mask with other values than 0 and 1.
    """
    folder = root / "slices" if (root / "slices").is_dir() else root
    images: list[NDArray[Any]] = []
    masks: list[NDArray[np.uint8]] = []
    for index in slices:
        image = read_image(folder / f"img_{index:03d}.npy").data[0]
        mask = read_image(folder / f"mask_{index:03d}.npy").data[0]
        if mask.shape != image.shape or (images and image.shape != images[0].shape):
            expected = images[0].shape if images else image.shape
            raise DataError(
                f"img_{index:03d}.npy is {image.shape}, its mask {mask.shape}, and {expected} is expected (rows, "
                "columns): the slices of a patient and their masks are equally large; export them again."
            )
        values = np.unique(mask)
        if not np.isin(values, (0, 1)).all():
            shown = ", ".join(f"{value:g}" for value in values[:5])
            raise DataError(f"mask_{index:03d}.npy holds the values {shown}: a mask is 0 and 1; map them first.")
        images.append(image)
        masks.append(mask.astype(np.uint8))
    return Case(f"nih-{number:04d}", np.stack(images), np.stack(masks), axes=AXES, subject=name_of(number))
