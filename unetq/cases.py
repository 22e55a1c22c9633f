"""Volumes as loaders give them, and the samples that a network sees of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, DataError
from .export.program import Preprocessing
from .geometry import orient, oriented_spacing
from .preprocess import neighbours, volume_moments
from .samples import Sample


@dataclass(frozen=True, eq=False)
class Case:
    """One volume.

    Attributes:
        id: unique within the data set.
        image: intensities as stored, (slices, rows, columns) or (channels, slices, rows, columns).
        label: (slices, rows, columns) uint8 class indices, or None where there is no truth.
        spacing: mm (slice, row, column); () where it is not known.
        axes: the RAS letters that (rows, columns, slices) increase towards, "LAS" for example; "" where not known.
        subject: the person; no subject is on two sides of a split. "" stands for the case itself.
        site: where it was taken, "" where not known.
        labelled: bool (slices,), the slices that have truth; None for all.
    """

    id: str
    image: NDArray[Any]
    label: NDArray[np.uint8] | None = None
    spacing: tuple[float, ...] = ()
    axes: str = ""
    subject: str = ""
    site: str = ""
    labelled: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Skipped:
    """A case that was left out, and why, in a sentence."""

    case: str
    reason: str


@dataclass(frozen=True)
class Cases:
    """What a loader found: the cases it could read and those it had to leave out."""

    cases: list[Case]
    skipped: tuple[Skipped, ...] = field(default=())


def reasons(skipped: Iterable[Skipped]) -> list[tuple[str, str]]:
    """As ``EmptySplitError`` carries them."""
    return [(item.case, item.reason) for item in skipped]


def samples_of(cases: Cases, preprocessing: Preprocessing, dimensions: int) -> list[Sample]:
    """What a network of 2 or 3 ``dimensions`` sees of each case: its slices (2-D, 2.5-D) or the whole volume.

    Arrays are oriented as ``preprocessing`` wants, not resampled. Slices without truth are left out of a case with
    truth; their pixels are still neighbours (``context``).

    Raises:
        ConfigError: ``context`` with a 3-D network.
        DataError: a case whose shapes contradict each other, or an orientation wanted of one whose axes are not known.
    """
    if dimensions == 3 and preprocessing.context:
        raise ConfigError(
            f"context = {preprocessing.context} with a 3-D network: neighbour slices are for 2-D ones; set it to 0."
        )
    framed = _volume if dimensions == 3 else _slices
    return [sample for case in cases.cases for sample in framed(_oriented(case, preprocessing), preprocessing)]


def _oriented(case: Case, preprocessing: Preprocessing) -> Case:
    """With the channel axis, turned as wanted."""
    image = case.image if case.image.ndim == 4 else case.image[None]
    label, labelled = case.label, case.labelled
    if image.ndim != 4 or (label is not None and label.shape != image.shape[1:]):
        raise DataError(
            f"case {case.id}: the image is {case.image.shape}, the label {None if label is None else label.shape}: "
            "(slices, rows, columns) of one grid are needed; export both from the same volume."
        )
    spacing = tuple(float(v) for v in case.spacing)
    wanted = preprocessing.orientation
    if wanted and wanted != case.axes:
        if not case.axes:
            raise DataError(
                f"case {case.id} does not say how it lies in space and orientation {wanted} is wanted; "
                "use a format with geometry, or state the axes of the stored arrays."
            )
        mask = None if labelled is None else np.broadcast_to(labelled[:, None, None], image.shape[1:])
        image = orient(image, case.axes, wanted)
        label = None if label is None else orient(label, case.axes, wanted)
        spacing = oriented_spacing(spacing, case.axes, wanted) if spacing else ()
        labelled = None if mask is None else np.asarray(orient(mask, case.axes, wanted).any(axis=(1, 2)))
    return Case(case.id, image, label, spacing, wanted or case.axes, case.subject or case.id, case.site, labelled)


def _slices(case: Case, preprocessing: Preprocessing) -> Iterator[Sample]:
    moments = volume_moments(case.image, case.spacing, preprocessing)
    channels, slices = case.image.shape[:2]
    context = preprocessing.context
    if context and channels > 1:
        raise ConfigError(
            f"context = {context} and case {case.id} has {channels} channels: neighbour slices are channels "
            "themselves; set context to 0 or give one channel."
        )
    for index in range(slices):
        if case.label is not None and case.labelled is not None and not case.labelled[index]:
            continue
        if 0 < context <= index < slices - context:
            image = case.image[0, index - context : index + context + 1]  # a view: neighbours cost no memory
        elif context:
            image = case.image[0, neighbours(index, slices, context)]
        else:
            image = case.image[:, index]
        label = None if case.label is None else case.label[index]
        yield Sample(
            f"{case.id}-{index:03d}", case.id, image, label, case.spacing, case.subject, case.site, index, moments
        )


def _volume(case: Case, preprocessing: Preprocessing) -> Iterator[Sample]:
    image, label, labelled, first = case.image, case.label, case.labelled, 0
    if label is not None and labelled is not None and not labelled.all():
        number = np.flatnonzero(labelled)
        if not len(number):
            raise DataError(f"case {case.id} has no slice with truth; leave it out.")
        first, last = int(number[0]), int(number[-1]) + 1
        if len(number) < last - first:
            missing = int(np.flatnonzero(~labelled[first:last])[0]) + first
            raise DataError(
                f"case {case.id}: slice {missing} between slices with truth "
                "has none: a 3-D network needs them all; train in 2-D or leave the case out."
            )
        image, label = image[:, first:last], label[first:last]
    yield Sample(case.id, case.id, image, label, case.spacing, case.subject, case.site, first)
