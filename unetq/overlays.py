"""Pictures of a run's cases for people: ``overlays/<split>/<case>.npz``.

Each file holds ``image`` (stretched for the eye), ``truth``, ``prediction`` and, where there is one,
``float_prediction``: uint8 (slices, H, W); and ``slices``, int32 (slices,), their numbers in the volume. Of several
cases the best, the median and the worst by mean Dice are kept; a split's only volume is one file, named after it.
They are turned upright where the orientation is known.
Slices that differ in size make no stack: each is a file named after itself, without ``slices`` and that axis.
"""

import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import files
from .casescores import Unit, stack, units
from .errors import OutputError
from .geometry import upright
from .metrics import BACKGROUND
from .samples import Sample

MOST_SLICES = 24
ARRAYS = {"image", "truth", "prediction", "float_prediction", "slices"}
Pixels = NDArray[np.uint8]


def display(image: NDArray[Any]) -> Pixels:
    """``image``, of any shape, its 0.5th to 99.5th percentile stretched over 0…255, for eyes only."""
    plane = image.astype(np.float64)
    low, high = np.percentile(plane, (0.5, 99.5))
    if high <= low:
        low, high = float(plane.min()), max(float(plane.max()), float(plane.min()) + 1.0)
    stretched: Pixels = np.rint(np.clip((plane - low) / (high - low), 0.0, 1.0) * 255.0).astype(np.uint8)
    return stretched


def plane_of(image: NDArray[Any], context: int) -> NDArray[Any]:
    """The picture of a sample's ``image`` (C, …): its first channel, or of neighbour slices the one between them."""
    return np.asarray(image[context])


def chosen_slices(truth: Pixels, prediction: Pixels, background: int | None) -> NDArray[np.int64]:
    """Places of at most ``MOST_SLICES`` slices, evenly over those that show something; over all where none does."""
    if background is None:
        shown = np.ones(len(truth), np.bool_)
    else:
        shown = ((truth != background) | (prediction != background)).any(axis=(1, 2))
    found = np.flatnonzero(shown if shown.any() else np.ones_like(shown))
    if len(found) <= MOST_SLICES:
        return found
    return found[np.rint(np.linspace(0, len(found) - 1, MOST_SLICES)).astype(np.int64)]


def pictured(samples: Sequence[Sample], cases: Sequence[dict[str, Any]]) -> list[Unit]:
    """The units whose pictures are kept: a split's only volume whole, or the best, median and worst case."""
    kind, members = units(samples)
    if kind == "slice":
        order = sorted(range(len(samples)), key=lambda place: members[place].slices)
        whole = replace(members[0], id=members[0].volume, members=tuple(order))
        numbers = tuple(members[place].slices[0] for place in order)
        return [replace(whole, slices=numbers if len(set(numbers)) == len(numbers) else tuple(range(len(order))))]
    ranked = sorted(range(len(members)), key=lambda i: (_mean_dice(cases[i]), members[i].id))
    places = sorted({ranked[0], ranked[len(ranked) // 2], ranked[-1]})
    return [members[place] for place in places]


def _mean_dice(case: dict[str, Any]) -> float:
    values = [scores["dice"] for label, scores in case["classes"].items() if label != BACKGROUND]
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else 1.0  # nothing there, and nothing predicted


def safe(name: str) -> str:
    """An id as it may stand in a file's name."""
    return re.sub(r"[/\\]", "_", name)


@dataclass(frozen=True)
class Painter:
    """Makes the arrays of the files.

    Attributes:
        samples: of the split, all with labels.
        masks: class indices, a sample; ``reference`` those of the float network, if there is one.
        labels: a name a class.
        context: neighbour slices on each side among a sample's channels.
        axes: the axes code of the samples, for pictures that stand upright; "" where it is not known.
    """

    samples: Sequence[Sample]
    masks: Sequence[Pixels]
    reference: Sequence[Pixels] | None
    labels: Sequence[str]
    context: int
    axes: str = ""

    def files(self, unit: Unit) -> Iterator[tuple[str, dict[str, NDArray[Any]]]]:
        """The names and arrays of a unit: one stack, or flat files where its slices differ in size."""
        stacks = {name: stack(unit, planes) for name, planes in self._planes().items()}
        whole = {name: values for name, values in stacks.items() if values is not None}
        if len(whole) < len(stacks):
            for place in unit.members[:MOST_SLICES]:
                flat = {name: planes[place] for name, planes in self._planes().items()}
                yield safe(self.samples[place].id), self._shown(flat)
            return
        background = list(self.labels).index(BACKGROUND) if BACKGROUND in self.labels else None
        places = chosen_slices(whole["truth"], whole["prediction"], background)
        arrays = {name: values[places] for name, values in whole.items()}
        numbers = np.asarray(unit.slices, np.int32)[places]
        yield safe(unit.id), self._shown(arrays) | {"slices": numbers}

    def _shown(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        turned = {name: np.ascontiguousarray(upright(values, self.axes)) for name, values in arrays.items()}
        return turned | {"image": display(turned["image"])}

    def _planes(self) -> dict[str, Sequence[NDArray[Any]]]:
        truths = [sample.label for sample in self.samples if sample.label is not None]
        planes: dict[str, Sequence[NDArray[Any]]] = {
            "image": [plane_of(sample.image, self.context) for sample in self.samples],
            "truth": truths,
            "prediction": self.masks,
        }
        return planes if self.reference is None else planes | {"float_prediction": self.reference}


def write(folder: Path, pictures: Iterable[tuple[str, dict[str, NDArray[Any]]]]) -> None:
    """Put ``NAME.npz`` files into ``folder`` in place of those that an earlier evaluation wrote there.

    All new files are complete in a neighbouring folder before the first old one goes; files that are no pictures of
    ours stay.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise OutputError(f"cannot create {folder}: {error.strerror or error}; make the run folder writable.") from None
    try:
        for name, arrays in pictures:
            files.write_with(
                fresh / f"{name}.npz",
                lambda handle, arrays=arrays: np.savez_compressed(handle, **arrays),  # type: ignore[misc]
            )
        names = {path.name for path in fresh.iterdir()}
        for path in list(fresh.iterdir()):
            path.replace(folder / path.name)
        for path in folder.glob("*.npz"):
            if path.name not in names and is_overlay(path):
                path.unlink()
    except OSError as error:
        raise OutputError(
            f"cannot replace the pictures in {folder}: {error.strerror or error}; make it writable and evaluate again."
        ) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def is_overlay(path: Path) -> bool:
    """True for a picture of ours, told by the arrays in it."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {"image", "truth", "prediction"} <= set(arrays.files) <= ARRAYS
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError):
        return False
