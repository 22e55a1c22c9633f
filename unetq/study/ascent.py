"""The highest loss in a small ball around a network's weights, sought by ascent.

The ball is |eps / T|_2 <= rho, T ones for SAM (Foret et al. 2021, arXiv 2010.01412) and |w| for ASAM (Kwon et al. 2021,
arXiv 2102.11600). A step puts the move where the loss, taken as linear, is largest in the ball::

    eps = rho T^2 g / |T g|_2

With g the gradient at w + eps before, the first step is that of SAM and ASAM, and on a quadratic it is power iteration.
Where the gradient turns within moves much smaller than rho it leads nowhere. So there is a second search: g is the
gradient averaged over moves w + eps + u and w + eps - u, u normal, and over the steps before, fading by ``FADING``.

With float activations both find the same. With low-bit ones (and so clips, and BatchNorms of channels that have all but
died) plain ascent can find a small part only: the network would look flat because the search failed.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .loss_surface import LossSurface

SMALLEST = 1e-12  # a gradient below it has no direction
SMOOTH_STEPS, PAIRS, FADING = 8, 2, 0.9


def ascend(surface: LossSurface, scales: Sequence[Tensor], rho: float, steps: int, seed: int) -> list[float]:
    """The rise of the loss before and after each step of ascent in the ball |eps / scales|_2 <= rho.

    Args:
        scales: T, positive tensors of the weights' shapes.
        rho: above 0. steps: 1 or more. seed: of the direction, where the gradient gives none.

    Returns:
        ``steps`` + 1 rises; the first is 0. A move to where the loss is not finite ends it, and is left out.
    """
    home = [w.detach().clone() for w in surface.weights]
    base, gradients = surface.gradient()
    rises = [0.0]
    for _ in range(steps):
        if _norm(g * t for g, t in zip(gradients, scales, strict=True)) <= SMALLEST:
            generator = torch.Generator().manual_seed(seed)
            gradients = [torch.randn(w.shape, generator=generator).to(w) / t for w, t in zip(home, scales, strict=True)]
        length = _norm(g * t for g, t in zip(gradients, scales, strict=True))
        moves = [rho / length * t.square() * g for g, t in zip(gradients, scales, strict=True)]
        with surface.at([w + move for w, move in zip(home, moves, strict=True)]):
            value, gradients = surface.gradient()
        if not math.isfinite(value):
            break
        rises.append(value - base)
    return rises


def ascend_smoothed(
    surface: LossSurface, scales: Sequence[Tensor], rho: float, smoothing: float, seed: int
) -> list[float]:
    """As ``ascend`` by gradients averaged over normal moves of standard deviation ``smoothing`` a weight, 0 or above.

    Returns:
        Up to ``SMOOTH_STEPS`` + 1 rises, each that of the loss itself; the first is 0.
    """
    home = [w.detach().clone() for w in surface.weights]
    base, generator = surface.loss(), torch.Generator().manual_seed(seed)
    moves, total = ([torch.zeros_like(w) for w in home] for _ in range(2))
    rises = [0.0]
    for _ in range(SMOOTH_STEPS):
        total = [g * FADING for g in total]
        for _ in range(PAIRS):
            noise = [torch.randn(w.shape, generator=generator).to(w) * smoothing for w in home]
            for sign in (1, -1):
                with surface.at([w + m + sign * u for w, m, u in zip(home, moves, noise, strict=True)]):
                    total = [g + found for g, found in zip(total, surface.gradient()[1], strict=True)]
        length = _norm(g * t for g, t in zip(total, scales, strict=True))
        if not SMALLEST < length < math.inf:
            break
        moves = [rho / length * t.square() * g for g, t in zip(total, scales, strict=True)]
        with surface.at([w + move for w, move in zip(home, moves, strict=True)]):
            value = surface.loss()
        if not math.isfinite(value):
            break
        rises.append(value - base)
    return rises


def _norm(tensors: Iterable[Tensor]) -> float:
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors))
