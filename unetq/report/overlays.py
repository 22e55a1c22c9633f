"""The stored slices of a run: read, put together by case, and the best, the median and the worst case chosen."""

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError
from .pictures import Box, Pixels, bounding_box, is_drawn
from .schema import BACKGROUND_NAMES, CaseScore, SliceScore
from .table import Row

LAYERS = ("image", "truth", "prediction", "float_prediction")
RANKS = ("best", "median", "worst")


@dataclass(frozen=True)
class Stack:
    """Slices of one case.

    Attributes:
        id: of the case, or of the volume.
        slices: their numbers (S,).
        arrays: ``image``, ``truth``, ``prediction`` and perhaps ``float_prediction``, each uint8 (S, H, W).
        score: the case's, None where slices are scored and the stack is a volume of them.
        scores: an entry a slice, None where slices have no score of their own.
        rank: "best", "median" or "worst"; empty for the only one.
    """

    id: str
    slices: tuple[int, ...]
    arrays: dict[str, Pixels]
    score: CaseScore | None
    scores: tuple[SliceScore | None, ...]
    rank: str = ""

    @property
    def aspect(self) -> float:
        """How many times taller than wide a pixel is."""
        spacing = self.score.spacing_mm if self.score else None
        usable = spacing is not None and len(spacing) == 3 and spacing[1] > 0 and spacing[2] > 0
        return spacing[1] / spacing[2] if usable and spacing else 1.0


@dataclass(frozen=True)
class Shown:
    """The files of one case that a page shows, not yet read; ``rank`` as in ``Stack``."""

    id: str
    files: tuple[tuple[Path, SliceScore | None], ...]
    score: CaseScore | None
    rank: str


def shown_cases(row: Row) -> list[Shown]:
    """The stored cases of a row: best, median and worst by mean Dice; files of no scored case are passed over."""
    folder = row.run.folder / "overlays" / row.split
    stored = row.run.stored
    slices = {safe(stored(score.id)): score for score in row.evaluation.slices}
    cases = {safe(stored(case.id)): case for case in row.evaluation.units}
    owners = [score.volume for score in row.evaluation.slices] + [case.volume for case in cases.values()]
    volumes = {safe(stored(volume)): volume for volume in owners}
    flat: dict[str, list[tuple[Path, SliceScore | None]]] = {}
    found: list[Shown] = []
    for path in sorted(folder.glob("*.npz")):
        stem = path.stem
        if stem in slices and _is_flat(path):
            flat.setdefault(slices[stem].volume, []).append((path, slices[stem]))
        elif stem in cases:
            found.append(Shown(cases[stem].id, ((path, None),), cases[stem], ""))
        elif stem in volumes:
            found.append(Shown(volumes[stem], ((path, None),), None, ""))
    found += [Shown(volume, tuple(files), None, "") for volume, files in flat.items()]
    found.sort(key=lambda item: (-_mean(item), item.id))
    if len(found) <= 1:
        return found
    places = (
        {0: "best", len(found) // 2: "median", len(found) - 1: "worst"} if len(found) > 2 else {0: "best", 1: "worst"}
    )
    return [Shown(found[place].id, found[place].files, found[place].score, rank) for place, rank in places.items()]


def safe(name: str) -> str:
    """An id as it may stand in a file's name."""
    return re.sub(r"[/\\]", "_", name)


def _mean(item: Shown) -> float:
    if item.score is not None:
        return item.score.mean or 0.0
    means = [score.mean or 0.0 for _, score in item.files if score is not None]
    return sum(means) / len(means) if means else 0.0


def load(row: Row, shown: Shown) -> list[Stack]:
    """Read a case: one stack, or several where slices of one volume differ in size.

    Raises:
        CheckpointError: an overlay file that is damaged or contradicts itself.
    """
    if len(shown.files) == 1 and shown.files[0][1] is None:
        arrays, numbers = _read(shown.files[0][0])
        if arrays["image"].shape[0] == 0:
            return []
        by_number = {(score.volume, _number(score.id)): score for score in row.evaluation.slices}
        volume = shown.score.volume if shown.score and shown.score.volume else shown.id
        scores = tuple(by_number.get((volume, number)) for number in numbers)
        return [Stack(shown.id, numbers, arrays, shown.score, scores, shown.rank)]
    groups: dict[tuple[Any, ...], list[tuple[dict[str, Pixels], SliceScore | None]]] = {}
    for path, score in shown.files:
        arrays, _ = _read(path)
        groups.setdefault((arrays["image"].shape, tuple(arrays)), []).append((arrays, score))
    stacks = []
    for members in groups.values():
        joined = {name: np.concatenate([arrays[name] for arrays, _ in members]) for name in members[0][0]}
        scores = tuple(score for _, score in members)
        numbers = tuple(_number(score.id if score else "") for score in scores)
        stacks.append(Stack(shown.id, numbers, joined, None, scores, shown.rank))
    return stacks


def _number(name: str) -> int:
    """The slice number at the end of a slice's id, -1 where there is none."""
    digits = re.search(r"(\d+)$", name)
    return int(digits.group(1)) if digits else -1


def _is_flat(path: Path) -> bool:
    """Whether a file is of one slice; a damaged one counts as such and is named when it is read."""
    return "slices" not in _names(path)


def _names(path: Path) -> list[str]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return list(archive.files)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError):
        return []


def truths(shown: Shown) -> list[Pixels]:
    """The true classes alone, (S, H, W) a file; what is no such array is left to ``load`` to name.

    Raises:
        CheckpointError: a file that is damaged.
    """
    found = [_stored(path, ("truth",)).get("truth") for path, _ in shown.files]
    usable = [array for array in found if array is not None and array.dtype == np.uint8 and array.ndim in (2, 3)]
    return [array if array.ndim == 3 else array[None] for array in usable]


def _stored(path: Path, names: tuple[str, ...] = ()) -> dict[str, NDArray[Any]]:
    """The arrays of a file, or those of ``names`` that it has."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files if not names or name in names}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); delete it or evaluate the run again.") from error


def _read(path: Path) -> tuple[dict[str, Pixels], tuple[int, ...]]:
    """Arrays (S, H, W) and slice numbers; a file of one slice (H, W) has S = 1."""
    stored = _stored(path)
    names = [name for name in LAYERS if name in stored or name != "float_prediction"]
    for name in names:
        array = stored.get(name)
        good = array is not None and array.dtype == np.uint8 and array.ndim in (2, 3) and array.size > 0
        if array is None or not good or array.shape != stored["image"].shape:
            what = "missing" if array is None else f"{array.dtype} {array.shape}"
            raise CheckpointError(
                f"{path}: {name} is {what}; image, truth and predictions are uint8 (H, W) or (S, H, W) of one size. "
                "Delete the file or evaluate the run again."
            )
    arrays = {name: stored[name] if stored[name].ndim == 3 else stored[name][None] for name in names}
    count = arrays["image"].shape[0]
    numbers = stored.get("slices", np.arange(count))
    if numbers.shape != (count,) or not np.issubdtype(numbers.dtype, np.integer):
        raise CheckpointError(
            f"{path}: slices is {numbers.dtype} {numbers.shape}, the images are {count}; one number belongs to each. "
            "Delete the file or evaluate the run again."
        )
    return arrays, tuple(int(number) for number in numbers)


def drawn_classes(labels: tuple[str, ...], truth: Pixels) -> tuple[int, ...]:
    """Every class but the background; of two classes without a background, the rarer one."""
    if len(labels) != 2 or labels[0].lower() in BACKGROUND_NAMES:
        return tuple(range(1, len(labels))) or (0,)
    return (1,) if float(np.mean(truth == 1)) <= 0.5 else (0,)


def frame_of(truth: Pixels, drawn: tuple[int, ...]) -> Box | None:
    """The rectangle around the drawn classes of ``truth`` (S, H, W), with a margin; None where there are none."""
    box = bounding_box(is_drawn(truth, drawn))
    return None if box is None else box.grown(*truth.shape[1:])
