"""Intervals that hold what they promise, and a paired test that says what it cannot show."""

import itertools

import numpy as np
import pytest
from scipy import stats

from unetq.statistics import Interval, describe_mean, interval, paired


def test_repeatable_by_seed() -> None:
    values = np.random.default_rng(0).random(12).tolist()
    assert interval(values, 500, 3) == interval(values, 500, 3) != interval(values, 500, 4)


def test_close_to_the_interval_of_normal_theory() -> None:
    values = np.random.default_rng(1).normal(0.8, 0.05, 60)
    found = interval(values.tolist(), 4000, 0)
    expected = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    assert found.method == "BCa"
    assert (found.low, found.high) == pytest.approx(expected, abs=0.15 * (expected[1] - expected[0]))


def test_covers_the_true_mean_about_as_often_as_promised() -> None:
    rng = np.random.default_rng(2)
    inside = 0
    for seed in range(150):
        found = interval(rng.exponential(1.0, 25).tolist(), 400, seed)
        assert found.low is not None and found.high is not None
        inside += found.low <= 1.0 <= found.high
    assert 0.84 < inside / 150 <= 1.0  # a little below 0.95: skewed, and 25 values


def test_of_few_values_all_resamples_are_known() -> None:
    """Three values have 27 resamples: the percentiles lie among their means."""
    values = [0.2, 0.5, 0.9]
    means = {round(float(np.mean(sample)), 9) for sample in itertools.product(values, repeat=3)}
    found = interval(values, 3000, 0)
    assert found.low is not None and found.high is not None
    assert min(means) <= found.low < np.mean(values) < found.high <= max(means)


def test_degenerate_values() -> None:
    assert interval([]) == interval([0.5]) == interval([0.5, 0.6]) == Interval(None, None, "")
    assert interval([0.7] * 5) == Interval(0.7, 0.7, "percentile")
    most = interval([1.0] * 9 + [0.0], 500)
    assert most.low is not None and most.high is not None and 0.0 <= most.low < most.high <= 1.0


def test_what_is_undefined_is_counted_and_left_out() -> None:
    found = describe_mean([0.5, None, 0.7, 0.9, None], 200, 0)
    assert found["mean"] == pytest.approx(0.7) and (found["cases"], found["undefined"]) == (3, 2)
    assert found["low"] is not None and "method" not in found
    assert describe_mean([0.5, 0.5, 0.5], 200, 0)["method"] == "percentile"
    assert describe_mean([0.5, 0.7], 200, 0) == {
        "mean": pytest.approx(0.6), "low": None, "high": None, "cases": 2, "undefined": 0
    }  # fmt: skip
    assert describe_mean([None], 200, 0) == {"mean": None, "low": None, "high": None, "cases": 0, "undefined": 1}


@pytest.mark.parametrize("n", [3, 5, 6, 12])
def test_p_is_exact_by_counting_signs(n: int) -> None:
    """All 2^n signs of the ranks are equally likely under the null."""
    differences = np.random.default_rng(n).normal(0.3, 1.0, n)
    ranks = stats.rankdata(np.abs(differences))
    observed = ranks[differences > 0].sum()
    sums = np.array([ranks[np.array(signs)].sum() for signs in itertools.product((False, True), repeat=n)])
    expected = min(1.0, 2 * min(np.mean(sums <= observed), np.mean(sums >= observed)))
    found = paired(differences.tolist(), [0.0] * n, 200)
    assert found["p"] == pytest.approx(expected) and found["test"].endswith("exact") and found["n"] == n


def test_five_units_cannot_be_significant_and_six_can() -> None:
    b = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    a = [0.2, 0.4, 0.6, 0.8, 1.0, 1.2]
    five, six = paired(a[:5], b[:5], 200), paired(a, b, 200)
    assert five["p"] == pytest.approx(0.0625) and "cannot be below 0.0625" in five["note"]
    assert six["p"] == pytest.approx(0.03125) and "note" not in six
    assert six["difference"] == pytest.approx(0.35) and six["low"] < 0.35 < six["high"]
    assert paired(b, a, 200)["difference"] == pytest.approx(-0.35)


def test_ties_and_zeros() -> None:
    found = paired([1.0, 1.0, 1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0, 1.0], 200)
    signs = itertools.product((-1, 1), repeat=5)  # five ones of either sign, 3 is the sum that was seen
    assert found["p"] == pytest.approx(np.mean([abs(sum(s)) >= 3 for s in signs]))
    assert "ties" in found["test"] and "1 of 6 differences are zero" in found["note"]
    same = paired([0.5] * 4, [0.5] * 4, 200)
    assert same["p"] == 1.0 and same["difference"] == 0.0 and (same["low"], same["high"]) == (0.0, 0.0)
    many = np.round(np.random.default_rng(0).normal(1.0, 1.0, 40), 1)
    assert "normal approximation" in paired(many.tolist(), [0.0] * 40, 200)["test"]


def test_too_few_pairs() -> None:
    none, two = paired([], [], 200), paired([0.5, 0.6], [0.4, 0.4], 200)
    assert none["n"] == 0 and none["difference"] is None and none["p"] is None
    assert two["difference"] == pytest.approx(0.15) and two["low"] is None and "no interval" in two["note"]


def test_one_pair_has_no_test() -> None:
    found = paired([0.9], [0.8])
    assert found["difference"] == pytest.approx(0.1) and found["n"] == 1
    assert (found["p"], found["low"], found["test"]) == (None, None, "")
    assert "no test" in found["note"]
