"""What a viewer of one case shows: panels side by side, one slice at a time, as text and keys of pictures."""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass

import numpy as np

from . import pictures
from .overlays import Shown, Stack, drawn_classes, frame_of, load, shown_cases, truths
from .pictures import EXTRA, MISSED, OTHER, Box, Gallery, Pixels
from .schema import SliceScore, shown_labels
from .table import Row
from .units import percent

FEWEST = 3


@dataclass(frozen=True)
class Panel:
    """One picture of a frame: keys of the grey image and of the mask (empty: none), one line below."""

    image: str
    mask: str
    note: str = ""


@dataclass(frozen=True)
class Frame:
    """One slice: its number, what is said about it, its panels."""

    number: int
    caption: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Viewer:
    """The slices of one case.

    Attributes:
        key: unique on the page.
        titles: of the panels.
        start: the frame to show first.
        marks: (name, frame): where to jump to.
        left_out: slices that the page has no room for.
    """

    key: str
    id: str
    rank: str
    caption: str
    drawn: str
    width: float
    height: float
    titles: tuple[str, ...]
    frames: tuple[Frame, ...]
    start: int
    marks: tuple[tuple[str, int], ...]
    left_out: int

    @property
    def first(self) -> Frame:
        """The frame to show first."""
        return self.frames[self.start]

    @property
    def data(self) -> str:
        """The frames for the page's script, as JSON."""
        frames = [
            {"n": f.number, "c": f.caption, "p": [[p.image, p.mask, p.note] for p in f.panels]} for f in self.frames
        ]
        return json.dumps(frames, separators=(",", ":"), ensure_ascii=False)


Boxes = dict[tuple[str, tuple[int, ...]], Box]


def viewers(rows: list[Row], gallery: Gallery) -> list[list[Viewer]]:
    """The viewers of each row, best case first. Rows are of one group: a case is cut alike in all of them.

    A picture is of the region around the truth; what a network finds far from it is counted beside the picture.
    The truth is read first, of all rows, as they need not have stored the same slices.

    Raises:
        CheckpointError: an overlay file that is damaged or contradicts itself.
    """
    chosen = [shown_cases(row) for row in rows]
    boxes: Boxes = {}
    for row, cases in zip(rows, chosen, strict=True):
        for shown in cases:
            for truth in truths(shown):
                box = frame_of(truth, drawn_classes(row.run.metrics.labels, truth))
                if box is not None:
                    key = (shown.id, truth.shape[1:])
                    boxes[key] = boxes[key].union(box) if key in boxes else box
    sharing = Counter(shown.id for cases in chosen for shown in cases)
    return [
        [viewer for shown in cases for viewer in _viewers(row, shown, boxes, gallery, sharing[shown.id])]
        for row, cases in zip(rows, chosen, strict=True)
    ]


def _viewers(row: Row, shown: Shown, boxes: Boxes, gallery: Gallery, sharing: int) -> list[Viewer]:
    found = []
    for stack in load(row, shown):
        height, width = stack.arrays["image"].shape[1:]
        box = boxes.get((shown.id, (height, width)), Box(0, 0, height, width))
        found.append(_viewer(row, stack, box, gallery, sharing))
    gallery.viewers -= 1
    return found


def _viewer(row: Row, stack: Stack, box: Box, gallery: Gallery, sharing: int) -> Viewer:
    labels = row.run.metrics.labels
    drawn = drawn_classes(labels, stack.arrays["truth"])
    order = sorted(range(len(stack.slices)), key=lambda index: stack.slices[index])
    ranked = _ranked(stack, order)
    middle = order[len(order) // 2]
    room = gallery.room
    typical = _size(_frame(row, stack, middle, box, drawn, gallery), gallery, sharing)
    count = max(int(room / max(typical, 1.0)), FEWEST)
    kept = _thinned(order, count, {middle, *(index for _, index in ranked)})
    frames = [_frame(row, stack, index, box, drawn, gallery) for index in kept]
    marks = tuple((name, kept.index(index)) for name, index in ranked)
    inside = [int(pictures.is_drawn(stack.arrays["truth"][index], drawn).sum()) for index in kept]
    start = marks[-1][1] if marks and stack.score is None else int(np.argmax(inside))
    grey = gallery.pictures[frames[0].panels[0].image]
    return Viewer(
        key=_key(
            f"{row.run.name}/{row.split}/{stack.id}/{grey.width}x{grey.height}/{stack.slices}/{list(stack.arrays)}"
        ),
        id=stack.id,
        rank=stack.rank,
        caption=_case_caption(row, stack),
        drawn=" and ".join(labels[index] for index in drawn),
        width=grey.width,
        height=grey.height,
        titles=_titles(row, stack),
        frames=tuple(frames),
        start=start,
        marks=marks,
        left_out=len(order) - len(kept),
    )


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _size(frame: Frame, gallery: Gallery, sharing: int) -> float:
    """Bytes of a frame's pictures; image and truth are shared by all viewers of the case, each bears its part."""
    image, truth, *own = frame.panels
    shared = [key for key in (image.image, image.mask, truth.mask) if key]
    alone = {panel.mask for panel in own}
    size = {key: len(gallery.pictures[key].address) for key in (*shared, *alone)}
    return sum(size[key] for key in shared) / max(sharing, 1) + sum(size[key] for key in alone)


def _ranked(stack: Stack, order: list[int]) -> list[tuple[str, int]]:
    """The best, median and worst slice where slices have scores of their own and there are several."""
    scored = [(score.mean, index) for index in order if (score := stack.scores[index]) and score.mean is not None]
    if len(scored) != len(order) or len(order) < 2:
        return []
    scored.sort(key=lambda item: (-item[0], item[1]))
    places = {"best": 0, "median": len(scored) // 2, "worst": len(scored) - 1}
    if len(scored) == 2:
        del places["median"]
    return [(name, scored[place][1]) for name, place in places.items()]


def _thinned(order: list[int], count: int, must: set[int]) -> list[int]:
    """At most about ``count`` entries, evenly, with those that must stay."""
    if len(order) <= count:
        return order
    places = {round(i * (len(order) - 1) / max(count - 1, 1)) for i in range(count)}
    return [index for place, index in enumerate(order) if place in places or index in must]


def _titles(row: Row, stack: Stack) -> tuple[str, ...]:
    if row.is_float:
        return ("image", "truth", "float32")
    mine = f"{row.run.metrics.bits.short}, {row.evaluation.arithmetic}"
    return ("image", "truth", "float32", mine) if "float_prediction" in stack.arrays else ("image", "truth", mine)


def _frame(row: Row, stack: Stack, index: int, box: Box, drawn: tuple[int, ...], gallery: Gallery) -> Frame:
    cut = {name: box.cut(array[index]) for name, array in stack.arrays.items()}
    grey = gallery.add_grey(pictures.shrink_image(cut["image"]), stack.aspect)
    truth = gallery.add_mask(pictures.outline(pictures.shrink_codes(cut["truth"]), drawn), stack.aspect)
    panels = [Panel(grey, ""), Panel(grey, truth)]
    names = ["prediction"]
    if "float_prediction" in stack.arrays and not row.is_float:
        names.insert(0, "float_prediction")
    whole = stack.arrays["truth"][index]
    for name in names:
        codes = pictures.difference_codes(cut["truth"], cut[name], drawn)
        mask = gallery.add_mask(pictures.shrink_codes(codes), stack.aspect)
        everywhere = pictures.difference_codes(whole, stack.arrays[name][index], drawn)
        panels.append(Panel(grey, mask, _note(everywhere, codes, drawn)))
    return Frame(stack.slices[index], _slice_caption(row, stack.scores[index]), tuple(panels))


def _note(everywhere: Pixels, inside: Pixels, drawn: tuple[int, ...]) -> str:
    """Missed and extra pixels of the whole slice, and how many of them the picture does not show."""
    names = [(MISSED, "missed"), (EXTRA, "extra"), *([(OTHER, "other class")] if len(drawn) > 1 else [])]
    parts = []
    for code, name in names:
        count = int(np.count_nonzero(everywhere == code))
        outside = count - int(np.count_nonzero(inside == code))
        parts.append(
            f"{_grouped(count)} px {name}" + (f" ({_grouped(outside)} outside the picture)" if outside else "")
        )
    return ", ".join(parts)


def _grouped(count: int) -> str:
    return f"{count:,}".replace(",", " ")


def _slice_caption(row: Row, score: SliceScore | None) -> str:
    if score is None:
        return ""
    theirs = {other.id: other for other in row.reference.slices}.get(score.id) if row.reference else None
    return _dice_text(row, score.dice, theirs.dice if theirs else None)


def _case_caption(row: Row, stack: Stack) -> str:
    case = stack.score
    if case is None:
        return ""
    theirs = {other.id: other for other in row.reference.units}.get(case.id) if row.reference else None
    mine = {label: case.value(label) for label in case.classes}
    text = _dice_text(row, mine, {label: theirs.value(label) for label in mine} if theirs else None)
    return f"{text} · {case.site}" if case.site else text


def _dice_text(row: Row, mine: dict[str, float | None], theirs: dict[str, float | None] | None) -> str:
    parts = []
    for label in shown_labels(row.run.metrics.labels):
        against = f" (float {percent(theirs.get(label))})" if theirs is not None and not row.is_float else ""
        parts.append(f"{label} {percent(mine.get(label))}{against}")
    return "Dice % · " + " · ".join(parts)
