"""C++ = NumPy, to the bit, for group norm, weights whose groups share shifts, and narrow grids."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from exact_runs import compare, one_conv, plain_epilogue
from native_library import ensure_library
from program_chains import Chain, image, some_epilogue

from unetq.export.modelfile import save
from unetq.export.packing import shift_groups, shift_of_each
from unetq.export.program import Conv, InstanceNorm, Mul, Pointwise, Quantize, Triple, Upsample
from unetq.fixedpoint import Grid
from unetq.runtime import Runtime


@pytest.fixture(scope="session", autouse=True)
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_library(tmp_path_factory.mktemp("runtime"))


# ---- group norm


def some_norm(channels: int, groups: int, reach: float) -> InstanceNorm:
    random = np.random.default_rng(groups)
    weight, bias = random.standard_normal((2, channels)).astype(np.float32) * np.float32(reach / 3)
    return InstanceNorm(1e-5, weight, bias, groups)


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 6, 8, 12, 16, 24, 48])
@pytest.mark.parametrize("transposed", [False, True])
def test_group_norm_of_convolutions(groups: int, transposed: bool, tmp_path: Path) -> None:
    """Groups inside a block of 16 channels, of several blocks, and across their borders; the last block is not full."""
    random = np.random.default_rng(groups)
    for channels, rank in ((48, 2), (groups * 5, 3)):
        kernel: Triple = (2 if rank == 3 else 1, 3, 3)
        weight = random.integers(-8, 8, (channels, 6, *kernel)).astype(np.int8)
        epilogue = replace(
            some_epilogue(channels, 900.0, Grid(8, True, 0.5)), instance_norm=some_norm(channels, groups, 60.0)
        )
        op = Conv(
            "conv", (1,), 2, weight, 4, "twos_complement", np.ones(1, np.float32), epilogue, transposed=transposed,
            stride=(1, 2, 2) if transposed else (1, 1, 1), pad_before=(0, 1, 1), pad_after=(0, 1, 1),
        )  # fmt: skip
        program = one_conv(op, Grid(6, True, 0.25), 6, Grid(8, True, 0.5), rank)
        x = image(6, (3, 9, 7) if rank == 3 else (21, 33), Grid(6, True, 0.25), groups)
        compare(program, x, tmp_path / "m.uqm", f"{channels} channels in {groups} groups, transposed={transposed}")


@pytest.mark.parametrize("groups", [0, 1, 4, 20])
@pytest.mark.parametrize("what", ["pointwise", "linear", "product"])
def test_group_norm_of_rows(groups: int, what: str, tmp_path: Path) -> None:
    channels, grid, out = 20, Grid(8, True, 0.25), Grid(6, True, 0.5)
    chain = Chain(channels)
    first = chain.put(Quantize, (0,), channels, grid)
    epilogue = some_epilogue(channels, 4000.0, out, some_norm(channels, groups, 20.0))
    if groups == 0:
        epilogue = replace(epilogue, offset=np.zeros(channels, np.float32))
    if what == "pointwise":
        last = chain.put(Pointwise, (first,), channels, out, epilogue=epilogue)
    elif what == "linear":
        last = chain.put(Upsample, (first,), channels, out, mode="linear", factor=(1, 2, 2), epilogue=epilogue)
    else:
        last = chain.put(Mul, (first, first), channels, out, epilogue=epilogue)
    compare(chain.program(last), image(channels, (13, 6), grid, groups), tmp_path / "m.uqm", f"{what}, {groups} groups")


def test_group_norm_of_one_value(tmp_path: Path) -> None:
    """A group of one number, or of equal ones, has no variance; sums may be as large as they get."""
    for size in ((1, 1), (4, 5)):
        weight = np.full((18, 40, 1, 3, 3), -128, np.int8)
        epilogue = replace(plain_epilogue(18, 1e6), instance_norm=some_norm(18, 9, 50.0))
        op = Conv("conv", (1,), 2, weight, 8, "twos_complement", np.ones(1, np.float32), epilogue,
                  pad_before=(0, 1, 1), pad_after=(0, 1, 1))  # fmt: skip
        x = np.full((1, 40, *size), -1e9, np.float32)
        compare(one_conv(op, Grid(8, True, 1.0), 40, Grid(8, True, 0.5)), x, tmp_path / "m.uqm", f"size {size}")


# ---- shifted weights


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("size", [1, 3, 16, 32])
def test_shifted_weights(bits: int, size: int, tmp_path: Path) -> None:
    """Codes of each width, groups that do and do not divide the channels, shifts up to what int8 holds."""
    random = np.random.default_rng(bits * 100 + size)
    for channels, groups, transposed in ((40, 1, False), (33, 1, True), (24, 2, False), (6, 6, False)):
        inputs = channels // groups
        shifts = random.integers(0, 8, (36, shift_groups(inputs, size))).astype(np.uint8)
        if size == 16:
            shifts[:] = 1 if bits < 8 else 0
        each = shift_of_each(shifts, inputs, size)
        codes = random.integers(-(1 << (bits - 1)), 1 << (bits - 1), (36, inputs, 1, 3, 3))
        weight = (np.clip(codes, -(128 >> each), 127 >> each) << each).astype(np.int8)
        op = Conv(
            "conv", (1,), 2, weight, bits, "shifted", np.ones(36, np.float32),
            plain_epilogue(36, 40.0 * 31 * (9 * inputs) ** 0.5), pad_before=(0, 1, 1), pad_after=(0, 1, 1),
            stride=(1, 2, 2) if transposed else (1, 1, 1), groups=groups, transposed=transposed, weight_shift=shifts,
            group_size=size,
        )  # fmt: skip
        program = one_conv(op, Grid(5, False, 0.5), channels, Grid(8, True, 0.5))
        label = f"{bits} bits in groups of {size}, {channels} channels, {groups} groups, transposed={transposed}"
        compare(program, image(channels, (7, 9), Grid(5, False, 0.5), size), tmp_path / "m.uqm", label)


def test_shifted_weights_stay_small(tmp_path: Path) -> None:
    """Weights that need few bits go where other weights of few bits go, however they are written."""
    weight = np.random.default_rng(3).integers(-1, 2, (48, 64, 1, 3, 3)).astype(np.int8)
    shifts = np.zeros((48, 2), np.uint8)
    plain = Conv(
        "conv", (1,), 2, weight, 2, "twos_complement", np.ones(1, np.float32), plain_epilogue(48, 600.0),
        pad_before=(0, 1, 1), pad_after=(0, 1, 1),
    )  # fmt: skip
    shifted = replace(plain, weight_kind="shifted", weight_bits=6, weight_shift=shifts, group_size=32)
    chosen = []
    for op in (plain, shifted):
        save(one_conv(op, Grid(2, False, 1.0), 64, Grid(8, True, 0.5)), tmp_path / "m.uqm")
        with Runtime(tmp_path / "m.uqm") as runtime:
            chosen.append((runtime.operations()[1].scheme, runtime.operations()[1].kernel))
    assert chosen[0] == chosen[1]


# ---- narrow grids


@pytest.mark.parametrize("bits", range(2, 9))
def test_narrow_grids_have_no_lowest_code(bits: int, tmp_path: Path) -> None:
    grid, out = Grid(bits, True, 0.5, narrow=True), Grid(bits, True, 0.25, narrow=True)
    weight = np.random.default_rng(bits).integers(-8, 8, (19, 7, 1, 3, 3)).astype(np.int8)
    op = Conv(
        "conv", (1,), 2, weight, 4, "twos_complement", np.ones(1, np.float32),
        some_epilogue(19, 7.0 * 9 * grid.high, out), pad_before=(0, 1, 1), pad_after=(0, 1, 1),
    )  # fmt: skip
    program = one_conv(op, grid, 7, out)
    x = np.random.default_rng(1).choice(np.array([-1e9, -1.0, 0.0, 1e9], np.float32), (1, 7, 6, 11))
    found: dict[str, np.ndarray] = {}
    program.run(x, found)
    assert found["x"].min() == -grid.high and found["y"].min() == -out.high
    compare(program, x, tmp_path / "m.uqm", f"{bits} bits")
