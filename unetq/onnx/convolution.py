"""Convolutions in ONNX: integer weights behind a DequantizeLinear, padding as ONNX allows it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from ..export.program import Conv
from .epilogue import Accumulator
from .graph import Graph
from .grids import Operand, is_power_of_two

Array = NDArray[Any]
INT4_OPSET, INT4_RANGE = 21, (-8, 7)


def onnx_layout(op: Conv, axes: int) -> Array:
    """The weight as Conv (O, I / groups, …) or ConvTranspose (I, O / groups, …) has it."""
    weight: Array = op.weight[:, :, 0] if axes == 4 else op.weight
    if op.transposed:
        parts = weight.reshape(op.groups, weight.shape[0] // op.groups, *weight.shape[1:]).swapaxes(1, 2)
        weight = parts.reshape(-1, *parts.shape[2:])
    return np.ascontiguousarray(weight)


def ties_are_common(op: Conv) -> bool:
    """True for an average pooling: a sum of few codes, each with the same weight."""
    return op.weight_kind != "float32" and op.groups > 1 and bool((op.weight == op.weight.flat[0]).all())


def _weight_scale(op: Conv, exact: bool) -> NDArray[np.float64]:
    """The step of each output channel's weights that the graph's DequantizeLinear multiplies by, (1,) or (O,)."""
    scale = np.asarray(op.weight_scale, np.float64).reshape(-1)
    if op.transposed and op.groups > 1 and not (scale == scale[0]).all():
        return np.ones(1)  # ConvTranspose has the channels of a group on one axis: no scale for each of all
    if exact and not all(is_power_of_two(float(v)) for v in scale):
        return np.ones(1)
    return scale[:1] if (scale == scale[0]).all() else scale


def _code_range(op: Conv) -> tuple[int, int]:
    """What weights of that kind and width can be; "codebook" and "shifted" ones may be any int8 number."""
    if op.weight_kind == "binary":
        return -1, 1
    if op.weight_kind == "twos_complement":
        return -(1 << (op.weight_bits - 1)), (1 << (op.weight_bits - 1)) - 1
    return -128, 127


def _weight(graph: Graph, op: Conv, scale: NDArray[np.float64]) -> str:
    """The weights as real numbers: 4-bit types where the codes fit and the opset has them, else INT8 with a Clip."""
    weight = onnx_layout(op, graph.axes)
    if op.weight_kind == "float32":
        return graph.constant(weight.astype(np.float32), f"{op.name}/weight")
    codes = weight.astype(np.int8)
    low, high = INT4_RANGE
    small = graph.opset >= INT4_OPSET and low <= codes.min(initial=0) and codes.max(initial=0) <= high
    kind = int(TensorProto.INT4 if small else TensorProto.INT8)
    name = graph.constant(codes, f"{op.name}/weight", kind)
    limits = _code_range(op)
    if not small and limits != (-128, 127):
        bounds = [graph.constant(np.array(bound, np.int8), "bound") for bound in limits]
        name = graph.add("Clip", [name, *bounds], f"{op.name}/weight_clipped")
    channels = scale.size > 1
    single = scale.astype(np.float32) if channels else np.float32(scale[0])
    zero = np.zeros(scale.size, np.int8) if channels else np.array(0, np.int8)
    inputs = [
        name,
        graph.constant(np.asarray(single), f"{op.name}/weight_scale"),
        graph.constant(zero, "zero_point", kind),
    ]
    axis = {"axis": 1 if op.transposed else 0} if channels else {}
    return graph.add("DequantizeLinear", inputs, f"{op.name}/weight_real", **axis)


def _padded(graph: Graph, name: str, before: list[int], after: list[int], value: float, wanted: str) -> str:
    pads = graph.constant(np.array(graph.pads(before, after), np.int64), "pads")
    return graph.add("Pad", [name, pads, graph.number(value)], wanted)


def add_convolution(graph: Graph, op: Conv, x: Operand, exact: bool) -> Accumulator:
    """The accumulator of a convolution over ``x``.

    Paddings are the node's own where ONNX takes them; a negative one (fewer outputs, or more of a transposed
    convolution) and the padding of raw codes with a zero-point that ``x`` still holds become a Pad.
    """
    before, after = graph.space(op.pad_before), graph.space(op.pad_after)
    extra = graph.space(op.output_padding)
    scale = np.ones(1) if op.weight_kind == "float32" else _weight_scale(op, exact)
    name = x.name
    attributes: dict[str, Any] = {
        "kernel_shape": graph.space(op.weight.shape[2:]),
        "strides": graph.space(op.stride),
        "dilations": graph.space(op.dilation),
        "group": op.groups,
    }
    weight = _weight(graph, op, scale)
    none = [0] * len(before)
    if op.transposed:
        grow = [max(-a, 0) + (e if a < 0 else 0) for a, e in zip(after, extra, strict=True)]
        attributes |= {
            "pads": [*before, *(max(a, 0) for a in after)],
            "output_padding": [0 if a < 0 else e for a, e in zip(after, extra, strict=True)],
        }
        y = graph.add("ConvTranspose", [name, weight], f"{op.name}/sum", **attributes)
        if any(grow):
            y = _padded(graph, y, none, grow, 0.0, f"{op.name}/sum_grown")
    else:
        if any(a < 0 for a in after):
            name = _padded(graph, name, none, [min(a, 0) for a in after], 0.0, f"{op.name}/cut")
            after = [max(a, 0) for a in after]
        y = graph.add("Conv", [name, weight], f"{op.name}/sum", **attributes, pads=[*before, *after])
    unit = scale * x.unit
    zero = None
    if x.zero:
        zero = x.zero * op.weight.astype(np.float64).reshape(op.weight.shape[0], -1).sum(axis=1)
    return Accumulator(y, unit, zero, () if x.scale is None else (x.scale,))
