"""Dice against MONAI where both are defined, by hand where classes are empty."""

import numpy as np
import pytest
import torch
from monai.metrics import compute_dice

from unetq.errors import DataError
from unetq.metrics import SliceScore, count, headline, summarize, volume_dice


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
