"""The trainable twin: blocks executed with torch's float operations and fake quantisation.

It differs from the integer program only by float rounding inside an accumulator or an epilogue, and by
BatchNorm's batch statistics while training.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .blocks import Block
from .capture import Node

if TYPE_CHECKING:
    from .network import QuantNet

Observer = Callable[[Block, Tensor], None]


def _spatial(values: tuple[int, int, int], rank: int) -> tuple[int, ...]:
    return values[3 - rank :]


def _pad(x: Tensor, before: tuple[int, ...], after: tuple[int, ...], mode: str) -> Tensor:
    pads = [p for b, a in zip(reversed(before), reversed(after), strict=True) for p in (b, a)]
    return F.pad(x, pads, mode="replicate" if mode == "replicate" else "constant")


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, attributes: dict[str, Any], rank: int) -> Tensor:
    """Apply a captured (transposed) convolution of spatial rank 2 or 3; ``weight`` in torch's layout."""
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


class _Simulation:
    def __init__(self, q: "QuantNet", rank: int, quantized: bool, training: bool) -> None:
        self.q, self.rank, self.quantized, self.training = q, rank, quantized, training

    def norm(self, y: Tensor, node: Node) -> Tensor:
        values = {role: self.q.tensor(name) for role, name in node.parameters.items()}
        weight, bias = values.get("weight"), values.get("bias")
        if node.kind == "instance_norm":
            return F.instance_norm(y, weight=weight, bias=bias, eps=node.attributes["eps"])
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
        return x[0] + x[1] if block.kind == "add" else x[0]

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
                drop = F.dropout2d if node.attributes["feature"] else F.dropout
                y = drop(y, node.attributes["p"], True)
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
        if block.keeps_grid:
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
