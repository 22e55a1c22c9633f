"""Random small programs, straight from the dataclasses: every operation, width, size and extreme, from one seed."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from random_pieces import Made, Pieces, Rank

from unetq.export.integer import output_size
from unetq.export.program import (
    Add,
    Concat,
    Conv,
    Epilogue,
    MaxPool,
    Mul,
    Op,
    Pad,
    Pointwise,
    Program,
    Quantize,
    Table,
    Triple,
    Upsample,
)
from unetq.fixedpoint import Grid


class Builder(Pieces):
    """Grows a program operation by operation."""

    def conv(
        self, inputs: list[int], size: Triple, out: Grid | None, kind: str | None = None, bits: int | None = None
    ) -> None:
        """Over inputs on one grid; made if its result fits."""
        channels_in = sum(self.channels_of(t) for t in inputs)
        transposed = self.chance(0.3) and not self.zero_of(inputs[0])
        groups = self.pick(*[g for g in (1, 1, 1, 2, 3, channels_in) if channels_in % g == 0])
        channels_out = groups * int(self.random.integers(1, max(2, self.pick(6, 20, 40) // groups)))
        kernel = self.pick(self.triple(1, 3, 1), (3 if self.rank == 3 else 1, 3, 3), (1, 1, 1), self.triple(1, 4, 1))
        fourth = "shifted" if self.methods else "twos_complement"
        kind = kind or self.pick("twos_complement", "twos_complement", fourth, "binary", "codebook")
        widest = {"float32": 32, "binary": 1, "codebook": 4}.get(kind, 8)
        least = widest if kind in ("float32", "binary") else 2 if kind == "shifted" else 1
        bits = bits or int(self.random.integers(least, widest + 1))
        stride = self.pick((1, 1, 1), (1, 1, 1), self.triple(1, 3, 1))
        dilation = self.pick((1, 1, 1), (1, 1, 1), self.triple(1, 2, 1))
        before, after = self.triple(0, 2, 0), self.triple(0, 2, 0)
        padding = self.pick((0, 0, 0), tuple(min(v, s - 1) for v, s in zip(self.triple(0, 2, 0), stride, strict=True)))
        shape = (channels_out, channels_in // groups, *kernel)
        codes = self.shifted(shape, bits) if kind == "shifted" else {"weight": self.weight(shape, bits, kind)}
        weight = codes["weight"]
        grid = self.grid_of(inputs[0])
        level = 1.0 if grid is None else max(abs(grid.low), grid.high) / 2
        spread = level * float(np.abs(weight.astype(np.float64)).mean() + 0.1) * float(np.sqrt(weight[0].size))
        op = Conv(
            name=f"conv{len(self.ops)}",
            inputs=tuple(inputs),
            output=len(self.tensors),
            **codes,
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
        self.put(op, channels_out, out, output_size(op, size))

    def simple(self, source: Made, out: Grid | None) -> None:
        """One of the operations that keep the number of channels."""
        index, size = source.index, source.size
        channels, grid, name = self.channels_of(index), self.grid_of(index), f"op{len(self.ops)}"
        level = 4.0 if grid is None else float(max(abs(grid.low), grid.high))
        base: dict[str, Any] = {"name": name, "inputs": (index,), "output": len(self.tensors)}
        kinds = ["nearest", "linear", "linear", "pool", "pool", "pointwise", "pad", "add", "concat"]
        if self.is_dynamic(index):
            kinds.remove("concat")
        what = self.pick(*kinds)
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
            padding = tuple(k // 2 if self.chance(0.5) else 0 for k in kernel)
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
                epilogue = self.epilogue(channels, level, out, exact=False)
                op = Add(name, (index, other), len(self.tensors), gains, epilogue)
        self.put(op, channels, out, output_size(op, size))

    def look_up(self, source: Made, out: Grid) -> None:
        """A table, if both grids may have one."""
        grid = self.grid_of(source.index)
        if grid is not None and not grid.dynamic and not out.dynamic:
            op = Table(f"table{len(self.ops)}", (source.index,), len(self.tensors), self.table(grid, out))
            self.put(op, self.channels_of(source.index), out, source.size)

    def product(self, source: Made, out: Grid | None) -> None:
        """A product with a tensor that is there, or made from it: one channel, one pixel, or both."""
        other, coded = source, self.grid_of(source.index) is not None
        if self.zero_of(source.index):
            return
        style = self.pick("there", "channel", "pixel", "both")
        if style == "there":
            channels = self.channels_of(source.index)
            fitting = [m for m in self.pool if m.size == source.size and self.channels_of(m.index) in (1, channels)]
            other = self.pick(*[m for m in fitting if not self.zero_of(m.index)])
        if style in ("channel", "both"):
            other = self.to_one_channel(other)
        if style in ("pixel", "both") and not self.zero_of(other.index):
            other = self.to_one_pixel(other)
        if self.zero_of(other.index):
            return
        grids = [self.grid_of(source.index), self.grid_of(other.index)]
        level = float(np.prod([4.0 if g is None else max(abs(g.low), g.high, 1) for g in grids]))
        exact = coded and grids[1] is not None
        epilogue = self.epilogue(self.channels_of(source.index), level, out, exact)
        op = Mul(f"mul{len(self.ops)}", (source.index, other.index), len(self.tensors), epilogue)
        self.put(op, self.channels_of(source.index), out, source.size)

    def to_one_channel(self, source: Made) -> Made:
        channels, coded = self.channels_of(source.index), self.grid_of(source.index) is not None
        out = self.grid() if coded else None
        codes = self.weight((1, channels, 1, 1, 1), 4, "twos_complement")
        op = Conv(
            f"one{len(self.ops)}", (source.index,), len(self.tensors), codes, 4, "twos_complement",
            np.ones(1, np.float32), self.epilogue(1, 50.0 * channels, out, coded),
        )  # fmt: skip
        self.put(op, 1, out, source.size)
        return self.pool[-1]

    def to_one_pixel(self, source: Made) -> Made:
        op = MaxPool(f"pixel{len(self.ops)}", (source.index,), len(self.tensors), source.size, source.size)
        self.put(op, self.channels_of(source.index), self.grid_of(source.index), (1, 1, 1))
        return self.pool[-1]

    def finish(self, size: Triple) -> Program:
        last = self.pool[-1]
        if self.ops == [] or self.grid_of(last.index) is not None or last.index == 0:
            channels, output = self.channels_of(last.index), self.tensor(self.channels_of(last.index), None, last.size)
            grid = self.grid_of(last.index)
            epilogue = Epilogue(np.full(channels, grid.scale if grid else 1.0, np.float32), self.floats(channels, 0.1))
            self.ops.append(Pointwise("logits", (last.index,), output, epilogue))
        fixed = size if self.chance(0.3) else None
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
        source = coded[-1] if builder.chance(0.7) else builder.pick(*coded)
        grid = builder.grid_of(source.index)
        if builder.chance(0.5):
            fellows = [m.index for m in coded if m.size == source.size and builder.grid_of(m.index) == grid]
            builder.random.shuffle(fellows)
            more = 0 if builder.is_dynamic(source.index) else int(builder.random.integers(0, 3))
            builder.conv([source.index, *fellows[:more]], source.size, builder.grid())
        elif builder.methods and builder.chance(0.3):
            builder.look_up(source, builder.grid())
        elif builder.methods and builder.chance(0.4):
            builder.product(source, builder.grid())
        else:
            builder.simple(source, grid if builder.chance(0.5) else builder.grid())
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
        elif builder.methods and builder.chance(0.4):
            builder.product(source, None)
        else:
            builder.simple(source, None)
    return builder.finish(size)


def random_input(program: Program, seed: int, batch: int = 1) -> NDArray[np.float32]:
    """An input of a size the program was made for (its only one): noise, or pushed to the extremes, or zeros."""
    random = np.random.default_rng(seed + 2)
    _, size = _start(seed)
    shape = (batch, program.tensors[0].channels, *(size if program.spatial_rank == 3 else size[1:]))
    x = random.standard_normal(shape).astype(np.float32) * np.float32(random.choice([0.5, 3.0, 40.0]))
    style = random.random()
    if style < 0.2:
        x = np.sign(x) * np.float32(1e6)
    elif style < 0.3:
        x[int(random.integers(batch))] = 0  # a whole image
    return np.asarray(x, dtype=np.float32)
