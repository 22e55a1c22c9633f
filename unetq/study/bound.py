"""A bound on the true loss from the training loss and the sharpness, as QGen takes it: SAM's theorem, with constants.

QGen (AskariHemmat et al. 2024, arXiv 2404.11769) bounds the loss of a quantised network by the training loss at the
worst point within the reach of the quantisation noise, and a term that grows with |w|^2 / rho^2. It rests on the
theorem of SAM (Foret et al. 2021, arXiv 2010.01412, theorem 1), which has the form::

    L_D(w)  <=  max_{|eps| <= rho} L_S(w + eps)  +  h(|w|^2 / rho^2)     with probability 1 - delta over S

QGen's own constants are not restated here. h is derived from the PAC-Bayes theorem, the way SAM's appendix goes, so
that every constant can be checked. L is a loss in [0, B], S has n independent images, w has k values.

1. PAC-Bayes (McAllester 1999; Maurer 2004, arXiv cs/0411099, theorem 5): for a prior P fixed before S is seen, with
   probability 1 - delta, for every Q:
       E_Q L_D <= E_Q L_S + B sqrt((KL(Q|P) + ln(2 sqrt(n) / delta)) / (2 n)).
2. Q = N(w, sigma^2 I) and P = N(0, tau^2 I) have
       KL = 1/2 ((k sigma^2 + |w|^2) / tau^2 - k + k ln(tau^2 / sigma^2)),
   least for tau^2 = sigma^2 + |w|^2 / k. w is known after S only, so tau^2 = sigma^2 e^(j/k) is taken from a list
   j = 0, 1, 2 …, each with its share 6 delta / (pi^2 (j + 1)^2) of delta; j is the first at or above the best.
3. |eps| > rho for eps ~ N(0, sigma^2 I) with probability 1 / sqrt(n) at most, where
       sigma = rho / (sqrt(k) + sqrt(ln n))                             (Laurent and Massart 2000, lemma 1)
   so E_Q L_S <= max_{|eps| <= rho} L_S(w + eps) + B / sqrt(n).
4. L_D(w) <= E_Q L_D, the assumption of SAM's theorem: noise in the weights does not lower the true loss.

The sum is ``empirical`` (L_S(w)) + ``sharpness`` (the rise to the maximum) + ``complexity`` (the rest). What is short
of the theory here: the maximum is sought by ascent, so ``sharpness`` is a lower estimate; biases and norms are held
still, as if they had been known before; slices of one volume are not independent; and the loss has no largest value:
what is bounded is the true mean of min(L, B).

With k in the millions and n in the tens, the complexity is far above B: the bound is **vacuous**, and says so. It can
still be asked whether it orders networks as their gaps do.

``noise`` is the bound for the noisy twin: Q = w + U[-s/2, s/2] with the steps s of the quantiser, tau^2 from the list
e^i for every whole i, each with its share 2^-(|i| + 1) / 1.5 of delta. It needs no assumption, but speaks of the
network with noise in its weights::

    KL = k/2 ln(2 pi tau^2) - sum ln s + (|w|^2 + sum s^2 / 12) / (2 tau^2)
"""

import math
from typing import Any

from ..errors import ConfigError


def measure_bound(
    sharpness: dict[str, Any],
    twin: dict[str, Any] | None,
    samples: int,
    *,
    empirical: float | None = None,
    confidence: float = 0.05,
    limit: float = 2.0,
) -> dict[str, Any]:
    """The record ``bound`` of a run, by pure arithmetic from its other records.

    Args:
        sharpness: of ``measure_landscape``: its radius, rise, count and norm of weights.
        twin: of ``measure_twins``, for the bound of the noisy twin; None where there is none.
        samples: n, training images that count as independent; 2 or more.
        empirical: L_S(w), 0 or above; None takes the loss of ``sharpness``.
        confidence: delta, above 0 and below 1: the bound fails with at most this probability.
        limit: B; the loss is soft Dice, at most 1, and cross-entropy, which is 0.69 for a coin.

    Returns:
        {"value", "empirical", "sharpness", "complexity", "samples", "confidence", "limit", "vacuous": whether
        ``value`` is at or above ``limit``, so that it says nothing, "rho", "kl", "noise": None or {"value",
        "sharpness", "complexity", "kl", "vacuous"}}; losses in the loss's unit, ``kl`` in nats.

    Raises:
        ConfigError: samples, confidence, limit or a loss out of range.
    """
    loss = float(sharpness["loss"]) if empirical is None else empirical
    _check(samples, confidence, limit, loss)
    kl, share = gaussian_kl(sharpness["weights"], sharpness["norm"], sharpness["rho"], samples, confidence)
    complexity = limit * (1 / math.sqrt(samples) + pac_bayes(kl, samples, share))
    value = loss + sharpness["ascent"] + complexity
    return {
        "value": value,
        "empirical": loss,
        "sharpness": sharpness["ascent"],
        "complexity": complexity,
        "samples": samples,
        "confidence": confidence,
        "limit": limit,
        "vacuous": value >= limit,
        "rho": sharpness["rho"],
        "kl": kl,
        "noise": None if twin is None else _noisy(twin, samples, confidence, limit),
    }


def pac_bayes(kl: float, samples: int, delta: float) -> float:
    """sqrt((KL + ln(2 sqrt(n) / delta)) / (2 n)), step 1, for a loss in [0, 1]."""
    return math.sqrt((kl + math.log(2 * math.sqrt(samples) / delta)) / (2 * samples))


def gaussian_kl(count: int, norm: float, rho: float, samples: int, delta: float) -> tuple[float, float]:
    """KL of step 2 with the sigma of step 3, and the share of ``delta`` that its prior has.

    Args:
        count: k. norm: |w|. rho: radius of the ball. samples: n.
    """
    sigma = rho / (math.sqrt(count) + math.sqrt(math.log(samples)))
    ratio = norm**2 / (count * sigma**2)
    j = math.ceil(count * math.log1p(ratio))
    kl = 0.5 * (count * (1 + ratio) * math.exp(-j / count) - count + j)
    return max(kl, 0.0), 6 * delta / (math.pi * (j + 1)) ** 2


def uniform_kl(
    count: int, norm: float, log_steps: float, square_steps: float, samples: int, delta: float
) -> tuple[float, float]:
    """The least KL of the noisy twin plus the price of its prior, as (KL, share of ``delta``).

    Args:
        count: k. norm: |w|. log_steps: sum of ln s. square_steps: sum of s^2.
    """
    energy = norm**2 + square_steps / 12
    best = math.log(energy / count)
    choices = []
    for i in (math.floor(best), math.ceil(best)):
        kl = 0.5 * count * (math.log(2 * math.pi) + i) - log_steps + energy / 2 * math.exp(-i)
        share = delta * 2.0 ** -(abs(i) + 1) / 1.5
        choices.append((kl - math.log(share), max(kl, 0.0), share))
    _, kl, share = min(choices)
    return kl, share


def _noisy(twin: dict[str, Any], samples: int, confidence: float, limit: float) -> dict[str, Any] | None:
    steps = twin["steps"]
    if not steps["weights"]:
        return None
    kl, share = uniform_kl(steps["weights"], steps["norm"], steps["log"], steps["square"], samples, confidence)
    complexity = limit * pac_bayes(kl, samples, share)
    value = twin["loss"] + twin["uniform"]["mean"] + complexity
    return {
        "value": value,
        "sharpness": twin["uniform"]["mean"],
        "complexity": complexity,
        "kl": kl,
        "vacuous": value >= limit,
    }


def _check(samples: int, confidence: float, limit: float, loss: float) -> None:
    if samples < 2:
        raise ConfigError(f"samples = {samples}: the bound speaks of 2 or more training images; give their number.")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence = {confidence}: it is a probability above 0 and below 1; choose such a one.")
    if not 0 < limit < math.inf:
        raise ConfigError(f"limit = {limit}: the largest loss is above 0; choose such a one.")
    if not 0 <= loss < math.inf:
        raise ConfigError(f"empirical = {loss}: a loss is 0 or above; give the training loss.")
