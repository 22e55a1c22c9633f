"""Small programs made operation by operation, and what tests of single operations feed them."""

from typing import Any

import numpy as np

from unetq.export.program import Epilogue, InstanceNorm, Op, Pointwise, Program, TensorSpec
from unetq.fixedpoint import Grid


class Chain:
    """A program that grows at its end; the last tensor becomes the logits."""

    def __init__(self, channels: int, rank: int = 2) -> None:
        self.tensors = [TensorSpec("input", channels, None)]
        self.ops: list[Op] = []
        self.rank = rank

    def put(self, kind: type, inputs: tuple[int, ...], channels: int, grid: Grid | None, **fields: Any) -> int:
        self.tensors.append(TensorSpec(f"t{len(self.tensors)}", channels, grid))
        name = f"{kind.__name__.lower()}{len(self.ops)}"
        self.ops.append(kind(name=name, inputs=inputs, output=len(self.tensors) - 1, **fields))
        return len(self.tensors) - 1

    def program(self, last: int) -> Program:
        channels = self.tensors[last].channels
        if self.tensors[last].grid is not None:
            ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
            last = self.put(Pointwise, (last,), channels, None, epilogue=Epilogue(ones, zeros))
        rank: Any = self.rank
        return Program(tuple(self.tensors), tuple(self.ops), 0, last, rank, (1, 1, 1))


def image(channels: int, size: tuple[int, ...], grid: Grid, seed: int) -> np.ndarray:
    """All codes of ``grid`` about as often, and beyond its ends."""
    random = np.random.default_rng(seed)
    return (random.integers(grid.low - 2, grid.high + 3, (1, channels, *size)) * grid.scale).astype(np.float32)


def some_epilogue(channels: int, reach: float, out: Grid | None, norm: InstanceNorm | None = None) -> Epilogue:
    span = (out.high - out.low + 1) * out.scale if out else 4.0
    gain = np.linspace(0.5, 1.5, channels, dtype=np.float32) * np.float32(span / reach)
    offset = np.linspace(-span / 4, span / 4, channels, dtype=np.float32)
    return Epilogue(gain, offset, instance_norm=norm)
