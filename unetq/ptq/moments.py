"""Means and variances of channels over batches of images."""

from collections.abc import Sequence

import torch
from torch import Tensor


def channel_mean(values: Sequence[Tensor], weights: Sequence[Tensor | None] | None = None) -> Tensor:
    """The mean of each channel of batches (N, C, …), float64; by ``weights`` (N, 1, …) of the same batches if given."""
    total = torch.zeros(values[0].shape[1], dtype=torch.float64)
    count = 0.0
    for i, y in enumerate(values):
        weight = weights[i] if weights is not None else None
        if weight is None:
            total += y.double().sum(dim=(0, *range(2, y.ndim)))
            count += y.numel() / y.shape[1]
            continue
        resize = torch.nn.functional.adaptive_avg_pool2d if y.ndim == 4 else torch.nn.functional.adaptive_avg_pool3d
        fitted = resize(weight, tuple(y.shape[2:])).double()  # type: ignore[arg-type]  # two or three sizes
        total += (y.double() * fitted).sum(dim=(0, *range(2, y.ndim)))
        count += float(fitted.sum())
    return total / count


def channel_moments(values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The mean and the biased variance of each channel of batches (N, C, …), float64, in two passes."""
    mean = channel_mean(values)
    total = torch.zeros_like(mean)
    count = 0
    for y in values:
        shaped = mean.reshape(1, -1, *([1] * (y.ndim - 2)))
        total += (y.double() - shaped).square().sum(dim=(0, *range(2, y.ndim)))
        count += y.numel() // y.shape[1]
    return mean, total / count
