"""C++ = NumPy, to the bit: every tensor of random programs, scalar and SIMD, inputs pushed to the extremes."""

from pathlib import Path

import numpy as np
import pytest
from exact_runs import compare, one_conv, plain_epilogue
from native_library import ensure_library
from paper_program import paper_program
from random_programs import random_float_program, random_input, random_integer_program

from unetq.export.program import Conv, Epilogue, InstanceNorm, Mul, Op, Program
from unetq.fixedpoint import Grid

BATCH = 13  # programs a test, 40 tests: 520 programs


@pytest.fixture(scope="session", autouse=True)
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_library(tmp_path_factory.mktemp("runtime"))


@pytest.mark.parametrize("block", range(40))
def test_random_programs(block: int, tmp_path: Path) -> None:
    for seed in range(10_000 + block * BATCH, 10_000 + (block + 1) * BATCH):
        program = random_integer_program(seed)
        x = random_input(program, seed, batch=1 + seed % 2)
        compare(program, x, tmp_path / "m.uqm", f"seed {seed}, input {x.shape}")


@pytest.mark.parametrize("block", range(10))
def test_random_float_programs(block: int, tmp_path: Path) -> None:
    for seed in range(20_000 + block * 10, 20_000 + (block + 1) * 10):
        program = random_float_program(seed)
        x = random_input(program, seed)
        compare(program, x, tmp_path / "m.uqm", f"seed {seed}, input {x.shape}", tolerance=1e-5)


EXTREMES = [(8, 8), (8, 7), (7, 8), (6, 8), (4, 6), (3, 7), (2, 2), (1, 8), (8, 1)]


@pytest.mark.parametrize(("weight_bits", "act_bits"), EXTREMES)
@pytest.mark.parametrize("signed", [False, True])
def test_long_sums_at_the_extremes(weight_bits: int, act_bits: int, signed: bool, tmp_path: Path) -> None:
    """Hundreds of channels of the largest products, of one sign and alternating: where narrow sums would overflow."""
    low, high = -(1 << (weight_bits - 1)), (1 << (weight_bits - 1)) - 1
    grid = Grid(act_bits, signed, 1.0)
    random = np.random.default_rng(weight_bits * 10 + act_bits)
    for channels in (37, 260):
        rows = [np.full(channels, low), np.full(channels, high), np.where(np.arange(channels) % 2, low, high)]
        rows += [np.where(np.arange(channels) < channels // 2, low, high), random.choice([low, high], channels)]
        rows += [random.integers(low, high + 1, channels) for _ in range(14)]
        weight = np.stack(rows).astype(np.int8)[:, :, None, None, None].repeat(3, 3).repeat(3, 4)
        reach = float(
            np.abs(weight.astype(int)).reshape(len(rows), -1).sum(axis=1).max() * max(grid.high, -grid.low, 1)
        )
        op = Conv(
            "conv", (1,), 2, weight, weight_bits, "twos_complement", np.ones(1, np.float32),
            plain_epilogue(len(rows), reach), pad_before=(0, 1, 1), pad_after=(0, 1, 1),
        )  # fmt: skip
        program = one_conv(op, grid, channels, Grid(8, True, 0.5))
        images = [np.full((channels, 4, 5), v, np.float32) for v in (grid.low, grid.high, 1e9, -1e9)]
        images += [
            random.choice([-1e9, 1e9], (channels, 4, 5)).astype(np.float32),
            random.normal(0, 50, (channels, 4, 5)),
        ]
        label = f"W{weight_bits}A{act_bits} signed={signed}, {channels} channels"
        compare(program, np.stack(images).astype(np.float32), tmp_path / "m.uqm", label)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(
    ("rank", "size"), [(2, (1, 61, 47)), (2, (1, 3, 1500)), (2, (1, 1100, 2)), (3, (9, 14, 17)), (3, (30, 5, 9))]
)
def test_images_of_many_strips(
    transposed: bool, norm: bool, rank: int, size: tuple[int, int, int], tmp_path: Path
) -> None:
    random = np.random.default_rng(7)
    kernel, stride = (3 if rank == 3 else 1, 3, 3), (2 if rank == 3 else 1, 2, 2) if transposed else (1, 1, 1)
    weight = random.integers(-8, 8, (21, 5, *kernel)).astype(np.int8)
    epilogue = plain_epilogue(21, 5 * 27 * 8 * 20)
    if norm:
        values = random.standard_normal((2, 21)).astype(np.float32) * 20
        epilogue = Epilogue(
            np.full(21, 0.01, np.float32), np.zeros(21, np.float32), instance_norm=InstanceNorm(1e-5, *values)
        )
    pads = (1 if rank == 3 else 0, 1, 1)
    op = Conv(
        "conv", (1,), 2, weight, 4, "twos_complement", np.ones(1, np.float32), epilogue, stride=stride,
        pad_before=pads, pad_after=pads, transposed=transposed,
        output_padding=(0, 1, 1) if transposed else (0, 0, 0),
    )  # fmt: skip
    program = one_conv(op, Grid(6, False, 0.125), 5, Grid(8, True, 0.5), rank)
    x = np.abs(random.standard_normal((1, 5, *size[3 - rank :]))).astype(np.float32) * 4
    compare(program, x, tmp_path / "m.uqm", f"size {size}, transposed={transposed}, norm={norm}")


@pytest.mark.parametrize("groups", [2, 3, 8, 24, 48])
def test_groups_across_blocks(groups: int, tmp_path: Path) -> None:
    """Groups that are narrower than, as wide as and wider than the 16 channels of a block, and do not align with it."""
    random = np.random.default_rng(groups)
    weight = random.integers(-8, 8, (48, 48 // groups, 1, 3, 3)).astype(np.int8)
    op = Conv(
        "conv", (1,), 2, weight, 4, "twos_complement", np.ones(48, np.float32), plain_epilogue(48, 9 * 48 * 8 * 16),
        pad_before=(0, 1, 1), pad_after=(0, 1, 1), groups=groups,
    )  # fmt: skip
    program = one_conv(op, Grid(5, True, 0.25), 48, Grid(7, True, 0.5))
    x = random.standard_normal((1, 48, 7, 9)).astype(np.float32) * 3
    compare(program, x, tmp_path / "m.uqm", f"{groups} groups")


def test_the_papers_network(tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((1, 1, 40, 56)).astype(np.float32)
    compare(paper_program(4, 6), x, tmp_path / "m.uqm", "paper W4A6")


def methods_of(program: Program, op: Op) -> set[str]:
    """What the operation has of zero-points, dynamic ranges, products, group norm and shifted weights."""
    kind, inputs = type(op).__name__, [program.tensors[t] for t in op.inputs]
    grids = [t.grid for t in inputs if t.grid]
    seen = {f"{kind} of zero" for g in grids if g.zero_point} | {f"{kind} of dynamic" for g in grids if g.dynamic}
    norm = getattr(getattr(op, "epilogue", None), "instance_norm", None)
    channels = program.tensors[op.output].channels
    if norm is not None and norm.groups and channels > 1:
        seen.add(f"group norm {'C' if norm.groups == channels else norm.groups}")
    if norm is not None and any(g.dynamic for g in grids):
        seen.add("norm of dynamic")
    if isinstance(op, Mul):
        made_by = {o.output: o.name for o in program.ops}
        narrowed = " one channel" if inputs[1].channels < inputs[0].channels else ""
        spread = " one pixel" if made_by.get(op.inputs[1], "").startswith("pixel") else ""
        seen |= {f"Mul{narrowed}{spread}"} | ({"Mul float"} if len(grids) < 2 else set())
    if isinstance(op, Conv) and op.weight_shift is not None:
        seen |= {f"shift{s}" for s in np.unique(op.weight_shift)} | {f"shifted{op.weight_bits}"}
        seen |= {"short group"} if op.weight.shape[1] % op.group_size else set()
    return seen


def test_builder_covers_every_operation() -> None:
    """The random programs of this file really contain what they are meant to test."""
    seen: set[str] = set()
    for seed in range(10_000, 10_000 + 40 * BATCH):
        program = random_integer_program(seed)
        for op in program.ops:
            seen.add(type(op).__name__)
            seen |= {
                f"{type(op).__name__}.{v}" for v in (getattr(op, "mode", None), getattr(op, "weight_kind", None)) if v
            }
            if isinstance(op, Conv):
                seen |= {
                    f"bits{op.weight_bits}",
                    "transposed" if op.transposed else "ordinary",
                    f"inputs{len(op.inputs)}",
                }
                seen |= {"groups"} if op.groups > 1 else set()
                seen |= {"norm"} if op.epilogue.instance_norm else set()
            seen |= methods_of(program, op)
        seen |= {f"a{t.grid.bits}{t.grid.signed}{t.grid.rounding}" for t in program.tensors if t.grid}
        seen |= {f"narrow{t.grid.bits}" for t in program.tensors if t.grid and t.grid.narrow}
        seen |= {f"dynamic{t.grid.bits}{t.grid.signed}" for t in program.tensors if t.grid and t.grid.dynamic}
        zeros = [t.grid for t in program.tensors if t.grid and t.grid.zero_point]
        seen |= {f"zero{g.bits}{'top' if g.zero_point == g.high else ''}" for g in zeros}
    wanted = {
        "Quantize",
        "MaxPool",
        "Add",
        "Pointwise",
        "Concat",
        "Upsample.nearest",
        "Upsample.linear",
        "Pad.zero",
        "Pad.replicate",
    }
    wanted |= {
        "Conv.binary",
        "Conv.twos_complement",
        "Conv.codebook",
        "transposed",
        "ordinary",
        "groups",
        "norm",
        "inputs1",
        "inputs2",
        "inputs3",
    }
    wanted |= {f"bits{b}" for b in range(1, 9)}
    wanted |= {f"a{b}{s}{r}" for b in range(1, 9) for s in (True, False) for r in ("half_even", "toward_zero")}
    wanted |= {"Table", "Mul", "Conv.shifted", "group norm 1", "group norm C", "group norm 2"}
    wanted |= {f"Mul{c}{s}" for c in ("", " one channel") for s in ("", " one pixel")} | {"Mul float"}
    wanted |= {f"shift{s}" for s in range(8)} | {f"shifted{b}" for b in range(2, 9)} | {"short group"}
    wanted |= {f"narrow{b}" for b in range(2, 9)} | {f"dynamic{b}{s}" for b in range(1, 9) for s in (True, False)}
    wanted |= {f"zero{b}{e}" for b in range(2, 9) for e in ("", "top")} | {"zero1top"}
    readers = ("Conv", "Upsample", "MaxPool", "Add", "Pointwise", "Pad")
    wanted |= {f"{r} of {g}" for r in readers for g in ("zero", "dynamic")} | {"Concat of zero", "Table of zero"}
    wanted |= {"Mul of dynamic", "norm of dynamic"}
    assert wanted <= seen, sorted(wanted - seen)
