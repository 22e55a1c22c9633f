"""The report's plots: Dice against memory, and how a run was trained."""

import math

from markupsafe import Markup

from . import labels, svg
from .dots import dots_of
from .schema import HistoryPoint
from .table import Group
from .units import three_digits

POINT_WIDTH, POINT_HEIGHT = 460, 300
DOT_RADIUS = 6
CURVE_WIDTH, CURVE_HEIGHT = 460, 220
CURVE_POINTS = 300
STAGES = (("float", "curve-float"), ("quant", "curve-quant"))
MIB = float(1 << 20)


def memory_plots(group: Group) -> list[Markup]:
    """One plot a class: Dice against weights plus peak activations, in MiB on a logarithmic axis."""
    return [plot for label in group.labels if (plot := _memory_plot(group, label)) is not None]


def _memory_plot(group: Group, label: str) -> Markup | None:
    dots = dots_of(group, label)
    if not dots:
        return None
    memories = [dot.memory / MIB for dot in dots]
    scores = [100 * dot.dice for dot in dots]
    margin = max(0.15 * (max(scores) - min(scores)), 0.25)
    frame = svg.Frame(
        POINT_WIDTH,
        POINT_HEIGHT,
        (min(memories) / 1.5, max(memories) * 1.5),
        (min(scores) - margin, min(max(scores) + margin, 100.0 + margin)),
        log_x=True,
    )
    ticks = svg.nice_ticks(*frame.y_range)
    parts = frame.axes(
        f"{label}: Dice (%)",
        "weights + peak activations (MiB, logarithmic)",
        [(value, three_digits(value).removesuffix(".00").removesuffix(".0")) for value in _log_ticks(*frame.x_range)],
        [(value, svg.tick_text(value, ticks)) for value in ticks],
    )
    places = [(frame.x(dot.memory / MIB), frame.y(100 * dot.dice)) for dot in dots]
    area = labels.Box(frame.left + 2, frame.top - 4, frame.width - 4, frame.height - frame.bottom - 2)
    names = labels.place([(x, y, dot.name) for (x, y), dot in zip(places, dots, strict=True)], DOT_RADIUS, area)
    parts += [svg.line(*name.leader, "leader") for name in names if name.leader]
    for (x, y), dot in zip(places, dots, strict=True):
        parts.append(svg.circle(x, y, DOT_RADIUS, "dot-float" if dot.is_float else "dot-low", dot.title))
    for name in names:
        middle = (name.box.left + name.box.right) / 2
        parts.append(svg.text(middle, name.box.bottom - 3, name.text, "point-label"))
    return svg.document(POINT_WIDTH, POINT_HEIGHT, f"Dice of {label} against memory", parts)


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 a decade where the range is short, 1 a decade where it is long."""
    steps = (1.0,) if high / low > 1000 else (1.0, 2.0, 5.0)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]


def training_curves(history: tuple[HistoryPoint, ...], classes: tuple[str, ...]) -> list[Markup]:
    """Loss, and validation Dice where it was measured, over the steps of both stages."""
    offset = max((point.step for point in history if point.stage == "float"), default=0)
    loss = {
        stage: [
            (_at(point, offset), point.loss) for point in history if point.stage == stage and point.loss is not None
        ]
        for stage, _ in STAGES
    }
    scores: list[tuple[int, str, str, float]] = [
        (_at(point, offset), point.stage, label, 100 * value)
        for point in history
        for label in classes
        if point.dice and (value := point.dice.get(label)) is not None
    ]
    charts = []
    if any(loss.values()):
        charts.append(_loss_chart(loss, offset))
    if scores:
        charts.append(_dice_chart(scores, classes, offset))
    return charts


def _at(point: HistoryPoint, offset: int) -> int:
    """Fine-tuning is drawn after the float stage that it starts from."""
    return point.step + (offset if point.stage == "quant" else 0)


def _loss_chart(loss: dict[str, list[tuple[int, float]]], offset: int) -> Markup:
    smooth = {stage: _thin(_smoothed(series)) for stage, series in loss.items()}
    values = sorted(value for series in loss.values() for _, value in series)
    high = values[min(len(values) - 1, int(0.995 * len(values)))]  # one wild step must not flatten the rest
    frame, parts = _curve_frame(
        "training loss", [x for series in loss.values() for x, _ in series], values[0], high, offset
    )
    for stage, cls in STAGES:
        raw = [(frame.x(x), frame.y(min(value, high))) for x, value in _thin(loss[stage])]
        parts.append(svg.polyline(raw, f"{cls} faint"))
        parts.append(svg.polyline([(frame.x(x), frame.y(min(value, high))) for x, value in smooth[stage]], cls))
    return svg.document(CURVE_WIDTH, CURVE_HEIGHT, "training loss by step", parts)


def _dice_chart(scores: list[tuple[int, str, str, float]], classes: tuple[str, ...], offset: int) -> Markup:
    values = [value for *_, value in scores]
    frame, parts = _curve_frame("validation Dice (%)", [x for x, *_ in scores], min(values), max(values), offset)
    for index, label in enumerate(classes):
        for stage, cls in STAGES:
            series = [(frame.x(x), frame.y(value)) for x, kind, name, value in scores if (kind, name) == (stage, label)]
            parts.append(svg.polyline(series, f"{cls} dash{index % 4}"))
            parts += [svg.circle(x, y, 2.4, f"{cls}-dot", label) for x, y in series]
        last = [(x, value) for x, _, name, value in scores if name == label][-1:]
        for x, value in last:
            parts.append(svg.text(frame.x(x) - 4, frame.y(value) - 7, label, "point-label", "end"))
    return svg.document(CURVE_WIDTH, CURVE_HEIGHT, "validation Dice by step", parts)


def _curve_frame(title: str, xs: list[int], low: float, high: float, offset: int) -> tuple[svg.Frame, list[Markup]]:
    margin = 0.08 * (high - low) or 0.5
    frame = svg.Frame(CURVE_WIDTH, CURVE_HEIGHT, (0, max([*xs, 1])), (low - margin, high + 2 * margin))
    x_ticks, y_ticks = svg.nice_ticks(*frame.x_range, 6), svg.nice_ticks(*frame.y_range)
    parts = frame.axes(
        title, "step", [(x, f"{x:.0f}") for x in x_ticks], [(y, svg.tick_text(y, y_ticks)) for y in y_ticks]
    )
    if 0 < offset < max(xs, default=0):
        x = frame.x(offset)
        parts.append(svg.line(x, frame.top, x, frame.height - frame.bottom, "divider"))
        parts.append(svg.text(x + 5, frame.top + 8, "low-bit →", "tick", "start"))
    return frame, parts


def _smoothed(series: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Exponential mean over about a fiftieth of the series, of a short one over more."""
    weight = 2 / (max(len(series) / 50, min(len(series) / 6, 10.0)) + 1)
    result: list[tuple[int, float]] = []
    mean = series[0][1] if series else 0.0
    for step, value in series:
        mean += weight * (value - mean)
        result.append((step, mean))
    return result


def _thin(series: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most about CURVE_POINTS points, the last one kept."""
    stride = max(1, math.ceil(len(series) / CURVE_POINTS))
    kept = series[::stride]
    return kept if not series or kept[-1] == series[-1] else [*kept, series[-1]]
