"""An ONNX graph under construction: nodes in order, constants kept once, names that are unique and repeatable."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

Array = NDArray[Any]
TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float64): TensorProto.DOUBLE,
    np.dtype(np.int8): TensorProto.INT8,
    np.dtype(np.uint8): TensorProto.UINT8,
    np.dtype(np.int32): TensorProto.INT32,
    np.dtype(np.int64): TensorProto.INT64,
}


def _nibbles(codes: Array) -> bytes:
    """Two 4-bit codes a byte, the first in the low half, as ONNX packs them."""
    flat = (codes.reshape(-1).astype(np.int16) & 0xF).astype(np.uint8)
    if flat.size % 2:
        flat = np.append(flat, np.uint8(0))
    return bytes(flat[0::2] | (flat[1::2] << 4))


class Graph:
    """Collects nodes and constants; every method that adds a node returns the name of its result.

    ``axes`` is the number of axes of every activation: batch, channels, and two or three of space;
    ``norm_nodes`` asks for nodes in place of norms spelled out.
    """

    def __init__(self, opset: int, axes: int, norm_nodes: bool = False) -> None:
        self.opset, self.axes, self.norm_nodes = opset, axes, norm_nodes
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._constants: dict[tuple[Any, ...], str] = {}
        self._taken: dict[str, int] = {}

    def name(self, wanted: str) -> str:
        """``wanted``, or with a number behind it where that is taken."""
        count = self._taken.get(wanted, 0)
        self._taken[wanted] = count + 1
        return self.name(f"{wanted}_{count}") if count else wanted

    def constant(self, values: Array, wanted: str, kind: int | None = None) -> str:
        """The name of an initializer; equal ones are kept once. ``kind`` is INT4 for such codes."""
        array = np.asarray(values, order="C")
        kind = TYPES[array.dtype] if kind is None else kind
        data = _nibbles(array) if kind == TensorProto.INT4 else array.astype(array.dtype.newbyteorder("<")).tobytes()
        key = (kind, array.shape, data)
        if key not in self._constants:
            tensor = TensorProto(name=self.name(wanted), data_type=kind, dims=list(array.shape), raw_data=data)
            self.initializers.append(tensor)
            self._constants[key] = tensor.name
        return self._constants[key]

    def number(self, value: float, wanted: str = "number") -> str:
        """A float32 scalar."""
        return self.constant(np.array(value, np.float32), wanted)

    def column(self, values: Array, wanted: str) -> str:
        """One float32 a channel, shaped so that it broadcasts over batch and space."""
        return self.constant(np.asarray(values, np.float32).reshape(-1, *([1] * (self.axes - 2))), wanted)

    def add(self, op: str, inputs: Sequence[str], wanted: str, **attributes: Any) -> str:
        """Append a node of one result."""
        output = self.name(wanted)
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def pads(self, before: Sequence[int], after: Sequence[int]) -> list[int]:
        """Padding of all axes in ONNX's order, from that of the axes of space."""
        return [0, 0, *before, 0, 0, *after]

    def space(self, triple: Sequence[int]) -> list[int]:
        """The entries of (depth, height, width) that this graph has."""
        return [int(v) for v in triple[5 - self.axes :]]
