"""From trained blocks to the integer program: weights to codes, norms and scales to gains and offsets."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UnsupportedError
from ..export.integer import INT32_LIMIT, accumulator_bound, output_size
from ..export.program import (
    Add,
    Concat,
    Conv,
    Epilogue,
    InstanceNorm,
    MaxPool,
    Op,
    Pad,
    Pointwise,
    Program,
    Quantize,
    TensorSpec,
    Triple,
    Upsample,
)
from ..fixedpoint import F32, Grid
from .blocks import Block, Network
from .capture import Node
from .quantizer import WeightCodes

if TYPE_CHECKING:
    from .network import QuantNet

F64 = NDArray[np.float64]
LARGEST_MULTIPLE = 256


class _Lowering:
    def __init__(self, q: "QuantNet", network: Network) -> None:
        self.q, self.network = q, network
        self.index = {block.key: i for i, block in enumerate(network.blocks)}
        self.tensors: list[TensorSpec] = []
        self.ops: list[Op] = []

    def array(self, name: str) -> F32:
        return np.ascontiguousarray(self.q.tensor(name).detach().float().cpu().numpy())

    def grid(self, block: Block) -> Grid | None:
        quantizer = self.q.grid_quantizer(block.group)
        return None if quantizer is None else quantizer.grid()

    def scale(self, key: str) -> float:
        grid = self.tensors[self.index[key]].grid
        return 1.0 if grid is None else grid.scale

    def affine(self, node: Node) -> tuple[F64, F64]:
        """A BatchNorm's running statistics as ``y * a + b``, float64."""
        p = {role: self.array(name).astype(np.float64) for role, name in node.parameters.items()}
        a = p.get("weight", np.float64(1.0)) / np.sqrt(p["running_var"] + node.attributes["eps"])
        return np.asarray(a), np.asarray(p.get("bias", np.float64(0.0)) - p["running_mean"] * a)

    def epilogue(self, block: Block, channels: int, scale: F64, bias: F64) -> Epilogue:
        """Everything behind the accumulator, whose real value is ``acc * scale + bias``."""
        instance_norm = None
        gain, offset = np.broadcast_to(scale, channels).copy(), np.broadcast_to(bias, channels).copy()
        for node in block.pre:
            if node.kind == "instance_norm":  # a constant before it cancels, so the bias is dropped
                weight = (
                    self.array(node.parameters["weight"])
                    if "weight" in node.parameters
                    else np.ones(channels, np.float32)
                )
                shift = (
                    self.array(node.parameters["bias"]) if "bias" in node.parameters else np.zeros(channels, np.float32)
                )
                instance_norm = InstanceNorm(float(node.attributes["eps"]), weight, shift)
                offset = np.zeros(channels)
            else:
                a, b = self.affine(node)
                gain, offset = gain * a, offset * a + b
        gain2, offset2 = np.ones(channels), np.zeros(channels)
        for node in block.post:
            a, b = self.affine(node)
            gain2, offset2 = gain2 * a, offset2 * a + b
        arrays = [gain, offset, gain2, offset2]
        singles = [np.ascontiguousarray(v, dtype=np.float32) for v in arrays]
        if not all(np.isfinite(v).all() for v in singles):
            raise UnsupportedError(
                f"layer {block.key}: a gain or offset is not finite in float32, so a norm or a weight is broken. "
                "Train again or repair the checkpoint."
            )
        return Epilogue(
            singles[0],
            singles[1],
            slope=self.slope(block, channels),
            gain2=singles[2] if block.post else None,
            offset2=singles[3] if block.post else None,
            instance_norm=instance_norm,
        )

    def slope(self, block: Block, channels: int) -> F32 | None:
        if block.act is None:
            return None
        if "slope" in block.act.parameters:
            values = self.array(block.act.parameters["slope"])
        else:
            values = np.array([block.act.attributes["slope"]], dtype=np.float32)
        if not np.isfinite(values).all():
            raise UnsupportedError(
                f"layer {block.key}: its activation's slope is not finite. Train again or repair the checkpoint."
            )
        return np.broadcast_to(values, channels).copy()

    def weight(self, block: Block) -> WeightCodes | F32:
        """Codes, or float32 values, output channel first with three kernel axes."""
        values = self.array(block.parameters["weight"])
        if not np.isfinite(values).all():
            raise UnsupportedError(
                f"layer {block.key}: its weight holds NaN or infinity. Train again or repair the checkpoint."
            )
        quantizer = self.q.weight_quantizer(block)
        if quantizer is None:
            return self.canonical(block, values)
        coded = quantizer.codes(values)
        return WeightCodes(self.canonical(block, coded.codes), coded.scale, coded.bits, coded.kind)

    @staticmethod
    def canonical(block: Block, values: NDArray[Any]) -> NDArray[Any]:
        """Torch's weight layout to (O, I / groups, kd, kh, kw)."""
        if block.attributes["transposed"]:  # torch: (I, O / groups, …)
            groups = block.attributes["groups"]
            parts = values.reshape(groups, values.shape[0] // groups, *values.shape[1:])
            values = parts.swapaxes(1, 2).reshape(-1, values.shape[0] // groups, *values.shape[2:])
        kernel = values.shape[2:]
        return np.ascontiguousarray(values.reshape(*values.shape[:2], *([1] * (3 - len(kernel))), *kernel))

    def convolution(self, block: Block, inputs: tuple[int, ...]) -> tuple[Conv, int]:
        weight = self.weight(block)
        a = block.attributes
        if isinstance(weight, WeightCodes):
            codes, scale, bits, kind = weight.codes, weight.scale, weight.bits, weight.kind
        else:
            codes, scale, bits, kind = weight, np.ones(1, np.float32), 32, "float32"  # type: ignore[assignment]
        grid = self.tensors[inputs[0]].grid
        channels = int(codes.shape[0])
        bias = self.array(block.parameters["bias"]).astype(np.float64) if "bias" in block.parameters else np.zeros(1)
        real = scale.astype(np.float64) * self.scale(block.inputs[0])
        epilogue = self.epilogue(block, channels, real, bias)
        if grid is not None and kind != "float32":
            self.check_range(block, accumulator_bound(codes, grid), epilogue)
        conv = Conv(
            block.key, inputs, self.index[block.key], codes, bits, kind, scale,
            epilogue,
            stride=a["stride"], pad_before=a["pad_before"], pad_after=a["pad_after"], dilation=a["dilation"],
            groups=a["groups"], transposed=a["transposed"], output_padding=a["output_padding"],
        )  # fmt: skip
        return conv, channels

    @staticmethod
    def check_range(block: Block, bound: int, epilogue: Epilogue) -> None:
        """Refuse accumulators beyond int32, and gains that would take one to infinity."""
        if bound > INT32_LIMIT:
            raise UnsupportedError(
                f"layer {block.key}: its accumulator can leave int32; use fewer weight or activation bits there."
            )
        largest = np.abs(epilogue.gain.astype(np.float64)) * bound + np.abs(epilogue.offset.astype(np.float64))
        if epilogue.instance_norm is None and largest.max() > np.finfo(np.float32).max:
            raise UnsupportedError(
                f"layer {block.key}: its output can leave float32 ({largest.max():.3g}), so a norm is broken. "
                "Train again or repair the checkpoint."
            )

    def operation(self, block: Block) -> tuple[Op, int]:
        """The operation of a block and its number of output channels."""
        inputs = tuple(self.index[source] for source in block.inputs)
        output, first = self.index[block.key], inputs[0]
        channels = self.tensors[first].channels
        a = block.attributes
        zero = np.zeros(1)
        if block.kind == "conv":
            return self.convolution(block, inputs)
        if block.kind == "max_pool":
            return MaxPool(block.key, (first,), output, a["kernel"], a["stride"], a["padding"]), channels
        if block.kind == "cat":
            return Concat(block.key, inputs, output), sum(self.tensors[i].channels for i in inputs)
        if block.kind == "pad":
            return Pad(block.key, (first,), output, a["mode"], a["before"], a["after"]), channels
        if block.kind == "upsample_nearest":
            return Upsample(block.key, (first,), output, "nearest", a["factor"]), channels
        if block.kind == "upsample_linear":
            scale = np.array([self.scale(block.inputs[0]) / 4.0 ** sum(f == 2 for f in a["factor"])])
            return Upsample(
                block.key, (first,), output, "linear", a["factor"], self.epilogue(block, channels, scale, zero)
            ), channels
        if block.kind == "add":
            gains = self.scale(block.inputs[0]), self.scale(block.inputs[1])
            return Add(
                block.key, (first, inputs[1]), output, gains, self.epilogue(block, channels, np.ones(1), zero)
            ), channels
        return Pointwise(
            block.key, (first,), output, self.epilogue(block, channels, np.array([self.scale(block.inputs[0])]), zero)
        ), channels

    def run(self) -> Program:
        """The program, accepting any size as far as it knows."""
        for block in self.network.blocks:
            grid = self.grid(block)
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


def _consistent(program: Program, size: Triple, axis: int) -> bool:
    """True where every join agrees and no tensor is empty along ``axis``, for an input of ``size``."""
    sizes = {program.input: size}
    for op in program.ops:
        if len({sizes[i][axis] for i in op.inputs}) != 1:
            return False
        sizes[op.output] = output_size(op, sizes[op.inputs[0]])
        if sizes[op.output][axis] < 1:
            return False
    return sizes[program.output][axis] == size[axis]


def _multiple(program: Program, axis: int) -> int | None:
    def accepts(n: int) -> bool:
        size = [1, 1, 1]
        size[axis] = n
        return _consistent(program, (size[0], size[1], size[2]), axis)

    for candidate in range(1, LARGEST_MULTIPLE + 1):
        if all(accepts(candidate * k) for k in range(1, 9)):
            return candidate
    return None


def _structure(network: Network) -> list[object]:
    """All that a program takes from a trace, the sizes aside."""

    def plain(nodes: Iterable[Node | None]) -> list[object]:
        return [(n.kind, n.parameters, n.attributes) for n in nodes if n is not None]

    return [
        (b.kind, b.key, b.inputs, b.parameters, b.attributes, plain([*b.pre, b.act, *b.post])) for b in network.blocks
    ]


def _accepts_multiples(q: "QuantNet", network: Network, size: Triple, multiple: Triple) -> bool:
    """True where the network, traced at the next larger size, is the same one."""
    larger = tuple(n + m for n, m in zip(size, multiple, strict=True))[3 - network.spatial_rank :]
    try:
        return _structure(q.network(larger)) == _structure(network)
    except UnsupportedError:
        return False


def lower_network(q: "QuantNet", size: tuple[int, ...]) -> Program:
    """The integer program of ``q`` as it is now, traced for a spatial ``size`` (H, W) or (D, H, W).

    It accepts every multiple of the network's stride, or only ``size`` where the network is another one at
    other sizes (padding of odd sizes, upsampling to a fixed size).

    Raises:
        UnsupportedError: a layer whose weights, gains or accumulators have no exact form.
    """
    network = q.network(size)
    exact: Triple = (1, size[0], size[1]) if len(size) == 2 else (size[0], size[1], size[2])
    program = _Lowering(q, network).run()
    found = [1 if network.spatial_rank == 2 and axis == 0 else _multiple(program, axis) for axis in range(3)]
    multiple = (found[0] or 1, found[1] or 1, found[2] or 1)
    fits = None not in found and all(n % m == 0 for n, m in zip(exact, multiple, strict=True))
    if fits and _accepts_multiples(q, network, exact, multiple):
        return replace(program, input_multiple=multiple)
    return replace(program, fixed_size=exact)
