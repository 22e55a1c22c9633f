"""Zero-points in the runtime, to the bit: padding in every scheme of convolution, and codes that are made."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exact_runs import ISAS, compare, plain_epilogue
from native_library import ensure_library
from test_runtime_bits import head, image, schemes

from unetq.export.modelfile import save
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
    Upsample,
)
from unetq.fixedpoint import Grid
from unetq.runtime import Runtime

# Every scheme and shape of window: weight bits and kind, bits of codes, channels, outputs, groups, kernel, stride.
SHAPES: dict[str, tuple[int, str, int, int, int, int, tuple[int, int, int], tuple[int, int, int]]] = {
    "winograd": (4, "twos_complement", 6, 33, 20, 1, (1, 3, 3), (1, 1, 1)),
    "deep": (3, "twos_complement", 4, 17, 16, 1, (3, 3, 3), (1, 1, 1)),
    "direct": (4, "twos_complement", 6, 20, 18, 1, (1, 3, 3), (1, 2, 2)),
    "codebook": (4, "codebook", 5, 16, 16, 1, (1, 3, 3), (1, 1, 1)),
    "bytes": (8, "twos_complement", 7, 40, 16, 1, (1, 3, 3), (1, 1, 1)),
    "words": (8, "twos_complement", 8, 37, 19, 1, (1, 3, 2), (1, 1, 1)),
    "patches": (4, "twos_complement", 8, 1, 16, 1, (1, 3, 3), (1, 1, 1)),
    "depthwise": (8, "twos_complement", 8, 24, 24, 24, (1, 3, 3), (1, 2, 1)),
    "groups": (4, "twos_complement", 6, 24, 24, 3, (1, 3, 3), (1, 1, 1)),
    "one bit": (1, "twos_complement", 3, 40, 16, 1, (1, 3, 3), (1, 1, 1)),
    "binary": (1, "binary", 2, 40, 20, 1, (1, 3, 3), (1, 1, 1)),
    "binary wide": (1, "binary", 6, 23, 20, 1, (1, 3, 3), (1, 1, 1)),
    "two bits": (2, "twos_complement", 4, 33, 20, 1, (1, 3, 3), (1, 2, 1)),
    "spread": (8, "twos_complement", 1, 64, 2, 1, (1, 3, 3), (1, 1, 1)),
    "float32": (32, "float32", 8, 5, 18, 1, (1, 3, 3), (1, 1, 1)),
}


@pytest.fixture(scope="module", autouse=True)
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_library(tmp_path_factory.mktemp("runtime"))


def random_weight(random: np.random.Generator, shape: tuple[int, ...], bits: int, kind: str) -> np.ndarray:
    if kind == "float32":  # small integers, whose sums no order can change
        return random.integers(-8, 9, shape).astype(np.float32)
    if kind == "codebook":
        return random.choice(random.choice(np.arange(-31, 32), 1 << bits, replace=False), shape).astype(np.int8)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    weight = random.choice([-1, 1], shape) if kind == "binary" else random.integers(low, high + 1, shape)
    weight[::3] = -1 if kind == "binary" else random.choice([low, high])  # every third row at one extreme
    return weight.astype(np.int8)


def zero_points(bits: int) -> list[int]:
    high = (1 << bits) - 1
    return sorted({1, high // 2 + 1, high})


def conv_program(random: np.random.Generator, shape: str, zero: int, out: Grid, slope: bool, norm: bool) -> Program:
    """Padding on all sides, so wide that some taps meet nothing else; sums moved back by what the zero-point adds."""
    bits, kind, act_bits, channels, outputs, groups, kernel, stride = SHAPES[shape]
    weight = random_weight(random, (outputs, channels // groups, *kernel), bits, kind)
    reach = float(np.abs(weight.astype(np.float64)).sum(axis=(1, 2, 3, 4)).max()) * (1 << act_bits)
    epilogue = plain_epilogue(outputs, reach / 4)
    total = weight.astype(np.float64).sum(axis=(1, 2, 3, 4))
    offset = (epilogue.offset - zero * total * epilogue.gain).astype(np.float32)
    zeros = np.zeros(outputs, np.float32)
    if norm:
        values = random.standard_normal((2, outputs)).astype(np.float32) * 20
        epilogue, offset = Epilogue(epilogue.gain, zeros, instance_norm=InstanceNorm(1e-5, *values)), zeros
    depth = kernel[0] // 2
    op = Conv(
        "conv2", (1,), 2, weight, bits, kind, np.ones(1, np.float32),  # type: ignore[arg-type]
        Epilogue(epilogue.gain, offset, zeros if slope else None, instance_norm=epilogue.instance_norm),
        stride=stride, groups=groups, pad_before=(depth, 1, 2), pad_after=(depth, 2, 4),
    )  # fmt: skip
    tensors = (
        TensorSpec("input", channels, None),
        TensorSpec("x", channels, Grid(act_bits, False, 0.5, zero)),
        TensorSpec("y", outputs, out),
        TensorSpec("logits", outputs, None),
    )
    rank: Any = 3 if kernel[0] > 1 else 2
    return Program(tensors, (Quantize("quantize", (0,), 1), op, head(outputs, 2)), 0, 3, rank, (1, 1, 1))


def picture(random: np.random.Generator, program: Program, size: tuple[int, ...], batch: int = 1) -> np.ndarray:
    """Codes over the whole of the first tensor's grid."""
    grid = program.tensors[1].grid
    assert grid is not None
    one = [image(random, program.tensors[0].channels, size, grid) - grid.zero_point * grid.scale for _ in range(batch)]
    return np.concatenate(one).astype(np.float32)


def compare_padding(shape: str, which: int, folder: Path) -> None:
    zeros = zero_points(SHAPES[shape][2])
    zero = zeros[which % len(zeros)]
    random = np.random.default_rng([60_000, list(SHAPES).index(shape), which])
    out = Grid(int(random.choice([1, 2, 6, 8])), False, 0.5)
    out = Grid(out.bits, False, 0.5, int(random.integers(out.high + 1)))
    program = conv_program(random, shape, zero, out, slope=which == 1, norm=which == 2 and shape != "float32")
    size = (3, 7, 9) if program.spatial_rank == 3 else (11, 14)
    x = picture(random, program, size)
    compare(program, x, folder / "m.uqm", f"{shape}, zero-point {zero} to {out}")


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("shape", SHAPES)
def test_padding_holds_the_zero_point(shape: str, which: int, tmp_path: Path) -> None:
    compare_padding(shape, which, tmp_path)


@pytest.mark.parametrize(
    ("shape", "scheme", "told"),
    [
        ("winograd", "winograd", "winograd"),
        ("bytes", "direct", "direct"),
        ("two bits", "bits", "bit-serial"),
        ("spread", "bits", "bit-serial"),
        ("two bits", "lookup", "look-up"),
        ("binary wide", "lookup", "look-up"),
    ],
)
def test_schemes_take_zero_points(
    shape: str, scheme: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is compared above really ran in the scheme that was asked for."""
    program = conv_program(np.random.default_rng(1), shape, 1, Grid(8, False, 0.5, 3), slope=False, norm=False)
    save(program, tmp_path / "m.uqm")
    monkeypatch.setenv("UNETQ_SCHEME", scheme)
    assert {schemes(tmp_path / "m.uqm", isa)["conv2"] for isa in ISAS} == {told}


@pytest.mark.parametrize("size", [(5, 120), (70, 3), (33, 50)])
def test_images_of_many_strips(size: tuple[int, int], tmp_path: Path) -> None:
    random = np.random.default_rng(sum(size))
    for shape in ("winograd", "binary", "two bits"):
        program = conv_program(random, shape, 2, Grid(4, False, 0.5, 7), slope=True, norm=False)
        compare(program, picture(random, program, size), tmp_path / "m.uqm", f"{shape}, image {size}")


def compare_moves(bits: int, zero: int, folder: Path) -> None:
    """Operations that keep codes, and those that make new ones: all on grids with zero-points of their own."""
    random = np.random.default_rng([61_000, bits, zero])
    channels, grid = 5, Grid(bits, False, 0.25, zero)
    other = Grid(bits % 8 + 1, False, 0.5, 1)
    specs: list[tuple[str, int, Grid | None]] = [("input", channels, None), ("x", channels, grid)]
    ops: list[Op] = [Quantize("quantize", (0,), 1)]

    def add(op: Op, grid: Grid | None, channels: int = channels) -> int:
        ops.append(op)
        specs.append((f"t{op.output}", channels, grid))
        return op.output

    def lands(spread: float, slope: float | None = None) -> Epilogue:
        gain, offset = random.uniform(0.5, 2, channels) / spread, random.uniform(-1, 1, channels)
        slopes = None if slope is None else np.full(channels, slope, np.float32)
        return Epilogue(gain.astype(np.float32), offset.astype(np.float32), slopes)

    ones = np.ones(1, np.float32)
    padded = add(Pad("pad", (1,), 2, "zero", (0, 1, 2), (0, 3, 0)), grid)
    pooled = add(MaxPool("pool", (padded,), 3, (1, 3, 2), (1, 2, 2), (0, 1, 1)), grid)
    doubled = add(Upsample("nearest", (pooled,), 4, "nearest", (1, 2, 2)), grid)
    linear = add(Upsample("linear", (pooled,), 5, "linear", (1, 2, 2), lands(16.0)), grid)
    joined = add(Concat("concat", (doubled, linear), 6), grid, 2 * channels)
    weight = random.integers(-8, 8, (channels, 2 * channels, 1, 3, 3)).astype(np.int8)
    same = {"pad_before": (0, 1, 1), "pad_after": (0, 1, 1)}
    conv = Conv("conv", (joined,), 7, weight, 4, "twos_complement", ones, lands(64.0, 0.0), **same)  # type: ignore[arg-type]
    left = add(conv, other)
    up = add(Upsample("made", (pooled,), 8, "linear", (1, 2, 2), lands(16.0, 0.25)), grid)
    weight = random.integers(-8, 8, (channels, channels, 1, 3, 3)).astype(np.int8)
    fused = Conv("fused", (up,), 9, weight, 4, "twos_complement", ones, lands(64.0), **same)  # type: ignore[arg-type]
    right = add(fused, Grid(3, False, 0.5, 6))
    total = add(Add("add", (left, right), 10, (0.5, -0.25), lands(1.0)), other)
    point = add(Pointwise("pointwise", (total,), 11, lands(1.0, 0.0)), grid)
    add(Pointwise("logits", (point,), 12, lands(1.0)), None)
    program = Program(tuple(TensorSpec(*spec) for spec in specs), tuple(ops), 0, 12, 2, (1, 1, 1))
    compare(program, picture(random, program, (8, 10), 2), folder / "m.uqm", f"{bits} bits, zero-point {zero}")


@pytest.mark.parametrize("bits", range(1, 9))
def test_moved_and_made_codes(bits: int, tmp_path: Path) -> None:
    for zero in zero_points(bits):
        compare_moves(bits, zero, tmp_path)


def test_a_code_is_what_the_definition_says(tmp_path: Path) -> None:
    """Without the executor: rounding half to even before the zero-point, not after it; both ends."""
    values = np.float32([-9.0, -3.5, -2.5, -0.5, 0.0, 0.5, 1.5, 2.5, 3.0, 3.5, 4.5, 5.0, 99.0])
    expected = [0, 0, 1, 3, 3, 3, 5, 5, 6, 7, 7, 7, 7]
    tensors = (TensorSpec("input", 1, None), TensorSpec("x", 1, Grid(3, False, 1.0, 3)), TensorSpec("logits", 1, None))
    end = Pointwise("logits", (1,), 2, Epilogue(np.ones(1, np.float32), np.zeros(1, np.float32)))
    program = Program(tensors, (Quantize("quantize", (0,), 1), end), 0, 2, 2, (1, 1, 1))
    save(program, tmp_path / "m.uqm")
    for isa in ISAS:
        with Runtime(tmp_path / "m.uqm", isa=isa) as runtime:
            assert runtime.run(values[None, None, None])[0, 0, 0].tolist() == expected
