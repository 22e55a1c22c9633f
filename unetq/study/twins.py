"""What rounding the weights costs, against what noise of the same size does: QReg's model, put to the test.

QReg (AskariHemmat et al. 2022, arXiv 2206.12372) takes the rounding of a weight w with step s for additive noise,
uniform in [-s/2, s/2], of variance s^2/12 and independent of w. To second order in s the noise then adds to the loss::

    E L(w + u) - L(w)  ~  1/2 sum_i Var(u_i) H_ii  =  sum_l s_l^2 / 24 tr H_l        (the gradient's term has mean 0)

with l over layers, or over channels where each has its own step. All three are measured at the same w: what rounding
adds, what the noise adds on average, and what the Hessian predicts. The first one can be negative where the network was
trained to be rounded. It is one value, where the model speaks of a mean: single draws of noise spread around theirs by
about |g s|_2 / sqrt(12), g the gradient at w, which does not fall as fast with s. So the spread is recorded too: noise
of the same size explains a rise by rounding that lies within it.

w is what the quantiser rounds: the latent weights, clipped to the ends of its grid. Many latent weights of a trained
network lie beyond them, since training pulls at no weight there; clipping them is no rounding, the model does not know
it, and it can cost more than all rounding. It is recorded by itself.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..curvature import traces
from ..errors import ConfigError
from ..losses import Loss
from ..quant.network import QuantNet
from ..quant.unrounded import unrounded_weights
from .landscape import standard_error
from .loss_surface import LossSurface, loss_surface, rounded_weights


def measure_twins(
    q: QuantNet,
    images: Sequence[Tensor],
    labels: Sequence[Tensor],
    loss: Loss,
    *,
    draws: int = 32,
    probes: int = 16,
    seed: int = 0,
) -> dict[str, Any]:
    """The record ``twin`` of a run with quantised weights.

    Args:
        q: calibrated; left as it is. images, labels, loss: as of ``loss_surface``.
        draws: of noise, 2 or more; each is a pair u and -u, which takes the gradient's part out of the mean.
        probes: vectors of signs for the Hessian's diagonal, 2 or more. seed: of both.

    Returns:
        {"loss": at w, "rounding": rise at Q(w), "uniform": {"mean": rise, "error", "spread": standard deviation of
        single draws, "draws"}, "predicted": rise, "predicted_error", "predicted_spread": |g s|_2 / sqrt(12),
        "clipping": rise from the latent weights to w, "beyond": share of the quantised weights that clipping moves,
        "variance": |Q(w) - w|^2 over sum s^2/12, "steps": {"log": sum of ln s, "square": sum of s^2, "weights": how
        many have one, "norm": their 2-norm}, "layers": {name: {"predicted", "trace", "step": rms, "weights"}},
        "seed"}. Rises in the loss's unit, errors one standard error.

    Raises:
        ConfigError: fewer than 2 draws or probes. UnsupportedError: a weight whose levels have no one step.
    """
    if min(draws, probes) < 2:
        raise ConfigError(f"draws = {draws}, probes = {probes}: an error needs at least 2 of each; give more.")
    surface = loss_surface(q, images, labels, loss, rounded=False)
    latent, before = surface.loss(), [w.detach().clone() for w in surface.weights]
    clipped = {name: value.detach().float() for name, value in unrounded_weights(q).items()}
    centre = [clipped.get(name, w) for name, w in zip(surface.names, before, strict=True)]
    moved = sum(int((a != b).sum()) for a, b in zip(centre, before, strict=True))
    with surface.at(centre):
        found = compare(surface, rounded_weights(q), weight_steps(q), draws=draws, probes=probes, seed=seed)
    return {**found, "clipping": found["loss"] - latent, "beyond": moved / max(found["steps"]["weights"], 1)}


def compare(
    surface: LossSurface,
    rounded: dict[str, Tensor],
    steps: dict[str, Tensor],
    *,
    draws: int,
    probes: int,
    seed: int,
) -> dict[str, Any]:
    """As ``measure_twins``, of a surface at w: Q(w) by name, and steps that broadcast to the weights of those names."""
    home = [w.detach().clone() for w in surface.weights]
    wide = [_wide(steps.get(name), w) for name, w in zip(surface.names, home, strict=True)]
    base, gradients = surface.gradient()
    with surface.at([rounded.get(name, w) for name, w in zip(surface.names, home, strict=True)]):
        rounding = surface.loss() - base
    rises = noise_rises(surface, wide, draws, seed)
    plain, scaled = traces(surface.terms, surface.weights, probes, seed, [s.square() / 24 for s in wide])
    moved = {name: (rounded[name] - w).double() for name, w in zip(surface.names, home, strict=True) if name in rounded}
    by_name = dict(zip(surface.names, wide, strict=True))
    variance = sum(float(by_name[name].double().square().sum()) for name in moved) / 12
    quantised = [w for name, w in zip(surface.names, home, strict=True) if name in moved]
    return {
        "loss": base,
        "rounding": rounding,
        "uniform": {
            "mean": float(rises.mean()),
            "error": standard_error(rises.mean(dim=1)),
            "spread": float(rises.std(correction=1)),
            "draws": draws,
        },
        "predicted": float(scaled.sum(dim=1).mean()),
        "predicted_error": standard_error(scaled.sum(dim=1)),
        "predicted_spread": math.sqrt(
            sum(float((g * s).double().square().sum()) for g, s in zip(gradients, wide, strict=True)) / 12
        ),
        "variance": sum(float(m.square().sum()) for m in moved.values()) / variance if variance else 0.0,
        "steps": {
            "log": sum(float(by_name[name].double().log().sum()) for name in moved),
            "square": variance * 12,
            "weights": sum(w.numel() for w in quantised),
            "norm": math.sqrt(sum(float(w.double().square().sum()) for w in quantised)),
        },
        "layers": {
            name: {
                "predicted": float(scaled[:, i].mean()),
                "trace": float(plain[:, i].mean()),
                "step": float(wide[i].double().square().mean().sqrt()),
                "weights": home[i].numel(),
            }
            for i, name in enumerate(surface.names)
            if name in steps
        },
        "seed": seed,
    }


def noise_rises(surface: LossSurface, steps: Sequence[Tensor], draws: int, seed: int) -> Tensor:
    """The rise of the loss by uniform noise of ``steps`` in every weight, float64 (draws, 2): by u, and by -u.

    Args:
        steps: the noise's whole width, in the weights' shapes; 0 for a weight without noise.
    """
    home = [w.detach().clone() for w in surface.weights]
    base, generator = surface.loss(), torch.Generator().manual_seed(seed)
    rises = torch.zeros(draws, 2, dtype=torch.float64)
    for draw in range(draws):
        noise = [(torch.rand(s.shape, generator=generator).to(s) - 0.5) * s for s in steps]
        for column, sign in enumerate((1, -1)):
            with surface.at([w + sign * u for w, u in zip(home, noise, strict=True)]):
                rises[draw, column] = surface.loss() - base
    return rises


def weight_steps(q: QuantNet) -> dict[str, Tensor]:
    """The step of each weight that has a quantiser, by its name, in a shape that broadcasts to it; float32.

    Raises:
        UnsupportedError: a quantiser whose neighbouring levels are not one step apart (binary, codebook, groups).
    """
    unrounded_weights(q)  # so that the layer is named
    found: dict[str, Tensor] = {}
    for block in q.blocks():
        quantizer = q.weight_quantizer(block) if block.kind == "conv" else None
        if quantizer is not None:
            name = block.parameters["weight"]
            cell = quantizer.unrounded(q.tensor(name).detach())
            assert cell is not None
            found[name] = cell.step.detach().float()
    return found


def _wide(step: Tensor | None, weight: Tensor) -> Tensor:
    """The step of every value of ``weight``; zeros where it has none."""
    return torch.zeros_like(weight) if step is None else step.to(weight).expand_as(weight).clone()
