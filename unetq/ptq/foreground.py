"""Calibration in which rare classes count: by what the float network itself predicts, without labels.

In a medical image the background fills most pixels, and ranges, mean shifts and rounding that suit it may
cut what few pixels of a lesion need. Here each predicted class gets the same weight in total: a pixel of
class c weighs ``1 / (K * share_c)`` where ``share_c`` is the class's share of all pixels and K the number of
classes that occur. Crops are drawn by the weight in them, and positions within tensors by its average.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..preprocess import decide

F64 = NDArray[np.float64]


def predicted_classes(logits: Tensor) -> list[NDArray[np.uint8]]:
    """Class maps, one an image, of (N, K, H, W) logits."""
    return [decide(values) for values in logits.detach().float().cpu().numpy()]


def class_shares(maps: Sequence[NDArray[np.uint8]]) -> F64:
    """Each class's share of all pixels, up to the largest class that occurs."""
    counts = np.bincount(np.concatenate([m.reshape(-1) for m in maps]))
    return np.asarray(counts / counts.sum())


def pixel_weights(maps: Sequence[NDArray[np.uint8]], shares: F64) -> list[NDArray[np.float32]]:
    """The weight of each pixel; their mean over all maps that ``shares`` is of is 1."""
    present = shares > 0
    weight = np.zeros_like(shares)
    weight[present] = 1.0 / (present.sum() * shares[present])
    return [weight[m].astype(np.float32) for m in maps]


def choose_crops(weights: Sequence[NDArray[Any]], count: int, seed: int) -> list[int]:
    """``count`` different crops, drawn with a chance in proportion to the weight in each; in ascending order."""
    totals = np.array([float(w.mean()) for w in weights])
    draws = np.random.default_rng([seed, 3])
    chosen = draws.choice(len(totals), size=min(count, len(totals)), replace=False, p=totals / totals.sum())
    return sorted(int(i) for i in chosen)


def positions(shape: Sequence[int], weights: Tensor | None, count: int, generator: torch.Generator) -> Tensor:
    """``count`` positions (image * pixels + pixel) in a tensor (N, C, …), with replacement.

    ``weights`` (N, 1, …) at any resolution is averaged or repeated to the tensor's own; None draws all alike.
    """
    pixels = int(np.prod(shape[2:]))
    total = int(shape[0]) * pixels
    if weights is None:
        return torch.randint(total, (count,), generator=generator)
    resize = F.adaptive_avg_pool2d if len(shape) == 4 else F.adaptive_avg_pool3d
    fitted = resize(weights, tuple(shape[2:])).reshape(-1).double()  # type: ignore[arg-type]  # two or three sizes
    edges = torch.cumsum(fitted, 0)
    draws = torch.rand(count, generator=generator, dtype=torch.float64) * edges[-1]
    return torch.searchsorted(edges, draws, right=True).clamp_(max=total - 1)
