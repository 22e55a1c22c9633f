"""The trainable twin: blocks executed with torch's float operations and fake quantisation.

It differs from the integer program only by float rounding inside an accumulator or an epilogue, and by
BatchNorm's batch statistics while training. What a function (sigmoid, SiLU …) reads is fake-quantised as the
program's ``Table`` reads it: on a grid of its own, of 8 bits unless another reader wants them anyway.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import fixed
from .blocks import Block
from .functions import evaluate
from .nodes import Node

if TYPE_CHECKING:
    from .network import QuantNet

Observer = Callable[[Block, Tensor], None]


def _spatial(values: tuple[int, int, int], rank: int) -> tuple[int, ...]:
    return values[3 - rank :]


def _pad(x: Tensor, before: tuple[int, ...], after: tuple[int, ...], mode: str) -> Tensor:
    pads = [p for b, a in zip(reversed(before), reversed(after), strict=True) for p in (b, a)]
    return F.pad(x, pads, mode="replicate" if mode == "replicate" else "constant")


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, attributes: dict[str, Any], rank: int) -> Tensor:
    """Apply a captured (transposed) convolution of spatial rank 2 or 3; ``weight`` in torch's layout.

    A weight (O, I), a linear layer's, is a 1x1 convolution.
    """
    if weight.ndim == 2:
        weight = weight.reshape(*weight.shape, *([1] * rank))
    stride, dilation = _spatial(attributes["stride"], rank), _spatial(attributes["dilation"], rank)
    before, after = _spatial(attributes["pad_before"], rank), _spatial(attributes["pad_after"], rank)
    if attributes["transposed"]:
        transpose = F.conv_transpose2d if rank == 2 else F.conv_transpose3d
        return transpose(
            x,
            weight,
            bias,
            stride,
            before,
            _spatial(attributes["output_padding"], rank),
            attributes["groups"],
            dilation,
        )
    if before != after:
        x, before = _pad(x, before, after, "zero"), (0,) * rank
    direct = F.conv2d if rank == 2 else F.conv3d
    return direct(x, weight, bias, stride, before, dilation, attributes["groups"])


def max_pool(x: Tensor, attributes: dict[str, Any], rank: int) -> Tensor:
    """Apply a captured max-pooling."""
    pool = F.max_pool2d if rank == 2 else F.max_pool3d
    kernel, stride, padding = (_spatial(attributes[k], rank) for k in ("kernel", "stride", "padding"))
    return pool(x, kernel, stride, padding)


def _interpolate(x: Tensor, attributes: dict[str, Any], rank: int) -> Tensor:
    factors = [float(f) for f in _spatial(attributes["factor"], rank)]
    if attributes["mode"] == "nearest":
        return F.interpolate(x, scale_factor=factors, mode="nearest")
    return F.interpolate(x, scale_factor=factors, mode="bilinear" if rank == 2 else "trilinear", align_corners=False)


def move(x: list[Tensor], block: Block, rank: int) -> Tensor:
    """Execute a block that keeps the grid: pooling, nearest upsampling, padding or concatenation."""
    if block.kind == "cat":
        return torch.cat(x, dim=1)
    if block.kind == "max_pool":
        return max_pool(x[0], block.attributes, rank)
    if block.kind == "pad":
        before, after = _spatial(block.attributes["before"], rank), _spatial(block.attributes["after"], rank)
        return _pad(x[0], before, after, block.attributes["mode"])
    return _interpolate(x[0], block.attributes, rank)


def _affine(y: Tensor, node: Node, constant: Tensor | float) -> Tensor:
    """An "affine" node: ``sign * y``, then the constant added, taken off, multiplied or divided by."""
    role, sign = node.attributes["role"], node.attributes["sign"]
    y = y if sign == 1.0 else y * sign
    if isinstance(constant, Tensor):
        constant = constant.to(y.dtype).reshape(-1, *([1] * (y.ndim - 2)))
    if role in ("add", "subtract"):
        return y + constant if role == "add" else y - constant
    return y * constant if role == "mul" else y / constant


def _fixed(x: Tensor, a: dict[str, Any], rank: int) -> Tensor:
    """A "fixed" node: averages by torch's own pooling, the others as the convolutions they are."""
    if a["pattern"] == "ones":
        pool = F.avg_pool2d if rank == 2 else F.avg_pool3d
        kernel, stride, padding = (_spatial(a[k], rank) for k in ("kernel", "stride", "pad_before"))
        return pool(x, kernel, stride, padding, divisor_override=a["divisor"])
    inputs = int(x.shape[1])
    weight = fixed.weight_tensor(a, inputs, rank, x)
    return convolve(x, weight, None, {**a, "groups": fixed.groups_of(a, inputs)}, rank)


def _drop(y: Tensor, a: dict[str, Any]) -> Tensor:
    """A dropout in training; "unbatched" drops whole images, as torch does with an axis too many."""
    if not a["feature"]:
        return F.dropout(y, a["p"], True)
    return torch.feature_dropout(y[None], a["p"], True)[0] if a["unbatched"] else torch.feature_dropout(y, a["p"], True)


class _Simulation:
    def __init__(self, q: "QuantNet", rank: int, quantized: bool, training: bool) -> None:
        self.q, self.rank, self.quantized, self.training = q, rank, quantized, training

    def norm(self, y: Tensor, node: Node) -> Tensor:
        values = {role: self.q.tensor(name) for role, name in node.parameters.items()}
        weight, bias = values.get("weight"), values.get("bias")
        if node.kind == "affine":
            own = node.attributes.get("constant")
            number = torch.tensor(own, device=y.device) if isinstance(own, tuple) else own
            return _affine(y, node, values["constant"] if number is None else number)
        if node.kind == "instance_norm":
            return F.instance_norm(y, weight=weight, bias=bias, eps=node.attributes["eps"])
        if node.kind == "group_norm":
            return F.group_norm(y, node.attributes["groups"], weight, bias, node.attributes["eps"])
        eps, momentum = node.attributes["eps"], node.attributes["momentum"]
        # A BatchNorm that its owner put into evaluation mode stays frozen.
        training = self.training and self.q.owner(node.parameters["running_mean"]).training
        return F.batch_norm(y, values["running_mean"], values["running_var"], weight, bias, training, momentum, eps)

    def accumulate(self, x: list[Tensor], block: Block) -> Tensor:
        if block.kind == "conv":
            weight = self.q.tensor(block.parameters["weight"])
            quantizer = self.q.weight_quantizer(block)
            if quantizer is not None and self.quantized:
                weight = quantizer(weight)
            bias = self.q.tensor(block.parameters["bias"]) if "bias" in block.parameters else None
            return convolve(x[0], weight, bias, block.attributes, self.rank)
        if block.kind == "upsample_linear":
            return _interpolate(x[0], block.attributes, self.rank)
        if block.kind == "add":
            gain = block.attributes["gains"][1]
            return x[0] + x[1] if gain == 1.0 else x[0] + gain * x[1]
        if block.kind == "mul":
            return x[0] * x[1]
        if block.kind == "fixed":
            return _fixed(x[0], block.attributes, self.rank)
        return evaluate(block.attributes["function"], x[0]) if block.kind == "table" else x[0]

    def activate(self, y: Tensor, node: Node) -> Tensor:
        if "slope" in node.parameters:
            return F.prelu(y, self.q.tensor(node.parameters["slope"]).to(y.dtype))
        slope = float(node.attributes["slope"])
        return F.relu(y) if slope == 0.0 else F.leaky_relu(y, slope)

    def run(self, x: list[Tensor], block: Block) -> Tensor:
        y = self.accumulate(x, block)
        for node in block.pre:
            y = self.norm(y, node)
        if block.act is not None:
            y = self.activate(y, block.act)
        for node in block.post:
            y = self.norm(y, node)
        for node in block.dropouts:
            if self.training:
                y = _drop(y, node.attributes)
        return y


def simulate(q: "QuantNet", x: Tensor, *, quantized: bool, training: bool, observe: Observer | None = None) -> Tensor:
    """Execute the blocks of ``q`` on (N, C, …) floats and return logits.

    Args:
        quantized: with fake quantisers, or without any.
        training: BatchNorm by batch statistics (updating the running ones) and dropout.
        observe: called with (block, values) for each tensor before it is quantised.
    """
    rank = x.ndim - 2
    network = q.network(tuple(x.shape[2:]))
    simulation = _Simulation(q, rank, quantized, training)
    last_use = {source: i for i, b in enumerate(network.blocks) for source in b.inputs}
    values: dict[str, Tensor] = {}
    for i, block in enumerate(network.blocks):
        inputs = [values[source] for source in block.inputs]
        if block.kind == "dropout":  # at evaluation nothing; in training off the grid, as it scales what it keeps
            y = _drop(inputs[0], block.attributes) if training else inputs[0]
        elif block.keeps_grid:
            y = move(inputs, block, rank)
        else:
            y = x if block.kind == "input" else simulation.run(inputs, block)
            grid = q.grid_quantizer(block.group)
            if observe is not None and grid is not None:
                observe(block, y)
            if grid is not None and quantized:
                y = grid(y)
        values[block.key] = y
        for source in set(block.inputs):
            if last_use[source] == i:
                del values[source]
    return values[network.output]
