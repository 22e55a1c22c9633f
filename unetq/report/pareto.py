"""Dice against what it costs: dots, the front of those that no other beats, one plot a class and axis."""

from markupsafe import Markup

from . import labels, svg
from .dots import AXES, Axis, Dot, dots_of, front
from .table import Group

WIDTH, HEIGHT = 460, 300
RADIUS = 6


def pareto_plots(group: Group) -> list[tuple[Axis, list[Markup]]]:
    """For each axis that some run has a value on, one plot a class; the first axis is the one to show first."""
    found = []
    for axis in AXES:
        plots = [plot for label in group.shown if (plot := _plot(group, label, axis)) is not None]
        if plots:
            found.append((axis, plots))
    return found


def _plot(group: Group, label: str, axis: Axis) -> Markup | None:
    dots = dots_of(group, label, axis)
    if not dots:
        return None
    xs = [dot.x / axis.scale for dot in dots]
    lows, highs = [100 * dot.low for dot in dots], [100 * dot.high for dot in dots]
    margin = max(0.15 * (max(highs) - min(lows)), 0.25)
    frame = svg.Frame(
        WIDTH,
        HEIGHT,
        (min(xs) / 1.5, max(xs) * 1.5),
        (min(lows) - margin, min(max(highs) + margin, 100.0 + margin)),
        log_x=True,
    )
    ticks = svg.nice_ticks(*frame.y_range)
    parts = frame.axes(
        f"{label}: Dice (%)",
        axis.label,
        [(value, axis.tick(value)) for value in svg.log_ticks(*frame.x_range)],
        [(value, svg.tick_text(value, ticks)) for value in ticks],
    )
    places = [(frame.x(x), frame.y(100 * dot.dice)) for x, dot in zip(xs, dots, strict=True)]
    area = labels.Box(frame.left + 2, frame.top - 4, frame.width - 4, frame.height - frame.bottom - 2)
    names = labels.place([(x, y, dot.name) for (x, y), dot in zip(places, dots, strict=True)], RADIUS, area)
    parts.append(_front_line(frame, dots, axis))
    for (x, _), dot in zip(places, dots, strict=True):
        if dot.high > dot.low:
            parts.append(svg.line(x, frame.y(100 * dot.low), x, frame.y(100 * dot.high), "whisker"))
    parts += [svg.line(*name.leader, "leader") for name in names if name.leader]
    for (x, y), dot in zip(places, dots, strict=True):
        parts.append(svg.circle(x, y, RADIUS, "dot-float" if dot.is_float else "dot-low", dot.title))
    for name in names:
        middle = (name.box.left + name.box.right) / 2
        parts.append(svg.text(middle, name.box.bottom - 3, name.text, "point-label"))
    return svg.document(WIDTH, HEIGHT, f"Dice of {label} against {axis.title}: {_spoken(dots)}", parts)


def _front_line(frame: svg.Frame, dots: list[Dot], axis: Axis) -> Markup:
    """Steps through the front: for any cost, the best Dice that is had for no more."""
    steps: list[tuple[float, float]] = []
    for dot in front(dots):
        x, y = frame.x(dot.x / axis.scale), frame.y(100 * dot.dice)
        if steps:
            steps.append((x, steps[-1][1]))
        steps.append((x, y))
    steps.append((frame.width - frame.right, steps[-1][1]))
    return svg.polyline(steps, "front")


def _spoken(dots: list[Dot]) -> str:
    """The dots in words, for who does not see them."""
    return "; ".join(dot.title for dot in dots)
