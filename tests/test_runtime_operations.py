"""C++ = NumPy, to the bit, for tables and products: every width, shape and sign; where their results lie."""

import ctypes
from pathlib import Path

import numpy as np
import pytest
from exact_runs import compare, plain_epilogue
from native_library import ensure_library
from program_chains import Chain, image, some_epilogue

from unetq import native
from unetq.export.modelfile import save
from unetq.export.program import Conv, MaxPool, Mul, Pointwise, Quantize, Table, TensorSpec, Upsample
from unetq.fixedpoint import Grid
from unetq.runtime import Runtime


@pytest.fixture(scope="session", autouse=True)
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_library(tmp_path_factory.mktemp("runtime"))


# ---- tables


def some_table(source: Grid, target: Grid, seed: int) -> np.ndarray:
    table = np.zeros(256, np.int16)
    codes = np.arange(source.low, source.high + 1)
    entries = np.random.default_rng(seed).integers(target.low, target.high + 1, codes.size)
    entries[0], entries[-1] = target.high, target.low
    table[codes & 0xFF] = entries
    return table


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("signed", [False, True])
def test_tables_between_all_widths(bits: int, signed: bool, tmp_path: Path) -> None:
    """From one grid to grids of every width and back, at channels that do and do not fill bytes and vectors."""
    source = Grid(bits, signed, 0.5, narrow=signed and bits > 1 and bits % 2 == 0)
    for channels in (1, 7, 40):
        chain = Chain(channels)
        last = chain.put(Quantize, (0,), channels, source)
        for other in range(1, 9):
            grid = Grid(other, bool((other + bits) % 2), 0.25)
            there = chain.put(Table, (last,), channels, grid, table=some_table(chain.tensors[last].grid, grid, other))
            last = chain.put(Table, (there,), channels, source, table=some_table(grid, source, other + 100))
        x = image(channels, (5, 11), source, bits)
        compare(chain.program(last), x, tmp_path / "m.uqm", f"{source}, {channels} channels")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_what_is_behind_a_pixels_codes_stays_zero(bits: int, tmp_path: Path) -> None:
    """Table entry 0 is not 0 here, and the spare bits of a pixel's last byte would count in a convolution on bits."""
    channels = 37
    grid = Grid(bits, False, 1.0)
    chain = Chain(channels)
    first = chain.put(Quantize, (0,), channels, grid)
    table = np.zeros(256, np.int16)
    table[: grid.high + 1] = np.arange(grid.high, -1, -1)
    turned = chain.put(Table, (first,), channels, grid, table=table)
    weight = np.random.default_rng(bits).integers(-2, 2, (19, channels, 1, 3, 3)).astype(np.int8)
    last = chain.put(
        Conv, (turned,), 19, Grid(8, True, 0.5), weight=weight, weight_bits=2, weight_kind="twos_complement",
        weight_scale=np.ones(1, np.float32), epilogue=plain_epilogue(19, 9 * channels * 2 * grid.high),
        pad_before=(0, 1, 1), pad_after=(0, 1, 1),
    )  # fmt: skip
    compare(chain.program(last), image(channels, (9, 8), grid, 3), tmp_path / "m.uqm", f"{bits} bits")


# ---- products


@pytest.mark.parametrize("channels", [1, 5, 32])
@pytest.mark.parametrize("one_channel", [False, True])
@pytest.mark.parametrize("one_pixel", [False, True])
@pytest.mark.parametrize("widths", [(8, 8), (4, 8), (1, 2), (6, 1)])
def test_products_of_codes(
    channels: int, one_channel: bool, one_pixel: bool, widths: tuple[int, int], tmp_path: Path
) -> None:
    """Both operands signed and not, of every shape that the second may have, onto few and many levels."""
    for number, (a_signed, b_signed) in enumerate([(False, False), (True, True), (True, False)]):
        a, b = Grid(widths[0], a_signed, 1.0), Grid(widths[1], b_signed, 0.5)
        out = Grid((8, 2, 1)[number], a_signed, 0.125)
        reach = float(max(a.high, -a.low) * max(b.high, -b.low)) or 1.0
        chain = Chain(channels)
        left = chain.put(Quantize, (0,), channels, a)
        right = chain.put(Quantize, (0,), channels, b)
        size = (6, 9)
        if one_channel or one_pixel:
            kernel = (1, *size) if one_pixel else (1, 1, 1)
            rows = 1 if one_channel else channels
            weight = np.random.default_rng(number).integers(-4, 4, (rows, channels, *kernel)).astype(np.int8)
            right = chain.put(
                Conv, (right,), rows, b, weight=weight, weight_bits=3, weight_kind="twos_complement",
                weight_scale=np.ones(1, np.float32), epilogue=some_epilogue(rows, 20.0 * weight[0].size**0.5, b),
            )  # fmt: skip
        product = chain.put(Mul, (left, right), channels, out, epilogue=some_epilogue(channels, reach, out))
        twice = Mul("square", (product, product), len(chain.tensors), some_epilogue(channels, reach, None))
        chain.tensors.append(TensorSpec("squares", channels, None))
        chain.ops.append(twice)
        x = image(channels, size, a, number)
        compare(chain.program(twice.output), x, tmp_path / "m.uqm", f"{a} x {b}, {channels} channels")


@pytest.mark.parametrize("floats", [(True, True), (True, False), (False, True)])
def test_products_of_floats(floats: tuple[bool, bool], tmp_path: Path) -> None:
    """A product of two float32 numbers is exact number by number; codes enter as their numbers."""
    channels, grid = 21, Grid(7, True, 0.5)
    chain = Chain(channels)
    codes = chain.put(Quantize, (0,), channels, grid)
    inputs = tuple(0 if is_float else codes for is_float in floats)
    product = chain.put(Mul, inputs, channels, None, epilogue=some_epilogue(channels, 60.0, None))
    last = chain.put(Mul, (codes, product), channels, Grid(8, True, 0.5), epilogue=some_epilogue(channels, 50.0, grid))
    compare(chain.program(last), image(channels, (7, 5), grid, 1), tmp_path / "m.uqm", str(floats))


def test_a_second_operand_of_another_size_is_told(tmp_path: Path) -> None:
    grid = Grid(4, False, 1.0)
    chain = Chain(3)
    first = chain.put(Quantize, (0,), 3, grid)
    small = chain.put(Upsample, (first,), 3, grid, mode="nearest", factor=(1, 2, 1))
    last = chain.put(Mul, (first, small), 3, grid, epilogue=some_epilogue(3, 100.0, grid))
    save(chain.program(last), tmp_path / "m.uqm")
    with Runtime(tmp_path / "m.uqm") as runtime, pytest.raises(Exception, match=r"1 x 4 x 4 and 1 x 8 x 4.*Choose"):
        runtime.plan((4, 4))


# ---- all of them


@pytest.mark.parametrize("what", ["table", "product", "spread"])
def test_results_lie_over_what_was_read(what: str, tmp_path: Path) -> None:
    """One tensor's memory for a chain of them; a product's second operand of one pixel is read to the end."""
    channels, grid, size = 16, Grid(8, False, 1.0), (64, 64)
    chain = Chain(channels)
    first = chain.put(Quantize, (0,), channels, grid)
    pooled = chain.put(MaxPool, (first,), channels, grid, kernel=(1, *size), stride=(1, *size))
    last = first
    for number in range(3):
        if what == "table":
            last = chain.put(Table, (last,), channels, grid, table=some_table(grid, grid, number))
        else:
            inputs = (last, last if what == "product" else pooled)
            last = chain.put(Mul, inputs, channels, grid, epilogue=some_epilogue(channels, 3e4, grid))
    program = chain.program(chain.put(MaxPool, (last,), channels, grid, kernel=(1, 8, 8), stride=(1, 8, 8)))
    compare(program, image(channels, size, grid, 3), tmp_path / "m.uqm", what)
    with Runtime(tmp_path / "m.uqm") as runtime:
        plan = runtime.plan(size)
    assert plan.tensor_bytes[0] == 4 * channels * 64 * 64  # the caller's own, which only a quantiser reads
    assert plan.arena_bytes < 1.5 * channels * 64 * 64, plan


def test_operations_are_named(tmp_path: Path) -> None:
    grid = Grid(4, True, 1.0)
    chain = Chain(2)
    first = chain.put(Quantize, (0,), 2, grid)
    second = chain.put(Table, (first,), 2, grid, table=some_table(grid, grid, 1))
    last = chain.put(Mul, (first, second), 2, grid, epilogue=some_epilogue(2, 60.0, grid))
    save(chain.program(last), tmp_path / "m.uqm")
    with Runtime(tmp_path / "m.uqm") as runtime:
        assert [op.kind for op in runtime.operations()] == ["quantize", "table", "multiply", "pointwise"]


def test_grids_are_told(tmp_path: Path) -> None:
    chain = Chain(2)
    shifted = chain.put(Quantize, (0,), 2, Grid(4, False, 0.5, 3))
    last = chain.put(Pointwise, (shifted,), 2, Grid(4, True, 1.0, dynamic=True), epilogue=some_epilogue(2, 9.0, None))
    save(chain.program(last), tmp_path / "m.uqm")
    library, model = native.load_runtime(), ctypes.c_void_p()
    native.check(library.uq_model_open(str(tmp_path / "m.uqm").encode(), None, ctypes.byref(model)))
    told = []
    for tensor in (0, shifted, last):
        info = native.TensorInfo(struct_bytes=ctypes.sizeof(native.TensorInfo), zero_point=9, is_dynamic=9)
        native.check(library.uq_model_get_tensor(model, tensor, ctypes.byref(info)))
        told.append((info.bits, info.scale, info.zero_point, info.is_dynamic))
    library.uq_model_close(model)
    assert told == [(32, 0.0, 0, 0), (4, 0.5, 3, 0), (4, 1.0, 0, 1)]
