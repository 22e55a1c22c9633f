"""torch = NumPy, to the bit: every tensor of random programs, as built and as read back from their file.

These programs have what no network that is traced has: transposed convolutions with uneven crops, operands that are
read twice, codes at every extreme. Networks are in ``test_exact.py``.
"""

from typing import Any

import numpy as np
import pytest
import torch
from exact_runs import first_mismatches
from random_programs import random_float_program, random_input, random_integer_program

from unetq.errors import DataError
from unetq.export.modelfile import encode, read
from unetq.export.program import Conv, Epilogue, ModelMeta, Mul, Pad, Program, Quantize, TensorSpec
from unetq.fixedpoint import Grid
from unetq.quant.execute import execute

BATCH = 20


def run_both(program: Program, x: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every tensor by NumPy, and by torch in NumPy's form."""
    expected: dict[str, Any] = {}
    found: dict[str, Any] = {}
    with np.errstate(all="ignore"):
        program.run(x, expected)
    execute(program, torch.from_numpy(x), found)
    shaped = {name: t.numpy().reshape(expected[name].shape).astype(expected[name].dtype) for name, t in found.items()}
    return expected, shaped


@pytest.mark.parametrize("block", range(20))
def test_random_programs(block: int) -> None:
    for seed in range(10_000 + block * BATCH, 10_000 + (block + 1) * BATCH):
        program = random_integer_program(seed)
        x = random_input(program, seed, batch=1 + seed % 3)
        expected, found = run_both(program, x)
        assert list(found) == list(expected)
        with np.errstate(all="ignore"):
            again: dict[str, Any] = {}
            read(encode(program, ModelMeta()))[0].run(x, again)
        for op in program.ops:
            name = program.tensors[op.output].name
            label = f"seed {seed}, input {x.shape}, {type(op).__name__} {op.name}"
            same = np.array_equal(found[name], expected[name])
            assert same, f"{label}: {first_mismatches(expected[name], found[name])}"
            assert np.array_equal(again[name], expected[name]), f"{label}: not the same when read back"


@pytest.mark.parametrize("block", range(5))
def test_random_float_programs(block: int) -> None:
    """Sums of floats depend on their order: agreement to a share of each tensor's range."""
    for seed in range(20_000 + block * BATCH, 20_000 + (block + 1) * BATCH):
        program = random_float_program(seed)
        expected, found = run_both(program, random_input(program, seed, batch=2))
        for name, values in expected.items():
            reach = max(float(np.abs(values).max()), 1e-3)
            assert np.allclose(found[name], values, rtol=0, atol=1e-5 * reach), f"seed {seed}, {name}"


def test_an_output_without_pixels_is_refused() -> None:
    """The sentence is the same in both executors."""
    weight = np.ones((1, 1, 1, 5, 5), np.int8)
    ones, zeros = np.ones(1, np.float32), np.zeros(1, np.float32)
    conv = Conv("wide", (1,), 2, weight, 2, "twos_complement", ones, Epilogue(ones, zeros))
    tensors = (TensorSpec("x", 1, None), TensorSpec("codes", 1, Grid(4, True, 1.0)), TensorSpec("y", 1, None))
    program = Program(tensors, (Quantize("quantize", (0,), 1), conv), 0, 2, 2, (1, 1, 1))
    x = np.ones((1, 1, 4, 4), np.float32)
    told = r"layer wide: an input of \(1, 4, 4\) gives an output of \(1, 0, 0\)"
    with pytest.raises(DataError, match=told):
        program.run(x)
    with pytest.raises(DataError, match=told):
        execute(program, torch.from_numpy(x))


def test_a_product_that_does_not_fit_is_refused() -> None:
    ones, zeros = np.ones(1, np.float32), np.zeros(1, np.float32)
    grid = Grid(4, True, 1.0)
    tensors = (*(TensorSpec(n, 1, g) for n, g in (("x", None), ("a", grid), ("b", grid), ("y", None))),)
    ops = (
        Quantize("quantize", (0,), 1),
        Pad("pad", (1,), 2, "zero", (0, 0, 1), (0, 0, 0)),
        Mul("product", (1, 2), 3, Epilogue(ones, zeros)),
    )
    program = Program(tensors, ops, 0, 3, 2, (1, 1, 1))
    x = np.ones((1, 1, 4, 4), np.float32)
    for run in (lambda: program.run(x), lambda: execute(program, torch.from_numpy(x))):
        with pytest.raises(DataError, match=r"product of \(1, 1, 4, 4\) and \(1, 1, 4, 5\)"):
            run()
