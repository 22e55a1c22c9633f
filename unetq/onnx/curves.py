"""Which function a table of codes is: so that the graph says Sigmoid and not 256 numbers."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..fixedpoint import F32, Grid, dequantize, quantize
from .graph import Graph

Curve = Callable[[NDArray[np.float64]], NDArray[Any]]

CURVES: dict[str, Curve] = {
    "Sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "Tanh": np.tanh,
    "Elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))),
    "Silu": lambda x: x / (1.0 + np.exp(-x)),
    "Gelu": lambda x: 0.5 * x * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0))),
    "Softplus": lambda x: np.logaddexp(0.0, x),
    "HardSigmoid": lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "HardSwish": lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
}


def _codes(grid: Grid) -> NDArray[np.int64]:
    return np.arange(grid.low, grid.high + 1)


def recognise(table: NDArray[np.int16], source: Grid, target: Grid) -> str | None:
    """The name of the curve whose values, rounded onto ``target``, are ``table`` at every code of ``source``.

    None where there is none, or where a value lies so near the boundary of two codes (1e-4 of a step) that an engine's
    own approximation could fall on the other side.
    """
    codes = _codes(source)
    x = dequantize(codes, source).astype(np.float64)
    entries = table[codes & 0xFF]
    for name, curve in CURVES.items():
        with np.errstate(over="ignore"):
            y = curve(x)
        steps = y / target.scale
        boundary = np.rint(steps) if target.rounding == "toward_zero" else np.floor(steps) + 0.5
        if np.array_equal(quantize(y.astype(np.float32), target), entries) and (abs(steps - boundary) > 1e-4).all():
            return name
    return None


def values_of(table: NDArray[np.int16], target: Grid) -> F32:
    """The table's entries as real values of ``target``, float32 (256,)."""
    return dequantize(table, target)


def add_curve(graph: Graph, name: str, x: str, wanted: str) -> str:
    """Nodes of a curve of ``CURVES`` that every opset from 13 has."""
    if name in ("Silu", "HardSwish"):
        factor = "Sigmoid" if name == "Silu" else "HardSigmoid"
        attributes = {} if name == "Silu" else {"alpha": 1.0 / 6.0, "beta": 0.5}
        return graph.add("Mul", [x, graph.add(factor, [x], f"{wanted}/factor", **attributes)], wanted)
    if name == "Gelu":
        erf = graph.add("Erf", [graph.add("Mul", [x, graph.number(math.sqrt(0.5))], f"{wanted}/in")], f"{wanted}/erf")
        factor = graph.add("Add", [erf, graph.number(1.0)], f"{wanted}/factor")
        half = graph.add("Mul", [x, graph.number(0.5)], f"{wanted}/half")
        return graph.add("Mul", [half, factor], wanted)
    if name == "HardSigmoid":
        return graph.add(name, [x], wanted, alpha=1.0 / 6.0, beta=0.5)
    return graph.add(name, [x], wanted)
