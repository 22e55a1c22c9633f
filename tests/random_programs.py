"""Random small programs, straight from the dataclasses: every operation, width, size and extreme, from one seed."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unetq.export.integer import output_size
from unetq.export.program import (
    Add,
    Concat,
    Conv,
    Epilogue,
    InstanceNorm,
    MaxPool,
    Op,
    Pad,
    Pointwise,
    Program,
    Quantize,
    TensorSpec,
    Triple,
    Upsample,
)
from unetq.fixedpoint import Grid

Rank = Literal[2, 3]


@dataclass
class _Made:
    index: int
    size: Triple


class Builder:
    """Grows a program operation by operation; remembers the size of every tensor for one input size."""

    def __init__(self, seed: int, rank: Rank, size: Triple, channels: int) -> None:
        self.random = np.random.default_rng(seed)
        self.rank = rank
        self.tensors: list[TensorSpec] = [TensorSpec("input", channels, None)]
        self.ops: list[Op] = []
        self.pool: list[_Made] = [_Made(0, size)]

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.random.integers(len(choices)))]

    def triple(self, low: int, high: int, neutral: int) -> Triple:
        d, h, w = (int(v) for v in self.random.integers(low, high + 1, 3))
        return (d if self.rank == 3 else neutral, h, w)

    def grid(self, bits: int | None = None) -> Grid:
        bits = bits or int(self.random.integers(1, 9))
        scale = (
            2.0 ** int(self.random.integers(-6, 3))
            if self.random.random() < 0.7
            else float(np.float32(self.random.uniform(0.01, 3)))
        )
        rounding: Any = "toward_zero" if self.random.random() < 0.15 else "half_even"
        return Grid(bits, bool(self.random.integers(2)), scale, 0, rounding)

    def tensor(self, channels: int, grid: Grid | None, size: Triple) -> int:
        self.tensors.append(TensorSpec(f"t{len(self.tensors)}", channels, grid))
        self.pool.append(_Made(len(self.tensors) - 1, size))
        return len(self.tensors) - 1

    def channels_of(self, index: int) -> int:
        return self.tensors[index].channels

    def grid_of(self, index: int) -> Grid | None:
        return self.tensors[index].grid

    def floats(self, channels: int, scale: float) -> NDArray[np.float32]:
        return (self.random.standard_normal(channels) * scale).astype(np.float32)

    def epilogue(self, channels: int, spread: float, grid: Grid | None) -> Epilogue:
        """Arrays that bring sums of about ``spread`` onto the grid, now and then far beyond it."""
        reach = (grid.high - grid.low + 1) * grid.scale if grid else 4.0
        gain = reach / max(spread, 1e-3) * self.pick(0.3, 1.0, 5.0)
        slope = self.pick(
            None, np.zeros(channels, np.float32), np.full(channels, 0.01, np.float32), self.floats(channels, 0.3)
        )
        second = self.random.random() < 0.3
        norm = None
        if self.random.random() < 0.2:
            norm = InstanceNorm(1e-5, self.floats(channels, reach / 3), self.floats(channels, reach / 4))
        return Epilogue(
            gain=self.floats(channels, gain) if norm is None else np.full(channels, 0.01, np.float32),
            offset=self.floats(channels, reach / 4) if norm is None else np.zeros(channels, np.float32),
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
            if self.random.random() < 0.2:
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

    def conv(
        self, inputs: list[int], size: Triple, out: Grid | None, kind: str | None = None, bits: int | None = None
    ) -> None:
        channels_in = sum(self.channels_of(t) for t in inputs)
        transposed = bool(self.random.random() < 0.3)
        groups = self.pick(*[g for g in (1, 1, 1, 2, 3, channels_in) if channels_in % g == 0])
        channels_out = groups * int(self.random.integers(1, max(2, self.pick(6, 20, 40) // groups)))
        kernel = self.pick(self.triple(1, 3, 1), (3 if self.rank == 3 else 1, 3, 3), (1, 1, 1), self.triple(1, 4, 1))
        kind = kind or self.pick("twos_complement", "twos_complement", "twos_complement", "binary", "codebook")
        widest = {"float32": 32, "binary": 1, "codebook": 4}.get(kind, 8)
        bits = widest if kind in ("float32", "binary") else bits or int(self.random.integers(1, widest + 1))
        stride = self.pick((1, 1, 1), (1, 1, 1), self.triple(1, 3, 1))
        dilation = self.pick((1, 1, 1), (1, 1, 1), self.triple(1, 2, 1))
        before, after = self.triple(0, 2, 0), self.triple(0, 2, 0)
        padding = self.pick((0, 0, 0), tuple(min(v, s - 1) for v, s in zip(self.triple(0, 2, 0), stride, strict=True)))
        weight = self.weight((channels_out, channels_in // groups, *kernel), bits, kind)
        grid = self.grid_of(inputs[0])
        level = 1.0 if grid is None else max(abs(grid.low), grid.high) / 2
        spread = level * float(np.abs(weight.astype(np.float64)).mean() + 0.1) * float(np.sqrt(weight[0].size))
        op = Conv(
            name=f"conv{len(self.ops)}",
            inputs=tuple(inputs),
            output=len(self.tensors),
            weight=weight,
            weight_bits=bits,
            weight_kind=kind,  # type: ignore[arg-type]
            weight_scale=np.ones(self.pick(1, channels_out), np.float32),
            epilogue=self.epilogue(channels_out, spread, out),
            stride=stride,
            pad_before=before,
            pad_after=after,
            dilation=dilation,
            groups=groups,
            transposed=transposed,
            output_padding=padding if transposed else (0, 0, 0),
        )
        result = output_size(op, size)
        if min(result) >= 1 and int(np.prod(result)) < 3000:
            self.tensor(channels_out, out, result)
            self.ops.append(op)

    def simple(self, source: _Made, out: Grid | None) -> None:
        """One of the operations that keep the number of channels."""
        index, size = source.index, source.size
        channels, grid, name = self.channels_of(index), self.grid_of(index), f"op{len(self.ops)}"
        level = 4.0 if grid is None else float(max(abs(grid.low), grid.high))
        base: dict[str, Any] = {"name": name, "inputs": (index,), "output": len(self.tensors)}
        what = self.pick("nearest", "linear", "linear", "pool", "pool", "pointwise", "pad", "add", "concat")
        op: Op
        if what == "nearest":
            op, out = Upsample(**base, mode="nearest", factor=self.triple(1, 3, 1)), grid
        elif what == "linear":
            factor = self.triple(1, 2, 1)
            op = Upsample(
                **base, mode="linear", factor=factor, epilogue=self.epilogue(channels, level * np.prod(factor) * 2, out)
            )
        elif what == "pool":
            kernel = self.triple(1, 3, 1)
            padding = tuple(k // 2 if self.random.random() < 0.5 else 0 for k in kernel)
            op, out = MaxPool(**base, kernel=kernel, stride=self.triple(1, 3, 1), padding=padding), grid  # type: ignore[arg-type]
        elif what == "pointwise":
            op = Pointwise(**base, epilogue=self.epilogue(channels, level, out))
        elif what == "pad":
            mode = self.pick("replicate", "zero")
            op, out = Pad(**base, mode=mode, before=self.triple(0, 3, 0), after=self.triple(0, 3, 0)), grid
        else:
            others = [
                m for m in self.pool if m.size == size and (self.channels_of(m.index) == channels or what == "concat")
            ]
            if what == "concat":
                chosen = [m.index for m in others if self.grid_of(m.index) == grid][: int(self.random.integers(1, 4))]
                op = Concat(name, tuple(chosen), len(self.tensors))
                channels, out = sum(self.channels_of(t) for t in chosen), grid
            else:
                other = self.pick(*others).index
                gains = (float(np.float32(self.random.normal())), float(np.float32(self.random.normal())))
                epilogue = self.epilogue(channels, level, out)
                # Sums of float32 accumulators depend on their order: no exact promise, so no instance norm here.
                plain = Epilogue(epilogue.gain, epilogue.offset, epilogue.slope, epilogue.gain2, epilogue.offset2)
                op = Add(name, (index, other), len(self.tensors), gains, plain)
        result = output_size(op, size)
        if min(result) >= 1 and int(np.prod(result)) < 3000:
            self.tensor(channels, out, result)
            self.ops.append(op)

    def finish(self, size: Triple) -> Program:
        last = self.pool[-1]
        if self.ops == [] or self.grid_of(last.index) is not None or last.index == 0:
            channels, output = self.channels_of(last.index), self.tensor(self.channels_of(last.index), None, last.size)
            grid = self.grid_of(last.index)
            epilogue = Epilogue(np.full(channels, grid.scale if grid else 1.0, np.float32), self.floats(channels, 0.1))
            self.ops.append(Pointwise("logits", (last.index,), output, epilogue))
        fixed = size if self.random.random() < 0.3 else None
        return Program(tuple(self.tensors), tuple(self.ops), 0, len(self.tensors) - 1, self.rank, (1, 1, 1), fixed)


def _start(seed: int) -> tuple[Builder, Triple]:
    random = np.random.default_rng(seed)
    rank: Rank = 3 if random.random() < 0.3 else 2
    size = tuple(int(v) for v in random.integers(1, 13 if rank == 2 else 7, 3))
    size = (size[0] if rank == 3 else 1, size[1], size[2])
    return Builder(seed + 1, rank, size, int(random.integers(1, 6))), size


def random_integer_program(seed: int) -> Program:
    """A program of 2 to 10 operations in which everything after the first quantisation is exact."""
    builder, size = _start(seed)
    for _ in range(int(builder.random.integers(1, 3))):
        output = builder.tensor(builder.channels_of(0), builder.grid(), size)
        builder.ops.append(Quantize(f"quantize{len(builder.ops)}", (0,), output))
    for _ in range(int(builder.random.integers(1, 8))):
        coded = [m for m in builder.pool if builder.grid_of(m.index) is not None]
        source = coded[-1] if builder.random.random() < 0.7 else builder.pick(*coded)
        grid = builder.grid_of(source.index)
        if builder.random.random() < 0.5:
            fellows = [m.index for m in coded if m.size == source.size and builder.grid_of(m.index) == grid]
            builder.random.shuffle(fellows)
            builder.conv([source.index, *fellows[: int(builder.random.integers(0, 3))]], source.size, builder.grid())
        else:
            same = grid if builder.random.random() < 0.5 else builder.grid()
            builder.simple(source, same)
    return builder.finish(size)


def random_float_program(seed: int) -> Program:
    """A short program of float32 tensors, where executors agree to a tolerance only."""
    builder, size = _start(seed)
    if builder.random.random() < 0.5:
        output = builder.tensor(builder.channels_of(0), builder.grid(), size)
        builder.ops.append(Quantize("quantize", (0,), output))
        builder.conv([output], size, None, kind="float32")
    for _ in range(int(builder.random.integers(1, 4))):
        source = builder.pool[-1]
        if builder.grid_of(source.index) is not None:
            source = builder.pool[0]
        if builder.random.random() < 0.6:
            builder.conv(
                [source.index] * builder.pick(1, 1, 2),
                source.size,
                None,
                kind=builder.pick("float32", "twos_complement", "codebook"),
            )
        else:
            builder.simple(source, None)
    return builder.finish(size)


def random_input(program: Program, seed: int, batch: int = 1) -> NDArray[np.float32]:
    """An input of a size the program was made for (its only one): noise, or pushed to the extremes."""
    random = np.random.default_rng(seed + 2)
    _, size = _start(seed)
    shape = (batch, program.tensors[0].channels, *(size if program.spatial_rank == 3 else size[1:]))
    x = random.standard_normal(shape).astype(np.float32) * np.float32(random.choice([0.5, 3.0, 40.0]))
    if random.random() < 0.2:
        x = np.sign(x) * np.float32(1e6)
    return np.asarray(x, dtype=np.float32)
