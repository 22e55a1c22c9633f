"""Which spatial sizes a lowered program accepts."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import UnsupportedError
from ..export.integer import output_size
from ..export.program import Mul, Program, Triple
from .blocks import Network
from .nodes import Node

if TYPE_CHECKING:
    from .network import QuantNet

LARGEST_MULTIPLE = 256


def _consistent(program: Program, size: Triple, axis: int) -> bool:
    """True where every join agrees and no tensor is empty along ``axis``, for an input of ``size``."""
    sizes = {program.input: size}
    for op in program.ops:
        met = {sizes[i][axis] for i in op.inputs}
        if len(met) != 1 and not (isinstance(op, Mul) and sizes[op.inputs[1]][axis] == 1):
            return False
        sizes[op.output] = output_size(op, sizes[op.inputs[0]])
        if sizes[op.output][axis] < 1:
            return False
    return sizes[program.output][axis] == size[axis]


def _multiple(program: Program, axis: int) -> int | None:
    def accepts(n: int) -> bool:
        size = [1, 1, 1]
        size[axis] = n
        return _consistent(program, (size[0], size[1], size[2]), axis)

    for candidate in range(1, LARGEST_MULTIPLE + 1):
        if all(accepts(candidate * k) for k in range(1, 9)):
            return candidate
    return None


def _structure(network: Network) -> list[object]:
    """All that a program takes from a trace, the sizes aside."""

    def plain(nodes: Iterable[Node | None]) -> list[object]:
        return [(n.kind, n.parameters, n.attributes) for n in nodes if n is not None]

    return [
        (b.kind, b.key, b.inputs, b.parameters, b.attributes, plain([*b.pre, b.act, *b.post])) for b in network.blocks
    ]


def _accepts_multiples(q: "QuantNet", network: Network, size: Triple, multiple: Triple) -> bool:
    """True where the network, traced at the next larger size, is the same one."""
    larger = tuple(n + m for n, m in zip(size, multiple, strict=True))[3 - network.spatial_rank :]
    try:
        return _structure(q.network(larger)) == _structure(network)
    except UnsupportedError:
        return False


def with_sizes(q: "QuantNet", network: Network, program: Program, size: tuple[int, ...]) -> Program:
    """``program``, traced at ``size`` (H, W) or (D, H, W), with what it accepts.

    It accepts every multiple of the network's stride, or only ``size`` where the network is another one at
    other sizes (padding of odd sizes, upsampling to a fixed size, averages over the whole image).
    """
    exact: Triple = (1, size[0], size[1]) if len(size) == 2 else (size[0], size[1], size[2])
    found = [1 if network.spatial_rank == 2 and axis == 0 else _multiple(program, axis) for axis in range(3)]
    multiple = (found[0] or 1, found[1] or 1, found[2] or 1)
    fits = None not in found and all(n % m == 0 for n, m in zip(exact, multiple, strict=True))
    if fits and _accepts_multiples(q, network, exact, multiple):
        return replace(program, input_multiple=multiple)
    return replace(program, fixed_size=exact)
