"""Small charts as inline SVG: colours come from the page's CSS, so they follow light, dark and print."""

import math
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

TAG_TEXT = Markup('<text class="{cls}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>')
TAG_LINE = Markup('<line class="{cls}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')


def text(x: float, y: float, content: str, cls: str = "tick", anchor: str = "middle") -> Markup:
    """One escaped line of text."""
    return TAG_TEXT.format(cls=cls, x=x, y=y, anchor=anchor, text=content)


def line(x1: float, y1: float, x2: float, y2: float, cls: str) -> Markup:
    """One straight line."""
    return TAG_LINE.format(cls=cls, x1=x1, y1=y1, x2=x2, y2=y2)


def polyline(points: list[tuple[float, float]], cls: str) -> Markup:
    """An open line through ``points``."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Markup('<polyline class="{}" points="{}"/>').format(cls, path)


def circle(x: float, y: float, radius: float, cls: str, title: str = "") -> Markup:
    """A dot with a tooltip."""
    return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>').format(
        cls, x, y, radius, title
    )


def document(width: int, height: int, title: str, parts: list[Markup]) -> Markup:
    """The ``<svg>`` element, labelled for screen readers."""
    body = Markup("").join(parts)
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, title, body
    )


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round numbers within ``low … high``."""
    if not high > low:
        return [low]
    raw = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.8), 10 * power)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 a decade where the range is short, 1 a decade where it is long."""
    steps = (1.0,) if high / low > 1000 else (1.0, 2.0, 5.0)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]


def tick_text(value: float, ticks: list[float]) -> str:
    """``value`` with just the decimals that tell its ticks apart."""
    step = min((b - a for a, b in pairwise(ticks)), default=abs(value) or 1.0)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 0
    if decimals < 6 and abs(round(step, decimals) - step) > 1e-9 * max(abs(step), 1e-12):
        decimals += 1  # 2.5, 0.25, …
    return f"{value:.{decimals}f}".replace("-", "−")


@dataclass(frozen=True)
class Frame:
    """A plotting area inside a drawing, with its two scales."""

    width: int
    height: int
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    log_x: bool = False
    log_y: bool = False
    left: int = 46
    right: int = 16
    top: int = 26
    bottom: int = 40

    def x(self, value: float) -> float:
        """Horizontal position of a value."""
        low, high = self.x_range
        if self.log_x:
            value, low, high = math.log(value), math.log(low), math.log(high)
        share = (value - low) / (high - low) if high > low else 0.5
        return self.left + share * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        """Vertical position of a value."""
        low, high = self.y_range
        if self.log_y:
            value, low, high = math.log(value), math.log(low), math.log(high)
        share = (value - low) / (high - low) if high > low else 0.5
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)

    def axes(
        self, title: str, x_label: str, x_ticks: list[tuple[float, str]], y_ticks: list[tuple[float, str]]
    ) -> list[Markup]:
        """Title, grid lines and tick labels."""
        floor = self.height - self.bottom
        parts = [text(self.left, 14, title, "chart-title", "start")]
        for value, label in y_ticks:
            parts.append(line(self.left, self.y(value), self.width - self.right, self.y(value), "grid"))
            parts.append(text(self.left - 6, self.y(value) + 3.5, label, "tick", "end"))
        for value, label in x_ticks:
            parts.append(line(self.x(value), floor, self.x(value), floor + 4, "axis"))
            parts.append(text(self.x(value), floor + 16, label))
        parts.append(line(self.left, floor, self.width - self.right, floor, "axis"))
        parts.append(text((self.left + self.width - self.right) / 2, self.height - 6, x_label, "axis-label"))
        return parts
