"""The bound: each step of its derivation checked by itself, and the whole against a sum by hand."""

import math
from typing import Any

import pytest
import torch
from scipy import stats
from scipy.special import gammaln

from unetq.errors import ConfigError
from unetq.study.bound import gaussian_kl, measure_bound, pac_bayes, uniform_kl


def sharpness(**changes: Any) -> dict[str, Any]:
    return {"loss": 0.4, "rho": 0.5, "ascent": 0.1, "weights": 10, "norm": 2.0, **changes}


def twin() -> dict[str, Any]:
    steps = {"log": 10 * math.log(0.25), "square": 10 * 0.25**2, "weights": 10, "norm": 2.0}
    return {"loss": 0.41, "uniform": {"mean": 0.02}, "steps": steps}


def test_the_whole_by_hand() -> None:
    found = measure_bound(sharpness(), None, 400, empirical=0.3)
    sigma = 0.5 / (math.sqrt(10) + math.sqrt(math.log(400)))
    j = math.ceil(10 * math.log(1 + 4 / (10 * sigma**2)))
    tau2 = sigma**2 * math.exp(j / 10)
    kl = 0.5 * ((10 * sigma**2 + 4) / tau2 - 10 + j)
    delta = 6 * 0.05 / (math.pi**2 * (j + 1) ** 2)
    complexity = 2 * (0.05 + math.sqrt((kl + math.log(40 / delta)) / 800))
    assert found["kl"] == pytest.approx(kl)
    assert found["complexity"] == pytest.approx(complexity)
    assert found["value"] == pytest.approx(0.3 + 0.1 + complexity)
    assert (found["empirical"], found["sharpness"], found["samples"], found["confidence"]) == (0.3, 0.1, 400, 0.05)
    assert found["noise"] is None and found["vacuous"] is False and found["limit"] == 2.0
    assert measure_bound(sharpness(), None, 400)["empirical"] == 0.4


def test_few_images_and_many_weights_are_vacuous() -> None:
    found = measure_bound(sharpness(weights=1_000_000, norm=15.0, rho=0.05), None, 20)
    assert found["vacuous"] is True and found["value"] > 100
    values = [measure_bound(sharpness(), None, n)["complexity"] for n in (20, 200, 20_000)]
    assert values[0] > values[1] > values[2]
    closer = measure_bound(sharpness(rho=0.05), None, 400)
    assert closer["complexity"] > measure_bound(sharpness(), None, 400)["complexity"]  # less room, more to know


def test_the_kl_is_that_of_two_gaussians() -> None:
    kl, share = gaussian_kl(10, 2.0, 0.5, 400, 0.05)
    sigma = 0.5 / (math.sqrt(10) + math.sqrt(math.log(400)))
    best = sigma * math.sqrt(1 + 4 / (10 * sigma**2))
    mean = torch.full((10,), 2.0 / math.sqrt(10), dtype=torch.float64)

    def exact(tau: float) -> float:
        q, p = (torch.distributions.Normal(m, torch.tensor(s).double()) for m, s in ((mean, sigma), (0 * mean, tau)))
        return float(torch.distributions.kl_divergence(q, p).sum())

    assert exact(best) <= kl <= exact(best) + 0.5  # the list is no more than e^(1/k) apart
    j = round(math.sqrt(6 * 0.05 / share) / math.pi) - 1
    assert kl == pytest.approx(exact(sigma * math.exp(j / 20)))


def test_the_kl_of_uniform_noise_by_monte_carlo() -> None:
    kl, share = uniform_kl(10, 2.0, 10 * math.log(0.25), 10 * 0.25**2, 400, 0.05)
    index = round(math.log((4 + 0.625 / 12) / 10))
    assert share == pytest.approx(0.05 * 2.0 ** -(abs(index) + 1) / 1.5)
    generator = torch.Generator().manual_seed(0)
    mean = torch.full((10,), 2.0 / math.sqrt(10), dtype=torch.float64)
    draws = mean + 0.25 * (torch.rand(20000, 10, generator=generator, dtype=torch.float64) - 0.5)
    prior = torch.distributions.Normal(0.0, math.exp(index / 2))
    sampled = float((-math.log(0.25) - prior.log_prob(draws)).sum(dim=1).mean())
    assert kl == pytest.approx(sampled, rel=2e-3)


def test_the_shares_of_delta_sum_to_delta_at_most() -> None:
    first = sum(6 / (math.pi * (j + 1)) ** 2 for j in range(100_000))
    second = sum(2.0 ** -(abs(i) + 1) / 1.5 for i in range(-60, 61))
    assert first == pytest.approx(1.0, abs=1e-4) and first <= 1.0
    assert second == pytest.approx(1.0)


@pytest.mark.parametrize("count", [1, 10, 1000])
@pytest.mark.parametrize("samples", [2, 20, 4000])
def test_noise_seldom_leaves_the_ball(count: int, samples: int) -> None:
    """Step 3: |eps| > rho with probability 1 / sqrt(n) at most."""
    ball = math.sqrt(count) + math.sqrt(math.log(samples))  # rho / sigma
    assert stats.chi2.sf(ball**2, count) <= 1 / math.sqrt(samples)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 50, 1000])
def test_the_constant_of_the_pac_bayes_theorem(n: int) -> None:
    """Maurer's theorem 5 has ln(sum_k C(n,k) (k/n)^k (1-k/n)^(n-k) / delta), which is at most ln(2 sqrt(n) / delta)."""
    total = 0.0
    for k in range(n + 1):
        choose = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
        inner = sum(i * math.log(i / n) for i in (k, n - k) if i)
        total += math.exp(choose + inner)
    assert total <= 2 * math.sqrt(n)


def test_it_holds_on_a_problem_with_a_known_answer() -> None:
    """Ten hypotheses by coin flips, the best on the sample chosen: KL to a uniform prior is ln 10."""
    generator = torch.Generator().manual_seed(1)
    failures = 0
    for _ in range(400):
        flips = torch.rand(10, 30, generator=generator) < 0.5
        best = float(flips.double().mean(dim=1).min())
        failures += best + pac_bayes(math.log(10), 30, 0.05) < 0.5
    assert failures <= 20
    assert pac_bayes(math.log(10), 30, 0.05) < 0.4, "the test says nothing"


def test_the_noisy_twin_has_its_own_bound() -> None:
    found = measure_bound(sharpness(), twin(), 400)["noise"]
    kl, share = uniform_kl(10, 2.0, 10 * math.log(0.25), 10 * 0.25**2, 400, 0.05)
    assert found["kl"] == kl and found["sharpness"] == 0.02
    assert found["value"] == pytest.approx(0.41 + 0.02 + 2 * pac_bayes(kl, 400, share))
    without = {**twin(), "steps": {"log": 0.0, "square": 0.0, "weights": 0, "norm": 0.0}}
    assert measure_bound(sharpness(), without, 400)["noise"] is None


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"samples": 1}, "samples"),
        ({"confidence": 0.0}, "confidence"),
        ({"confidence": 1.0}, "confidence"),
        ({"limit": 0.0}, "limit"),
        ({"empirical": -0.1}, "empirical"),
        ({"empirical": math.nan}, "empirical"),
    ],
)
def test_what_is_out_of_range_is_refused(given: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        measure_bound(sharpness(), None, **{"samples": 10, **given})
