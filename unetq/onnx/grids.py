"""Grids in ONNX: how codes are stored, how real values become codes, and how codes are read again.

Codes of activations are INT8 or UINT8 whatever their width; a narrower grid has a Clip to its own codes between the
pair (QuantizeLinear, Clip, DequantizeLinear: the "QCDQ" form). The 4-bit types of opset 21 are for weights only:
engines take them there, but not as activations (onnxruntime 1.31 moves a MaxPool onto them and then has no kernel).

The step of a grid is the scale of its pair. The program multiplies by the inverse where ONNX divides: the same for a
power of two. Where a step is no power of two and exact ties are common (sums, products and linear upsampling of
codes), the division would decide them differently, so there the value is multiplied by the inverse explicitly and
quantised with scale 1; the program's toward-zero rounding and dynamic scales are made in the same way.
"""

from dataclasses import dataclass, field

import numpy as np

from ..fixedpoint import Grid
from .graph import Graph

SMALLEST, LARGEST = 2.0**-126, 2.0**126  # a dynamic scale outside them is 1; see fixedpoint.dynamic_scale


def is_power_of_two(value: float) -> bool:
    """True where multiplying by ``value`` only changes the exponent."""
    return float(np.frexp(value)[0]) == 0.5


def stored_type(grid: Grid) -> type[np.int8] | type[np.uint8]:
    """The type of a grid's codes; its zero-point constant tells it to QuantizeLinear."""
    return np.int8 if grid.signed else np.uint8


@dataclass
class Value:
    """A tensor of the program in the graph: a float32 name, or codes on ``grid``, with the name of a dynamic scale."""

    name: str
    grid: Grid | None = None
    scale: str | None = None
    read: dict[bool, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Operand:
    """A float32 name whose values are ``(code - zero) * unit``; ``scale`` is what a dynamic grid adds to that."""

    name: str
    unit: float = 1.0
    zero: int = 0
    scale: str | None = None


class Grids:
    """Quantises and reads tensors of one graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def _zero(self, grid: Grid, code: int) -> str:
        return self.graph.constant(np.array(code, stored_type(grid)), "zero_point")

    def read(self, value: Value, exact: bool = False) -> Operand:
        """What a convolution (``exact`` False) or an operation with frequent ties computes with."""
        grid = value.grid
        if grid is None:
            return Operand(value.name)
        raw = grid.dynamic or (exact and (grid.zero_point != 0 or not is_power_of_two(grid.scale)))
        if raw not in value.read:
            scale = self.graph.number(1.0 if raw else grid.scale, "scale")
            inputs = [value.name, scale, self._zero(grid, 0 if raw else grid.zero_point)]
            value.read[raw] = self.graph.add("DequantizeLinear", inputs, f"{value.name}/{'codes' if raw else 'real'}")
        unit, zero = (1.0, 0) if raw else (grid.scale, grid.zero_point)
        return Operand(value.read[raw], unit, zero, value.scale)

    def write(self, y: str, grid: Grid | None, wanted: str, exact: bool = False) -> Value:
        """Real values onto a tensor's grid."""
        if grid is None:
            return Value(y)
        scale = None
        unit = grid.scale
        if grid.dynamic:
            scale = self._dynamic_scale(y, grid, wanted)
            inverse = self.graph.add("Div", [self.graph.number(1.0), scale], f"{wanted}/inverse")
            y, unit = self.graph.add("Mul", [y, inverse], f"{wanted}/scaled"), 1.0
        elif grid.rounding == "toward_zero" or (exact and not is_power_of_two(unit)):
            y, unit = self.graph.add("Mul", [y, self.graph.number(float(grid.inverse_scale))], f"{wanted}/scaled"), 1.0
        if grid.rounding == "toward_zero":
            y = self._toward_zero(y, wanted)
        return Value(self._codes(y, grid, unit, wanted), grid, scale)

    def again(self, y: str, like: Value, wanted: str) -> Value:
        """Values that already lie on the grid of ``like``, as they were read from it, back to codes."""
        grid = like.grid
        if grid is None:
            return Value(y)
        name = self._quantize(y, grid, 1.0 if grid.dynamic else grid.scale, wanted)
        return Value(name, grid, like.scale)

    def _toward_zero(self, y: str, wanted: str) -> str:
        size = self.graph.add("Floor", [self.graph.add("Abs", [y], f"{wanted}/size")], f"{wanted}/whole")
        return self.graph.add("Mul", [self.graph.add("Sign", [y], f"{wanted}/sign"), size], f"{wanted}/truncated")

    def _dynamic_scale(self, y: str, grid: Grid, wanted: str) -> str:
        """(N, 1, …): the largest magnitude of each image over the largest code; 1 where that is no normal number."""
        g = self.graph
        axes = list(range(1, g.axes))
        size = g.add("Abs", [y], f"{wanted}/magnitude")
        if g.opset >= 18:
            most = g.add("ReduceMax", [size, g.constant(np.array(axes, np.int64), "axes")], f"{wanted}/largest")
        else:
            most = g.add("ReduceMax", [size], f"{wanted}/largest", axes=axes)
        found = g.add("Div", [most, g.number(grid.high)], f"{wanted}/found")
        low = g.add("GreaterOrEqual", [found, g.number(SMALLEST)], f"{wanted}/not_small")
        high = g.add("LessOrEqual", [found, g.number(LARGEST)], f"{wanted}/not_large")
        usable = g.add("And", [low, high], f"{wanted}/usable")
        return g.add("Where", [usable, found, g.number(1.0)], f"{wanted}/scale")

    def _codes(self, y: str, grid: Grid, unit: float, wanted: str) -> str:
        kind = stored_type(grid)
        limits = np.iinfo(kind)
        if (grid.low, grid.high) == (limits.min, limits.max):
            return self._quantize(y, grid, unit, wanted)
        bounds = [self.graph.constant(np.array(bound, kind), "bound") for bound in (grid.low, grid.high)]
        return self.graph.add("Clip", [self._quantize(y, grid, unit, f"{wanted}/wide"), *bounds], wanted)

    def _quantize(self, y: str, grid: Grid, unit: float, wanted: str) -> str:
        inputs = [y, self.graph.number(unit, "scale"), self._zero(grid, grid.zero_point)]
        return self.graph.add("QuantizeLinear", inputs, wanted)
