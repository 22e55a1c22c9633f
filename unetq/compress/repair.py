"""Allocations brought inside limits one width at a time, by what they really take: where no linear form tells.

The runtime's plan holds working memory of kernels and lets results overwrite what dies; neither is linear in the
widths, nor even monotonous. So where the solver finds nothing, its last choice is repaired: narrow the one tensor that
brings the plan down the most, plan again, until it fits; then widen again what still fits, best score first.
"""

from collections.abc import Callable, Mapping
from typing import Any

from .memory import storage_bits
from .space import Allocation, Variable

Excess = Callable[[Allocation], float]
"""The share by which an allocation exceeds the limits; 0 or less: it is inside."""


def repaired(
    start: Allocation, score: Mapping[Variable, Mapping[int, float]], variables: list[Variable], excess: Excess
) -> Allocation | None:
    """``start`` with some of ``variables`` narrower, inside the limits; None where this way leads nowhere.

    Args:
        score: by variable and width, lower is better. variables: those that may be changed.
        excess: exact; it is asked for each neighbour.
    """
    found, over = start, excess(start)
    while over > 0.0:
        steps = [(v, bits) for v in variables if (bits := _narrower(score[v], found[v])) is not None]
        if not steps:
            return None
        # Several operations may share the peak: then no single step shows, and the cheapest one goes first.
        each = [(excess(found.having(v, bits)), score[v][bits] - score[v][found[v]], v, bits) for v, bits in steps]
        over, _, variable, bits = min(each, key=lambda item: (item[0], item[1], str(item[2])))
        found = found.having(variable, bits)
    return widened(found, score, variables, excess)


def widened(
    start: Allocation, score: Mapping[Variable, Mapping[int, float]], variables: list[Variable], excess: Excess
) -> Allocation:
    """``start`` with each of ``variables`` as wide as still fits, those whose score gains most first.

    Where a wider one does not score better, it stays as it is.
    """
    found = start
    gains = [(score[v][bits] - score[v][start[v]], v, bits) for v in variables for bits in score[v] if bits > start[v]]
    for gain, variable, bits in sorted(gains, key=lambda item: (item[0], str(item[1]))):
        if gain < 0.0 and bits > found[variable] and excess(found.having(variable, bits)) <= 0.0:
            found = found.having(variable, bits)
    return found


def _narrower(widths: Mapping[int, Any], bits: int) -> int | None:
    """The widest width that takes less memory than ``bits``; None where there is none."""
    return max((b for b in widths if storage_bits(b) < storage_bits(bits)), default=None)
