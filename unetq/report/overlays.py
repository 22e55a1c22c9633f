"""Pictures of the best and the worst slices: the image, the truth, and where a network agrees with it.

Every picture is stored once in the page, however many runs show it; a panel stacks the grey image
and a transparent mask.
"""

import base64
import hashlib
import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import CheckpointError
from .schema import SliceScore
from .table import Row
from .units import percent

Mask = NDArray[np.bool_]
Pixels = NDArray[np.uint8]
SHOWN = 3  # best slices, and as many worst ones
# One palette for all masks; told apart by lightness too, not by hue alone.
CLEAR, AGREE, MISSED, EXTRA, OTHER, EDGE = range(6)
PALETTE = ((0, 0, 0), (38, 166, 154), (224, 17, 95), (255, 193, 7), (126, 87, 194), (128, 255, 232))
ALPHA = bytes((0, 110, 215, 215, 190, 255))
BACKGROUND_NAMES = ("background", "bg", "none")


@dataclass(frozen=True)
class Panel:
    """One picture: keys of its layers (bottom first), a title, one line below."""

    title: str
    layers: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True)
class SliceView:
    """The panels of one slice."""

    key: str
    id: str
    rank: str
    width: int
    height: int
    caption: str
    panels: tuple[Panel, ...]


@dataclass
class Gallery:
    """All pictures of a page by key: ``data:`` addresses with their sizes."""

    pictures: dict[str, tuple[str, int, int]] = field(default_factory=dict)

    def add(self, kind: str, data: bytes, width: int, height: int) -> str:
        """Store an encoded picture once; returns its key."""
        key = "p" + hashlib.sha256(data).hexdigest()[:12]
        self.pictures[key] = (f"data:image/{kind};base64,{base64.b64encode(data).decode()}", width, height)
        return key

    def add_grey(self, image: Pixels) -> str:
        """A grey image (H, W), as JPEG: it is there to be looked at, not measured."""
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=88)
        return self.add("jpeg", stream.getvalue(), image.shape[1], image.shape[0])

    def add_mask(self, codes: Pixels) -> str:
        """Palette indices (H, W) as a transparent PNG."""
        picture = Image.fromarray(codes, mode="P")
        picture.putpalette([channel for colour in PALETTE for channel in colour])
        stream = io.BytesIO()
        picture.save(stream, "PNG", transparency=ALPHA, optimize=True)
        return self.add("png", stream.getvalue(), codes.shape[1], codes.shape[0])


@dataclass(frozen=True)
class _Stored:
    score: SliceScore
    image: Pixels
    truth: Pixels
    prediction: Pixels
    float_prediction: Pixels | None


def slice_views(row: Row, gallery: Gallery) -> tuple[str, list[SliceView]]:
    """What the masks draw, in words, and the views: best slices first, then the worst.

    Raises:
        CheckpointError: an overlay file that is damaged or contradicts itself.
    """
    stored = _load(row)
    if not stored:
        return "", []
    labels = row.run.metrics.labels
    drawn = _drawn_classes(labels, [item.truth for item in stored])
    worst = min(SHOWN, (len(stored) + 1) // 2)
    best = min(SHOWN, len(stored) - worst)
    chosen = [("best", item) for item in stored[:best]] + [("worst", item) for item in stored[-worst:]]
    name = " and ".join(labels[index] for index in drawn)
    return name, [_view(row, item, rank, drawn, gallery) for rank, item in chosen]


def _load(row: Row) -> list[_Stored]:
    """Stored slices of the row's split, best mean Dice first."""
    scores = {score.id: score for score in row.evaluation.slices}
    folder = row.run.folder / "overlays" / row.split
    found = [_read(path, scores[path.stem]) for path in sorted(folder.glob("*.npz")) if path.stem in scores]
    return sorted(found, key=lambda item: (-(item.score.mean or 0.0), item.score.id))


def _read(path: Path, score: SliceScore) -> _Stored:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays: dict[str, Any] = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path} is damaged ({error}); delete it or evaluate the run again.") from error
    names = ["image", "truth", "prediction", *(["float_prediction"] if "float_prediction" in arrays else [])]
    for name in names:
        array = arrays.get(name)
        if array is None or array.dtype != np.uint8 or array.ndim != 2 or array.shape != arrays["image"].shape:
            what = "missing" if array is None else f"{array.dtype} {array.shape}"
            raise CheckpointError(
                f"{path}: {name} is {what}; image, truth and predictions are uint8 (H, W) of one size. "
                "Delete the file or evaluate the run again."
            )
    return _Stored(score, arrays["image"], arrays["truth"], arrays["prediction"], arrays.get("float_prediction"))


def _drawn_classes(labels: tuple[str, ...], truths: list[Pixels]) -> tuple[int, ...]:
    """Every class but the background; of two classes without a background, the rarer one."""
    if len(labels) != 2 or labels[0].lower() in BACKGROUND_NAMES:
        return tuple(range(1, len(labels))) or (0,)
    ones = float(np.mean([np.mean(truth == 1) for truth in truths]))
    return (1,) if ones <= 0.5 else (0,)


def _view(row: Row, item: _Stored, rank: str, drawn: tuple[int, ...], gallery: Gallery) -> SliceView:
    height, width = item.image.shape
    grey = gallery.add_grey(item.image)
    mine = f"{row.run.metrics.bits.short}, {row.evaluation.arithmetic}" if not row.is_float else "float32"
    panels = [Panel("image", (grey,)), Panel("truth", (grey, gallery.add_mask(_outline(item.truth, drawn))))]
    if item.float_prediction is not None and not row.is_float:
        panels.append(_difference("float32", item.truth, item.float_prediction, drawn, grey, gallery))
    panels.append(_difference(mine, item.truth, item.prediction, drawn, grey, gallery))
    return SliceView(
        key=hashlib.sha256(f"{row.run.name}/{row.split}/{item.score.id}".encode()).hexdigest()[:12],
        id=item.score.id,
        rank=rank,
        width=width,
        height=height,
        caption=_caption(row, item.score),
        panels=tuple(panels),
    )


def _caption(row: Row, score: SliceScore) -> str:
    reference = {other.id: other for other in row.reference.slices} if row.reference else {}
    parts = []
    for label in row.run.metrics.labels:
        other = reference.get(score.id)
        against = f" (float {percent(other.dice.get(label))})" if other and not row.is_float else ""
        parts.append(f"{label} {percent(score.dice.get(label))}{against}")
    return "Dice % · " + " · ".join(parts)


def _difference(
    title: str, truth: Pixels, prediction: Pixels, drawn: tuple[int, ...], grey: str, gallery: Gallery
) -> Panel:
    codes = difference_codes(truth, prediction, drawn)
    shares = [
        f"{100 * float(np.mean(codes == code)):.2f} % {name}"
        for code, name in ((MISSED, "missed"), (EXTRA, "extra"), (OTHER, "other class"))
        if code != OTHER or len(drawn) > 1
    ]
    return Panel(title, (grey, gallery.add_mask(codes)), ", ".join(shares))


def difference_codes(truth: Pixels, prediction: Pixels, drawn: tuple[int, ...]) -> Pixels:
    """Palette codes (H, W): agreement, missed, extra, or another drawn class than the true one."""
    expected, found = np.isin(truth, drawn), np.isin(prediction, drawn)
    codes = np.zeros(truth.shape, np.uint8)
    codes[expected & found] = OTHER
    codes[expected & found & (truth == prediction)] = AGREE
    codes[expected & ~found] = MISSED
    codes[found & ~expected] = EXTRA
    return codes


def _outline(truth: Pixels, drawn: tuple[int, ...]) -> Pixels:
    """Drawn classes filled, their inner edge bright."""
    inside = np.isin(truth, drawn)
    codes = np.where(inside, np.uint8(AGREE), np.uint8(CLEAR)).astype(np.uint8)
    codes[_edge(truth) & inside] = EDGE
    return codes


def _edge(truth: Pixels) -> Mask:
    """Pixels with a 4-neighbour of another class."""
    edge = np.zeros(truth.shape, np.bool_)
    down, right = truth[1:] != truth[:-1], truth[:, 1:] != truth[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return edge
