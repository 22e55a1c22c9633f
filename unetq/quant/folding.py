"""What stands behind an accumulator, folded into an epilogue: scales, zero-points, biases, norms, constants.

All is float64 until the end and rounded to float32 once, so that gain and offset are the nearest there are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UnsupportedError
from ..export.program import Epilogue, InstanceNorm
from ..fixedpoint import F32
from .blocks import Block
from .nodes import Node

F64 = NDArray[np.float64]
Read = Callable[[str], F32]  # a parameter or buffer by its name


def _affine(node: Node, read: Read) -> tuple[F64, F64]:
    """A BatchNorm's running statistics, or a constant, as ``y * a + b``: float64, shape () or (C,)."""
    if node.kind == "batch_norm":
        p = {role: read(name).astype(np.float64) for role, name in node.parameters.items()}
        a = p.get("weight", np.float64(1.0)) / np.sqrt(p["running_var"] + node.attributes["eps"])
        return np.asarray(a), np.asarray(p.get("bias", np.float64(0.0)) - p["running_mean"] * a)
    name = node.parameters.get("constant")
    value = np.asarray(node.attributes["constant"] if name is None else read(name), dtype=np.float64)
    value = value.reshape(-1) if value.size > 1 else value.reshape(())
    sign, zero = np.asarray(node.attributes["sign"], dtype=np.float64), np.zeros(())
    role = node.attributes["role"]
    if role in ("add", "subtract"):
        return sign, value if role == "add" else -value
    with np.errstate(divide="ignore", invalid="ignore"):  # told with the layer's name, when all is folded
        return sign * value if role == "mul" else sign / value, zero


@dataclass
class _Norm:
    node: Node
    weight: F64
    bias: F64

    def made(self) -> InstanceNorm:
        weight, bias = (np.ascontiguousarray(v, dtype=np.float32) for v in (self.weight, self.bias))
        return InstanceNorm(
            float(self.node.attributes["eps"]), weight, bias, int(self.node.attributes.get("groups", 0))
        )


def _norm(node: Node, read: Read, channels: int) -> _Norm:
    p = {role: read(name).astype(np.float64) for role, name in node.parameters.items()}
    return _Norm(node, p.get("weight", np.ones(channels)), p.get("bias", np.zeros(channels)))


def _slope(block: Block, read: Read, channels: int) -> F32 | None:
    if block.act is None:
        return None
    if "slope" in block.act.parameters:
        values = read(block.act.parameters["slope"])
    else:
        values = np.array([block.act.attributes["slope"]], dtype=np.float32)
    if not np.isfinite(values).all():
        raise UnsupportedError(
            f"layer {block.key}: its activation's slope is not finite. Train again or repair the checkpoint."
        )
    return np.broadcast_to(values, channels).copy()


def epilogue(block: Block, read: Read, channels: int, scale: Any, bias: Any) -> Epilogue:
    """Everything behind the accumulator of ``block``, whose real value is ``acc * scale + bias``.

    Raises:
        UnsupportedError: a gain, offset or slope that is not finite in float32.
    """
    gain = np.broadcast_to(np.asarray(scale, np.float64), channels).copy()
    offset = np.broadcast_to(np.asarray(bias, np.float64), channels).copy()
    norm: _Norm | None = None
    for node in block.pre:
        if node.kind in ("instance_norm", "group_norm"):
            norm = _norm(node, read, channels)
            if node.kind == "instance_norm":
                offset = np.zeros(channels)  # a constant of the channel cancels
            continue
        a, b = _affine(node, read)
        if norm is not None:
            norm.weight, norm.bias = norm.weight * a, norm.bias * a + b
        else:
            gain, offset = gain * a, offset * a + b
    gain2, offset2 = np.ones(channels), np.zeros(channels)
    for node in block.post:
        a, b = _affine(node, read)
        gain2, offset2 = gain2 * a, offset2 * a + b
    with np.errstate(over="ignore", invalid="ignore"):
        singles = [np.ascontiguousarray(v, dtype=np.float32) for v in (gain, offset, gain2, offset2)]
        made = None if norm is None else norm.made()
    normed = [] if made is None else [made.weight, made.bias]
    if not all(np.isfinite(v).all() for v in (*singles, *normed)):
        raise UnsupportedError(
            f"layer {block.key}: a gain or offset is not finite in float32, so a norm or a weight is broken. "
            "Train again or repair the checkpoint."
        )
    return Epilogue(
        singles[0],
        singles[1],
        slope=_slope(block, read, channels),
        gain2=singles[2] if block.post else None,
        offset2=singles[3] if block.post else None,
        instance_norm=made,
    )
