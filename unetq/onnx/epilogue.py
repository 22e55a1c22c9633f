"""What follows an accumulator: gain, offset, norm, activation, second gain and offset, in the program's order.

Nothing is folded into the convolution. A gain that only undoes the scales of the pairs in front is 1 and is left out;
any other (a BatchNorm's) stays a Mul behind the convolution, and the offset an Add. Folded into the weights' scale and
the convolution's bias the nodes would be fewer, but the agreement worse: with steps that are powers of two the
convolution's float32 sums are exact as long as its accumulators stay below 2**24, and the Mul and Add then round as
the program does; a folded scale is no power of two, so every product would round, and a bias inside an integer
convolution is rounded to the accumulator's step, which at 2 bits is coarse.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..export.program import Epilogue, InstanceNorm
from ..fixedpoint import F32
from .graph import Graph
from .norms import exact_affine, norm_node

F64 = NDArray[np.float64]
SAME = 2.0**-22  # gains that differ less from 1 come from rounding the product of two steps to float32


@dataclass(frozen=True)
class Accumulator:
    """A float32 name whose values are ``accumulator * unit`` (one unit, or one a channel), less ``zero`` a channel.

    ``zero`` is what the inputs' zero-points add to the program's accumulator and the graph has taken off already.
    ``scales`` are the names of the run-time scales that the gain stands for.
    """

    name: str
    unit: F64
    zero: F64 | None = None
    scales: tuple[str, ...] = ()


def _factor(graph: Graph, gain: F64, scales: tuple[str, ...], wanted: str) -> str:
    factor = graph.column(gain.astype(np.float32), "gain")
    for scale in scales:
        factor = graph.add("Mul", [factor, scale], f"{wanted}/gain")
    return factor


def scaled(graph: Graph, name: str, gain: F64, scales: tuple[str, ...], wanted: str) -> str:
    """``name`` times a gain a channel and the run-time scales, or ``name`` itself where that is 1."""
    near = bool((np.abs(gain - 1.0) < SAME).all())
    if near and not scales:
        return name
    return graph.add("Mul", [name, _factor(graph, gain, scales, wanted)], wanted)


def _plus(graph: Graph, name: str, offset: F32, wanted: str) -> str:
    return graph.add("Add", [name, graph.column(offset, "offset")], wanted) if offset.any() else name


def _activation(graph: Graph, y: str, slope: F32, wanted: str) -> str:
    if not slope.any():
        return graph.add("Relu", [y], wanted)
    if (slope == slope[0]).all():
        return graph.add("LeakyRelu", [y], wanted, alpha=float(slope[0]))
    return graph.add("PRelu", [y, graph.column(slope, "slope")], wanted)


def _normed(graph: Graph, acc: Accumulator, gain: F64, offset: F32, norm: InstanceNorm, wanted: str) -> str:
    """The accumulator normalised: with float64 statistics spelled out, or by a node on its real values."""
    if graph.norm_nodes:
        y = scaled(graph, acc.name, gain, acc.scales, f"{wanted}/gained")
        return norm_node(graph, _plus(graph, y, offset, f"{wanted}/offset"), norm, f"{wanted}/norm")
    factor = _factor(graph, gain, acc.scales, wanted) if acc.scales else gain
    a, b = exact_affine(graph, acc.name, factor, offset, norm, f"{wanted}/norm")
    return graph.add("Add", [graph.add("Mul", [acc.name, a], f"{wanted}/gained"), b], f"{wanted}/offset")


def add_epilogue(graph: Graph, acc: Accumulator, epilogue: Epilogue, wanted: str) -> str:
    """The real values that ``epilogue`` makes of an accumulator, not yet on the output's grid."""
    gain, norm, offset = epilogue.gain.astype(np.float64) / acc.unit, epilogue.instance_norm, epilogue.offset
    if acc.zero is not None and (norm is None or norm.groups):  # for instance norm a constant cancels
        offset = (offset.astype(np.float64) + epilogue.gain * acc.zero).astype(np.float32)
    if norm is not None:
        y = _normed(graph, acc, gain, offset, norm, wanted)
    else:
        y = scaled(graph, acc.name, gain, acc.scales, f"{wanted}/gained")
        y = _plus(graph, y, offset, f"{wanted}/offset")
    if epilogue.slope is not None:
        y = _activation(graph, y, epilogue.slope, f"{wanted}/active")
    if epilogue.gain2 is not None and epilogue.offset2 is not None:
        y = scaled(graph, y, epilogue.gain2.astype(np.float64), (), f"{wanted}/gained2")
        y = _plus(graph, y, epilogue.offset2, f"{wanted}/offset2")
    return y
