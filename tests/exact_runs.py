"""Runs programs through NumPy and through every path of the C++ runtime, and compares to the bit."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from native_library import instruction_sets

from unetq.export.modelfile import save
from unetq.export.program import Conv, Epilogue, Program, Quantize, TensorSpec
from unetq.fixedpoint import Grid
from unetq.runtime import Runtime

ISAS = instruction_sets()
SCHEMES = ("direct", "winograd", "bits", "lookup")


def first_mismatches(expected: np.ndarray, found: np.ndarray) -> str:
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return f"{expected.dtype}{expected.shape} became {found.dtype}{found.shape}"
    places = np.argwhere(expected != found)
    shown = [f"{tuple(int(i) for i in p)}: {expected[tuple(p)]} became {found[tuple(p)]}" for p in places[:4]]
    return f"{len(places)} of {expected.size} in {expected.shape}; {'; '.join(shown)}"


def forced(path: Path, isa: str, scheme: str, threads: int, x: np.ndarray) -> np.ndarray:
    """Logits with one scheme wherever it holds, on several threads, without a trace."""
    os.environ["UNETQ_SCHEME"] = scheme
    try:
        with Runtime(path, isa=isa, threads=threads) as runtime:
            return runtime.run(x)
    finally:
        del os.environ["UNETQ_SCHEME"]


def compare(program: Program, x: np.ndarray, path: Path, label: str, tolerance: float = 0.0) -> None:
    """Every tensor and the logits in every instruction set; ``tolerance`` is relative to a tensor's range."""
    save(program, path)
    expected: dict[str, Any] = {}
    with np.errstate(all="ignore"):
        logits = program.run(x, expected)
    for isa in ISAS:
        with Runtime(path, isa=isa) as runtime:
            assert runtime.isa == isa
            found: dict[str, Any] = {}
            result = runtime.run(x, found)
        assert list(found) == list(expected), label
        for op in program.ops:
            name = program.tensors[op.output].name
            told = f"{label}, {isa}, {type(op).__name__} {op.name}: {first_mismatches(expected[name], found[name])}"
            if tolerance == 0:
                assert found[name].dtype == expected[name].dtype and np.array_equal(found[name], expected[name]), told
            else:
                reach = max(float(np.abs(expected[name]).max()), 1e-3)
                assert np.allclose(found[name], expected[name], rtol=0, atol=tolerance * reach), told
        if tolerance == 0:
            assert np.array_equal(result, logits), f"{label}, {isa}: logits: {first_mismatches(logits, result)}"
            for threads, scheme in enumerate(SCHEMES, start=1):
                again = forced(path, isa, scheme, threads, x)
                told = f"{label}, {isa}, {scheme}, {threads} threads: logits: {first_mismatches(logits, again)}"
                assert np.array_equal(again, logits), told


def one_conv(op: Conv, grid: Grid, channels: int, out: Grid, rank: int = 2) -> Program:
    tensors = (
        TensorSpec("input", channels, None),
        TensorSpec("x", channels, grid),
        TensorSpec("y", op.weight.shape[0], out),
        TensorSpec("logits", op.weight.shape[0], None),
    )
    ones, zeros = np.ones(op.weight.shape[0], np.float32), np.zeros(op.weight.shape[0], np.float32)
    identity = np.eye(op.weight.shape[0], dtype=np.int8)[:, :, None, None, None]
    head = Conv("head", (2,), 3, identity, 2, "twos_complement", ones[:1], Epilogue(ones, zeros))
    return Program(tensors, (Quantize("quantize", (0,), 1), op, head), 0, 3, 3 if rank == 3 else 2, (1, 1, 1))


def plain_epilogue(channels: int, reach: float) -> Epilogue:
    return Epilogue(np.full(channels, 100.0 / reach, np.float32), np.linspace(-3, 3, channels).astype(np.float32))
