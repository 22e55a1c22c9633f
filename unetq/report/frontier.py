"""The choices of bits that a compression tried: bytes of the file against Dice, before and after fine-tuning."""

from markupsafe import Markup

from . import svg
from .compressed import Compressed, Point

WIDTH, HEIGHT = 620, 320
KIB = 1024.0


def frontier_plot(found: Compressed) -> Markup:
    """One dot a choice; open before fine-tuning, filled after it, a line between both; limits are lines too."""
    points, budget = found.points, found.budget
    sizes = [point.takes.size / KIB for point in points]
    limit = None if budget.target_size_bytes is None else budget.target_size_bytes / KIB
    scores = [100 * value for point in points for value in (point.before, point.after) if value is not None]
    levels = [100 * found.float_.mean_dice, *([] if found.floor is None else [100 * found.floor])]
    low, high = min([*scores, *levels]), max([*scores, *levels])
    margin = max(0.12 * (high - low), 0.2)
    reach = [*sizes, *([] if limit is None else [limit])]
    frame = svg.Frame(
        WIDTH, HEIGHT, (min(reach) / 1.15, max(reach) * 1.15), (low - margin, high + margin), log_x=True
    )  # fmt: skip
    ticks = svg.nice_ticks(*frame.y_range)
    x_ticks = svg.log_ticks(*frame.x_range)
    parts = frame.axes(
        "mean validation Dice (%)",
        "KiB of the packed file",
        [(value, f"{value:g}") for value in x_ticks] or [(value, f"{value:.0f}") for value in sorted(set(reach))[:1]],
        [(value, svg.tick_text(value, ticks)) for value in ticks],
    )
    parts += _level(frame, levels[0], "float", "curve-float", above=True)
    if found.floor is not None:
        parts += _level(frame, levels[1], "least that is allowed", "divider", above=levels[1] > levels[0])
    if limit is not None:
        x = frame.x(limit)
        parts.append(svg.line(x, frame.top, x, frame.height - frame.bottom, "divider"))
        parts.append(svg.text(x - 4, frame.top + 9, "most bytes", "tick", "end"))
    for x, point in zip(sizes, points, strict=True):
        parts += _dots(frame, x, point)
    return svg.document(WIDTH, HEIGHT, "Choices of bits: " + "; ".join(p.title for p in points), parts)


def _dots(frame: svg.Frame, x: float, point: Point) -> list[Markup]:
    at = [(value, cls) for value, cls in ((point.before, "dot-before"), (point.after, "dot-low")) if value is not None]
    places = [frame.y(100 * value) for value, _ in at]
    parts = [svg.line(frame.x(x), places[0], frame.x(x), places[1], "whisker")] if len(places) == 2 else []
    for y, (_, cls) in zip(places, at, strict=True):
        parts.append(svg.circle(frame.x(x), y, 4, cls, point.title))
    if point.is_chosen:
        parts.append(svg.circle(frame.x(x), places[-1], 7.5, "ring", point.title))
        parts.append(svg.text(frame.x(x), places[-1] - 11, "chosen", "point-label"))
    return parts


def _level(frame: svg.Frame, value: float, name: str, cls: str, *, above: bool) -> list[Markup]:
    """A line across with its name, which is below it where it would cover the other's."""
    y = frame.y(value)
    right = frame.width - frame.right
    return [svg.line(frame.left, y, right, y, cls), svg.text(right - 4, y + (-5 if above else 14), name, "tick", "end")]
