"""The look-up scheme, forced: weights of 1 and 2 bits and codes of 1 to 6, in every shape that it takes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exact_runs import ISAS, compare
from native_library import ensure_library
from test_runtime_bits import bit_conv, head, image, random_shape, schemes

from unetq.export.modelfile import save
from unetq.export.program import Conv, Epilogue, Program, Quantize, TensorSpec, Upsample
from unetq.fixedpoint import Grid

KINDS = ("binary", "one bit", "ternary", "two bits")


@pytest.fixture(scope="module", autouse=True)
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_library(tmp_path_factory.mktemp("runtime"))


def program_of(op: Conv, grid: Grid, channels: int, rank: int = 2, result: Grid | None = None) -> Program:
    outputs = op.weight.shape[0]
    tensors = (
        TensorSpec("input", channels, None), TensorSpec("x", channels, grid),
        TensorSpec("y", outputs, result or Grid(8, True, 0.5)), TensorSpec("logits", outputs, None),
    )  # fmt: skip
    return Program(tensors, (Quantize("quantize", (0,), 1), op, head(outputs, 2)), 0, 3, rank, (1, 1, 1))


def is_looked_up(path: Path) -> bool:
    """Whether the convolution under test is looked up in every instruction set where that is asked for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNETQ_SCHEME", "lookup")
        found = {schemes(path, isa)["conv2"] == "look-up" for isa in ISAS}
    assert len(found) == 1
    return found.pop()


def compare_shape(kind: str, seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng([50_000, seed, KINDS.index(kind)])
    grid = Grid(seed % 6 + 1, bool(random.integers(2)), 0.5)
    channels, outputs = int(random.choice([1, 3, 15, 16, 33, 70])), int(random.choice([1, 16, 23, 40]))

    op, size, rank = random_shape(random, kind, seed, outputs, channels)
    program = program_of(op, grid, channels, rank, Grid(int(random.choice([1, 2, 8])), True, 0.5))
    label = f"{kind} A{grid.bits} signed={grid.signed}, {channels} to {outputs}, {op.weight.shape}, image {size}"
    compare(program, image(random, channels, size[3 - rank :], grid), tmp_path / "m.uqm", label)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(12))
def test_random_shapes(kind: str, seed: int, tmp_path: Path) -> None:
    compare_shape(kind, seed, tmp_path)
    assert is_looked_up(tmp_path / "m.uqm")


def compare_groups(kind: str, groups: int, outputs: int, width: int, tmp_path: Path) -> None:
    random = np.random.default_rng([groups, outputs, width])
    grid, channels = Grid(5, True, 0.5), groups * width
    op = bit_conv(random, kind, outputs, (1,), channels, 2, groups=groups, pad_before=(0, 1, 1), pad_after=(0, 0, 1))
    x = image(random, channels, (9, 11), grid)
    compare(program_of(op, grid, channels), x, tmp_path / "m.uqm", f"{kind}, {groups} groups to {outputs}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("groups", "outputs", "width"), [(2, 32, 12), (2, 40, 20), (4, 12, 4), (3, 48, 36)])
def test_groups(kind: str, groups: int, outputs: int, width: int, tmp_path: Path) -> None:
    """Groups that end with a block of 16 outputs, in the middle of one, and several in one."""
    compare_groups(kind, groups, outputs, width, tmp_path)
    assert is_looked_up(tmp_path / "m.uqm")


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize(("bits", "signed"), [(2, True), (4, False), (5, True), (6, False), (6, True)])
def test_joined_and_upsampled_inputs(mode: str, bits: int, signed: bool, tmp_path: Path) -> None:
    """Channels of several inputs in one table, one of the inputs upsampled on the way."""
    random = np.random.default_rng([bits, signed])
    grid, left, low = Grid(bits, signed, 0.5), 9, 22
    pads: dict[str, Any] = {"pad_before": (0, 1, 1), "pad_after": (0, 1, 1)}
    down = bit_conv(random, "two bits", low, (1,), 20, 2, stride=(1, 2, 2), **pads)
    side = bit_conv(random, "binary", left, (1,), 20, 3, **pads)
    ones = np.ones(low, np.float32)
    up = Upsample("up", (2,), 4, mode, (1, 2, 2), Epilogue(ones / 16, ones * 0) if mode == "linear" else None)  # type: ignore[arg-type]
    join = bit_conv(random, "ternary", 35, (3, 4, 3), 2 * left + low, 5, **pads)
    specs: list[Any] = [("input", 20, None), ("x", 20, grid), ("low", low, grid), ("left", left, grid)]
    specs += [("up", low, grid), ("joined", 35, Grid(2, False, 0.5)), ("logits", 35, None)]
    ops = (Quantize("quantize", (0,), 1), down, side, up, join, head(35, 5))
    program = Program(tuple(TensorSpec(*s) for s in specs), ops, 0, 6, 2, (1, 2, 2))
    compare(program, image(random, 20, (22, 34), grid), tmp_path / "m.uqm", f"{mode} A{bits} signed={signed}")


LONG = (("binary", 5), ("binary", 6), ("two bits", 6), ("one bit", 6))


def compare_long_sums(kind: str, bits: int, tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    grid, channels = Grid(bits, False, 1.0), 2100
    op = bit_conv(random, kind, 17, (1,), channels, 2)
    op.weight[:5] = -1
    op.weight[5:10] = {"binary": 1, "one bit": 0, "two bits": -2}[kind]
    x = np.full((2, channels, 4, 7), 1e9, np.float32)
    x[1] = random.choice([0.0, 1e9], x[1].shape)
    compare(program_of(op, grid, channels), x, tmp_path / "m.uqm", f"{kind} A{bits}")


@pytest.mark.parametrize(("kind", "bits"), LONG)
def test_long_sums(kind: str, bits: int, tmp_path: Path) -> None:
    """Thousands of the largest products in a row: lanes that were not emptied in time would overflow."""
    compare_long_sums(kind, bits, tmp_path)
    assert is_looked_up(tmp_path / "m.uqm")


def test_codebooks(tmp_path: Path) -> None:
    """Levels within those of two bits; others take another scheme."""
    random = np.random.default_rng(7)
    grid = Grid(4, False, 0.5)
    for levels, fits in (([-2, 0, 1], True), ([-1, 1], True), ([-3, 0, 2], False)):
        op = bit_conv(random, "ternary", 20, (1,), 24, 2, pad_before=(0, 1, 1))
        op.weight[:] = random.choice(levels, op.weight.shape)
        op = Conv(**{**vars(op), "weight_kind": "codebook", "weight_bits": 2})
        compare(program_of(op, grid, 24), image(random, 24, (7, 9), grid), tmp_path / "m.uqm", f"levels {levels}")
        assert is_looked_up(tmp_path / "m.uqm") is fits


def test_what_tables_cannot_hold(tmp_path: Path) -> None:
    """Forced or not, wider weights and codes take another scheme."""
    random = np.random.default_rng(8)
    for bits, grid in ((3, Grid(1, False, 1.0)), (2, Grid(7, False, 1.0))):
        op = bit_conv(random, "two bits", 16, (1,), 32, 2)
        op = Conv(**{**vars(op), "weight_bits": bits})
        save(program_of(op, grid, 32), tmp_path / "m.uqm")
        assert not is_looked_up(tmp_path / "m.uqm")
