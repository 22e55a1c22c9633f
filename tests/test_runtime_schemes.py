"""Schemes of convolution, each forced where it holds: shapes and weights that random programs seldom have."""

from pathlib import Path

import numpy as np
import pytest
from exact_runs import ISAS, compare, one_conv, plain_epilogue
from native_library import ensure_library

from unetq.export.modelfile import save
from unetq.export.program import Conv, Epilogue, InstanceNorm, Program, Quantize, TensorSpec, Upsample
from unetq.fixedpoint import Grid
from unetq.runtime import Runtime


@pytest.fixture(scope="module", autouse=True)
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_library(tmp_path_factory.mktemp("runtime"))


def random_conv(random: np.random.Generator, channels: int, outputs: int, bits: int, rank: int, norm: bool) -> Conv:
    """3 x 3 (x 1, 2, 3 or 5 in depth), stride 1, any padding; weights of all signs or all at one extreme."""
    kernel = (int(random.choice([1, 2, 3, 5])) if rank == 3 else 1, 3, 3)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if bits > 1 else (-1, 1)
    weight = random.integers(low, high + 1, (outputs, channels, *kernel))
    if bits == 1:
        weight = np.where(weight < 0, -1, 1)
    elif random.random() < 0.5:
        weight[: outputs // 2] = random.choice([low, high], (outputs // 2, 1, 1, 1, 1))
    reach = float(np.abs(weight).sum(axis=(1, 2, 3, 4)).max() * 16)
    epilogue = plain_epilogue(outputs, reach)
    if norm:
        values = random.standard_normal((2, outputs)).astype(np.float32) * 20
        epilogue = Epilogue(
            np.full(outputs, 0.01, np.float32), np.zeros(outputs, np.float32), instance_norm=InstanceNorm(1e-5, *values)
        )
    depth = kernel[0] - 1
    return Conv(
        "conv", (1,), 2, weight.astype(np.int8), bits, "binary" if bits == 1 else "twos_complement",
        np.ones(outputs, np.float32), epilogue,
        pad_before=(depth // 2, int(random.integers(3)), int(random.integers(3))),
        pad_after=(depth - depth // 2, int(random.integers(3)), int(random.integers(3))),
        dilation=(int(random.integers(1, 3)) if rank == 3 and depth else 1, 1, 1),
    )  # fmt: skip


def random_image(random: np.random.Generator, channels: int, size: tuple[int, ...], grid: Grid) -> np.ndarray:
    x = random.normal(0, 40 * grid.scale, (1, channels, *size)).astype(np.float32)
    return np.where(random.random(x.shape) < 0.3, np.float32(1e9), x).astype(np.float32)


@pytest.mark.parametrize("seed", range(60))
def test_three_by_three(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(30_000 + seed)
    rank = 3 if seed % 4 == 0 else 2
    bits, act_bits = int(random.integers(1, 6)), int(random.integers(1, 7))
    channels, outputs = int(random.choice([1, 3, 4, 16, 31, 70])), int(random.choice([1, 5, 16, 33]))
    op = random_conv(random, channels, outputs, bits, rank, norm=seed % 5 == 0)
    size = tuple(int(n) for n in random.integers(6, 12 if rank == 3 else 30, rank))
    grid = Grid(act_bits, bool(random.integers(2)), 0.125)
    program = one_conv(op, grid, channels, Grid(8, True, 0.5), rank)
    x = random_image(random, channels, size, grid)
    compare(program, x, tmp_path / "m.uqm", f"seed {seed}: W{bits}A{act_bits} {channels} to {outputs}, image {size}")


@pytest.mark.parametrize("size", [(5, 411), (211, 3), (64, 50), (1, 1), (2, 97)])
def test_strips_and_chunks(size: tuple[int, int], tmp_path: Path) -> None:
    random = np.random.default_rng(sum(size))
    op = random_conv(random, 21, 40, 4, 2, norm=False)
    op = Conv(**{**vars(op), "pad_before": (0, 1, 1), "pad_after": (0, 1, 1)})
    program = one_conv(op, Grid(6, False, 0.125), 21, Grid(6, False, 0.5))
    x = random_image(random, 21, size, Grid(6, False, 0.125))
    compare(program, x, tmp_path / "m.uqm", f"image {size}")


def test_weights_too_many_to_stay_unpacked(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    op = random_conv(random, 520, 530, 3, 2, norm=False)
    op = Conv(**{**vars(op), "pad_before": (0, 1, 1), "pad_after": (0, 1, 1)})
    program = one_conv(op, Grid(4, False, 0.125), 520, Grid(6, False, 0.5))
    x = random_image(random, 520, (9, 7), Grid(4, False, 0.125))
    compare(program, x, tmp_path / "m.uqm", "520 to 530 channels")


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize(("outputs", "signed"), [(40, False), (6, True)])
def test_results_over_what_was_read(mode: str, outputs: int, signed: bool, tmp_path: Path) -> None:
    """An upsampled tensor that is never stored beside one that its reader writes over: narrower and wider results."""
    random = np.random.default_rng(outputs)
    coarse, fine, result = Grid(6, signed, 0.25), Grid(6, signed, 0.25), Grid(6, False, 0.5)
    first = random_conv(random, 3, 20, 4, 2, norm=False)
    second = random_conv(random, 40, outputs, 4, 2, norm=False)
    same = {"pad_before": (0, 1, 1), "pad_after": (0, 1, 1)}
    down = Conv(**{**vars(first), **same, "name": "down", "inputs": (1,), "output": 2, "stride": (1, 2, 2)})
    left = Conv(**{**vars(first), **same, "name": "left", "inputs": (1,), "output": 3})
    ones = np.ones(20, np.float32)
    up = Upsample("up", (2,), 4, mode, (1, 2, 2), Epilogue(ones / 16, ones * 0) if mode == "linear" else None)
    join = Conv(**{**vars(second), **same, "name": "join", "inputs": (3, 4), "output": 5})
    head = Conv(
        "head", (5,), 6, np.eye(outputs, dtype=np.int8)[:, :, None, None, None], 2, "twos_complement",
        np.ones(1, np.float32), Epilogue(np.ones(outputs, np.float32), np.zeros(outputs, np.float32)),
    )  # fmt: skip
    specs = [("input", 3, None), ("x", 3, fine), ("low", 20, coarse), ("left", 20, fine), ("up", 20, fine)]
    specs += [("joined", outputs, result), ("logits", outputs, None)]
    tensors = tuple(TensorSpec(*spec) for spec in specs)
    program = Program(tensors, (Quantize("quantize", (0,), 1), down, left, up, join, head), 0, 6, 2, (1, 2, 2))
    x = random.normal(0, 8, (2, 3, 70, 38)).astype(np.float32)
    compare(program, x, tmp_path / "m.uqm", f"{mode}, {outputs} outputs")


def test_choices_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    op = random_conv(random, 64, 64, 4, 2, norm=False)
    save(one_conv(op, Grid(6, False, 0.125), 64, Grid(6, False, 0.5)), tmp_path / "m.uqm")
    for scheme in ("direct", "winograd"):
        monkeypatch.setenv("UNETQ_SCHEME", scheme)
        for isa in ISAS:
            with Runtime(tmp_path / "m.uqm", isa=isa) as runtime:
                conv = next(o for o in runtime.operations() if o.name == "conv")
            assert conv.kind == "convolution" and conv.scheme == scheme and isa in conv.kernel and conv.reason
