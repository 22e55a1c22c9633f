"""An image and its label read as one case, checked against each other."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetq.cases import Case, Cases, Skipped
from unetq.errors import ConfigError, DataError
from unetq.geometry import check_axes, grid_difference, orient, oriented_affine
from unetq.imageio import Volume, read_image


@dataclass(frozen=True)
class Pair:
    """Where a case lies.

    Attributes:
        id: of the case.
        images: a file, or a file a slice (``slices``), or a file a channel.
        labels: a file for each slice's image, or one; () where there is no truth.
        subject, site: "" where not known.
        slices: the images are slices of one volume, in their order, and not channels.
    """

    id: str
    images: tuple[Path, ...]
    labels: tuple[Path, ...] = ()
    subject: str = ""
    site: str = ""
    slices: bool = False


@dataclass(frozen=True)
class Stored:
    """What files alone do not tell: the label value of each class, and the geometry of plain arrays."""

    values: tuple[int, ...]
    spacing: tuple[float, ...] = ()
    axes: str = ""


def read_pairs(pairs: Iterable[Pair], stored: Stored) -> Cases:
    """All cases that can be read; the others are skipped with the reason."""
    cases: list[Case] = []
    skipped: list[Skipped] = []
    for pair in pairs:
        try:
            cases.append(read_pair(pair, stored))
        except DataError as error:
            skipped.append(Skipped(pair.id, str(error)))
    return Cases(cases, tuple(skipped))


def read_pair(pair: Pair, stored: Stored) -> Case:
    """One case.

    Raises:
        DataError: a file that is missing, empty or damaged, grids that differ, label values that stand for no class.
    """
    image, data = _one_volume(pair.images, pair.slices)
    label = None
    if pair.labels:
        truth, values = _one_volume(pair.labels, pair.slices)
        values = _on_grid_of(image, data.shape[-3:], truth, values)
        label = classes_of(values, stored.values, truth.path)
    spacing = image.spacing or stored.spacing
    axes = image.axes or stored.axes
    return Case(pair.id, data, label, tuple(spacing), axes, pair.subject, pair.site)


def classes_of(values: NDArray[Any], known: Sequence[int], path: Path) -> NDArray[np.uint8]:
    """Stored label values as class indices, uint8.

    Raises:
        DataError: other values than ``known``, which are listed.
    """
    classes = np.zeros(values.shape, dtype=np.uint8)
    counted = 0
    for index, value in enumerate(known):
        here = values == value
        counted += int(np.count_nonzero(here))
        classes[here] = index
    if counted < values.size:
        odd = np.unique(values[~np.isin(values, known)])
        shown = ", ".join(f"{value:g}" for value in odd[:5]) + (" …" if len(odd) > 5 else "")
        raise DataError(
            f"{path} holds {values.size - counted} voxels of unexpected values ({shown}): labels are "
            f"{', '.join(map(str, known))}; map them without interpolation, or set label_values and classes."
        )
    return classes


def checked_classes(classes: Sequence[Any], values: Sequence[Any]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The options ``classes`` and ``label_values``; without values classes count from 0.

    Raises:
        ConfigError: not two different names or more, or not as many different whole values of 0 to 255.
    """
    names = tuple(classes)
    if len(names) < 2 or len(set(map(str, names))) < len(names) or not all(isinstance(n, str) and n for n in names):
        raise ConfigError(
            f"option classes = {list(classes)!r}: two or more different names are expected; name each class."
        )
    numbers = tuple(values) or tuple(range(len(names)))
    whole = all(type(number) is int and 0 <= number <= 255 for number in numbers)
    if not whole or len(set(numbers)) < len(numbers) or len(numbers) != len(names):
        raise ConfigError(
            f"option label_values = {list(values)!r}: {len(names)} different whole numbers of 0 to 255 are expected, "
            f"one for each of the classes {', '.join(names)}."
        )
    return names, numbers


def checked_geometry(spacing: Sequence[Any], axes: str) -> tuple[tuple[float, ...], str]:
    """The options ``spacing`` (mm of slices, rows, columns, or none) and ``axes``.

    Raises:
        ConfigError: not three positive numbers, or no axes code.
    """
    real = all(type(length) in (int, float) and 0 < length < 1e6 for length in spacing)
    if not real or len(spacing) not in (0, 3):
        raise ConfigError(
            f"option spacing = {list(spacing)!r}: three lengths in mm are expected, slices, rows and columns, or []."
        )
    if axes:
        try:
            check_axes(axes, "option axes")
        except DataError as error:
            raise ConfigError(str(error)) from error
    return tuple(float(length) for length in spacing), axes


def _one_volume(paths: Sequence[Path], slices: bool) -> tuple[Volume, NDArray[Any]]:
    """The first file's volume and the data of all: slices after each other, or channels."""
    first = read_image(paths[0], channels=not slices)
    if len(paths) == 1:
        return first, first.data
    parts = [first.data]
    for path in paths[1:]:
        volume = read_image(path)
        affine = None if slices else volume.affine
        difference = grid_difference(first.grid, None if slices else first.affine, volume.grid, affine)
        if difference:
            what = "slices of a volume" if slices else "channels of an image"
            raise DataError(
                f"{paths[0].name} and {path} do not fit each other: {difference}; {what} lie on one grid; "
                "export them again."
            )
        parts.append(volume.data)
    if not slices:
        return first, np.stack(parts)
    if first.grid[0] != 1:
        raise DataError(f"{paths[0]} holds {first.grid[0]} slices: files of single slices make up a volume here.")
    return first, np.concatenate(parts)


def _on_grid_of(image: Volume, grid: Sequence[int], label: Volume, values: NDArray[Any]) -> NDArray[Any]:
    """The label turned as the image is stored, where both tell how they lie; then both have to be one grid."""
    affine = None
    if image.axes and label.axes and label.affine is not None:  # else one of them does not say how it lies
        affine = oriented_affine(label.affine, values.shape[-3:], label.axes, image.axes)
        values = orient(values, label.axes, image.axes)
    difference = grid_difference(grid, image.affine, values.shape, affine)
    if difference:
        raise DataError(
            f"image {image.path} and label {label.path} lie on different grids: {difference}; "
            "resample the label onto its image first."
        )
    return values
