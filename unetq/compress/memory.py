"""Peak memory of an image under an allocation: exact from the runtime's plan, linear for the solver.

The runtime plans before it allocates, so the plan of the packed file *is* the memory; it also holds working memory of
kernels and lets results overwrite what dies, which no linear form has. The solver therefore sees the sum of tensors
alive at each operation, plus some slack; its choice is planned, and the solver asked again, with more slack, where
the plan does not fit (``search``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from ..cost import tensor_sizes
from ..export.program import Conv, Op, Program, Triple, Upsample
from .milp import Limit
from .space import TENSOR, Allocation, Space, Variable
from .workbench import Packed, Workbench

FLOAT_BYTES = 4


def storage_bits(bits: int) -> int:
    """Bits that a code of ``bits`` 1 to 8 takes in memory: the next power of two."""
    return 1 << (bits - 1).bit_length()


def tensor_bytes(positions: int, channels: int, bits: int) -> int:
    """Bytes of a tensor in the runtime's arena, without its alignment; 32 bits are float32."""
    width = 8 * FLOAT_BYTES if bits > 8 else storage_bits(bits)
    return positions * ((channels * width + 7) // 8)


@dataclass(frozen=True)
class _Step:
    """What is alive during an operation: tensors by their number; of the last two groups the larger counts."""

    held: tuple[int, ...]
    made: tuple[int, ...]
    dying: tuple[int, ...]


def _fused(op: Op, readers: Mapping[int, Sequence[Op]], program: Program) -> bool:
    """True for an upsampling whose only reader, a convolution, makes its rows as it needs them."""
    reading = readers.get(op.output, ())
    if not isinstance(op, Upsample) or op.output == program.output or len(reading) != 1:
        return False
    reader = reading[0]
    return isinstance(reader, Conv) and not reader.transposed and reader.epilogue.instance_norm is None


def fused_operations(program: Program) -> set[int]:
    """Numbers of the operations that run inside their reader."""
    readers: dict[int, list[Op]] = {}
    for op in program.ops:
        for tensor in dict.fromkeys(op.inputs):
            readers.setdefault(tensor, []).append(op)
    return {i for i, op in enumerate(program.ops) if _fused(op, readers, program)}


def _steps(program: Program) -> list[_Step]:
    fused = fused_operations(program)
    last: dict[int, int] = {}
    for i, op in enumerate(program.ops):
        at = i
        if i in fused:
            at = next(k for k, reader in enumerate(program.ops) if op.output in reader.inputs)
        for tensor in op.inputs:
            last[tensor] = max(last.get(tensor, 0), at)
    hidden = {program.ops[i].output for i in fused} | {program.input, program.output}
    born = {op.output: i for i, op in enumerate(program.ops) if op.output not in hidden}
    steps = []
    for i, op in enumerate(program.ops):
        if i in fused:
            continue
        alive = [t for t in born if born[t] < i <= last.get(t, -1)]
        dying = tuple(t for t in alive if last[t] == i)
        held = tuple(t for t in alive if last[t] != i)
        steps.append(_Step(held, (op.output,) if op.output in born else (), dying))
    return steps


@dataclass
class MemoryModel:
    """Bytes of the arena for one image of ``size``, (H, W) or (D, H, W) network pixels.

    ``known`` are plans that were made already, by ``Allocation.key``.
    """

    bench: Workbench
    size: tuple[int, ...]
    known: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        space = self.bench.space
        self.program = self.bench.program(space.nearest(8))
        self._groups = tensor_variables(self.program, self.bench, space)
        whole: Triple = (1, *self.size) if len(self.size) == 2 else tuple(self.size)  # type: ignore[assignment]
        self._positions = {t: prod(size) for t, size in tensor_sizes(self.program, whole).items()}
        self._steps = _steps(self.program)

    def predict(self, allocation: Allocation) -> int:
        """The arena's bytes, as the runtime plans them for the packed file."""
        if allocation.key not in self.known:
            with Packed(self.bench.program(allocation)) as packed:
                self.known[allocation.key] = packed.arena_bytes(self.size)
        return self.known[allocation.key]

    def _bytes(self, tensor: int, bits: int) -> int:
        return tensor_bytes(self._positions[tensor], self.program.tensors[tensor].channels, bits)

    def _limit(self, bound: int, tensors: Sequence[int], slack: float) -> Limit:
        costs: dict[Variable, dict[int, float]] = {}
        constant = slack
        for tensor in tensors:
            variable = self._groups.get(tensor)
            if variable is None:
                grid = self.program.tensors[tensor].grid
                constant += self._bytes(tensor, 32 if grid is None else grid.bits)
                continue
            table = costs.setdefault(variable, dict.fromkeys(self.bench.space.choices[variable], 0.0))
            for bits in table:
                table[bits] += self._bytes(tensor, bits)
        return Limit("memory", float(bound), costs, constant)

    def limits(self, bound: int, slack: float) -> list[Limit]:
        """``arena <= bound`` for the solver, with ``slack`` bytes beside the tensors; see ``least_slack``."""
        parts = {(*s.held, *s.made) for s in self._steps} | {(*s.held, *s.dying) for s in self._steps}
        return [self._limit(bound, part, slack) for part in sorted(parts)]

    def least_slack(self) -> float:
        """The least that a plan takes beyond the largest sum of tensors, among those of equal widths: a start."""
        widths = sorted({bits for found in self.bench.space.choices.values() for bits in found})
        return min(self._slack_at(self.bench.space.nearest(bits)) for bits in widths)

    def _slack_at(self, allocation: Allocation) -> float:
        seen = max(limit.value(allocation.bits) for limit in self.limits(1, 0.0))
        return self.predict(allocation) - seen

    def more_slack(self, slack: float, allocation: Allocation, bound: int) -> float:
        """What to allow beside the tensors where the plan of the solver's ``allocation`` exceeds ``bound``."""
        return slack + max(self.predict(allocation) - bound, bound / 100.0)


def tensor_variables(program: Program, bench: Workbench, space: Space) -> dict[int, Variable]:
    """The variable that decides the width of a program's tensor, for those that have one."""
    groups = {block.key: block.group for block in bench.q.blocks()}
    named = {number: groups.get(tensor.name, "") for number, tensor in enumerate(program.tensors)}
    return {number: (TENSOR, name) for number, name in named.items() if (TENSOR, name) in space.choices}
