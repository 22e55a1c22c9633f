"""How many bytes a packed file will have, to the byte, before it is made.

A file is its header, records and names, which no width changes; the arrays of its operations, each padded to
``ALIGNMENT`` bytes; and its provenance as JSON, padded too. So a file of other widths differs by what the weights of
its convolutions take (packed rows, scales, and the codebook or the shifts of groups), and by the length of the
provenance, which names the widths.
"""

import json
from collections.abc import Callable, Mapping

from ..export.modelfile import encode
from ..export.packing import LEVELS, row_bytes
from ..export.program import Conv, ModelMeta, Program
from ..export.records import padded
from ..quant.quantizer import WeightCodes
from .milp import Limit
from .space import WEIGHT, Allocation, Variable
from .workbench import Workbench


def weight_bytes(codes: WeightCodes, rows: int) -> int:
    """Bytes that a weight takes in the file's data section.

    Args:
        codes: its integers, in any layout. rows: output channels of the convolution.
    """
    total = padded(rows * row_bytes(codes.codes.size // rows, codes.bits)) + padded(4 * codes.scale.size)
    if codes.kind == "codebook":
        total += padded(LEVELS)
    return total + (padded(codes.shift.size) if codes.shift is not None else 0)


def _provenance_bytes(meta: ModelMeta) -> int:
    return padded(len(json.dumps(meta.provenance, sort_keys=True, separators=(",", ":")).encode()))


class SizeModel:
    """Predicts the bytes of the file of any allocation from one lowered program.

    Args:
        bench: the calibrated network. meta: what the file of an allocation says of itself.
    """

    def __init__(self, bench: Workbench, meta: Callable[[Allocation], ModelMeta]) -> None:
        self._meta, self._choices = meta, bench.space.choices
        base = bench.space.nearest(8)
        program, said = bench.program(base), meta(base)
        rows = _rows(program)
        self._bytes: dict[tuple[str, int], int] = {}
        for kind, name in self._choices:
            if kind == WEIGHT:
                for bits in self._choices[kind, name]:
                    codes = bench.codes(name, bits)
                    self._bytes[name, bits] = sum(weight_bytes(codes, outputs) for outputs in rows[name])
        weights = sum(self._bytes[name, base[kind, name]] for kind, name in self._choices if kind == WEIGHT)
        self._fixed = len(encode(program, said)) - _provenance_bytes(said) - weights

    def layer_bytes(self, layer: str, bits: int) -> int:
        """Bytes that the weights of a layer take at a width, all its uses together."""
        return self._bytes[layer, bits]

    def predict(self, allocation: Allocation) -> int:
        """The file's bytes."""
        weights = sum(self._bytes[name, bits] for (kind, name), bits in allocation.bits.items() if kind == WEIGHT)
        return self._fixed + _provenance_bytes(self._meta(allocation)) + weights

    def limit(self, target: int, allocation: Allocation) -> Limit:
        """``file <= target`` for the solver.

        The provenance counts as that of ``allocation``: widths are one digit each, so that every one is as long.
        """
        costs: dict[Variable, Mapping[int, float]] = {
            (kind, name): {bits: float(self._bytes[name, bits]) for bits in widths}
            for (kind, name), widths in self._choices.items()
            if kind == WEIGHT
        }
        return Limit("size", float(target), costs, float(self._fixed + _provenance_bytes(self._meta(allocation))))


def _rows(program: Program) -> dict[str, list[int]]:
    """Output channels of every use of a layer, by its name."""
    found: dict[str, list[int]] = {}
    for op in program.ops:
        if isinstance(op, Conv):
            found.setdefault(op.name.split("@")[0], []).append(int(op.weight.shape[0]))
    return found
