"""How sharp the loss is around a network's weights: what the worst small move costs, and the Hessian's size.

With L the loss, w all weights together and eps a move of them::

    ascent      max L(w + eps) - L(w)  over |eps|_2 <= rho           (Foret et al. 2021, SAM, arXiv 2010.01412, eq. 1)
    adaptive    the same over |eps / T|_2 <= rho, T = |w| + 0.01     (Kwon et al. 2021, ASAM, arXiv 2102.11600, eq. 5)
    trace       the sum of the Hessian's eigenvalues                 (Hutchinson's estimate)
    eigenvalue  the largest of them                                  (Lanczos)

The first, third and fourth grow when a layer before a BatchNorm is scaled down, although the network computes the
same (Dinh et al. 2017, arXiv 1703.04933); the adaptive one does not, but for its 0.01.

The maximum is sought by repeated normalised ascent: the move is put where the loss, taken as linear at the last move,
is largest in the ball, eps = rho T^2 g / |T g|_2, g the gradient at w + eps before. The first step is that of SAM and
ASAM. The highest loss seen counts, so what is recorded is a lower estimate of the maximum, and never below 0.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..curvature import top_eigenvalue, traces
from ..errors import ConfigError
from .loss_surface import LossSurface

FLOOR = 0.01  # ASAM's eta: keeps a weight of 0 movable
SMALLEST = 1e-12  # a gradient below it has no direction


def measure_landscape(
    surface: LossSurface,
    *,
    rho: float = 0.05,
    adaptive_rho: float = 0.5,
    steps: int = 5,
    probes: int = 16,
    products: int = 20,
    tolerance: float = 0.01,
    seed: int = 0,
) -> dict[str, Any]:
    """The record ``sharpness`` of a run.

    Args:
        surface: where to measure; left as it was.
        rho: radius of the ball of moves, in the unit of the weights. adaptive_rho: likewise, relative to each weight.
        steps: of ascent, 1 or more. probes: vectors of signs for the trace, 2 or more.
        products: at most so many products with the Hessian for the eigenvalue; fewer once its relative residual is
            within ``tolerance``.
        seed: of the probes, of Lanczos' first vector, and of an ascent that starts where the gradient is 0.

    Returns:
        {"loss", "rho", "ascent", "adaptive_rho", "adaptive", "trace": {"value", "error", "probes"},
        "eigenvalue": {"value", "residual", "products"}, "weights", "norm", "steps", "first_order", "seed"}: losses
        and rises in the loss's own unit, ``error`` one standard error, ``residual`` relative, ``first_order`` the
        rise after SAM's single step, ``norm`` the 2-norm of the ``weights`` values.

    Raises:
        ConfigError: a radius, a number of steps, probes or products, or a loss that is not finite at the weights.
    """
    _check(rho, adaptive_rho, steps, probes, products)
    loss = surface.loss()
    if not math.isfinite(loss):
        raise ConfigError(f"the loss is {loss} at the network's own weights: it must be finite; train it anew.")
    plain = ascend(surface, [torch.ones_like(w) for w in surface.weights], rho, steps, seed)
    scaled = ascend(surface, [w.detach().abs() + FLOOR for w in surface.weights], adaptive_rho, steps, seed)
    samples = traces(surface.terms, surface.weights, probes, seed)[0].sum(dim=1)
    top = top_eigenvalue(surface.terms, surface.weights, products, tolerance, seed)
    return {
        "loss": loss,
        "rho": rho,
        "ascent": max(plain),
        "adaptive_rho": adaptive_rho,
        "adaptive": max(scaled),
        "trace": {"value": float(samples.mean()), "error": standard_error(samples), "probes": probes},
        "eigenvalue": {"value": top.value, "residual": top.residual, "products": top.products},
        "weights": surface.count,
        "norm": surface.norm(),
        "steps": steps,
        "first_order": plain[1],
        "seed": seed,
    }


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


def standard_error(samples: Tensor) -> float:
    """Of the mean of ``samples`` (n,), n 2 or more."""
    return float(samples.double().std(correction=1)) / math.sqrt(len(samples))


def _norm(tensors: Iterable[Tensor]) -> float:
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors))


def _check(rho: float, adaptive_rho: float, steps: int, probes: int, products: int) -> None:
    for name, radius in (("rho", rho), ("adaptive_rho", adaptive_rho)):
        if not 0 < radius < math.inf:
            raise ConfigError(f"{name} = {radius}: the radius of a ball of weights is above 0; choose such a one.")
    for name, count, least in (("steps", steps, 1), ("probes", probes, 2), ("products", products, 1)):
        if count < least:
            raise ConfigError(f"{name} = {count}: it is a count of {least} or more; choose such a one.")
