"""From trained blocks to the integer program: weights to codes, norms and scales to gains and offsets.

Accumulators are sums of raw codes. A grid's zero-point z adds ``z * sum(w)`` to each sum, everywhere, as
padding has the code z too: a constant of each channel, taken off in its ``offset``. The run-time scale of a
dynamic grid is the executors' business: its grid's scale is 1, so that gains here stand for what is left.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import UnsupportedError
from ..export.integer import INT32_LIMIT, accumulator_bound
from ..export.program import (
    Add,
    Concat,
    Conv,
    Epilogue,
    MaxPool,
    Mul,
    Op,
    Pad,
    Pointwise,
    Program,
    Quantize,
    Table,
    TensorSpec,
    Upsample,
)
from ..fixedpoint import F32, Grid, dequantize, quantize
from . import fixed
from .blocks import Block, Network
from .folding import F64, epilogue
from .functions import describe, evaluate
from .quantizer import WeightCodes
from .sizes import with_sizes

if TYPE_CHECKING:
    from .network import QuantNet

ONES_BITS = 2  # two's complement that holds 0 and 1


def _canonical(block: Block, values: NDArray[Any]) -> NDArray[Any]:
    """Torch's weight layout to (O, I / groups, kd, kh, kw)."""
    if block.attributes["transposed"]:  # torch: (I, O / groups, …)
        groups = block.attributes["groups"]
        parts = values.reshape(groups, values.shape[0] // groups, *values.shape[1:])
        values = parts.swapaxes(1, 2).reshape(-1, values.shape[0] // groups, *values.shape[2:])
    kernel = values.shape[2:]
    return np.ascontiguousarray(values.reshape(*values.shape[:2], *([1] * (3 - len(kernel))), *kernel))


def table_codes(expression: Any, source: Grid, target: Grid) -> NDArray[np.int16]:
    """The 256 entries of a ``Table``: for each code of ``source`` the code of the function's value on ``target``.

    The function is evaluated in float64 and rounded to float32 once, then quantised as ``fixedpoint`` does.
    """
    codes = np.arange(source.low, source.high + 1, dtype=np.int16)
    values = evaluate(expression, torch.from_numpy(dequantize(codes, source)).double()).float().numpy()
    table = np.zeros(256, np.int16)
    table[codes & 0xFF] = quantize(values, target)
    return table


def _check_range(block: Block, bound: int, made: Epilogue) -> None:
    """Refuse accumulators beyond int32, and gains that would take one to infinity."""
    if bound > INT32_LIMIT:
        raise UnsupportedError(
            f"layer {block.key}: its accumulator can leave int32; use fewer weight or activation bits there."
        )
    largest = np.abs(made.gain.astype(np.float64)) * bound + np.abs(made.offset.astype(np.float64))
    if made.instance_norm is None and largest.max() > np.finfo(np.float32).max:
        raise UnsupportedError(
            f"layer {block.key}: its output can leave float32 ({largest.max():.3g}), so a norm is broken. "
            "Train again or repair the checkpoint."
        )


class _Lowering:
    def __init__(self, q: "QuantNet", network: Network) -> None:
        self.q, self.network = q, network
        self.index: dict[str, int] = {}  # of the tensor that a block makes
        self.tensors: list[TensorSpec] = []
        self.ops: list[Op] = []

    def array(self, name: str) -> F32:
        return np.ascontiguousarray(self.q.tensor(name).detach().float().cpu().numpy())

    def grid(self, block: Block) -> Grid | None:
        quantizer = self.q.grid_quantizer(block.group)
        return None if quantizer is None else quantizer.grid()

    def source_grid(self, key: str) -> Grid | None:
        return self.tensors[self.index[key]].grid

    def scale(self, key: str) -> float:
        grid = self.source_grid(key)
        return 1.0 if grid is None else grid.scale

    def zero(self, key: str) -> int:
        grid = self.source_grid(key)
        return 0 if grid is None else grid.zero_point

    def epilogue(self, block: Block, channels: int, scale: Any, bias: Any = 0.0) -> Epilogue:
        return epilogue(block, self.array, channels, scale, bias)

    def weight(self, block: Block) -> WeightCodes | F32:
        """Codes, or float32 values, output channel first with three kernel axes."""
        values = self.array(block.parameters["weight"])
        if not np.isfinite(values).all():
            raise UnsupportedError(
                f"layer {block.key}: its weight holds NaN or infinity. Train again or repair the checkpoint."
            )
        quantizer = self.q.weight_quantizer(block)
        return values if quantizer is None else quantizer.codes(values)

    def require_no_zero_point(self, block: Block, what: str) -> None:
        found = next((key for key in block.inputs if self.zero(key)), None)
        if found is not None:
            raise UnsupportedError(
                f"layer {block.key}: {what} reads {found}, whose grid has the zero-point {self.zero(found)}; "
                "quantise what it reads without one."
            )

    def convolution(self, block: Block, inputs: tuple[int, ...]) -> tuple[Conv, int]:
        weight, a = self.weight(block), block.attributes
        source = block.inputs[0]
        grid, shift, group_size = self.source_grid(source), None, 0
        if isinstance(weight, WeightCodes):
            codes, scale, bits, kind = _canonical(block, weight.codes), weight.scale, weight.bits, weight.kind
            shift, group_size = weight.shift, weight.group_size
        else:
            codes, scale, bits = _canonical(block, weight), np.ones(1, np.float32), 32
            kind = "float32"
        if a["transposed"]:
            self.require_no_zero_point(block, "a transposed convolution")
        channels = int(codes.shape[0])
        bias: F64 = np.zeros(1)
        if "bias" in block.parameters:
            bias = self.array(block.parameters["bias"]).astype(np.float64)
        real = scale.astype(np.float64) * self.scale(source)
        if self.zero(source):
            sums = codes.reshape(channels, -1).astype(np.float64).sum(axis=1)
            bias = bias - (self.zero(source) * sums) * real
        made = self.epilogue(block, channels, real, bias)
        if grid is not None and kind != "float32":
            _check_range(block, accumulator_bound(codes, grid), made)
        return Conv(
            block.key, inputs, self.index[block.key], codes, bits, kind, scale,
            made,
            stride=a["stride"], pad_before=a["pad_before"], pad_after=a["pad_after"], dilation=a["dilation"],
            groups=a["groups"], transposed=a["transposed"], output_padding=a["output_padding"],
            group_size=group_size, weight_shift=shift,
        ), channels  # fmt: skip

    def fixed(self, block: Block, inputs: tuple[int, ...], channels: int) -> tuple[Conv, int]:
        """A convolution whose weights are 0 and 1: averages, crops, channel moves, pixel shuffles."""
        a, source = block.attributes, block.inputs[0]
        if a["transposed"]:
            self.require_no_zero_point(block, "a pixel shuffle")
        codes = fixed.weight_codes(a, channels)
        outputs, scale = int(codes.shape[0]), self.scale(source) / a["divisor"]
        sums = codes.reshape(outputs, -1).astype(np.float64).sum(axis=1)
        made = self.epilogue(block, outputs, scale, -self.zero(source) * sums * scale)
        grid = self.source_grid(source)
        if grid is not None:
            _check_range(block, accumulator_bound(codes, grid), made)
        return Conv(
            block.key, inputs, self.index[block.key], codes, ONES_BITS, "twos_complement", np.ones(1, np.float32),
            made,
            stride=a["stride"], pad_before=a["pad_before"], pad_after=a["pad_after"],
            groups=fixed.groups_of(a, channels), transposed=a["transposed"],
        ), outputs  # fmt: skip

    def table(self, block: Block, channels: int) -> tuple[Table, int]:
        source, target = self.source_grid(block.inputs[0]), self.grid(block)
        function = describe(block.attributes["function"])
        if source is None or target is None or source.dynamic or target.dynamic:
            raise UnsupportedError(
                f"layer {block.key} ({function}): a function is a table of codes, and what it reads or makes is "
                "float32 or on a dynamic range; give it activations of 1 to 8 bits on static ranges, or use ReLU."
            )
        table = table_codes(block.attributes["function"], source, target)
        return Table(block.key, (self.index[block.inputs[0]],), self.index[block.key], table), channels

    def combined(self, block: Block, inputs: tuple[int, ...], channels: int) -> tuple[Op, int]:
        """Sums and products of two tensors."""
        output, keys = self.index[block.key], block.inputs
        if block.kind == "mul":
            self.require_no_zero_point(block, "a product")
            made = self.epilogue(block, channels, self.scale(keys[0]) * self.scale(keys[1]))
            return Mul(block.key, (inputs[0], inputs[1]), output, made), channels
        gains = [float(np.float32(self.scale(k) * g)) for k, g in zip(keys, block.attributes["gains"], strict=True)]
        bias = -sum(self.zero(key) * gain for key, gain in zip(keys, gains, strict=True))
        made = self.epilogue(block, channels, 1.0, bias)
        return Add(block.key, (inputs[0], inputs[1]), output, (gains[0], gains[1]), made), channels

    def operation(self, block: Block) -> tuple[Op, int]:
        """The operation of a block and its number of output channels."""
        inputs = tuple(self.index[source] for source in block.inputs)
        output, first = self.index[block.key], inputs[0]
        channels = self.tensors[first].channels
        a = block.attributes
        if block.kind == "conv":
            return self.convolution(block, inputs)
        if block.kind == "fixed":
            return self.fixed(block, inputs, channels)
        if block.kind == "table":
            return self.table(block, channels)
        if block.kind in ("add", "mul"):
            return self.combined(block, inputs, channels)
        if block.kind == "max_pool":
            return MaxPool(block.key, (first,), output, a["kernel"], a["stride"], a["padding"]), channels
        if block.kind == "cat":
            return Concat(block.key, inputs, output), sum(self.tensors[i].channels for i in inputs)
        if block.kind == "pad":
            return Pad(block.key, (first,), output, a["mode"], a["before"], a["after"]), channels
        if block.kind == "upsample_nearest":
            return Upsample(block.key, (first,), output, "nearest", a["factor"]), channels
        scale, zero = self.scale(block.inputs[0]), self.zero(block.inputs[0])
        if block.kind == "upsample_linear":
            quarter = scale / 4.0 ** sum(f == 2 for f in a["factor"])
            made = self.epilogue(block, channels, quarter, -zero * scale)
            return Upsample(block.key, (first,), output, "linear", a["factor"], made), channels
        made = self.epilogue(block, channels, scale, -zero * scale)
        return Pointwise(block.key, (first,), output, made), channels

    def run(self) -> Program:
        """The program, accepting any size as far as it knows."""
        for block in self.network.blocks:
            if block.kind == "dropout":
                self.index[block.key] = self.index[block.inputs[0]]
                continue
            grid = self.grid(block)
            self.index[block.key] = len(self.tensors)
            if block.kind == "input":
                self.tensors.append(TensorSpec("#input", self.q.in_channels, grid))
                continue
            operation, channels = self.operation(block)
            self.tensors.append(TensorSpec(block.key, channels, grid))
            self.ops.append(operation)
        source = self.index["#input"]
        if self.tensors[source].grid is not None:
            self.tensors.append(TensorSpec("#image", self.q.in_channels, None))
            self.ops.insert(0, Quantize("#input", (len(self.tensors) - 1,), source))
            source = len(self.tensors) - 1
        rank = self.network.spatial_rank
        return Program(
            tuple(self.tensors),
            tuple(self.ops),
            source,
            self.index[self.network.output],
            3 if rank == 3 else 2,
            (1, 1, 1),
        )


def lower_network(q: "QuantNet", size: tuple[int, ...]) -> Program:
    """The integer program of ``q`` as it is now, traced for a spatial ``size`` (H, W) or (D, H, W).

    It accepts every multiple of the network's stride, or only ``size`` where the network is another one at
    other sizes (padding of odd sizes, upsampling to a fixed size, averages over the whole image).

    Raises:
        UnsupportedError: a layer whose weights, gains or accumulators have no exact form.
    """
    network = q.network(size)
    return with_sizes(q, network, _Lowering(q, network).run(), size)
