"""Dice against MONAI where both are defined, by hand where classes are empty."""

import json

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice, compute_iou
from scipy import stats

from unetq.errors import DataError
from unetq.metrics import (
    EMPTY_POLICY,
    SliceScore,
    class_scores,
    correlation,
    count,
    headline,
    mean_of,
    number,
    summarize,
    volume_dice,
    voxel_ml,
)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_equals_monai_on_non_empty_classes(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    truth, prediction = rng.integers(0, classes, (2, 23, 31)).astype(np.uint8)

    def one_hot(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.stack([values == c for c in range(classes)])[None].astype(np.float32))

    expected = compute_dice(one_hot(prediction), one_hot(truth), include_background=True)[0].numpy()
    np.testing.assert_allclose(count(prediction, truth, classes).dice, expected, rtol=1e-6)


def test_by_hand() -> None:
    truth = np.array([[0, 0, 1, 1]], np.uint8)
    prediction = np.array([[0, 1, 1, 1]], np.uint8)
    found = count(prediction, truth, 3)
    assert found.dice.tolist() == [2 / 3, 4 / 5, 1.0]
    assert found.empty.tolist() == [False, False, True]


def test_empty_in_only_one_scores_zero() -> None:
    zeros, ones = np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8)
    assert count(zeros, ones, 2).dice.tolist() == [0.0, 0.0]
    assert count(zeros, zeros, 2).dice.tolist() == [1.0, 1.0]


def test_summary_pools_volumes_and_counts_empty_slices() -> None:
    a = np.array([[1, 1, 0, 0]], np.uint8)
    b = np.array([[1, 0, 0, 0]], np.uint8)
    empty = np.zeros((1, 4), np.uint8)
    scores = [
        SliceScore("v-0", "v", count(b, a, 2)),  # class 1: 2*1/3, class 0: 2*2/5
        SliceScore("v-1", "v", count(empty, empty, 2)),  # class 1 empty: 1
        SliceScore("w-0", "w", count(a, a, 2)),
    ]
    found = summarize(scores, ("back", "front"))
    assert found["mean_slice_dice"]["front"] == pytest.approx((2 / 3 + 1 + 1) / 3)
    # Volume v pools to 2*1/(1+2), not to the mean of its slices.
    assert found["volume_dice"]["front"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["volume_dice"]["back"] == pytest.approx(((2 * 6) / (6 + 7) + 1) / 2)
    assert found["empty_slices"] == {"back": 0, "front": 1}
    assert found["slices"][1] == {"id": "v-1", "volume": "v", "dice": {"back": 1.0, "front": 1.0}}
    assert found["volume_dice"] == volume_dice(scores, ("back", "front"))
    assert "scores 1" in found["empty_policy"]


def test_headline_leaves_background_out() -> None:
    assert headline({"background": 0.0, "a": 0.5, "b": 1.0}) == 0.75
    assert headline({"membrane": 0.5, "cell": 1.0}) == 0.75
    assert headline({"background": 0.25}) == 0.25


def test_refusals() -> None:
    with pytest.raises(DataError, match="must agree"):
        count(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), 2)
    with pytest.raises(DataError, match="0 to 1"):
        count(np.full((2, 2), 2, np.uint8), np.zeros((2, 2), np.uint8), 2)
    with pytest.raises(DataError, match="no slices"):
        summarize([], ("a",))


@pytest.mark.parametrize("seed", range(3))
def test_iou_equals_monai(seed: int) -> None:
    truth, prediction = np.random.default_rng(seed).integers(0, 3, (2, 23, 31)).astype(np.uint8)
    one_hot = [
        torch.from_numpy(np.stack([v == c for c in range(3)])[None].astype(np.float32)) for v in (prediction, truth)
    ]
    expected = compute_iou(*one_hot, include_background=True)[0].numpy()
    np.testing.assert_allclose(count(prediction, truth, 3).iou, expected, rtol=1e-6)


def test_scores_of_a_case_by_hand() -> None:
    """Voxels of 5 x 0.5 x 2 mm are 0.005 ml each; the prediction is a voxel too many of "b" and one too few of "a"."""
    truth = np.array([[[0, 0, 1, 1], [2, 2, 2, 2]]], np.uint8)
    prediction = np.array([[[0, 2, 1, 1], [2, 2, 2, 2]]], np.uint8)
    found = class_scores(count(prediction, truth, 4), ("a", "m", "b", "none"), (5.0, 0.5, 2.0))
    assert found["a"] == {
        "dice": pytest.approx(2 / 3), "iou": pytest.approx(1 / 2),
        "volume_ml": pytest.approx(0.005), "true_volume_ml": pytest.approx(0.010), "volume_error": pytest.approx(-0.5),
    }  # fmt: skip
    assert found["m"]["dice"] == 1.0 and found["m"]["volume_error"] == 0.0
    assert found["b"]["volume_error"] == pytest.approx(0.25) and found["b"]["iou"] == pytest.approx(4 / 5)
    assert found["none"] == {
        "dice": 1.0, "iou": 1.0, "volume_ml": 0.0, "true_volume_ml": 0.0, "volume_error": None
    }  # fmt: skip
    unknown = class_scores(count(prediction, truth, 4), ("a", "m", "b", "none"))
    assert unknown["a"]["volume_ml"] is None and unknown["a"]["volume_error"] == pytest.approx(-0.5)


def test_empty_classes_under_both_policies() -> None:
    zeros, ones = np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8)
    labels = ("back", "front", "never")
    for policy, both in (("one", 1.0), ("skip", None)):
        of_one = class_scores(count(ones, zeros, 3), labels, empty=policy)
        assert of_one["front"]["dice"] == of_one["front"]["iou"] == 0.0  # predicted where nothing is: wrong in either
        assert of_one["front"]["volume_error"] is None and of_one["back"]["volume_error"] == -1.0
        assert of_one["never"]["dice"] == of_one["never"]["iou"] == both


def test_summary_that_skips_empty_classes() -> None:
    a = np.array([[1, 1, 0, 0]], np.uint8)
    b = np.array([[1, 0, 0, 0]], np.uint8)
    empty = np.zeros((1, 4), np.uint8)
    scores = [
        SliceScore("v-0", "v", count(b, a, 3)),
        SliceScore("v-1", "v", count(empty, empty, 3)),
        SliceScore("w-0", "w", count(empty, empty, 3)),
    ]
    labels = ("back", "front", "never")
    found, counted = summarize(scores, labels, "skip"), summarize(scores, labels)
    assert found["mean_slice_dice"]["front"] == pytest.approx(2 / 3)
    assert counted["mean_slice_dice"]["front"] == pytest.approx((2 / 3 + 2) / 3)
    assert found["volume_dice"]["front"] == pytest.approx(2 / 3)
    assert counted["volume_dice"]["front"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["volume_dice"]["never"] is None and found["slices"][1]["dice"]["front"] is None
    assert found["empty_slices"] == counted["empty_slices"] == {"back": 0, "front": 2, "never": 3}
    assert (found["empty"], counted["empty"]) == ("skip", "one")
    assert "left out of every mean" in found["empty_policy"] and counted["empty_policy"] == EMPTY_POLICY
    json.dumps(found, allow_nan=False)


def test_correlation_is_pearsons() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 9))
    assert correlation(a.tolist(), b.tolist()) == pytest.approx(stats.pearsonr(a, b).statistic)
    assert correlation([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]) == pytest.approx(1.0)
    assert correlation([1.0, 2.0], [1.0, 2.0]) is None and correlation([1.0, 2.0, 3.0], [5.0, 5.0, 5.0]) is None


def test_means_and_numbers_of_what_is_defined() -> None:
    assert mean_of([1.0, None, 3.0]) == 2.0 and mean_of([None]) is None and mean_of([]) is None
    assert number(np.float32(0.5)) == 0.5 and number(float("nan")) is None and number(float("inf")) is None
    assert voxel_ml((5.0, 0.5, 2.0)) == pytest.approx(0.005) and voxel_ml(()) is None
