"""The bit-serial scheme, forced: weights of 1 and 2 bits and codes of 1 to 4, in every shape that it takes."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exact_runs import ISAS, compare, plain_epilogue
from native_library import ensure_library

from unetq.export.integer import output_size
from unetq.export.modelfile import save
from unetq.export.program import Conv, Epilogue, InstanceNorm, MaxPool, Program, Quantize, TensorSpec, Upsample
from unetq.fixedpoint import Grid
from unetq.runtime import Runtime

KINDS = ("binary", "one bit", "ternary", "two bits")


@pytest.fixture(scope="module", autouse=True)
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_library(tmp_path_factory.mktemp("runtime"))


def random_weight(random: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    levels = {"binary": [-1, 1], "one bit": [-1, 0], "ternary": [-1, 0, 1], "two bits": [-2, -1, 0, 1]}[kind]
    weight = random.choice(levels, shape)
    for row in range(0, shape[0], 3):  # every third output channel at one extreme
        weight[row] = random.choice([levels[0], levels[-1]])
    return weight.astype(np.int8)


def bit_conv(
    random: np.random.Generator, kind: str, outputs: int, inputs: tuple[int, ...], channels: int, output: int,
    groups: int = 1, norm: bool = False, **shape: Any,
) -> Conv:  # fmt: skip
    kernel = shape.pop("kernel", (1, 3, 3))
    weight = random_weight(random, kind, (outputs, channels // groups, *kernel))
    epilogue = plain_epilogue(outputs, 3 * float(np.abs(weight).sum(axis=(1, 2, 3, 4)).max() + 1))
    if norm:
        values = random.standard_normal((2, outputs)).astype(np.float32) * 20
        ones = np.ones(outputs, np.float32)
        epilogue = Epilogue(ones * np.float32(0.01), ones * 0, instance_norm=InstanceNorm(1e-5, *values))
    return Conv(
        f"conv{output}", inputs, output, weight, 1 if kind in ("binary", "one bit") else 2,
        "binary" if kind == "binary" else "twos_complement", np.ones(outputs, np.float32), epilogue,
        groups=groups, **shape,
    )  # fmt: skip


def head(channels: int, source: int) -> Conv:
    identity = np.eye(channels, dtype=np.int8)[:, :, None, None, None]
    ones = np.ones(channels, np.float32)
    return Conv("head", (source,), source + 1, identity, 2, "twos_complement", ones[:1], Epilogue(ones, ones * 0))


def image(random: np.random.Generator, channels: int, size: tuple[int, ...], grid: Grid) -> np.ndarray:
    """Codes over the whole grid, and many at its ends."""
    x = random.uniform(grid.low - 1, grid.high + 1, (1, channels, *size)) * grid.scale
    return np.where(random.random(x.shape) < 0.3, np.sign(x) * 1e9, x).astype(np.float32)


def schemes(path: Path, isa: str) -> dict[str, str]:
    with Runtime(path, isa=isa) as runtime:
        return {o.name: o.scheme for o in runtime.operations() if o.kind == "convolution"}


def assert_bits(folder: Path) -> None:
    """The convolution under test is bit-serial where that is asked for."""
    os.environ["UNETQ_SCHEME"] = "bits"
    try:
        for isa in ISAS:
            assert schemes(folder / "m.uqm", isa)["conv2"] == "bit-serial"
    finally:
        del os.environ["UNETQ_SCHEME"]


def random_shape(
    random: np.random.Generator, kind: str, seed: int, outputs: int, channels: int
) -> tuple[Conv, Any, int]:
    """A convolution of random shape, a size that it accepts, and the spatial rank."""
    rank = 3 if seed % 4 == 3 else 2

    def some(low: int, high: int, neutral: int) -> tuple[int, int, int]:
        d, h, w = (int(n) for n in random.integers(low, high + 1, 3))
        return (d if rank == 3 else neutral, h, w)

    transposed, stride = seed % 3 == 1, some(1, 3, 1) if seed % 3 else (1, 1, 1)
    op = bit_conv(
        random, kind, outputs, (1,), channels, 2, norm=seed % 5 == 0, kernel=some(1, 3, 1), stride=stride,
        dilation=some(1, 2, 1), pad_before=some(0, 2, 0), pad_after=some(0, 2, 0), transposed=transposed,
        output_padding=(0, *(min(1, s - 1) for s in stride[1:])) if transposed else (0, 0, 0),
    )  # fmt: skip
    size = tuple(int(n) for n in random.integers(6, 9 if rank == 3 else 20, 3))
    size = (size[0] if rank == 3 else 1, size[1], size[2])
    assert min(output_size(op, size)) > 0
    return op, size, rank


def compare_shape(kind: str, seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng([40_000, seed, KINDS.index(kind)])
    grid = Grid(int(random.choice([1, 1, 2, 2, 3, 4])), bool(random.integers(2)), 0.5)
    channels, outputs = int(random.choice([1, 8, 31, 33, 64, 100])), int(random.choice([1, 16, 23, 40]))

    op, size, rank = random_shape(random, kind, seed, outputs, channels)
    tensors = (
        TensorSpec("input", channels, None), TensorSpec("x", channels, grid),
        TensorSpec("y", outputs, Grid(int(random.choice([1, 2, 8])), True, 0.5)), TensorSpec("logits", outputs, None),
    )  # fmt: skip
    program = Program(tensors, (Quantize("quantize", (0,), 1), op, head(outputs, 2)), 0, 3, rank, (1, 1, 1))
    label = f"{kind} A{grid.bits} signed={grid.signed}, {channels} to {outputs}, {op.weight.shape}, image {size}"
    compare(program, image(random, channels, size[3 - rank :], grid), tmp_path / "m.uqm", label)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(20))
def test_random_shapes(kind: str, seed: int, tmp_path: Path) -> None:
    compare_shape(kind, seed, tmp_path)
    assert_bits(tmp_path)


def compare_groups(kind: str, groups: int, outputs: int, tmp_path: Path) -> None:
    """Groups that end with a block of 16 outputs, in the middle of one, and several in one."""
    random = np.random.default_rng(groups * 100 + outputs)
    grid, channels = Grid(2, True, 0.5), groups * 64
    op = bit_conv(random, kind, outputs, (1,), channels, 2, groups=groups, pad_before=(0, 1, 1), pad_after=(0, 0, 1))
    tensors = (
        TensorSpec("input", channels, None), TensorSpec("x", channels, grid),
        TensorSpec("y", outputs, Grid(8, True, 0.5)), TensorSpec("logits", outputs, None),
    )  # fmt: skip
    program = Program(tensors, (Quantize("quantize", (0,), 1), op, head(outputs, 2)), 0, 3, 2, (1, 1, 1))
    x = image(random, channels, (9, 11), grid)
    compare(program, x, tmp_path / "m.uqm", f"{kind}, {groups} groups to {outputs}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("groups", "outputs"), [(2, 32), (2, 40), (4, 12), (3, 48)])
def test_groups(kind: str, groups: int, outputs: int, tmp_path: Path) -> None:
    compare_groups(kind, groups, outputs, tmp_path)
    assert_bits(tmp_path)


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize(("bits", "signed"), [(1, False), (1, True), (2, False), (2, True), (3, True)])
@pytest.mark.parametrize(("left", "low"), [(32, 64), (24, 40), (5, 9)])
def test_joined_and_upsampled_inputs(mode: str, bits: int, signed: bool, left: int, low: int, tmp_path: Path) -> None:
    """Inputs side by side in one pixel's words, one of them upsampled on the way: on bytes of a word and anywhere."""
    random = np.random.default_rng([bits, left, low])
    grid, result = Grid(bits, signed, 0.5), Grid(2, False, 0.5)
    pads: dict[str, Any] = {"pad_before": (0, 1, 1), "pad_after": (0, 1, 1)}
    down = bit_conv(random, "two bits", low, (1,), 40, 2, stride=(1, 2, 2), **pads)
    side = bit_conv(random, "binary", left, (1,), 40, 3, **pads)
    ones = np.ones(low, np.float32)
    up = Upsample("up", (2,), 4, mode, (1, 2, 2), Epilogue(ones / 16, ones * 0) if mode == "linear" else None)  # type: ignore[arg-type]
    join = bit_conv(random, "ternary", 35, (3, 4, 3), 2 * left + low, 5, **pads)
    specs: list[Any] = [("input", 40, None), ("x", 40, grid), ("low", low, grid), ("left", left, grid)]
    specs += [("up", low, grid), ("joined", 35, result), ("logits", 35, None)]
    ops = (Quantize("quantize", (0,), 1), down, side, up, join, head(35, 5))
    program = Program(tuple(TensorSpec(*s) for s in specs), ops, 0, 6, 2, (1, 2, 2))
    x = image(random, 40, (22, 34), grid)
    compare(program, x, tmp_path / "m.uqm", f"{mode} A{bits} signed={signed}, {left} and {low} channels")


@pytest.mark.parametrize("threshold", range(-1, 18))
@pytest.mark.parametrize("signed", [False, True])
def test_bits_doubled(threshold: int, signed: bool, tmp_path: Path) -> None:
    """9 a + 3 b + 3 c + d above every threshold, rising and falling, one for all channels or not, and pools of bits."""
    random = np.random.default_rng(threshold + 1)
    channels = int(random.choice([8, 40, 64, 70]))
    grid, out = Grid(1, signed, 1.0), Grid(1, bool(threshold % 2), 1.0)
    ones, low, bias = np.ones(channels, np.float32), -1 if threshold % 2 else 0, 16 if signed else 0
    rising = Epilogue(ones, ones * np.float32(bias - threshold + low))
    falling = Epilogue(-ones, ones * np.float32(threshold + 1 - bias + low))
    mixed = Epilogue(ones * random.choice([-1, 1], channels).astype(np.float32), rising.offset)
    pool = MaxPool("pool", (1,), 2, (1, 3, 2), (1, 2, 2), (0, 1, 0))
    specs: list[Any] = [("input", channels, None), ("x", channels, grid), ("pooled", channels, grid)]
    ops: list[Any] = [Quantize("quantize", (0,), 1), pool]
    for i, epilogue in enumerate((rising, falling, mixed)):
        specs.append((f"up{i}", channels, out))
        ops.append(Upsample(f"up{i}", (2,), 3 + i, "linear", (1, 2, 2), epilogue))
    ops.append(bit_conv(random, "binary", 20, (3, 4, 5), 3 * channels, 6, pad_before=(0, 1, 1), pad_after=(0, 1, 1)))
    specs += [("y", 20, Grid(8, True, 0.5)), ("logits", 20, None)]
    program = Program(tuple(TensorSpec(*s) for s in specs), (*ops, head(20, 6)), 0, 7, 2, (1, 1, 1))
    for size in ((7, 9), (1, 2), (2, 6)):
        x = image(random, channels, size, grid)
        compare(program, x, tmp_path / "m.uqm", f"above {threshold}, signed={signed}, {channels} channels, {size}")


def compare_wide_weights(bits: int, outputs: int, signed: bool, tmp_path: Path) -> None:
    """Every bit of the weights is an output of its own, as far as a block of 16 holds them."""
    random = np.random.default_rng(bits * 10 + outputs)
    grid, low = Grid(int(random.integers(1, 5)), signed, 0.5), -(1 << (bits - 1))
    weight = random.integers(low, -low, (outputs, 70, 1, 3, 3)).astype(np.int8)
    weight[0, ::2] = random.choice([low, -low - 1])
    op = Conv(
        "conv2", (1,), 2, weight, bits, "twos_complement", np.ones(1, np.float32),
        plain_epilogue(outputs, 40000.0), pad_before=(0, 1, 1), pad_after=(0, 1, 0),
    )  # fmt: skip
    specs: list[Any] = [("input", 70, None), ("x", 70, grid), ("y", outputs, Grid(8, True, 0.5))]
    tensors = (*(TensorSpec(*s) for s in specs), TensorSpec("logits", outputs, None))
    program = Program(tensors, (Quantize("quantize", (0,), 1), op, head(outputs, 2)), 0, 3, 2, (1, 1, 1))
    x = image(random, 70, (9, 13), grid)
    compare(program, x, tmp_path / "m.uqm", f"W{bits}A{grid.bits} signed={signed} to {outputs}")


@pytest.mark.parametrize(("bits", "outputs"), [(2, 8), (3, 5), (4, 4), (5, 3), (8, 2), (8, 1), (7, 1)])
@pytest.mark.parametrize("signed", [False, True])
def test_few_outputs_of_wide_weights(bits: int, outputs: int, signed: bool, tmp_path: Path) -> None:
    compare_wide_weights(bits, outputs, signed, tmp_path)
    assert_bits(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", [1, 4])
def test_long_sums(kind: str, bits: int, tmp_path: Path) -> None:
    """Thousands of ones in a row: every width that counts are kept in on the way would overflow."""
    random = np.random.default_rng(3)
    grid, channels = Grid(bits, False, 1.0), 2080
    op = bit_conv(random, kind, 17, (1,), channels, 2)
    op.weight[: len(op.weight) // 2] = [[-1]] if kind != "two bits" else [[-2]]
    op.weight[8] = 0 if kind == "one bit" else 1
    specs: list[Any] = [("input", channels, None), ("x", channels, grid), ("y", 17, Grid(8, True, 0.5))]
    tensors = (*(TensorSpec(*s) for s in specs), TensorSpec("logits", 17, None))
    program = Program(tensors, (Quantize("quantize", (0,), 1), op, head(17, 2)), 0, 3, 2, (1, 1, 1))
    x = np.full((2, channels, 4, 7), 1e9, np.float32)
    x[1] = random.choice([0.0, 1e9], x[1].shape)
    compare(program, x, tmp_path / "m.uqm", f"{kind} A{bits}")


def test_what_bits_cannot_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forced or not, wider weights and codes take another scheme."""
    monkeypatch.setenv("UNETQ_SCHEME", "bits")
    random = np.random.default_rng(4)
    for kind, grid in (("three bits", Grid(1, False, 1.0)), ("binary", Grid(5, False, 1.0))):
        op = bit_conv(random, "binary", 16, (1,), 32, 2)
        if kind == "three bits":
            op = Conv(**{**vars(op), "weight_bits": 3, "weight_kind": "twos_complement"})
        tensors = (
            TensorSpec("input", 32, None), TensorSpec("x", 32, grid),
            TensorSpec("y", 16, Grid(8, True, 0.5)), TensorSpec("logits", 16, None),
        )  # fmt: skip
        save(Program(tensors, (Quantize("quantize", (0,), 1), op, head(16, 2)), 0, 3, 2, (1, 1, 1)), tmp_path / "m.uqm")
        for isa in ISAS:
            assert schemes(tmp_path / "m.uqm", isa)["conv2"] != "bit-serial"
