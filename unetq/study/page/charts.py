"""The page's plots by width: a small dot a seed, a large mark their mean, a whisker its 95 % interval."""

import math
from dataclasses import dataclass

from markupsafe import Markup

from ...experiment import FLOAT_BITS
from ...report import svg
from .figures import Figure, tick
from .record import TITLES, Study
from .statistics import Mean, mean_of

WIDTH, HEIGHT = 460, 270
DODGE = 0.17  # of the distance between two widths, from arm to arm
FLATTEN = 0.7  # how far beyond the dots, in their spread, an interval may stretch the axis
SHAPE = Markup('<path class="mark {}" d="{}"><title>{}</title></path>')


@dataclass(frozen=True)
class Column:
    """The seeds of one arm at one width: values as drawn, their mean and interval."""

    arm: str
    bits: int
    x: float
    values: dict[int, float]
    mean: Mean


def shape(arm: str, x: float, y: float, size: float = 5.0) -> str:
    """The outline of an arm's mark around (x, y): told apart without colour, too."""
    if arm == "float":
        return f"M{x - size:.1f} {y:.1f}a{size} {size} 0 1 0 {2 * size} 0a{size} {size} 0 1 0 {-2 * size} 0z"
    if arm == "weights":
        corners: list[tuple[float, float]] = [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]
    elif arm == "both":
        corners = [(0, -1.25), (1.25, 0), (0, 1.25), (-1.25, 0)]
    else:
        corners = [(0, -1.2), (1.15, 0.85), (-1.15, 0.85)]
    return "M" + "L".join(f"{x + size * dx:.1f} {y + size * dy:.1f}" for dx, dy in corners) + "z"


def mark(arm: str, x: float, y: float, title: str, size: float = 5.0) -> Markup:
    """A mean's mark with its tooltip."""
    return SHAPE.format(f"arm-{arm}", shape(arm, x, y, size), title)


def legend(study: Study) -> Markup:
    """Each arm's mark and name."""
    arms = (["float"] if study.bits("float") else []) + list(study.arms)
    entry = Markup('<span><svg class="key-mark" viewBox="0 0 16 16" aria-hidden="true">{}</svg>{}</span>')
    return Markup("").join(entry.format(mark(arm, 8, 8, "", 4.6), TITLES[arm]) for arm in arms)


def columns_of(study: Study, figure: Figure, logarithmic: bool) -> list[Column]:
    """All arms and widths that have the figure, left to right from wide to narrow, arms side by side."""
    widths = sorted({run.weight_bits for run in study.record.runs}, reverse=True)
    found = []
    for arm in ("float", *study.arms):
        offset = 0.0 if arm == "float" else (study.arms.index(arm) - (len(study.arms) - 1) / 2) * DODGE
        for bits in study.bits(arm):
            values = study.values(arm, bits, figure.get)
            if values:
                shown = [math.log(value) if logarithmic else value for value in values.values()]
                found.append(Column(arm, bits, widths.index(bits) + offset, values, mean_of(shown)))
    return found


def is_logarithmic(study: Study, figure: Figure) -> bool:
    """Whether the figure is one for a logarithmic axis, and all its values are positive."""
    values = [value for run in study.record.runs if (value := figure.get(run)) is not None]
    return figure.log and bool(values) and min(values) > 0


def by_bits(study: Study, figure: Figure) -> Markup | None:
    """The figure at every width; None where no run has it."""
    logarithmic = is_logarithmic(study, figure)
    columns = columns_of(study, figure, logarithmic)
    if not columns:
        return None
    widths = sorted({run.weight_bits for run in study.record.runs}, reverse=True)
    frame = svg.Frame(
        WIDTH, HEIGHT, (-0.5, len(widths) - 0.5), _range(columns, figure.scale, logarithmic), log_y=logarithmic, left=58
    )
    parts = frame.axes(
        figure.title + (" · logarithmic" if logarithmic else ""),
        "bits",
        [(place, "float" if bits == FLOAT_BITS else str(bits)) for place, bits in enumerate(widths)],
        ticks(*frame.y_range, logarithmic),
    )
    if not logarithmic and frame.y_range[0] < 0 < frame.y_range[1]:
        parts.append(svg.line(frame.left, frame.y(0), frame.width - frame.right, frame.y(0), "zero"))
    reference = next((column for column in columns if column.arm == "float"), None)
    if reference is not None:
        y = frame.y(_shown(reference.mean.value, figure.scale, logarithmic))
        parts.append(svg.line(frame.left, y, frame.width - frame.right, y, "divider"))
    for arm in study.arms:
        line = [(c.x, _shown(c.mean.value, figure.scale, logarithmic)) for c in columns if c.arm == arm]
        parts.append(svg.polyline([(frame.x(x), frame.y(y)) for x, y in line], f"guide line-{arm}"))
    for column in columns:
        parts += _column(frame, column, figure, logarithmic)
    spoken = "; ".join(title(column, figure, logarithmic) for column in columns)
    return svg.document(WIDTH, HEIGHT, f"{figure.title} by bits: {spoken}", parts)


def _column(frame: svg.Frame, column: Column, figure: Figure, logarithmic: bool) -> list[Markup]:
    x = frame.x(column.x)
    parts = []
    mean = column.mean
    if mean.low is not None and mean.high is not None and mean.high > mean.low:
        low, high = frame.y_range
        ends = [_shown(value, figure.scale, logarithmic) for value in (mean.low, mean.high)]
        inside = [min(max(value, low), high) for value in ends]
        parts.append(svg.line(x, frame.y(inside[0]), x, frame.y(inside[1]), f"whisker line-{column.arm}"))
        for end, kept in zip(ends, inside, strict=True):
            if end == kept:  # no cap where the interval leaves the plot
                parts.append(svg.line(x - 3, frame.y(end), x + 3, frame.y(end), f"whisker line-{column.arm}"))
    for seed, value in column.values.items():
        words = f"seed {seed}: {figure.text(value)}"
        parts.append(svg.circle(x + 6, frame.y(figure.scale * value), 1.9, f"seed arm-{column.arm}", words))
    y = frame.y(_shown(mean.value, figure.scale, logarithmic))
    parts.append(mark(column.arm, x, y, title(column, figure, logarithmic), 4.2))
    return parts


def title(column: Column, figure: Figure, logarithmic: bool) -> str:
    """A column in words: ``weights quantised, 4 bits: 0.31 (0.28 to 0.34), 3 seeds``."""
    mean = column.mean

    def text(value: float) -> str:
        return figure.text(math.exp(min(value, 700.0)) if logarithmic else value)

    interval = "" if mean.low is None or mean.high is None else f" ({text(mean.low)} to {text(mean.high)})"
    bits = "" if column.arm == "float" else f", {column.bits} bits"
    seeds = f"{mean.seeds} seed{'' if mean.seeds == 1 else 's'}"
    return f"{TITLES[column.arm]}{bits}: {text(mean.value)}{interval}, {seeds}"


def _shown(value: float, scale: float, logarithmic: bool) -> float:
    return scale * (math.exp(min(max(value, -700.0), 700.0)) if logarithmic else value)


def _range(columns: list[Column], scale: float, logarithmic: bool) -> tuple[float, float]:
    """All dots, and intervals as far as they do not flatten the dots."""

    def forward(value: float) -> float:
        return math.log(scale * value) if logarithmic else scale * value

    dots = [forward(value) for column in columns for value in column.values.values()]
    low, high = min(dots), max(dots)
    spread = high - low or abs(high) or 1.0
    ends = [
        (math.log(scale) + end if logarithmic else scale * end)
        for column in columns
        for end in (column.mean.low, column.mean.high)
        if end is not None
    ]
    reach = FLATTEN * spread
    low = min([low, *(max(end, low - reach) for end in ends)]) - 0.06 * spread
    high = max([high, *(min(end, high + reach) for end in ends)]) + 0.06 * spread
    return (math.exp(low), math.exp(high)) if logarithmic else (low, high)


def ticks(low: float, high: float, logarithmic: bool) -> list[tuple[float, str]]:
    """Positions and texts of an axis."""
    if logarithmic:
        found = svg.log_ticks(low, high)
        if len(found) < 2:  # less than a decade's third: as on a plain axis
            found = [value for value in svg.nice_ticks(low, high, 4) if value > 0]
        return [(value, tick(value)) for value in found]
    found = svg.nice_ticks(low, high)
    return [(value, svg.tick_text(value, found)) for value in found]
