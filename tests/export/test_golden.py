"""The self-test's vectors: small, repeatable, reaching past the grid's ends; exact on every executor where promised."""

from pathlib import Path

import numpy as np
import pytest
from device_bundles import bundle_of, call, native_target
from native_library import ensure_library
from random_programs import random_float_program, random_integer_program

from unetq.errors import UnetqError
from unetq.export import golden
from unetq.export.program import Conv, Epilogue, Program, Quantize, TensorSpec
from unetq.fixedpoint import fixed_point_grid
from unetq.runtime import Runtime

SEEDS = range(40)


def network(rank: int, multiple: int, fixed: tuple[int, int, int] | None = None) -> Program:
    """Two channels onto 8 bits, then three classes."""
    tensors = (
        TensorSpec("in", 2, None),
        TensorSpec("codes", 2, fixed_point_grid(8, 4, True)),
        TensorSpec("out", 3, None),
    )
    kernel = np.random.default_rng(1).integers(-7, 8, (3, 2, 3 if rank == 3 else 1, 3, 3)).astype(np.int8)
    epilogue = Epilogue(np.full(3, 0.125, np.float32), np.zeros(3, np.float32))
    pad = (1 if rank == 3 else 0, 1, 1)
    scale = np.ones(3, np.float32)
    conv = Conv("c", (1,), 2, kernel, 4, "twos_complement", scale, epilogue, pad_before=pad, pad_after=pad)
    depth = multiple if rank == 3 else 1
    return Program(tensors, (Quantize("q", (0,), 1), conv), 0, 2, rank, (depth, multiple, multiple), fixed)  # type: ignore[arg-type]


def write(program: Program, folder: Path) -> golden.Golden:
    made = golden.make(program)
    program.save(folder / "model.uqm")
    np.save(folder / "input.npy", made.input)
    np.save(folder / "logits.npy", made.logits)
    return made


@pytest.mark.parametrize(
    ("program", "size"),
    [
        (network(2, 1), (32, 33)),
        (network(2, 8), (32, 40)),
        (network(2, 48), (48, 96)),
        (network(3, 4), (16, 16, 20)),
        (network(2, 8, (1, 8, 24)), (8, 24)),
        (network(3, 1, (3, 5, 7)), (3, 5, 7)),
    ],
)
def test_the_size(program: Program, size: tuple[int, ...]) -> None:
    made, again = golden.make(program), golden.make(program)
    assert made.input.shape == (2, *size) and made.logits.shape == (3, *size)
    assert np.array_equal(made.input, again.input) and np.array_equal(made.logits, again.logits)
    grid = program.tensors[1].grid
    assert grid is not None
    assert made.input.min() < grid.low * grid.scale and made.input.max() > grid.high * grid.scale, "nothing saturates"


@pytest.mark.parametrize("rank", [2, 3])
def test_the_device_confirms(rank: int, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    program = bundle_of(tmp_path_factory, native_target(), "g++") / "unetq-run"
    write(network(rank, 4), tmp_path)
    done = call([program, "--self-test", tmp_path])
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout + done.stderr


def test_exact_where_promised(tmp_path: Path) -> None:
    """Random programs, float ones too: where ``is_exact`` says so, the C++ runtime gives the same bits."""
    ensure_library(tmp_path)
    promised = {"integer": 0, "float": 0}
    for seed in SEEDS:
        for kind, program in (("integer", random_integer_program(seed)), ("float", random_float_program(seed))):
            if not golden.is_exact(program):
                assert kind == "float", f"seed {seed}: an integer program is called inexact"
                continue
            try:
                made = write(program, tmp_path)
            except UnetqError:  # a program whose one size gives an empty output
                continue
            promised[kind] += 1
            with Runtime(tmp_path / "model.uqm") as runtime:
                assert np.array_equal(runtime.run(made.input[None])[0], made.logits), f"seed {seed}, {kind}"
    assert promised["integer"] > 20, promised
