"""Operations that are convolutions with weights 0 and 1: averages, crops, channel moves, pixel shuffles.

A "fixed" node has a convolution's attributes, a ``pattern`` that says where its ones lie, and a ``divisor``
of the sums. In the integer program it is a ``Conv`` of 2-bit codes whose gain holds ``1 / divisor``: exact.
"""

from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .arguments import Triple

ONE: Triple = (1, 1, 1)
NOTHING: Triple = (0, 0, 0)


def attributes(pattern: str, **changes: Any) -> dict[str, Any]:
    """A fixed node's attributes: those of a 1x1 convolution, but for ``changes``; ``groups`` 0 is one a channel."""
    plain = {"stride": ONE, "dilation": ONE, "pad_before": NOTHING, "pad_after": NOTHING, "groups": 1}
    plain |= {"transposed": False, "output_padding": NOTHING, "kernel": ONE, "divisor": 1}
    return {"pattern": pattern, **plain, **changes}


def average(kernel: Triple, stride: Triple, padding: Triple, divisor: int | None = None) -> dict[str, Any]:
    """Means over windows, padded zeros counted: a depthwise convolution of ones."""
    return attributes(
        "ones", groups=0, kernel=kernel, stride=stride, pad_before=padding, pad_after=padding,
        divisor=divisor or prod(kernel),
    )  # fmt: skip


def crop(before: Triple, after: Triple) -> dict[str, Any]:
    """Leave out ``before`` and ``after`` positions: a depthwise kernel that is 1 at one tap."""
    kernel = tuple(b + a + 1 for b, a in zip(before, after, strict=True))
    return attributes("tap", groups=0, kernel=kernel, tap=before)


def channels(outputs: int, shift: int) -> dict[str, Any]:
    """Output channel o is input channel ``o + shift``, or zero where there is none."""
    return attributes("channels", outputs=outputs, shift=shift)


def pixel_shuffle(factor: Triple, outputs: int) -> dict[str, Any]:
    """Depth to space (Shi et al. 2016, arXiv 1609.05158): a transposed convolution whose taps never overlap."""
    return attributes("shuffle", transposed=True, groups=outputs, kernel=factor, stride=factor, outputs=outputs)


def groups_of(a: dict[str, Any], inputs: int) -> int:
    """The convolution's groups for that many input channels."""
    return int(a["groups"]) or inputs


def weight_codes(a: dict[str, Any], inputs: int) -> NDArray[np.int8]:
    """The weights, 0 and 1, as (O, I / groups, kd, kh, kw) for ``inputs`` channels."""
    kernel: Triple = a["kernel"]
    if a["pattern"] == "ones":
        return np.ones((inputs, 1, *kernel), np.int8)
    if a["pattern"] == "tap":
        codes = np.zeros((inputs, 1, *kernel), np.int8)
        codes[(slice(None), 0, *a["tap"])] = 1
        return codes
    if a["pattern"] == "channels":
        return np.eye(a["outputs"], inputs, a["shift"], dtype=np.int8)[:, :, None, None, None]
    taps = np.eye(prod(kernel), dtype=np.int8).reshape(1, prod(kernel), *kernel)
    return np.repeat(taps, a["outputs"], axis=0)


def weight_tensor(a: dict[str, Any], inputs: int, rank: int, like: Tensor) -> Tensor:
    """The weights in torch's layout for ``rank`` spatial axes."""
    codes = weight_codes(a, inputs)
    if a["transposed"]:  # torch: (I, O / groups, …), here one output a group
        codes = codes.reshape(-1, 1, *codes.shape[2:])
    return torch.from_numpy(codes).to(like).reshape(*codes.shape[:2], *codes.shape[5 - rank :])
