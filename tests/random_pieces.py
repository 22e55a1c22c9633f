"""What random programs are made of: sizes, grids, epilogues, weights and tables, with all their extremes."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetq.export.packing import shift_groups, shift_of_each
from unetq.export.program import Epilogue, InstanceNorm, Op, TensorSpec, Triple
from unetq.fixedpoint import Grid

Rank = Literal[2, 3]
NO_METHODS = 0.4  # share of programs that older versions of the format can say
MOST = 3000  # values a channel


@dataclass
class Made:
    index: int
    size: Triple


class Pieces:
    """Draws parts from one generator; remembers the tensors that are there and their sizes for one input size."""

    def __init__(self, seed: int, rank: Rank, size: Triple, channels: int) -> None:
        self.random = np.random.default_rng(seed)
        self.rank = rank
        self.methods = bool(self.random.random() >= NO_METHODS)
        self.tensors: list[TensorSpec] = [TensorSpec("input", channels, None)]
        self.ops: list[Op] = []
        self.pool: list[Made] = [Made(0, size)]

    def chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.random.integers(len(choices)))]

    def triple(self, low: int, high: int, neutral: int) -> Triple:
        d, h, w = (int(v) for v in self.random.integers(low, high + 1, 3))
        return (d if self.rank == 3 else neutral, h, w)

    def grid(self, bits: int | None = None) -> Grid:
        bits = bits or int(self.random.integers(1, 9))
        signed = bool(self.random.integers(2))
        narrow = self.methods and signed and bits > 1 and self.chance(0.3)
        if self.methods and self.chance(0.2):
            return Grid(bits, signed, 1.0, narrow=narrow, dynamic=True)
        scale = 2.0 ** int(self.random.integers(-6, 3)) if self.chance(0.7) else self.random.uniform(0.01, 3)
        rounding: Any = "toward_zero" if self.chance(0.15) else "half_even"
        high, zero = (1 << bits) - 1, 0
        if self.methods and not signed and rounding == "half_even" and self.chance(0.6):
            zero = self.pick(high, high, int(self.random.integers(0, high + 1)))
        return Grid(bits, signed, float(np.float32(scale)), zero, rounding, narrow)

    def tensor(self, channels: int, grid: Grid | None, size: Triple) -> int:
        self.tensors.append(TensorSpec(f"t{len(self.tensors)}", channels, grid))
        self.pool.append(Made(len(self.tensors) - 1, size))
        return len(self.tensors) - 1

    def put(self, op: Op, channels: int, grid: Grid | None, size: Triple) -> bool:
        """Add an operation that makes the next tensor, unless that would be too small or too large."""
        fits = min(size) >= 1 and int(np.prod(size)) < MOST
        if fits:
            self.tensor(channels, grid, size)
            self.ops.append(op)
        return fits

    def channels_of(self, index: int) -> int:
        return self.tensors[index].channels

    def grid_of(self, index: int) -> Grid | None:
        return self.tensors[index].grid

    def is_dynamic(self, index: int) -> bool:
        grid = self.grid_of(index)
        return grid is not None and grid.dynamic

    def zero_of(self, index: int) -> int:
        grid = self.grid_of(index)
        return 0 if grid is None else grid.zero_point

    def floats(self, channels: int, scale: float) -> NDArray[np.float32]:
        return (self.random.standard_normal(channels) * scale).astype(np.float32)

    def norm(self, channels: int, reach: float) -> InstanceNorm:
        divisors = [g for g in range(1, channels + 1) if channels % g == 0]
        groups = self.pick(0, 1, channels, self.pick(*divisors)) if self.methods else 0
        return InstanceNorm(1e-5, self.floats(channels, reach / 3), self.floats(channels, reach / 4), groups)

    def epilogue(self, channels: int, spread: float, grid: Grid | None, exact: bool = True) -> Epilogue:
        """Arrays that bring sums of about ``spread`` onto the grid, now and then far beyond it.

        Sums of float32 accumulators (``exact`` False) depend on their order: no exact promise, so no norm there.
        """
        reach = (grid.high - grid.low + 1) * grid.scale if grid else 4.0
        gain = self.floats(channels, reach / max(spread, 1e-3) * self.pick(0.3, 1.0, 5.0))
        offset = self.floats(channels, reach / 4)
        if self.methods and self.chance(0.05):  # all codes 0, and no scale to be found
            gain, offset = np.zeros(channels, np.float32), np.zeros(channels, np.float32)
        slope = self.pick(
            None, np.zeros(channels, np.float32), np.full(channels, 0.01, np.float32), self.floats(channels, 0.3)
        )
        second = self.chance(0.3)
        norm = self.norm(channels, reach) if exact and self.chance(0.2) else None
        if norm is not None and not norm.groups:
            gain, offset = np.full(channels, 0.01, np.float32), np.zeros(channels, np.float32)
        return Epilogue(
            gain=gain,
            offset=offset,
            slope=slope,
            gain2=self.floats(channels, 1.0) if second else None,
            offset2=self.floats(channels, reach / 4) if second else None,
            instance_norm=norm,
        )

    def weight(self, shape: tuple[int, ...], bits: int, kind: str) -> NDArray[Any]:
        if kind == "float32":
            return self.random.standard_normal(shape).astype(np.float32)
        if kind == "binary":
            return (self.random.integers(0, 2, shape) * 2 - 1).astype(np.int8)
        if kind == "codebook":
            reach = self.pick(7, 31, 127)
            values = np.arange(-reach - 1, reach + 1)
            if self.chance(0.2):
                values = np.array([-128, 127])
            count = min(values.size, int(self.random.integers(1, (1 << bits) + 1)))
            return self.random.choice(self.random.permutation(values)[:count], shape).astype(np.int8)
        low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        style = self.random.random()
        if style < 0.1:
            return np.full(shape, low, np.int8)
        if style < 0.2:
            return np.full(shape, high, np.int8)
        if style < 0.3:
            return self.random.choice([low, high], shape).astype(np.int8)
        return self.random.integers(low, high + 1, shape).astype(np.int8)

    def shifted(self, shape: tuple[int, ...], bits: int) -> dict[str, Any]:
        """Weights whose groups of input channels share shifts of 0 to 7, as keywords of ``Conv``."""
        size = self.pick(1, 2, 3, 8, 32, shape[1])
        shifts = self.random.integers(0, self.pick(1, 4, 8), (shape[0], shift_groups(shape[1], size))).astype(np.uint8)
        if self.chance(0.2):
            shifts[:] = 7
        each = shift_of_each(shifts, shape[1], size)
        codes = self.weight(shape, bits, "twos_complement").astype(np.int64)
        weight = np.clip(codes, -(128 >> each), 127 >> each) << each
        return {"weight": weight.astype(np.int8), "weight_shift": shifts, "group_size": size}

    def table(self, source: Grid, target: Grid) -> NDArray[np.int16]:
        codes = np.arange(source.low, source.high + 1)
        curve = target.low + (target.high - target.low) / (1 + np.exp(-codes / (1 + codes.max() / 4)))
        entries = self.pick(
            self.random.integers(target.low, target.high + 1, codes.size),
            np.rint(curve).astype(int),
            self.random.choice([target.low, target.high], codes.size),
            np.full(codes.size, target.low),
        )
        table = np.zeros(256, np.int16)
        table[codes & 0xFF] = entries
        return table
