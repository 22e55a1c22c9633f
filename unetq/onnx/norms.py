"""Instance and group norm in ONNX, in one of two ways.

Spelled out (the default): sums of the accumulator and its squares, mean, variance and root in float64, the gain and
offset rounded to float32 once, then one Mul and one Add, as ``unetq.export.norms`` has it. The sums of integers that
float64 holds exactly are the program's, whatever their order, so all codes stay the program's.

As nodes: InstanceNormalization and GroupNormalization, for engines without float64. Their statistics are float32 and
they subtract the mean first, so single codes move by one behind each norm; deep networks whose norms follow each
other spread that.
"""

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from ..export.program import InstanceNorm
from ..fixedpoint import F32
from .graph import Graph

F64 = NDArray[np.float64]
GROUP_NORM_OPSET = 21  # the first GroupNormalization with a scale and bias for each channel


class _Doubles:
    """Arithmetic on float64 names."""

    def __init__(self, graph: Graph, wanted: str) -> None:
        self.graph, self.wanted = graph, wanted

    def __call__(self, op: str, *inputs: str) -> str:
        return self.graph.add(op, inputs, f"{self.wanted}/{op.lower()}")

    def cast(self, name: str, kind: int = TensorProto.DOUBLE) -> str:
        return self.graph.add("Cast", [name], f"{self.wanted}/cast", to=int(kind))

    def constant(self, values: F64 | float, shape: list[int] | None = None) -> str:
        array = np.asarray(values, np.float64)
        return self.graph.constant(array if shape is None else array.reshape(shape), "double")

    def sum(self, name: str, axes: list[int]) -> str:
        where = self.graph.constant(np.array(axes, np.int64), "axes")
        return self.graph.add("ReduceSum", [name, where], f"{self.wanted}/total", keepdims=1)

    def reshape(self, name: str, shape: list[int]) -> str:
        return self("Reshape", name, self.graph.constant(np.array(shape, np.int64), "shape"))


def exact_affine(
    graph: Graph, acc: str, gain: F64 | str, offset: F32, norm: InstanceNorm, wanted: str
) -> tuple[str, str]:
    """Float32 gain and offset (N, C, 1, …) that normalise the values ``acc`` (N, C, …) of each image.

    ``gain`` (C,) brings the values of ``acc`` to what the norm sees, or names a float32 (N, C, 1, …) that does;
    ``offset`` is added there (group norm only).
    """
    d, groups = _Doubles(graph, wanted), norm.groups
    channels, space = len(norm.weight), list(range(2, graph.axes))
    per_channel = [1, groups, channels // groups] if groups else [1, channels, *([1] * len(space))]
    values = d.cast(acc)
    total, squares = d.sum(values, space), d.sum(d("Mul", values, values), space)
    sizes = graph.add("Gather", [d("Shape", acc), graph.constant(np.array(space, np.int64), "axes")], f"{wanted}/sizes")
    count = d.cast(graph.add("ReduceProd", [sizes], f"{wanted}/count", keepdims=0))
    g = d.cast(gain) if isinstance(gain, str) else d.constant(np.broadcast_to(gain, channels), per_channel)
    weight, bias = (
        d.constant(norm.weight.astype(np.float64), per_channel),
        d.constant(norm.bias.astype(np.float64), per_channel),
    )
    eps = d.constant(float(norm.eps))
    if not groups:
        mean, mean_square = d("Div", total, count), d("Div", squares, count)
        variance = d("Max", d("Sub", mean_square, d("Mul", mean, mean)), d.constant(0.0))
        scaled = d("Mul", d("Mul", variance, g), g)
        root = d("Div", d.constant(1.0), d("Sqrt", d("Add", scaled, eps)))
        a = d("Mul", d("Mul", g, root), weight)
        b = d("Sub", bias, d("Mul", mean, a))
        return d.cast(a, TensorProto.FLOAT), d.cast(b, TensorProto.FLOAT)
    rows = [0, groups, channels // groups]
    total, squares = d.reshape(total, rows), d.reshape(squares, rows)
    if isinstance(gain, str):
        g = d.reshape(g, rows)
    o = d.constant(offset.astype(np.float64), per_channel)
    spread = d("Mul", count, o)
    twice = d("Mul", d("Mul", d("Mul", d.constant(2.0), g), o), total)
    power = d("Add", d("Add", d("Mul", d("Mul", g, g), squares), twice), d("Mul", spread, o))
    number = d("Mul", count, d.constant(float(channels // groups)))
    mean = d("Div", d.sum(d("Add", d("Mul", g, total), spread), [2]), number)
    mean_square = d("Div", d.sum(power, [2]), number)
    variance = d("Max", d("Sub", mean_square, d("Mul", mean, mean)), d.constant(0.0))
    root = d("Div", d.constant(1.0), d("Sqrt", d("Add", variance, eps)))
    a = d("Mul", d("Mul", g, root), weight)
    b = d("Add", d("Mul", d("Mul", d("Sub", o, mean), root), weight), bias)
    column = [0, channels, *([1] * len(space))]
    return d.cast(d.reshape(a, column), TensorProto.FLOAT), d.cast(d.reshape(b, column), TensorProto.FLOAT)


def norm_node(graph: Graph, y: str, norm: InstanceNorm, wanted: str) -> str:
    """A node of the opset's own over the real values ``y``; group norm below opset 21 as an instance norm of groups."""
    if norm.groups == 0 or graph.opset >= GROUP_NORM_OPSET:
        inputs = [y, graph.constant(norm.weight, "norm_weight"), graph.constant(norm.bias, "norm_bias")]
        if norm.groups == 0:
            return graph.add("InstanceNormalization", inputs, wanted, epsilon=float(norm.eps))
        return graph.add("GroupNormalization", inputs, wanted, epsilon=float(norm.eps), num_groups=norm.groups)
    # A 0 in the shape keeps the batch.
    flat = graph.constant(np.array([0, norm.groups, -1], np.int64), "shape")
    ones, zeros = np.ones(norm.groups, np.float32), np.zeros(norm.groups, np.float32)
    rows = graph.add("Reshape", [y, flat], f"{wanted}/groups")
    inputs = [rows, graph.constant(ones, "ones"), graph.constant(zeros, "zeros")]
    normal = graph.add("InstanceNormalization", inputs, f"{wanted}/normal", epsilon=float(norm.eps))
    back = graph.add("Reshape", [normal, graph.add("Shape", [y], f"{wanted}/shape")], f"{wanted}/channels")
    weighted = graph.add("Mul", [back, graph.column(norm.weight, "norm_weight")], f"{wanted}/weighted")
    return graph.add("Add", [weighted, graph.column(norm.bias, "norm_bias")], wanted)
