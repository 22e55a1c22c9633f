"""Verdicts of the study's page on records whose truth is known."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats
from study_record import study_record

from unetq.study.page.claims import Claim, claims_of
from unetq.study.page.record import Record, Study
from unetq.study.page.statistics import holm, mean_of, order_of, p_of, sign_verdict, within_verdict


def halvings(arm: str, bits: int) -> float:
    """How often 32 bits were halved."""
    return 5 - math.log2(bits)


def claims(**made: Any) -> dict[str, Claim]:
    return {claim.key: claim for claim in claims_of(Study(Record.model_validate(study_record(**made))))}


def verdicts(claim: Claim, who: str = "") -> set[str]:
    return {finding.verdict for finding in claim.findings if who in finding.who}


def grows(by: float) -> Callable[[str, int], float]:
    return lambda arm, bits: by * halvings(arm, bits)


def test_a_gap_that_falls_with_the_bits_supports_and_one_that_rises_contradicts() -> None:
    falling, rising = claims(gap=grows(-0.01))["gap"], claims(gap=grows(0.01))["gap"]
    assert verdicts(falling) == {"supported"} and verdicts(rising) == {"contradicted"}
    assert len(falling.findings) == 6  # three arms, loss and Dice
    assert "with each halving of the bits" in falling.rule and "below 0 supports" in falling.rule
    loss = falling.findings[0]
    slope = float(loss.estimate.split()[0].replace("−", "-"))
    assert slope == pytest.approx(-0.01, abs=0.0015) and loss.seeds == 3 and loss.stands
    assert [name for name, _ in loss.parts] == ["8 bits", "6 bits", "4 bits", "3 bits", "2 bits"]
    two_bits = float(loss.parts[-1][1].split()[0].replace("−", "-"))
    assert two_bits == pytest.approx(-0.04, abs=0.006)


def test_without_any_effect_few_findings_are_decided_and_none_stands() -> None:
    """Of effects that are all zero, about one in twenty intervals leaves 0 out."""
    null = claims()
    judged = [
        finding for key in ("gap", "better", "flatter", "robust", "sharper", "bound") for finding in null[key].findings
    ]
    decided = [finding for finding in judged if finding.verdict != "undecided"]
    assert len(judged) > 30 and len(decided) < 0.2 * len(judged)
    assert not any(finding.stands for finding in judged)


def test_one_seed_decides_nothing_but_orders() -> None:
    found = claims(gap=grows(-0.05), seeds=1, noise=0.0)
    assert verdicts(found["gap"]) == {"undecided"} and found["gap"].findings[0].p is None
    assert "(" not in found["gap"].findings[0].estimate


def test_flatter_and_sharper_minima() -> None:
    assert verdicts(claims(log_sharpness=grows(-0.3))["flatter"]) == {"supported"}
    sharper = claims(log_sharpness=grows(0.3), gap=grows(0.01))
    assert verdicts(sharper["flatter"]) == {"contradicted"}
    assert verdicts(sharper["sharper"]) == {"supported"}  # sharpness and gap rise together
    assert verdicts(claims(log_sharpness=grows(0.3), gap=grows(-0.01))["sharper"]) == {"contradicted"}


def test_sharpness_of_another_network_is_not_judged() -> None:
    """Where the loss it was measured on is far from the training loss."""
    record = study_record(log_sharpness=grows(0.3), gap=grows(0.01))
    for run in record["runs"]:
        if run["arm"] == "both":
            run["sharpness"]["loss"] *= 3
    found = {claim.key: claim for claim in claims_of(Study(Record.model_validate(record)))}
    both = [finding for finding in found["flatter"].findings if finding.who.startswith("weights and")]
    assert len(both) == 3 and {finding.verdict for finding in both} == {"undecided"}
    assert all("not judged" in finding.what and finding.p is None for finding in both)
    assert {f.verdict for f in found["flatter"].findings if f not in both} == {"contradicted"}
    assert "11 networks" in found["sharper"].findings[0].what  # float, weights, noise


def test_predictions_within_and_beyond_a_factor_of_two() -> None:
    near = claims(rounding_factor=lambda arm, bits: math.log(1.3), predicted_factor=lambda arm, bits: math.log(0.8))
    assert verdicts(near["uniform"]) == verdicts(near["trace"]) == {"supported"}
    far = claims(rounding_factor=lambda arm, bits: math.log(4), predicted_factor=lambda arm, bits: math.log(2.5))
    assert verdicts(far["uniform"], "quantised") == {"contradicted"}
    assert verdicts(far["uniform"], "all") == {"supported"}  # off, yet in the same order
    assert verdicts(far["trace"], "quantised") == {"contradicted"} and verdicts(far["trace"], "all") == {"supported"}
    assert len(near["uniform"].findings) == 4 and len(near["trace"].findings) == 7
    assert near["uniform"].findings[0].estimate == "0.60 (0.60 to 0.60)"  # (1.3 - 1) / 0.5
    assert near["trace"].findings[0].estimate == "0.11 (0.11 to 0.11)"  # 0.2 / 1.8
    assert near["trace"].findings[3].estimate == "1.00 (1.00 to 1.00)"  # (1.3 - 0.8) / 0.5


def test_a_prediction_of_the_other_sign_is_counted_and_contradicted() -> None:
    record = study_record()
    for run in record["runs"]:
        if run["twin"] is not None:
            run["twin"]["rounding"] *= -1
    found = {claim.key: claim for claim in claims_of(Study(Record.model_validate(record)))}
    assert verdicts(found["uniform"]) == {"contradicted"}
    assert found["uniform"].findings[0].estimate == "4.00 (4.00 to 4.00)" and found["uniform"].findings[0].seeds == 3


def test_eight_bits_need_a_smaller_gap_and_no_loss_of_dice() -> None:
    good = claims(gap=lambda arm, bits: 0.0 if bits == 32 else -0.02)["eight"]
    assert verdicts(good) == {"supported"}
    worse = claims(gap=lambda arm, bits: 0.0 if bits == 32 else 0.1)["eight"]  # 2 points of Dice below float
    assert verdicts(worse) == {"contradicted"}
    small = claims(gap=lambda arm, bits: 0.0 if bits == 32 else 0.01)["eight"]  # 0.2 points: within the margin
    assert [finding.verdict for finding in small.findings[:2]] == ["contradicted", "supported"]
    assert claims(bits=(4, 2))["eight"].findings == ()  # not tested


def test_a_dead_network_has_no_spread_and_the_page_is_made_all_the_same() -> None:
    record = study_record()
    for run in record["runs"]:
        if run["arm"] == "both" and run["weight_bits"] == 2:
            run["twin"]["uniform"]["spread"] = run["twin"]["predicted_spread"] = 0.0
    found = {claim.key: claim for claim in claims_of(Study(Record.model_validate(record)))}
    assert not [f for f in found["uniform"].findings if "single draws" in f.what and f.who.startswith("weights and")]
    assert [f for f in found["uniform"].findings if "single draws" in f.what and f.who == "weights quantised"]


def test_robustness_and_the_bound() -> None:
    found = claims(drop=lambda arm, bits: 0.0 if bits == 32 else -0.02, bound=grows(0.2), gap=grows(0.01))
    lost = [finding for finding in found["robust"].findings if "lost" in finding.what]
    assert {finding.verdict for finding in lost} == {"supported"}
    assert [name for name, _ in lost[0].parts] == ["blur", "noise"]
    assert verdicts(found["bound"]) == {"supported"}
    assert verdicts(claims(bound=grows(0.2), gap=grows(-0.01))["bound"]) == {"contradicted"}


def test_a_collapsed_network_loses_nothing_but_is_not_robust() -> None:
    record = study_record(drop=lambda arm, bits: 0.0 if bits == 32 else -0.05)
    for run in record["runs"]:
        if run["arm"] != "float":
            run["dice"]["validation"]["mean"] -= 0.5
            run["robustness"] = {
                kind: {step: value - 0.5 for step, value in steps.items()} for kind, steps in run["robustness"].items()
            }
    found = {claim.key: claim for claim in claims_of(Study(Record.model_validate(record)))}["robust"]
    by = {("lost" in finding.what): finding.verdict for finding in found.findings}
    assert by == {True: "supported", False: "contradicted"}


def test_noise_that_regularises_alike_and_that_does_not() -> None:
    def as_weights(arm: str, bits: int) -> float:
        return -0.005 * halvings(arm, bits)

    def noise_does_nothing(arm: str, bits: int) -> float:
        return 0.0 if arm == "noise" else -0.02 * halvings(arm, bits)

    assert verdicts(claims(gap=as_weights)["noise"]) == {"supported"}
    assert verdicts(claims(gap=noise_does_nothing)["noise"]) == {"contradicted"}
    assert claims(arms=("weights",))["noise"].findings == ()


def test_p_is_below_five_percent_exactly_where_the_interval_leaves_the_limit_out() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        mean = mean_of(rng.normal(0.8, 1.0, 4))
        p = p_of(mean)
        assert p is not None and mean.low is not None and mean.high is not None
        assert (p < 0.05) == (not mean.low <= 0 <= mean.high) == (sign_verdict(mean, 1) != "undecided")
    values = [0.1, 0.3, 0.2]
    assert p_of(mean_of(values), 0.05) == pytest.approx(stats.ttest_1samp(values, 0.05).pvalue)


def test_within_a_margin() -> None:
    assert within_verdict(mean_of([0.1, 0.11, 0.12]), 0.2)[0] == "supported"
    assert within_verdict(mean_of([0.3, 0.31, 0.32]), 0.2)[0] == "contradicted"
    assert within_verdict(mean_of([0.1, 0.2, 0.3]), 0.2)[0] == "undecided"
    assert within_verdict(mean_of([0.1]), 0.2) == ("undecided", None)


def test_orders_by_all_permutations() -> None:
    """Against SciPy's Spearman and a count by hand; all seeds are permuted alike."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 5)), rng.normal(size=(2, 5))
    y[1] = x[1]
    found = order_of(x, y)
    assert found is not None

    def statistic(order: tuple[int, ...]) -> float:
        return float(np.mean([stats.spearmanr(a, b[list(order)]).statistic for a, b in zip(x, y, strict=True)]))

    observed = statistic(tuple(range(5)))
    drawn = [abs(statistic(order)) >= abs(observed) - 1e-12 for order in itertools.permutations(range(5))]
    assert found.value == pytest.approx(observed) and found.p == pytest.approx(np.mean(drawn)) and found.orders == 120
    assert order_of(x, np.ones((2, 5))) is None
    many = order_of(rng.normal(size=(3, 9)), rng.normal(size=(3, 9)))
    assert many is not None and many.orders == 10_000 and many.p > 1e-4


def test_orders_without_an_effect_are_decided_once_in_twenty() -> None:
    rng = np.random.default_rng(0)
    found = [order_of(rng.normal(size=(3, 6)), rng.normal(size=(3, 6))) for _ in range(400)]
    assert 0.02 < np.mean([order is not None and order.p < 0.05 for order in found]) < 0.08


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, None, 0.03, 0.005]) == [True, False, False, False, True]  # 0.03 ≥ 0.05 / 2 ends it
    assert holm([None]) == [False] and holm([]) == []
