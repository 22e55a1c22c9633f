"""How sharp the loss is around a network's weights: what the worst small move costs, and the Hessian's size.

With L the loss, w all weights together and eps a move of them::

    ascent      max L(w + eps) - L(w)  over |eps|_2 <= rho           (Foret et al. 2021, SAM, arXiv 2010.01412, eq. 1)
    adaptive    the same over |eps / T|_2 <= rho, T = |w| + 0.01     (Kwon et al. 2021, ASAM, arXiv 2102.11600, eq. 5)
    trace       the sum of the Hessian's eigenvalues                 (Hutchinson's estimate)
    eigenvalue  the largest of them                                  (Lanczos)
    smoothed    the trace that finite moves see: the mean of (L(w + h v) + L(w - h v) - 2 L(w)) / h^2 over signs v

The first, third and fourth grow when a layer before a BatchNorm is scaled down, although the network computes the
same (Dinh et al. 2017, arXiv 1703.04933); the adaptive one does not, but for its 0.01.

Derivatives at a point can mislead. BatchNorm multiplies a channel that has all but died by up to 1 / sqrt(1e-5) = 316,
and where activations are clipped the gradient then turns within moves far below a step of the weights. So trace and
eigenvalue are large there, although no move of any use sees it. ``smoothed`` does not go by them, nor do ascent and
adaptive, whose search takes gradients that are averaged over small moves too (see ``ascent``).

L is that of ``loss_surface``: a quantised network is measured at Q(w), with activations clipped and not rounded.
"""

import math
from typing import Any

import torch
from torch import Tensor

from ..curvature import random_signs, top_eigenvalue, traces
from ..errors import ConfigError
from .ascent import ascend, ascend_smoothed
from .loss_surface import LossSurface

FLOOR = 0.01  # ASAM's eta: keeps a weight of 0 movable
SMOOTHING = 0.03  # of the weights' rms: the moves over which ascent averages; about what rounding to 6 bits moves
TRACE_SCALE = 0.1  # likewise, for the smoothed trace; about rounding to 4 bits


def measure_landscape(
    surface: LossSurface,
    *,
    rho: float = 0.02,
    adaptive_rho: float = 0.25,
    steps: int = 5,
    probes: int = 16,
    products: int = 20,
    draws: int = 16,
    tolerance: float = 0.01,
    seed: int = 0,
) -> dict[str, Any]:
    """The record ``sharpness`` of a run.

    Args:
        surface: where to measure; left as it was.
        rho: radius of the ball of moves, in the unit of the weights. adaptive_rho: likewise, relative to each weight.
        steps: of plain ascent, 1 or more. probes: vectors of signs for the trace, 2 or more.
        draws: vectors of signs for the smoothed trace, 2 or more; h is ``TRACE_SCALE`` of the weights' rms.
        products: at most so many products with the Hessian for the eigenvalue; fewer once its relative residual is
            within ``tolerance``.
        seed: of the probes, of Lanczos' first vector, and of an ascent that starts where the gradient is 0.

    Returns:
        {"loss", "rho", "ascent", "adaptive_rho", "adaptive", "trace": {"value", "error", "probes"}, "eigenvalue":
        {"value", "residual", "products"}, "smoothed": {"value", "error", "draws", "scale": h}, "weights", "norm",
        "steps", "first_order", "seed"}: losses and rises in the loss's own unit, ``error`` one standard error,
        ``residual`` relative, ``first_order`` the rise after SAM's single step, ``norm`` the 2-norm of the
        ``weights`` values.

    Raises:
        ConfigError: a radius, a number of steps, probes or products, or a loss that is not finite at the weights.
    """
    _check(rho, adaptive_rho, steps, probes, products, draws)
    loss = surface.loss()
    if not math.isfinite(loss):
        raise ConfigError(f"the loss is {loss} at the network's own weights: it must be finite; train it anew.")
    rms = surface.norm() / math.sqrt(surface.count)
    ones, sizes = [torch.ones_like(w) for w in surface.weights], [w.detach().abs() + FLOOR for w in surface.weights]
    plain = ascend(surface, ones, rho, steps, seed)
    ascent = max(*plain, *ascend_smoothed(surface, ones, rho, SMOOTHING * rms, seed))
    scaled = ascend(surface, sizes, adaptive_rho, steps, seed)
    adaptive = max(*scaled, *ascend_smoothed(surface, sizes, adaptive_rho, SMOOTHING * rms, seed))
    samples = traces(surface.terms, surface.weights, probes, seed)[0].sum(dim=1)
    top = top_eigenvalue(surface.terms, surface.weights, products, tolerance, seed)
    return {
        "loss": loss,
        "rho": rho,
        "ascent": ascent,
        "adaptive_rho": adaptive_rho,
        "adaptive": adaptive,
        "trace": {"value": float(samples.mean()), "error": standard_error(samples), "probes": probes},
        "eigenvalue": {"value": top.value, "residual": top.residual, "products": top.products},
        "smoothed": smoothed_trace(surface, TRACE_SCALE * rms, draws, seed),
        "weights": surface.count,
        "norm": surface.norm(),
        "steps": steps,
        "first_order": plain[1],
        "seed": seed,
    }


def smoothed_trace(surface: LossSurface, scale: float, draws: int, seed: int) -> dict[str, Any]:
    """The trace of the Hessian by central differences along random signs, at a finite ``scale`` h.

    Args:
        scale: what every weight moves by, 0 or above; of 0, where all weights are, there is no trace: it is told as 0.
        draws: 2 or more. seed: of the signs.

    Returns:
        {"value", "error": one standard error, "draws", "scale"}.
    """
    home = [w.detach().clone() for w in surface.weights]
    base, generator = surface.loss(), torch.Generator().manual_seed(seed)
    samples = torch.zeros(draws, dtype=torch.float64)
    for draw in range(draws if scale > 0 else 0):
        signs = random_signs(home, generator)
        for sign in (scale, -scale):
            with surface.at([w + sign * v for w, v in zip(home, signs, strict=True)]):
                samples[draw] += (surface.loss() - base) / scale**2
    return {"value": float(samples.mean()), "error": standard_error(samples), "draws": draws, "scale": scale}


def standard_error(samples: Tensor) -> float:
    """Of the mean of ``samples`` (n,), n 2 or more."""
    return float(samples.double().std(correction=1)) / math.sqrt(len(samples))


def _check(rho: float, adaptive_rho: float, steps: int, probes: int, products: int, draws: int) -> None:
    for name, radius in (("rho", rho), ("adaptive_rho", adaptive_rho)):
        if not 0 < radius < math.inf:
            raise ConfigError(f"{name} = {radius}: the radius of a ball of weights is above 0; choose such a one.")
    counts = (("steps", steps, 1), ("probes", probes, 2), ("products", products, 1), ("draws", draws, 2))
    for name, count, least in counts:
        if count < least:
            raise ConfigError(f"{name} = {count}: it is a count of {least} or more; choose such a one.")
