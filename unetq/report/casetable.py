"""The table of cases (or slices) of a run: which columns it has, its cells, its last lines."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import stdev

from .schema import CaseScore
from .table import Row
from .units import number, percent, points


@dataclass(frozen=True)
class Metric:
    """A column of a class beside its Dice."""

    key: str
    title: str
    text: Callable[[float | None], str]


METRICS = (
    Metric("iou", "IoU", percent),
    Metric("hd95_mm", "HD95, {unit}", number),
    Metric("nsd", "NSD", percent),
    Metric("volume_ml", "volume, ml", number),
    Metric("true_volume_ml", "true, ml", number),
    Metric("volume_error", "error, %", points),
)
SCORES = {"rand": "Rand", "information": "information"}


@dataclass(frozen=True)
class Column:
    """A heading; ``first`` of its class, ``quiet`` where it is there for comparison."""

    title: str
    first: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Cell:
    """A number as it sorts and as it reads."""

    value: float | None
    text: str


@dataclass(frozen=True)
class Line:
    """One row: texts, then numbers."""

    first: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class CaseTable:
    """Headings, rows by id, and closing lines (mean; SD where there are several)."""

    unit: str
    labels: tuple[str, ...]
    first: tuple[str, ...]
    spans: tuple[tuple[str, int], ...]
    columns: tuple[Column, ...]
    rows: tuple[Line, ...]
    foot: tuple[Line, ...]


Pair = tuple[CaseScore, CaseScore | None]
Getter = Callable[[Pair], float | None]


def case_table(row: Row, labels: tuple[str, ...]) -> CaseTable:
    """The table of ``row`` over the classes ``labels``; a column is there where some case has a value."""
    units = row.units
    columns: list[tuple[Column, Getter, Callable[[float | None], str]]] = []
    spans: list[tuple[str, int]] = []
    for label in labels:
        own = _class_columns(row, label, units)
        spans.append((label, len(own)))
        columns += own
    extra = [key for key in SCORES if any(case.scores.get(key) is not None for case, _ in units)]
    if extra:
        spans.append(("membranes", len(extra)))
        columns += [(Column(SCORES[key], key == extra[0]), _score(key), lambda v: number(v, 4)) for key in extra]
    texts = _text_columns(row, [case for case, _ in units])
    lines = tuple(
        Line(
            tuple(text(pair[0]) for _, text in texts),
            tuple(Cell(value := get(pair), show(value)) for _, get, show in columns),
        )
        for pair in units
    )
    return CaseTable(
        unit=row.evaluation.unit_name,
        labels=labels,
        first=tuple(title for title, _ in texts),
        spans=tuple(spans),
        columns=tuple(column for column, *_ in columns),
        rows=lines,
        foot=_foot(row.evaluation.unit_name, lines, [show for *_, show in columns]),
    )


def _text_columns(row: Row, cases: list[CaseScore]) -> list[tuple[str, Callable[[CaseScore], str]]]:
    unit = row.evaluation.unit_name
    found: list[tuple[str, Callable[[CaseScore], str]]] = [(unit, lambda case: case.id)]
    if any(case.volume not in ("", case.id) for case in cases):
        found.append(("volume", lambda case: case.volume))
    if any(case.site for case in cases):
        found.append(("site", lambda case: case.site))
    if any(case.slices is not None and case.slices > 1 for case in cases):
        found.append(("slices", lambda case: "" if case.slices is None else str(case.slices)))
    return found


def _class_columns(
    row: Row, label: str, units: list[Pair]
) -> list[tuple[Column, Getter, Callable[[float | None], str]]]:
    mine = row.run.metrics.bits.short if row.reference else "Dice"
    found: list[tuple[Column, Getter, Callable[[float | None], str]]] = [(Column(mine, True), _own(label), percent)]
    if row.reference:
        found += [
            (Column("float", quiet=True), _reference(label), percent),
            (Column("change"), _change(label), points),
        ]
    for metric in METRICS:
        if any(case.value(label, metric.key) is not None for case, _ in units):
            title = metric.title.format(unit=row.evaluation.distance_unit)
            found.append((Column(title), _own(label, metric.key), metric.text))
    return found


def _own(label: str, metric: str = "dice") -> Getter:
    return lambda pair: pair[0].value(label, metric)


def _reference(label: str) -> Getter:
    return lambda pair: pair[1].value(label) if pair[1] else None


def _change(label: str) -> Getter:
    def get(pair: Pair) -> float | None:
        mine, theirs = pair[0].value(label), pair[1].value(label) if pair[1] else None
        return None if mine is None or theirs is None else mine - theirs

    return get


def _score(key: str) -> Getter:
    return lambda pair: pair[0].scores.get(key)


def _foot(unit: str, lines: tuple[Line, ...], shows: list[Callable[[float | None], str]]) -> tuple[Line, ...]:
    """Means, and standard deviations (n - 1) where some column has several values."""
    columns = [[line.cells[i].value for line in lines] for i in range(len(shows))]
    kept = [[value for value in column if value is not None] for column in columns]
    means = [sum(values) / len(values) if values else None for values in kept]
    found = [Line((f"mean over {unit}s",), _cells(means, shows))]
    if any(len(values) > 1 for values in kept):
        deviations = [stdev(values) if len(values) > 1 else None for values in kept]
        unsigned = [percent if show is points else show for show in shows]
        found.append(Line((f"SD over {unit}s",), _cells(deviations, unsigned)))
    return tuple(found)


def _cells(values: list[float | None], shows: list[Callable[[float | None], str]]) -> tuple[Cell, ...]:
    return tuple(Cell(value, show(value)) for value, show in zip(values, shows, strict=True))
