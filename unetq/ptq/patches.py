"""A convolution at sampled positions as a product of matrices: direct or transposed, grouped, in 2-D or 3-D."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..quant.blocks import Block


def matrix(block: Block, weight: Tensor) -> Tensor:
    """A weight in torch's layout as (groups, outputs of a group, inputs of a group * taps)."""
    groups = block.attributes["groups"]
    if not block.attributes["transposed"]:
        return weight.reshape(groups, weight.shape[0] // groups, -1)
    parts = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    return parts.permute(0, 2, 1, 3).reshape(groups, weight.shape[1], -1)


def weight_of(block: Block, rows: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of ``matrix``: back to torch's layout of the given ``shape``."""
    groups = block.attributes["groups"]
    if not block.attributes["transposed"]:
        return rows.reshape(shape)
    taps = int(np.prod(shape[2:]))
    parts = rows.reshape(groups, shape[1], shape[0] // groups, taps)
    return parts.permute(0, 2, 1, 3).reshape(shape)


def gather(block: Block, x: Tensor, where: Tensor, output: torch.Size, kernel: Sequence[int]) -> Tensor:
    """What each output position reads, (groups, positions, inputs of a group * taps); 0 outside the tensor.

    Args:
        x: the input (N, I, …). where: positions ``image * pixels + pixel`` of the output, whose shape is ``output``.
        kernel: the weight's spatial size.
    """
    a = block.attributes
    rank = x.ndim - 2
    stride, dilation, pad = (a[name][3 - rank :] for name in ("stride", "dilation", "pad_before"))
    pixels = int(np.prod(output[2:]))
    image, place = where // pixels, where % pixels
    at: list[Tensor] = []
    for size in reversed(output[2:]):
        at.insert(0, place % size)
        place = place // size
    taps = torch.cartesian_prod(*(torch.arange(k) for k in kernel)).reshape(-1, rank)
    index = torch.zeros(len(where), len(taps), dtype=torch.int64)
    inside = torch.ones_like(index, dtype=torch.bool)
    for axis in range(rank):
        offset = taps[None, :, axis] * dilation[axis]
        if a["transposed"]:
            scaled = at[axis][:, None] + pad[axis] - offset
            inside &= scaled % stride[axis] == 0
            source = torch.div(scaled, stride[axis], rounding_mode="floor")
        else:
            source = at[axis][:, None] * stride[axis] - pad[axis] + offset
        inside &= (source >= 0) & (source < x.shape[2 + axis])
        index = index * x.shape[2 + axis] + source.clamp(0, x.shape[2 + axis] - 1)
    flat = x.flatten(2)
    found = flat[image[:, None], :, index] * inside[:, :, None]  # (positions, taps, I)
    groups = a["groups"]
    parts = found.reshape(len(where), len(taps), groups, -1).permute(2, 0, 3, 1)
    return parts.reshape(groups, len(where), -1)


def multiply(patches: Tensor, rows: Tensor) -> Tensor:
    """``gather``'s patches times ``matrix``'s rows: (positions, outputs)."""
    return torch.bmm(patches, rows.transpose(1, 2)).permute(1, 0, 2).flatten(1)


def pick(values: Tensor, where: Tensor) -> Tensor:
    """The values (positions, C) of (N, C, …) at positions ``image * pixels + pixel``."""
    flat = values.flatten(2)
    return flat[where // flat.shape[2], :, where % flat.shape[2]]
