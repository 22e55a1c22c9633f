"""How a run was trained: loss and validation Dice over the steps."""

import math

from markupsafe import Markup

from . import svg
from .schema import HistoryPoint

CURVE_WIDTH, CURVE_HEIGHT = 460, 220
CURVE_POINTS = 300
STAGES = (("float", "curve-float"), ("quant", "curve-quant"))


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
