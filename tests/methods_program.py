"""A small program with everything that version 3 of the model file added."""

from typing import Any

import numpy as np

from unetq.export.packing import shift_of_each
from unetq.export.program import (
    Conv,
    Epilogue,
    InstanceNorm,
    MaxPool,
    Mul,
    Op,
    Pointwise,
    Program,
    Quantize,
    Table,
    TensorSpec,
)
from unetq.fixedpoint import Grid

CHANNELS = 6
SHIFTED, TABLE, RESCALE, PIXEL, MUL, NORMED = range(1, 7)  # operations of the program, by number
ZERO, NARROW, DYNAMIC = 1, 3, 4  # tensors


def plain(channels: int, gain: float = 1.0, **more: Any) -> Epilogue:
    return Epilogue(np.full(channels, gain, np.float32), np.zeros(channels, np.float32), **more)


def shifted_conv(group_size: int = 4, seed: int = 0) -> Conv:
    """3 x 3, CHANNELS to CHANNELS, 4-bit codes with shifts of 0 to 4."""
    random = np.random.default_rng(seed)
    shifts = random.integers(0, 5, (CHANNELS, -(-CHANNELS // group_size))).astype(np.uint8)
    shifts[0, 0] = 4
    codes = random.integers(-8, 8, (CHANNELS, CHANNELS, 1, 3, 3))
    weight = (codes << shift_of_each(shifts, CHANNELS, group_size)).astype(np.int8)
    return Conv(
        "shifted", (1,), 2, weight, 4, "shifted", np.ones(1, np.float32), plain(CHANNELS, 0.002),
        pad_before=(0, 1, 1), pad_after=(0, 1, 1), group_size=group_size, weight_shift=shifts,
    )  # fmt: skip


def methods_program() -> Program:
    """Zero-point, shifted weights, a table, narrow and dynamic grids, a product and group norm, in a row."""
    zero, codes, narrow = Grid(6, False, 0.125, 20), Grid(5, True, 0.5), Grid(8, True, 0.25, narrow=True)
    dynamic, product = Grid(8, True, 1.0, dynamic=True), Grid(7, True, 0.25)
    grids = {
        "input": None, "zero": zero, "codes": codes, "narrow": narrow, "dynamic": dynamic, "pixel": narrow,
        "product": product, "logits": None,
    }  # fmt: skip
    table = np.zeros(256, np.int16)
    entering = np.arange(codes.low, codes.high + 1)
    table[entering & 0xFF] = np.rint(np.tanh(entering / 4.0) * 127)
    weight, bias = np.random.default_rng(1).standard_normal((2, CHANNELS)).astype(np.float32)
    head = Epilogue(
        np.full(CHANNELS, 0.25, np.float32), np.linspace(-2, 2, CHANNELS).astype(np.float32),
        instance_norm=InstanceNorm(1e-5, weight, bias, 3),
    )  # fmt: skip
    ops: tuple[Op, ...] = (
        Quantize("quantize", (0,), 1),
        shifted_conv(),
        Table("table", (2,), 3, table),
        Pointwise("rescale", (3,), 4, plain(CHANNELS, 0.25)),
        MaxPool("pixel", (3,), 5, (1, 8, 8), (1, 8, 8)),
        Mul("product", (4, 5), 6, plain(CHANNELS, 0.25)),
        Pointwise("normed", (6,), 7, head),
    )
    tensors = tuple(TensorSpec(name, CHANNELS, grid) for name, grid in grids.items())
    return Program(tensors, ops, 0, 7, 2, (1, 8, 8), (1, 8, 8))
