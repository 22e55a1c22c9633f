"""Place the names of dots so that they cover neither each other nor a dot."""

import math
from dataclasses import dataclass

# Widths of bold characters at the size of a point label (11 px), of a wide typeface; the reader's own is unknown.
NARROW, PLAIN, CAPITAL, WIDE = 5.2, 7.9, 8.8, 12.2
HEIGHT = 13.0
GAP = 9.0  # from a dot's centre to the near edge of a name beside it
LONGEST = 26
DISTANCES = (0.0, 7.0, 14.0, 22.0, 31.0, 42.0, 55.0, 70.0, 90.0, 115.0, 145.0)
# Beside the dot first, then every 15 degrees.
DIRECTIONS = tuple(math.radians(angle) for angle in (-90, 90, 0, 180, *(a for a in range(-165, 180, 15) if a % 90)))
PASSES = 3
LEADER_FROM = 8.0  # a name this far away needs a line to its dot


@dataclass(frozen=True)
class Box:
    """A rectangle in a drawing, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box") -> float:
        """Common area."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The point of the rectangle that is closest to (x, y)."""
        return min(max(x, self.left), self.right), min(max(y, self.top), self.bottom)

    def crossed_by(self, x1: float, y1: float, x2: float, y2: float) -> bool:
        """Whether a line passes through, looked at every few pixels."""
        steps = max(2, math.ceil(math.hypot(x2 - x1, y2 - y1) / 3))
        return any(
            self.left < x1 + (x2 - x1) * k / steps < self.right and self.top < y1 + (y2 - y1) * k / steps < self.bottom
            for k in range(steps + 1)
        )


@dataclass(frozen=True)
class Label:
    """A placed name: its text, its rectangle, and the line to its dot, None where it stands beside it."""

    text: str
    box: Box
    leader: tuple[float, float, float, float] | None


def shortened(name: str) -> str:
    """At most LONGEST characters; the end is kept, as run names differ there."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 3]}…{name[-(LONGEST - LONGEST // 3 - 1) :]}"


def place(dots: list[tuple[float, float, str]], radius: float, area: Box) -> list[Label]:
    """One label a dot ``(x, y, name)``, in the dots' order, inside ``area``.

    Dots in a crowd choose last-resort places further out, with a leader line. Where nothing is free (dozens
    of runs in one spot) the place that covers least is taken.
    """
    obstacles = [_around(x, y, radius + 1.0) for x, y, _ in dots]
    placed: dict[int, Label] = {}
    # Those with few neighbours have the most freedom and the least need of it: the crowded ones go first. Later
    # passes let each one move now that all others are known.
    order = sorted(range(len(dots)), key=lambda i: (-_crowd(dots, i), dots[i][1], dots[i][0]))
    for index in order * PASSES:
        x, y, name = dots[index]
        text = shortened(name)
        others = [label for number, label in placed.items() if number != index]
        best: tuple[float, Label] | None = None
        for distance in DISTANCES:
            for preference, angle in enumerate(DIRECTIONS):
                label = _candidate(x, y, text, distance, angle, area)
                cost = 0.5 * preference + _cost(label, index, x, y, obstacles, others)
                if best is None or cost < best[0]:
                    best = cost, label
            if best is not None and best[0] < GAP + distance:
                break  # whatever is further away costs more
        assert best is not None
        placed[index] = best[1]
    return [placed[index] for index in range(len(dots))]


def text_width(text: str) -> float:
    """About how wide ``text`` is drawn, rather too wide than too narrow."""
    return sum(
        NARROW
        if character in "iljftr.,:;|'-()[] I"
        else WIDE
        if character in "WMmw@%…"
        else CAPITAL
        if character.isupper()
        else PLAIN
        for character in text
    )


def _around(x: float, y: float, radius: float) -> Box:
    return Box(x - radius, y - radius, x + radius, y + radius)


def _crowd(dots: list[tuple[float, float, str]], index: int) -> int:
    x, y, _ = dots[index]
    return sum(abs(x - other_x) < 70 and abs(y - other_y) < 30 for other_x, other_y, _ in dots)


def _candidate(x: float, y: float, text: str, distance: float, angle: float, area: Box) -> Label:
    """The name at an angle from its dot, pushed back into the area where it would leave it."""
    half_width, half_height = text_width(text) / 2, HEIGHT / 2
    reach = GAP + distance
    # The box touches a circle around the dot with the middle of a side, or with a corner where the way is oblique.
    across, along = math.cos(angle), math.sin(angle)
    centre_x = x + across * reach + min(max(1.6 * across, -1.0), 1.0) * half_width
    centre_y = y + along * reach + min(max(1.6 * along, -1.0), 1.0) * half_height
    centre_x = min(max(centre_x, area.left + half_width), max(area.right - half_width, area.left + half_width))
    centre_y = min(max(centre_y, area.top + half_height), max(area.bottom - half_height, area.top + half_height))
    box = Box(centre_x - half_width, centre_y - half_height, centre_x + half_width, centre_y + half_height)
    end_x, end_y = box.nearest(x, y)
    far = math.hypot(end_x - x, end_y - y) >= GAP + LEADER_FROM - 1
    return Label(text, box, (x, y, end_x, end_y) if far else None)


def _cost(label: Label, index: int, x: float, y: float, obstacles: list[Box], taken: list[Label]) -> float:
    """Covering is what counts; crossing lines come next, distance last."""
    box = label.box
    cost = 100.0 * sum(box.overlap(dot) for dot in obstacles) + 50.0 * sum(box.overlap(other.box) for other in taken)
    for other in taken:
        if other.leader and box.crossed_by(*other.leader):
            cost += 400.0
        if label.leader and other.box.crossed_by(*label.leader):
            cost += 400.0
        if label.leader and other.leader and _cross(label.leader, other.leader):
            cost += 60.0
    if label.leader:
        cost += 30.0 + 150.0 * sum(
            dot.crossed_by(*label.leader) for number, dot in enumerate(obstacles) if number != index
        )
    end_x, end_y = box.nearest(x, y)
    return cost + math.hypot(end_x - x, end_y - y)


def _cross(one: tuple[float, float, float, float], two: tuple[float, float, float, float]) -> bool:
    """Whether two line segments cross."""

    def side(line: tuple[float, float, float, float], x: float, y: float) -> float:
        return (line[2] - line[0]) * (y - line[1]) - (line[3] - line[1]) * (x - line[0])

    return (
        side(one, two[0], two[1]) * side(one, two[2], two[3]) < 0
        and side(two, one[0], one[1]) * side(two, one[2], one[3]) < 0
    )
