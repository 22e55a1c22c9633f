"""Dynamic ranges in the runtime, to the bit: scales found from whole tensors, image by image, and who reads them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exact_runs import ISAS, compare
from native_library import ensure_library

from unetq.export.modelfile import save
from unetq.export.program import (
    Add,
    Conv,
    Epilogue,
    InstanceNorm,
    MaxPool,
    Mul,
    Op,
    Pad,
    Pointwise,
    Program,
    Quantize,
    TensorSpec,
    Triple,
    Upsample,
)
from unetq.fixedpoint import F32, Grid, quantize_dynamic
from unetq.runtime import Runtime


def dynamic(bits: int, signed: bool) -> Grid:
    return Grid(bits, signed, 1.0, dynamic=True)


@pytest.fixture(scope="module", autouse=True)
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_library(tmp_path_factory.mktemp("runtime"))


class Chain:
    """A program from its operations, each of which makes the next tensor."""

    def __init__(self, seed: list[int], channels: int, rank: int = 2) -> None:
        self.random = np.random.default_rng(seed)
        self.tensors = [TensorSpec("input", channels, None)]
        self.ops: list[Op] = []
        self.rank = rank

    def put(self, kind: Any, grid: Grid | None, *inputs: int, channels: int = 0, **fields: Any) -> int:
        output = len(self.tensors)
        self.ops.append(kind(f"op{output}", inputs, output, **fields))
        self.tensors.append(TensorSpec(f"t{output}", channels or self.tensors[inputs[0]].channels, grid))
        return output

    def epilogue(
        self, channels: int, gain: float, slope: float | None = None, norm: int | None = None, second: bool = False
    ) -> Epilogue:
        """``norm``: groups of a norm, 0 for each channel by itself."""
        values = [self.random.uniform(-1, 1, channels).astype(np.float32) for _ in range(6)]
        gains = (values[0] * np.float32(gain)).astype(np.float32)
        offset = values[1] if norm != 0 else np.zeros(channels, np.float32)
        return Epilogue(
            gains, offset, None if slope is None else np.full(channels, slope, np.float32),
            values[2] if second else None, values[3] if second else None,
            None if norm is None else InstanceNorm(1e-5, values[4] * 3, values[5], norm),
        )  # fmt: skip

    def conv(
        self, grid: Grid | None, source: int, outputs: int, epilogue: Epilogue, bits: int = 4,
        kernel: Triple = (1, 3, 3), **shape: Any,
    ) -> int:  # fmt: skip
        inputs = self.tensors[source].channels // shape.get("groups", 1)
        weight = self.random.integers(-(1 << (bits - 1)), 1 << (bits - 1), (outputs, inputs, *kernel)).astype(np.int8)
        pad = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        fields = {"pad_before": pad, "pad_after": pad} | shape
        return self.put(
            Conv, grid, source, channels=outputs, weight=weight, weight_bits=bits, weight_kind="twos_complement",
            weight_scale=np.ones(1, np.float32), epilogue=epilogue, **fields,
        )  # fmt: skip

    def finish(self) -> Program:
        last = len(self.tensors) - 1
        channels = self.tensors[last].channels
        if self.tensors[last].grid is not None:
            last = self.put(Pointwise, None, last, epilogue=self.epilogue(channels, 1.0))
        rank: Any = self.rank
        return Program(tuple(self.tensors), tuple(self.ops), 0, last, rank, (1, 1, 1))

    def images(self, size: tuple[int, ...], count: int = 3) -> F32:
        """Of very different magnitudes; the last one is empty."""
        x = self.random.standard_normal((count, self.tensors[0].channels, *size)).astype(np.float32)
        x *= (10.0 ** np.arange(-1, count - 1, dtype=np.float32)).reshape(-1, *[1] * (len(size) + 1))
        x[-1] = 0
        return x


def compare_conv(bits: int, signed: bool, act_bits: int, variant: int, folder: Path) -> None:
    """Convolutions of every scheme from a dynamic grid to another, whose largest value is a single pixel's."""
    chain = Chain([70_000, bits, act_bits, signed, variant], (3, 20, 33)[variant])
    grid = dynamic(act_bits, signed)
    first = chain.put(Quantize, grid, 0)
    epilogue = chain.epilogue(23, 0.1, slope=(None, 0.0, 0.25)[variant], second=variant == 2)
    middle = chain.conv(dynamic(bits % 8 + 1, not signed), first, 23, epilogue, bits, stride=(1, 1 + variant // 2, 1))
    chain.conv(Grid(6, signed, 0.5), middle, 17, chain.epilogue(17, 0.01, 0.0), bits)
    x = chain.images((19, 13))
    x[1, 0, 17, 11] = 900.0
    compare(chain.finish(), x, folder / "m.uqm", f"W{bits}A{act_bits} signed={signed}, variant {variant}")


@pytest.mark.parametrize(("bits", "act_bits"), [(4, 6), (8, 8), (2, 2), (1, 1), (2, 5), (3, 4)])
@pytest.mark.parametrize("variant", range(3))
def test_convolutions(bits: int, act_bits: int, variant: int, tmp_path: Path) -> None:
    compare_conv(bits, variant == 1, act_bits, variant, tmp_path)


def compare_norm(norm: int, transposed: bool, rank: int, folder: Path) -> None:
    """Norms of sums on a dynamic grid, onto a dynamic grid: gains times scales enter the statistics."""
    chain = Chain([71_000, norm, transposed, rank], 5, rank)
    first = chain.put(Quantize, dynamic(6, True), 0)
    shape: dict[str, Any] = {"transposed": True, "stride": (1, 2, 2)} if transposed else {}
    kernel = (3 if rank == 3 else 1, 3, 3)
    middle = chain.conv(
        dynamic(5, True), first, 48, chain.epilogue(48, 0.1, 0.1, norm, second=True), kernel=kernel, **shape
    )
    chain.conv(dynamic(4, False), middle, 24, chain.epilogue(24, 0.1, 0.0, norm and 3), kernel=kernel)
    x = chain.images((4, 7, 6) if rank == 3 else (17, 11))
    compare(chain.finish(), x, folder / "m.uqm", f"norm of {norm}, transposed={transposed}, rank {rank}")


@pytest.mark.parametrize("norm", [0, 1, 2, 16])
@pytest.mark.parametrize(("transposed", "rank"), [(False, 2), (True, 2), (False, 3)])
def test_norms(norm: int, transposed: bool, rank: int, tmp_path: Path) -> None:
    compare_norm(norm, transposed, rank, tmp_path)


def compare_readers(bits: int, signed: bool, folder: Path) -> None:
    """Operations that pass a scale on, and those that multiply gains by one scale or two."""
    chain = Chain([72_000, bits, signed], 6)
    grid = dynamic(bits, signed)
    first = chain.put(Quantize, grid, 0)
    wide = chain.conv(grid, first, 6, chain.epilogue(6, 0.1))
    pooled = chain.put(MaxPool, grid, wide, kernel=(1, 2, 2), stride=(1, 2, 2))
    padded = chain.put(Pad, grid, pooled, mode="zero", before=(0, 1, 0), after=(0, 0, 1))
    nearest = chain.put(Upsample, grid, padded, mode="nearest", factor=(1, 2, 1))
    made = dynamic(bits % 8 + 1, not signed)
    beside = chain.conv(made, nearest, 6, chain.epilogue(6, 0.1, 0.0))  # the upsampling is made on the way
    linear = chain.put(
        Upsample, Grid(5, True, 0.5), padded, mode="linear", factor=(1, 2, 2), epilogue=chain.epilogue(6, 0.1)
    )
    left = chain.conv(made, linear, 6, chain.epilogue(6, 0.1, 0.0))  # so is this one
    slow = chain.put(Upsample, made, padded, mode="linear", factor=(1, 2, 2), epilogue=chain.epilogue(6, 0.1, 0.3))
    total = chain.put(Add, grid, left, slow, input_gain=(0.75, -1.5), epilogue=chain.epilogue(6, 1.0))
    gate = chain.conv(made, total, 1, chain.epilogue(1, 0.1))
    gated = chain.put(Mul, grid, total, gate, epilogue=chain.epilogue(6, 0.1))
    mixed = chain.put(Mul, Grid(4, signed, 0.5), gated, total, epilogue=chain.epilogue(6, 0.1, 0.0))
    summed = chain.put(Add, made, mixed, gated, input_gain=(0.5, 2.0), epilogue=chain.epilogue(6, 1.0))
    chain.put(Pointwise, dynamic(8, True), summed, epilogue=chain.epilogue(6, 2.0, 0.2, norm=0))
    assert beside  # read by nobody: its two runs are for nothing, but right
    compare(chain.finish(), chain.images((8, 12)), folder / "m.uqm", f"{bits} bits, signed={signed}")


@pytest.mark.parametrize("bits", range(1, 9))
def test_readers(bits: int, tmp_path: Path) -> None:
    compare_readers(bits, bits % 2 == 0, tmp_path)


def test_float_tensors_between(tmp_path: Path) -> None:
    """Quantising a tensor in the arena, a float32 layer on codes of a dynamic grid, products of codes and float32."""
    chain = Chain([73_000], 3)
    real = chain.put(Pointwise, None, 0, epilogue=chain.epilogue(3, 2.0))
    codes = chain.put(Quantize, dynamic(7, True), real)
    weight = chain.random.integers(-8, 9, (5, 3, 1, 3, 3)).astype(np.float32)
    layer = chain.put(
        Conv, dynamic(4, False), codes, channels=5, weight=weight, weight_bits=32, weight_kind="float32",
        weight_scale=np.ones(1, np.float32), epilogue=chain.epilogue(5, 0.1),
    )  # fmt: skip
    back = chain.put(Pointwise, None, layer, epilogue=chain.epilogue(5, 0.5))
    chain.put(Mul, dynamic(8, True), layer, back, epilogue=chain.epilogue(5, 1.0))
    compare(chain.finish(), chain.images((9, 7)), tmp_path / "m.uqm", "float32 between")


@pytest.mark.parametrize("size", [(5, 130), (150, 4), (41, 50)])
def test_images_of_many_strips(size: tuple[int, int], tmp_path: Path) -> None:
    """Strips, a max-pool behind that must wait, and results written over what was read twice."""
    chain = Chain([74_000, *size], 9)
    first = chain.put(Quantize, dynamic(6, False), 0)
    wide = chain.conv(dynamic(6, False), first, 20, chain.epilogue(20, 0.1, 0.0))
    pooled = chain.put(MaxPool, dynamic(6, False), wide, kernel=(1, 2, 2), stride=(1, 2, 2))
    narrow = chain.conv(dynamic(3, True), pooled, 20, chain.epilogue(20, 0.1))
    chain.conv(dynamic(2, True), narrow, 40, chain.epilogue(40, 0.1))
    compare(chain.finish(), chain.images(size, 2), tmp_path / "m.uqm", f"image {size}")


def test_weights_too_many_to_stay_unpacked(tmp_path: Path) -> None:
    chain = Chain([75_000], 500)
    first = chain.put(Quantize, dynamic(4, False), 0)
    chain.conv(dynamic(4, True), first, 530, chain.epilogue(530, 0.1), bits=3)
    compare(chain.finish(), chain.images((6, 5), 1) + 1, tmp_path / "m.uqm", "500 to 530 channels")


@pytest.mark.parametrize("value", [3e38, 1e38, 1e-37, 3e-39, 0.0])
@pytest.mark.parametrize("grid", [dynamic(8, True), dynamic(1, True), dynamic(1, False)])
def test_scales_at_the_ends(value: float, grid: Grid, tmp_path: Path) -> None:
    """Sums that overflow, the largest and the smallest scale, and none: 1 takes its place. NaN is no magnitude."""
    chain = Chain([76_000], 2)
    first = chain.put(Quantize, grid, 0)
    zeros, halves = np.zeros(2, np.float32), np.full(2, 0.5, np.float32)
    gains = np.float32([value, 1.0])
    middle = chain.conv(dynamic(4, True), first, 2, Epilogue(gains, zeros, halves), bits=8)
    chain.conv(dynamic(5, True), middle, 2, Epilogue(gains, zeros, halves, np.float32([0.0, 1.0]), halves), bits=8)
    x = np.linspace(-4, 4, 2 * 5 * 6, dtype=np.float32).reshape(1, 2, 5, 6)
    compare(chain.finish(), x, tmp_path / "m.uqm", f"gain {value} from {grid}")


def test_a_relu_whose_gain_overflows_with_the_scale(tmp_path: Path) -> None:
    """Minus infinity times 0 is no 0: such a ReLU is not the saturation of its codes at 0."""
    chain = Chain([79_000], 2)
    first = chain.put(Quantize, dynamic(8, True), 0)
    steep = Epilogue(np.full(3, 9e27, np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32))
    chain.conv(Grid(4, True, 0.5), first, 3, steep)
    compare(chain.finish(), chain.images((5, 6), 2) * np.float32(1e12), tmp_path / "m.uqm", "ReLU")


def test_a_scale_is_what_the_definition_says(tmp_path: Path) -> None:
    """Without the executor: codes and scale of every image by hand, as a reader multiplies them."""
    chain = Chain([77_000], 1)
    first = chain.put(Quantize, dynamic(4, True), 0)
    ones = np.ones(1, np.float32)
    chain.put(Pointwise, None, first, epilogue=Epilogue(ones * np.float32(0.3), ones * 0))
    x = chain.images((3, 5))
    save(chain.finish(), tmp_path / "m.uqm")
    for isa in ISAS:
        with Runtime(tmp_path / "m.uqm", isa=isa) as runtime:
            result = runtime.run(x)
        for image, logits in zip(x, result, strict=True):
            codes, scale = quantize_dynamic(image, dynamic(4, True))
            assert scale == (np.abs(image).max() / np.float32(7) if image.any() else 1)
            assert np.array_equal(logits, codes.astype(np.float32) * (np.float32(0.3) * scale))


@pytest.mark.parametrize("threads", [1, 3])
def test_progress_counts_both_runs(threads: int, tmp_path: Path) -> None:
    chain = Chain([78_000], 3)
    first = chain.put(Quantize, dynamic(6, False), 0)
    middle = chain.conv(dynamic(6, True), first, 20, chain.epilogue(20, 0.1))
    pooled = chain.put(MaxPool, dynamic(6, True), middle, kernel=(1, 2, 2), stride=(1, 2, 2))
    chain.conv(dynamic(4, True), pooled, 20, chain.epilogue(20, 0.1, norm=0))
    save(chain.finish(), tmp_path / "m.uqm")
    seen: list[tuple[int, int]] = []
    with Runtime(tmp_path / "m.uqm", threads=threads) as runtime:
        runtime.run(chain.images((20, 20), 1) + 1, progress=lambda done, all_: bool(seen.append((done, all_))) or True)
    assert seen[-1][0] == seen[-1][1] and seen == sorted(seen)
