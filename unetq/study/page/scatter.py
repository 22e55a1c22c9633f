"""The page's plots of one figure against another: a small dot a run, a mark with its bits at the mean over seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ...experiment import FLOAT_BITS
from ...report import labels, svg
from .charts import mark, ticks
from .figures import Figure
from .record import TITLES, Study

WIDTH, HEIGHT = 460, 380
RADIUS = 5.0
MOST_LABELS = 40
NEAR = 16.0


@dataclass(frozen=True)
class Point:
    """One run's two values as drawn."""

    arm: str
    bits: int
    seed: int
    x: float
    y: float


def scatter(
    study: Study,
    x: Figure,
    y: Figure,
    *,
    logarithmic: tuple[bool, bool],
    same: bool = False,
    within: float | None = None,
) -> tuple[Markup, int] | None:
    """``y`` against ``x`` over all runs that have both.

    Args:
        study: what is drawn.
        x, y: the figures of the two axes.
        logarithmic: for x and y; runs that are not positive there are left out.
        same: one range for both axes, and the line on which they are equal.
        within: lines at this factor beside that line.

    Returns:
        The drawing and how many runs were left out of it; None where fewer than two are left.
    """
    points, left_out = _points(study, x, y, logarithmic)
    if len(points) < 2:
        return None
    xs, ys = [point.x for point in points], [point.y for point in points]
    ranges = [_around(values, log) for values, log in zip((xs, ys), logarithmic, strict=True)]
    if same:
        ranges = [(min(a for a, _ in ranges), max(b for _, b in ranges))] * 2
    frame = svg.Frame(
        WIDTH, HEIGHT, ranges[0], ranges[1], log_x=logarithmic[0], log_y=logarithmic[1], left=58, bottom=44
    )
    parts = frame.axes(
        f"{y.title} ↑ against {x.title} →",
        x.title,
        ticks(*ranges[0], logarithmic[0]),
        ticks(*ranges[1], logarithmic[1]),
    )
    if same:
        parts += _diagonals(frame, within)
    parts += [
        svg.circle(frame.x(p.x), frame.y(p.y), 2.0, f"seed arm-{p.arm}", f"{_name(p)}, seed {p.seed}: {_pair(p, x, y)}")
        for p in points
    ]
    means = _means(points, logarithmic)
    for point in means:
        parts.append(
            mark(point.arm, frame.x(point.x), frame.y(point.y), f"{_name(point)}, mean: {_pair(point, x, y)}", 4)
        )
    if len(means) <= MOST_LABELS:
        area = labels.Box(frame.left + 2, frame.top, frame.width - 4, frame.height - frame.bottom - 2)
        for name in labels.place(_names(frame, means), RADIUS, area):
            parts += [svg.line(*name.leader, "leader")] if name.leader else []
            middle = (name.box.left + name.box.right) / 2
            parts.append(svg.text(middle, name.box.bottom - 3, name.text, "point-label"))
    spoken = "; ".join(f"{_name(point)}: {_pair(point, x, y)}" for point in means)
    return svg.document(WIDTH, HEIGHT, f"{y.title} against {x.title}, means over seeds: {spoken}", parts), left_out


def _points(study: Study, x: Figure, y: Figure, logarithmic: tuple[bool, bool]) -> tuple[list[Point], int]:
    points, left_out = [], 0
    for run in study.record.runs:
        across, up = x.get(run), y.get(run)
        if across is None or up is None:
            continue
        if any(log and value <= 0 for log, value in zip(logarithmic, (across, up), strict=True)):
            left_out += 1
        else:
            points.append(Point(run.arm, run.weight_bits, run.seed, x.scale * across, y.scale * up))
    return points, left_out


def _means(points: Sequence[Point], logarithmic: tuple[bool, bool]) -> list[Point]:
    """One point a network, geometric means on logarithmic axes."""

    def mean(values: list[float], log: bool) -> float:
        return math.exp(sum(map(math.log, values)) / len(values)) if log else sum(values) / len(values)

    found = []
    for arm, bits in dict.fromkeys((point.arm, point.bits) for point in points):
        mine = [point for point in points if (point.arm, point.bits) == (arm, bits)]
        x, y = mean([p.x for p in mine], logarithmic[0]), mean([p.y for p in mine], logarithmic[1])
        found.append(Point(arm, bits, -1, x, y))
    return found


def _names(frame: svg.Frame, means: Sequence[Point]) -> list[tuple[float, float, str]]:
    """Positions and names; arms that lie on one another at a width share one."""
    named: list[tuple[float, float, str]] = []
    for point in means:
        x, y, name = frame.x(point.x), frame.y(point.y), "float" if point.arm == "float" else str(point.bits)
        if not any(other == name and math.hypot(x - a, y - b) < NEAR for a, b, other in named):
            named.append((x, y, name))
    return named


def _around(values: Sequence[float], logarithmic: bool) -> tuple[float, float]:
    if logarithmic:
        low, high = math.log(min(values)), math.log(max(values))
        margin = 0.08 * (high - low) or 0.3
        return math.exp(low - margin), math.exp(high + margin)
    margin = 0.08 * (max(values) - min(values)) or 0.1 * abs(values[0]) or 1.0
    return min(values) - margin, max(values) + margin


def _diagonals(frame: svg.Frame, within: float | None) -> list[Markup]:
    """Where both are equal, and where one is ``within`` times the other, cut at the frame."""
    low, high = frame.x_range
    parts = [svg.line(frame.x(low), frame.y(low), frame.x(high), frame.y(high), "equal")]
    if within is not None and high / within > low:
        parts.append(svg.line(frame.x(low), frame.y(low * within), frame.x(high / within), frame.y(high), "divider"))
        parts.append(svg.line(frame.x(low * within), frame.y(low), frame.x(high), frame.y(high / within), "divider"))
    return parts


def _name(point: Point) -> str:
    return TITLES[point.arm] if point.bits == FLOAT_BITS else f"{TITLES[point.arm]}, {point.bits} bits"


def _pair(point: Point, x: Figure, y: Figure) -> str:
    return f"{x.title} {x.text(point.x / x.scale)}, {y.title} {y.text(point.y / y.scale)}"
