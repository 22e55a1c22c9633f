"""What rounding the weights costs, against what noise of the same size does: QReg's model, put to the test.

QReg (AskariHemmat et al. 2022, arXiv 2206.12372) takes the rounding of a weight w with step s for additive noise,
uniform in [-s/2, s/2], of variance s^2/12 and independent of w. To second order in s the noise then adds to the loss::

    E L(w + u) - L(w)  ~  1/2 sum_i Var(u_i) H_ii  =  sum_l s_l^2 / 24 tr H_l        (the gradient's term has mean 0)

with l over layers, or over channels where each has its own step. All three are measured at the same w, the network's
latent weights: what rounding adds, what the noise adds on average, and what the Hessian predicts. The first one can be
negative where the network was trained to be rounded. A weight beyond the grid's ends moves by more than s/2; the model
does not know that.
"""

import math
from typing import Any

import torch
from torch import Tensor

from ..curvature import traces
from ..errors import ConfigError, UnsupportedError
from ..losses import Loss
from ..quant.network import QuantNet
from ..quant.quantizer import WeightQuantizer
from .landscape import standard_error
from .loss_surface import LossSurface, loss_surface, rounded_weights


def measure_twins(
    q: QuantNet,
    images: list[Tensor],
    labels: list[Tensor],
    loss: Loss,
    *,
    draws: int = 8,
    probes: int = 16,
    seed: int = 0,
) -> dict[str, Any]:
    """The record ``twin`` of a run with quantised weights.

    Args:
        q: calibrated; left as it is. images, labels, loss: as of ``loss_surface``; activations are float32.
        draws: of noise, 2 or more; each is a pair u and -u, which takes the gradient's part out of the mean.
        probes: vectors of signs for the Hessian's diagonal, 2 or more. seed: of both.

    Returns:
        {"loss": at w, "rounding": rise at Q(w), "uniform": {"mean": rise, "error", "draws"}, "predicted": rise,
        "predicted_error", "beyond": share of quantised weights that rounding moves by more than s/2, "variance":
        |Q(w) - w|^2 over sum s^2/12, "steps": {"log": sum of ln s, "square": sum of s^2, "weights": how many have
        one, "norm": their 2-norm}, "layers": {name: {"predicted", "trace", "step": rms, "weights"}}, "seed"}.
        Rises in the loss's unit, errors one standard error.

    Raises:
        ConfigError: fewer than 2 draws or probes. UnsupportedError: a weight whose levels have no one step.
    """
    if min(draws, probes) < 2:
        raise ConfigError(f"draws = {draws}, probes = {probes}: an error needs at least 2 of each; give more.")
    surface = loss_surface(q, images, labels, loss, rounded=False)
    return compare(surface, rounded_weights(q), weight_steps(q), draws=draws, probes=probes, seed=seed)


def compare(
    surface: LossSurface,
    rounded: dict[str, Tensor],
    steps: dict[str, Tensor],
    *,
    draws: int,
    probes: int,
    seed: int,
) -> dict[str, Any]:
    """As ``measure_twins``, of any surface: Q(w) by name, and steps that broadcast to the weights of those names."""
    home = [w.detach().clone() for w in surface.weights]
    wide = [_wide(steps.get(name), w) for name, w in zip(surface.names, home, strict=True)]
    base = surface.loss()
    with surface.at([rounded.get(name, w) for name, w in zip(surface.names, home, strict=True)]):
        rounding = surface.loss() - base
    rises = noise_rises(surface, wide, draws, seed)
    plain, scaled = traces(surface.terms, surface.weights, probes, seed, [s.square() / 24 for s in wide])
    moved = {name: (rounded[name] - w).double() for name, w in zip(surface.names, home, strict=True) if name in rounded}
    by_name = dict(zip(surface.names, wide, strict=True))
    variance = sum(float(by_name[name].double().square().sum()) for name in moved) / 12
    beyond = sum(int((m.abs() > by_name[name] * (0.5 + 1e-5)).sum()) for name, m in moved.items())
    count = sum(m.numel() for m in moved.values())
    return {
        "loss": base,
        "rounding": rounding,
        "uniform": {"mean": float(rises.mean()), "error": standard_error(rises), "draws": draws},
        "predicted": float(scaled.sum(dim=1).mean()),
        "predicted_error": standard_error(scaled.sum(dim=1)),
        "beyond": beyond / max(count, 1),
        "variance": sum(float(m.square().sum()) for m in moved.values()) / variance if variance else 0.0,
        "steps": {
            "log": sum(float(by_name[name].double().log().sum()) for name in moved),
            "square": variance * 12,
            "weights": count,
            "norm": math.sqrt(
                sum(float(w.double().square().sum()) for n, w in zip(surface.names, home, strict=True) if n in moved)
            ),
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


def noise_rises(surface: LossSurface, steps: list[Tensor], draws: int, seed: int) -> Tensor:
    """The rise of the loss by uniform noise of ``steps`` in every weight, float64 (draws,); each the mean of u and -u.

    Args:
        steps: the noise's whole width, in the weights' shapes; 0 for a weight without noise.
    """
    home = [w.detach().clone() for w in surface.weights]
    base, generator = surface.loss(), torch.Generator().manual_seed(seed)
    rises = torch.zeros(draws, dtype=torch.float64)
    for draw in range(draws):
        noise = [(torch.rand(s.shape, generator=generator).to(s) - 0.5) * s for s in steps]
        for sign in (1, -1):
            with surface.at([w + sign * u for w, u in zip(home, noise, strict=True)]):
                rises[draw] += (surface.loss() - base) / 2
    return rises


def weight_steps(q: QuantNet) -> dict[str, Tensor]:
    """The step of each weight that has a quantiser, by its name, in a shape that broadcasts to it; float32.

    Raises:
        UnsupportedError: a quantiser whose neighbouring levels are not one step apart (binary, codebook, groups).
    """
    found: dict[str, Tensor] = {}
    for block in q.blocks():
        quantizer = q.weight_quantizer(block) if block.kind == "conv" else None
        if quantizer is not None:
            name = block.parameters["weight"]
            found[name] = _step(quantizer, q.tensor(name).detach(), name)
    return found


def _step(quantizer: WeightQuantizer, weight: Tensor, name: str) -> Tensor:
    codes = quantizer.codes(weight.float().cpu().numpy())
    if codes.kind != "twos_complement":
        raise UnsupportedError(
            f"the levels of {name} are {codes.kind}: uniform noise twins a weight whose levels are one step apart; "
            "use quant.method lsq, lsq+ or fixed."
        )
    scale = torch.from_numpy(codes.scale).to(weight.device)
    if scale.numel() == 1:
        return scale.reshape([1] * weight.ndim)
    return scale.reshape([-1 if axis == quantizer.channel_axis else 1 for axis in range(weight.ndim)])


def _wide(step: Tensor | None, weight: Tensor) -> Tensor:
    """The step of every value of ``weight``; zeros where it has none."""
    return torch.zeros_like(weight) if step is None else step.to(weight).expand_as(weight).clone()
