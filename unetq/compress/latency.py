"""Seconds of an image under an allocation, from times of each layer at each pair of widths, measured where this runs.

The runtime reports its progress in units of work, whose sum up to each operation is known; the moments at which these
sums are passed are the times of the operations. What follows a convolution up to the next one (pooling, sums) counts as
its own: kernels share rows between them. What the calls back take is found from runs without them and taken off. Of
several runs the fastest counts. Times are those of the thread on its processor, which on an idle machine are the
clock's; what else runs on a busy one only adds to the clock.

The model of a layer with weights of w bits that reads a bits and writes o bits is::

    seconds = T(w, a) + G(o) - G(a)

T is measured with all tensors at a bits, so it holds what writing a bits takes, G(a). G, which counts where channels
are few, comes from images whose tensors have either 8 or o bits, mixed: of a layer that reads 8 and writes o bits the
difference to T(w, 8) is G(o), of one that reads o and writes 8 bits the difference to T(w, o) is -G(o). What
is chosen is measured as a whole in any case (``planner``).
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from ..cost import tensor_sizes
from ..errors import DeviceError
from ..export.integer import macs
from ..export.program import Conv, Op, Program, Triple
from .memory import fused_operations, tensor_variables
from .milp import Limit
from .space import TENSOR, WEIGHT, Allocation, Variable
from .workbench import Packed, Workbench

RUNS = 5
Pairs = dict[str, dict[tuple[int, int], float]]


def _units(op: Op, positions: int, channels: int, source: Triple) -> int:
    return macs(op, source) if isinstance(op, Conv) else positions * channels


def boundaries(program: Program, size: Sequence[int]) -> tuple[list[str], list[int], int]:
    """The convolutions in order, the units of work done before each, and all units of an image of ``size``."""
    whole: Triple = (1, *size) if len(size) == 2 else tuple(size)  # type: ignore[assignment]  # 3 by then
    sizes = tensor_sizes(program, whole)
    fused = fused_operations(program)
    names, before, done = [], [], 0
    for i, op in enumerate(program.ops):
        if isinstance(op, Conv):
            names.append(op.name)
            before.append(done)
        if i not in fused:
            done += _units(op, prod(sizes[op.output]), program.tensors[op.output].channels, sizes[op.inputs[0]])
    return names, before, done


def layer_times(packed: Packed, size: Sequence[int], runs: int = RUNS) -> tuple[dict[str, float], float]:
    """Seconds by convolution, and of the whole image, on one thread; the least of ``runs`` warm ones each.

    Raises:
        DeviceError: the runtime counts its work otherwise than this module.
    """
    runtime = packed.runtime
    image = np.random.default_rng(0).standard_normal((1, runtime.input_channels, *size), dtype=np.float32)
    names, before, total = boundaries(packed.program, size)
    parts: list[list[float]] = []
    wholes: list[float] = []
    calls = np.zeros(len(names))
    runtime.run(image)
    for _ in range(runs):
        wholes.append(_timed(lambda: runtime.run(image)))
        moments: list[tuple[int, float]] = []

        def note(done: int, units: int, moments: list[tuple[int, float]] = moments) -> bool:
            moments.append((done, time.thread_time()))
            if units != total:
                raise DeviceError(f"the runtime counts {units} units of work, {total} were expected; report this.")
            return True

        began = time.thread_time()
        runtime.run(image, progress=note)
        done, at = np.array([m[0] for m in moments]), np.array([m[1] for m in moments]) - began
        # What comes before the first convolution is its own, too.
        starts = [0, *(int(np.searchsorted(done, units)) for units in before[1:])]
        calls = np.diff([*starts, len(done) - 1])
        seconds = [0.0, *at[starts[1:]], at[-1]]
        parts.append(list(np.diff(seconds)))
    best = np.min(parts, axis=0)
    each = max(float(best.sum()) - min(wholes), 0.0) / max(float(calls.sum()), 1.0)  # what a call back takes
    own = np.maximum(best - each * calls, 0.05 * best)
    own *= min(wholes) / own.sum()
    return {name: float(seconds) for name, seconds in zip(names, own, strict=True)}, min(wholes)


def _timed(run: Callable[[], object]) -> float:
    began = time.thread_time()
    run()
    return time.thread_time() - began


WRITES, DRAWS = 3, 64
"""Images with tensors of two widths that are measured for each width, and those that they are chosen from."""


@dataclass
class LatencyModel:
    """Seconds for one image of ``size`` on one thread.

    Attributes:
        tables: T, by layer, then by (bits of its weight, bits of what it reads); 0 where that has no choice.
        writes: G, by layer, then by bits of what it writes.
    """

    bench: Workbench
    size: tuple[int, ...]
    tables: Pairs = field(default_factory=dict)
    writes: dict[str, dict[int, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        space = self.bench.space
        program = self.bench.program(space.nearest(8))
        variables = tensor_variables(program, self.bench, space)
        self._output = {op.name: variables.get(op.output) for op in program.ops if isinstance(op, Conv)}

    def measure(self, tell: Callable[[str], None] = lambda text: None) -> None:
        """Fill ``tables``: every pair of widths of the space, the same one in all layers at once; then ``writes``."""
        space = self.bench.space
        weights = sorted({b for (kind, _), widths in space.choices.items() if kind == WEIGHT for b in widths})
        tensors = sorted({b for (kind, _), widths in space.choices.items() if kind == TENSOR for b in widths}) or [8]
        for i, weight_bits in enumerate(weights):
            tell(f"latency: weights of {weight_bits} bits ({i + 1} of {len(weights)})")
            for act_bits in tensors:
                allocation = space.uniform(weight_bits, act_bits)
                for name, seconds in self._times(allocation).items():
                    self.tables.setdefault(name, {})[self._widths(name, allocation)] = seconds
        tell("latency: what writing takes")
        for bits in tensors[:-1]:
            self._measure_writes(bits, tensors[-1], weights[len(weights) // 2])

    def _times(self, allocation: Allocation) -> dict[str, float]:
        with Packed(self.bench.program(allocation)) as packed:
            return layer_times(packed, self.size)[0]

    def _measure_writes(self, bits: int, widest: int, weight_bits: int) -> None:
        found: dict[str, list[float]] = {}
        for mixed in self._mixed(bits, widest, weight_bits):
            for name, seconds in self._times(mixed).items():
                read, written = self._widths(name, mixed)[1], self._written(name, mixed)
                if (read, written) == (widest, bits):
                    found.setdefault(name, []).append(seconds - self.tables[name][self._widths(name, mixed)])
                elif (read, written) == (bits, widest):
                    found.setdefault(name, []).append(self.tables[name][self._widths(name, mixed)] - seconds)
        for name, each in found.items():
            self.writes.setdefault(name, {})[bits] = float(np.mean(each))

    def _mixed(self, bits: int, widest: int, weight_bits: int) -> list[Allocation]:
        """Tensors of two widths, so that as many layers as can be read one and write the other, all of them in turn."""
        space, rng = self.bench.space, random.Random(bits)
        pair = (space.uniform(weight_bits, bits), space.uniform(weight_bits, widest))
        drawn = [
            Allocation({v: (rng.choice(pair) if v[0] == TENSOR else pair[0])[v] for v in space.choices})
            for _ in range(DRAWS)
        ]
        seen = dict.fromkeys(self.tables, 0)
        chosen = []
        for _ in range(WRITES):
            told = [[n for n in seen if {self._widths(n, a)[1], self._written(n, a)} == {bits, widest}] for a in drawn]
            best = max(range(DRAWS), key=lambda i: sum(2.0 ** -seen[n] for n in told[i]))
            chosen.append(drawn[best])
            for name in told[best]:
                seen[name] += 1
        return chosen

    def record(self) -> dict[str, float]:
        """All that was measured, as ``measured.json`` keeps it."""
        tables = {f"{n} {w} {a}": s for n, table in self.tables.items() for (w, a), s in table.items()}
        return tables | {f"{n} > {bits}": s for n, found in self.writes.items() for bits, s in found.items()}

    def restore(self, kept: Mapping[str, float]) -> None:
        """Take up a ``record``."""
        for key, seconds in kept.items():
            name, first, last = key.rsplit(" ", 2)
            if first == ">":
                self.writes.setdefault(name, {})[int(last)] = seconds
            else:
                self.tables.setdefault(name, {})[int(first), int(last)] = seconds

    def _widths(self, use: str, allocation: Allocation) -> tuple[int, int]:
        layer = use.split("@")[0]
        weight, tensor = self._variables(layer)
        return (allocation[weight] if weight else 0, allocation[tensor] if tensor else 0)

    def _written(self, use: str, allocation: Allocation) -> int:
        """Bits of what a layer writes; 0 where that has no choice."""
        variable = self._output[use]
        return allocation[variable] if variable else 0

    def _variables(self, layer: str) -> tuple[Variable | None, Variable | None]:
        choices, tensor = self.bench.space.choices, self.bench.space.reads.get(layer, "")
        weight = (WEIGHT, layer) if (WEIGHT, layer) in choices else None
        return weight, (TENSOR, tensor) if (TENSOR, tensor) in choices else None

    def _own(self, name: str, widths: tuple[int, int]) -> float:
        """T - G of a layer: what it takes beside writing."""
        return self.tables[name][widths] - (self._writing(name, widths[1]) if self._output[name] else 0.0)

    def _writing(self, name: str, bits: int) -> float:
        return self.writes.get(name, {}).get(bits, 0.0)

    def predict(self, allocation: Allocation) -> float:
        """Seconds an image."""
        return sum(
            self._own(name, self._widths(name, allocation)) + self._writing(name, self._written(name, allocation))
            for name in self.tables
        )

    def measured(self, allocation: Allocation) -> float:
        """Seconds that the packed file of ``allocation`` really takes here."""
        with Packed(self.bench.program(allocation)) as packed:
            return layer_times(packed, self.size, 2 * RUNS)[1]

    def limit(self, bound: float, factor: float) -> Limit:
        """``factor * seconds <= bound`` for the solver; ``factor`` is what the last choice took over its prediction."""
        costs: dict[Variable, dict[int, float]] = {}
        pairs: dict[tuple[Variable, Variable], dict[tuple[int, int], float]] = {}
        constant = 0.0
        for name, table in self.tables.items():
            weight, tensor = self._variables(name.split("@")[0])
            each = {widths: factor * self._own(name, widths) for widths in table}
            if weight and tensor:
                found = pairs.setdefault((weight, tensor), {})
                for widths, seconds in each.items():
                    found[widths] = found.get(widths, 0.0) + seconds
            elif weight or tensor:
                own = costs.setdefault(weight or tensor, {})  # type: ignore[arg-type]  # one of them is there
                for widths, seconds in each.items():
                    own[max(widths)] = own.get(max(widths), 0.0) + seconds
            else:
                constant += next(iter(each.values()))
            variable = self._output[name]
            for bits in self.bench.space.choices[variable] if variable else ():
                own = costs.setdefault(variable, {})  # type: ignore[arg-type]  # it is there
                own[bits] = own.get(bits, 0.0) + factor * self._writing(name, bits)
        return Limit("latency", bound, costs, constant, pairs)
