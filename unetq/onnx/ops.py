"""One operation of the program after the other as ONNX nodes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..export.program import Add, Concat, Conv, MaxPool, Mul, Op, Pad, Pointwise, Program, Quantize, Table, Upsample
from ..fixedpoint import Grid
from .convolution import add_convolution, ties_are_common
from .curves import add_curve, recognise, values_of
from .epilogue import Accumulator, add_epilogue, scaled
from .graph import Graph
from .grids import Grids, Operand, Value

F64 = NDArray[np.float64]


class Emitter:
    """Holds the graph and the tensors made so far."""

    def __init__(self, program: Program, graph: Graph, image: str) -> None:
        self.program, self.graph, self.grids = program, graph, Grids(graph)
        self.values = {program.input: Value(image)}

    def emit(self, op: Op) -> None:
        """Add the nodes of ``op`` and remember its output."""
        grid = self.program.tensors[op.output].grid
        if isinstance(op, Quantize):
            made = self.grids.write(self.values[op.inputs[0]].name, grid, op.name)
        elif isinstance(op, Table):
            made = self._table(op, grid)
        elif isinstance(op, Conv):
            exact = self._exact(op)
            acc = add_convolution(self.graph, op, self._joined(op, exact), exact)
            made = self.grids.write(add_epilogue(self.graph, acc, op.epilogue, op.name), grid, op.name, exact)
        elif isinstance(op, Add | Mul | Pointwise) or (isinstance(op, Upsample) and op.epilogue is not None):
            assert op.epilogue is not None
            y = add_epilogue(self.graph, self._accumulator(op), op.epilogue, op.name)
            made = self.grids.write(y, grid, op.name, exact=True)
        else:
            made = self._moved(op)
        self.values[op.output] = made

    def _joined(self, op: Conv, exact: bool) -> Operand:
        """The input of a convolution; several are concatenated and stay on their grid, as codes."""
        single = len(op.inputs) == 1
        value = self.values[op.inputs[0]] if single else self._concatenated(op.inputs, f"{op.name}/inputs")
        return self.grids.read(value, exact)

    def _exact(self, op: Conv) -> bool:
        """True where a convolution reads raw codes: padding, which is the value 0, must be their code 0 then."""
        grid = self.program.tensors[op.inputs[0]].grid
        padded = any(op.pad_before) or any(op.pad_after)
        return ties_are_common(op) and not (padded and grid is not None and grid.zero_point)

    def _concatenated(self, inputs: tuple[int, ...], wanted: str) -> Value:
        names = [self.grids.read(self.values[t]).name for t in inputs]
        joined = self.graph.add("Concat", names, f"{wanted}/joined", axis=1)
        return self.grids.again(joined, self.values[inputs[0]], wanted)

    def _accumulator(self, op: Add | Mul | Pointwise | Upsample) -> Accumulator:
        operands = [self.grids.read(self.values[t], exact=True) for t in op.inputs]
        first, scales = operands[0], tuple(o.scale for o in operands if o.scale is not None)
        if isinstance(op, Add):
            parts = [
                scaled(
                    self.graph,
                    x.name,
                    np.array([np.float64(np.float32(gain)) / x.unit]),
                    () if x.scale is None else (x.scale,),
                    f"{op.name}/part",
                )
                for x, gain in zip(operands, op.input_gain, strict=True)
            ]
            return Accumulator(self.graph.add("Add", parts, f"{op.name}/sum"), np.ones(1))
        if isinstance(op, Mul):
            product = self.graph.add("Mul", [x.name for x in operands], f"{op.name}/product")
            return Accumulator(product, np.array([first.unit * operands[1].unit]), None, scales)
        if isinstance(op, Upsample):
            doubled = sum(f == 2 for f in op.factor)
            name = self._resized(op, first.name, mode="linear", coordinate_transformation_mode="half_pixel")
            return Accumulator(name, np.array([first.unit / 4.0**doubled]), None, scales)
        return Accumulator(first.name, np.array([first.unit]), None, scales)

    def _resized(self, op: Upsample, x: str, **attributes: Any) -> str:
        factors = [1.0, 1.0, *map(float, self.graph.space(op.factor))]
        if set(factors) == {1.0}:
            return x
        scales = self.graph.constant(np.array(factors, np.float32), "factors")
        return self.graph.add("Resize", [x, "", scales], f"{op.name}/resized", **attributes)

    def _moved(self, op: MaxPool | Pad | Concat | Upsample) -> Value:
        """The operations that keep codes and grid, between a DequantizeLinear and a QuantizeLinear of that grid."""
        if isinstance(op, Concat):
            return self._concatenated(op.inputs, op.name)
        g, value = self.graph, self.values[op.inputs[0]]
        x = self.grids.read(value).name
        if isinstance(op, Upsample):
            nearest = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            y = self._resized(op, x, mode="nearest", **nearest)
        elif isinstance(op, MaxPool):
            padding = g.space(op.padding)
            attributes = {"kernel_shape": g.space(op.kernel), "strides": g.space(op.stride)}
            y = g.add("MaxPool", [x], f"{op.name}/most", **attributes, pads=[*padding, *padding])
        else:
            pads = g.constant(np.array(g.pads(g.space(op.before), g.space(op.after)), np.int64), "pads")
            replicate = op.mode == "replicate"
            inputs = [x, pads] if replicate else [x, pads, g.number(0.0)]
            y = g.add("Pad", inputs, f"{op.name}/padded", mode="edge" if replicate else "constant")
        return self.grids.again(y, value, op.name)

    def _table(self, op: Table, target: Grid | None) -> Value:
        """A known curve where the table is exactly its rounding, else a Gather of the values it holds."""
        value = self.values[op.inputs[0]]
        source = value.grid
        assert source is not None and target is not None
        curve = recognise(op.table, source, target)
        if curve is not None:
            y = add_curve(self.graph, curve, self.grids.read(value).name, f"{op.name}/{curve.lower()}")
            return self.grids.write(y, target, op.name, exact=True)
        raw = self.grids.read(value, exact=True)
        codes = raw.name
        if raw.unit != 1.0:
            codes = self.graph.add("Mul", [codes, self.graph.number(1.0 / raw.unit)], f"{op.name}/codes")
        index = self.graph.add(
            "Cast", [codes], f"{op.name}/index", to=6
        )  # INT32; Gather counts negative ones from the end
        table = self.graph.constant(values_of(op.table, target), f"{op.name}/table")
        y = self.graph.add("Gather", [table, index], f"{op.name}/value", axis=0)
        return self.grids.again(y, Value("", target), op.name)
