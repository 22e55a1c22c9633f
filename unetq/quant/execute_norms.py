"""Instance and group norm of the integer program in torch, for a batch: ``unetq.export.norms`` to the last bit."""

import torch
from torch import Tensor

from ..export.program import InstanceNorm
from ..fixedpoint import F32


def as_tensor(values: F32, like: Tensor) -> Tensor:
    """An array of the program on the device of ``like``."""
    return torch.from_numpy(values).to(like.device)


def _sums(acc: Tensor, integer: bool) -> tuple[Tensor, Tensor]:
    """``unetq.export.norms``: sum and sum of squares of each channel, (N, C) float64."""
    flat = acc.flatten(2)
    if not integer:
        return flat.double().sum(2), flat.double().square().sum(2)
    wide = flat.to(torch.int64)
    squares = wide * wide
    low = (squares & 0xFFFFFFFF).sum(2).double()
    return wide.sum(2).double(), (squares >> 32).sum(2).double() * 4294967296.0 + low


def _instance_norm_affine(acc: Tensor, gain: Tensor, norm: InstanceNorm, integer: bool) -> tuple[Tensor, Tensor]:
    """``unetq.export.norms.instance_norm_affine`` for a batch: (N, C) gains and offsets."""
    count = float(acc[0, 0].numel())
    total, squares = _sums(acc, integer)
    mean = total / count
    variance = (squares / count - mean * mean).clamp_min(0.0)
    scale = gain.double()
    root = 1.0 / torch.sqrt((variance * scale) * scale + norm.eps)
    a = (scale * root) * as_tensor(norm.weight, acc).double()
    b = as_tensor(norm.bias, acc).double() - mean * a
    return a.float(), b.float()


def _group_norm_affine(
    acc: Tensor, gain: Tensor, offset: Tensor, norm: InstanceNorm, integer: bool
) -> tuple[Tensor, Tensor]:
    """``unetq.export.norms.group_norm_affine`` for a batch: (N, C) gains and offsets."""
    n = float(acc[0, 0].numel())
    s, q, g, o, weight, bias = (
        v.double().reshape(-1, norm.groups, acc.shape[1] // norm.groups)
        for v in (*_sums(acc, integer), gain, offset, as_tensor(norm.weight, acc), as_tensor(norm.bias, acc))
    )
    sums = g * s + n * o
    powers = ((g * g) * q + ((2.0 * g) * o) * s) + (n * o) * o
    total, squares = torch.zeros_like(sums[..., 0]), torch.zeros_like(sums[..., 0])
    for c in range(sums.shape[2]):
        total, squares = total + sums[..., c], squares + powers[..., c]
    count = n * sums.shape[2]
    mean = total / count
    variance = (squares / count - mean * mean).clamp_min(0.0)
    root = (1.0 / torch.sqrt(variance + norm.eps))[..., None]
    a = (g * root) * weight
    b = ((o - mean[..., None]) * root) * weight + bias
    return a.flatten(1).float(), b.flatten(1).float()


def norm_affine(acc: Tensor, gain: Tensor, offset: Tensor, norm: InstanceNorm, integer: bool) -> tuple[Tensor, Tensor]:
    """Gains and offsets (N, C) that normalise the accumulators ``acc`` (N, C, …).

    ``gain`` is (C,), or (N, C) where dynamic scales are in it; ``integer`` says that ``acc`` holds exact integers.
    """
    if norm.groups:
        return _group_norm_affine(acc, gain, offset, norm, integer)
    return _instance_norm_affine(acc, gain, norm, integer)
