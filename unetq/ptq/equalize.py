"""Cross-layer equalisation (Nagel et al. 2019, arXiv 1906.04721, section 4.1).

A channel of a layer may be made smaller by a factor ``s > 0`` and the weights that read it larger by the same
factor: a convolution, max-pooling, padding and upsampling pass a positive factor on, and so do ReLU and its
relatives, for ``act(x / s) = act(x) / s``. The float network stays the same and its channels come closer to
each other. The paper's factor, ``s = sqrt(r1 / r2)`` for the ranges ``r1`` of what is written and ``r2`` of
the weights that read it, is rounded to a power of two here, so that nothing is rounded in float either.

What is written is the channel on its activation grid, which all channels of a tensor share. (The paper takes
the rows of the first layer's weights in its place; here BatchNorm is never folded into weights and rows have
steps of their own, so that these do not matter.) Where a BatchNorm follows, it takes the factor.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..quant.blocks import Block, Network
from ..quant.network import QuantNet
from .bias import IMAGE_NORMS

F64 = NDArray[np.float64]
ROUNDS = 8
LARGEST_FACTOR = 2.0**12


@dataclass(frozen=True)
class Reader:
    """A convolution that reads a layer's channels as its own input channels ``first … first + count - 1``."""

    block: Block
    first: int
    count: int


@dataclass
class Pair:
    """A layer whose output may be scaled, with all that reads it."""

    writer: Block
    readers: list[Reader] = field(default_factory=list)


@dataclass(frozen=True)
class Pairs:
    """Layers that can be equalised, and the reason for each that cannot."""

    found: tuple[Pair, ...]
    left_out: dict[str, str]


class _Refused(Exception):
    """A path along which a factor would change the network."""


def _uses(network: Network, parameter: str) -> int:
    return sum(parameter in b.parameters.values() for b in network.blocks)


def _check_writer(block: Block, network: Network) -> None:
    if _uses(network, block.parameters["weight"]) > 1:
        raise _Refused("its weight is used in more than one place")
    for node in (*block.pre, *block.post):
        if node.kind in IMAGE_NORMS:
            raise _Refused(f"the {node.kind} behind it measures each image and undoes any factor")
        if node.kind != "batch_norm":
            raise _Refused("a constant behind it takes no factor")
    norms = block.post or block.pre
    if norms and not {"weight", "bias"} <= set(norms[-1].parameters):
        raise _Refused("the BatchNorm behind it has no weight and bias to take the factor")


def _check_reader(block: Block, network: Network) -> None:
    if block.attributes["groups"] != 1:
        raise _Refused(f"{block.key}, which reads it, has groups")
    if _uses(network, block.parameters["weight"]) > 1:
        raise _Refused(f"the weight of {block.key}, which reads it, is used in more than one place")


def _passes(block: Block) -> bool:
    bare = not block.pre and not block.post and block.act is None
    return block.kind in ("max_pool", "pad", "upsample_nearest", "dropout") or (
        block.kind == "upsample_linear" and bare
    )


def _follow(key: str, first: int, count: int, network: Network, width: Mapping[str, int]) -> list[Reader]:
    """All convolutions that the channels reach, or a refusal."""
    if key == network.output:
        raise _Refused("it reaches the network's output")
    found: list[Reader] = []
    for reader in network.consumers(key):
        if reader.kind == "conv":
            _check_reader(reader, network)
            found.append(Reader(reader, first, count))
        elif _passes(reader):
            found += _follow(reader.key, first, count, network, width)
        elif reader.kind == "cat":
            offset = 0
            for source in reader.inputs:
                if source == key:
                    found += _follow(reader.key, first + offset, count, network, width)
                offset += width[source]
        else:
            raise _Refused(f"{reader.key} ({reader.kind}), which reads it, is not known to pass a factor on")
    return found


def find_pairs(network: Network, width: Mapping[str, int], seen: Collection[str]) -> Pairs:
    """Where equalisation is exact; ``width`` gives the channels of each block's output.

    Blocks that are not ``seen`` (their output stays float32) have nothing to equalise.
    """
    found: list[Pair] = []
    left_out: dict[str, str] = {}
    for block in network.blocks:
        if block.kind != "conv":
            continue
        try:
            if block.key not in seen:
                raise _Refused("its output stays float32")
            _check_writer(block, network)
            found.append(Pair(block, _follow(block.key, 0, width[block.key], network, width)))
        except _Refused as refused:
            left_out[block.key] = str(refused)
    return Pairs(tuple(found), left_out)


def _columns(q: QuantNet, reader: Reader) -> Tensor:
    """The weights that read the channels, (channels, all else), as a view."""
    weight = q.tensor(reader.block.parameters["weight"]).data
    axis = 0 if reader.block.attributes["transposed"] else 1
    return weight.narrow(axis, reader.first, reader.count).movedim(axis, 0)


def _factors(written: F64, read: F64) -> F64:
    usable = (written > 0) & (read > 0)
    ratio = np.sqrt(np.where(usable, written, 1.0) / np.where(usable, read, 1.0))
    return np.asarray(
        np.where(usable, np.clip(np.exp2(np.rint(np.log2(ratio))), 1 / LARGEST_FACTOR, LARGEST_FACTOR), 1.0)
    )


def _scale_output(q: QuantNet, block: Block, factor: Tensor) -> None:
    norms = block.post or block.pre
    if norms:
        for role in ("weight", "bias"):
            q.tensor(norms[-1].parameters[role]).data.div_(factor)
        return
    weight = q.tensor(block.parameters["weight"]).data
    axis = 0
    if block.attributes["transposed"]:
        axis = 1
        groups = block.attributes["groups"]
        if groups > 1:  # torch: (I, O / groups, …), the input channels of a group write its own outputs
            rows = factor.reshape(groups, -1).repeat_interleave(weight.shape[0] // groups, dim=0)
            weight.div_(rows.reshape(*rows.shape, *([1] * (weight.ndim - 2))))
            axis = -1
    if axis >= 0:
        shape = [1] * weight.ndim
        shape[axis] = -1
        weight.div_(factor.reshape(shape))
    if "bias" in block.parameters:
        q.tensor(block.parameters["bias"]).data.div_(factor)


def equalize(q: QuantNet, pairs: Pairs, ranges: Mapping[str, F64]) -> dict[str, Any]:
    """Scale the channels of ``q`` in place; its float function stays the same, to the bit but for subnormals.

    Args:
        q: calibrated or not; calibrate again afterwards.
        pairs: of ``find_pairs``. ranges: the largest magnitude of each channel of each writer's output, by its key.

    Returns:
        A record: for each layer the spread of its channels (largest over median) before and after and the number
        of channels moved, and the layers left out with the reason.
    """
    now = {pair.writer.key: ranges[pair.writer.key].astype(np.float64) for pair in pairs.found}
    total = {key: np.ones_like(values) for key, values in now.items()}
    for _ in range(ROUNDS):
        moved = False
        for pair in pairs.found:
            key = pair.writer.key
            read = np.max([_columns(q, r).abs().flatten(1).amax(1).double().numpy() for r in pair.readers], axis=0)
            factor = _factors(now[key], read)
            if (factor == 1.0).all():
                continue
            moved = True
            scale = torch.from_numpy(factor).float()
            _scale_output(q, pair.writer, scale)
            for reader in pair.readers:
                columns = _columns(q, reader)
                columns.mul_(scale.reshape(-1, *([1] * (columns.ndim - 1))))
            now[key] /= factor
            total[key] *= factor
        if not moved:
            break
    layers = {
        key: {
            "spread_before": spread(ranges[key]),
            "spread_after": spread(now[key]),
            "channels_moved": int(np.count_nonzero(total[key] != 1.0)),
        }
        for key in now
    }
    return {"layers": layers, "left_out": pairs.left_out}


def spread(values: NDArray[Any]) -> float:
    """The largest range of a tensor's channels over their median; 1 is even. Dead channels are not counted."""
    alive = np.asarray(values, dtype=np.float64)
    alive = alive[alive > 0]
    return float(alive.max() / np.median(alive)) if alive.size else 1.0
