"""Majority and STAPLE against plain loops and SimpleITK."""

from collections import Counter

import numpy as np
import pytest
from unetq_datasets._raters import majority, staple

from unetq.errors import DataError


def raters(seed: int, classes: int, errors: tuple[float, ...] = (0.05, 0.1, 0.15, 0.25)) -> list[np.ndarray]:
    """A small thing in a large volume, as four raters of different care see it."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((4, 24, 20), np.uint8)
    truth[:, 5:19, 4:16] = classes - 1
    truth[:, 9:15, 7:13] = 1
    masks = []
    for error in errors:
        mask = truth.copy()
        wrong = rng.random(truth.shape) < error
        mask[wrong] = rng.integers(0, classes, int(wrong.sum()))
        masks.append(mask)
    return masks


@pytest.mark.parametrize("classes", [2, 3])
def test_majority_is_the_most_frequent_vote_and_the_lower_class_of_a_tie(classes: int) -> None:
    masks = raters(3, classes)
    result = majority(masks, classes)
    assert result.dtype == np.uint8 and result.shape == masks[0].shape
    ties = 0
    for place in np.ndindex(result.shape):
        votes = Counter(int(mask[place]) for mask in masks)
        best = max(votes.values())
        ties += sum(count == best for count in votes.values()) > 1
        assert result[place] == min(value for value, count in votes.items() if count == best), place
    assert ties > 10


def test_a_foreground_tie_is_background() -> None:
    one, zero = np.ones((1, 1, 2), np.uint8), np.zeros((1, 1, 2), np.uint8)
    assert (majority([one, one, zero, zero], 2) == 0).all() and (majority([one, one, one, zero], 2) == 1).all()


@pytest.mark.parametrize("seed", range(3))
def test_two_classes_agree_with_simpleitk(seed: int) -> None:
    itk = pytest.importorskip("SimpleITK", reason="SimpleITK is the independent STAPLE")
    masks = [(mask == 1).astype(np.uint8) for mask in raters(seed, 3)]
    ours = staple(masks, 2)
    oracle = itk.STAPLEImageFilter()
    oracle.SetForegroundValue(1)
    oracle.SetMaximumIterations(1000)
    theirs = itk.GetArrayFromImage(oracle.Execute([itk.GetImageFromArray(mask) for mask in masks]))
    np.testing.assert_allclose(ours.probability[1], theirs, atol=1e-6)
    np.testing.assert_allclose(ours.confusion[:, 1, 1], oracle.GetSensitivity(), atol=1e-6)
    np.testing.assert_allclose(ours.confusion[:, 0, 0], oracle.GetSpecificity(), atol=1e-6)
    assert (ours.labels == (theirs > 0.5)).all() and ours.labels.any()


@pytest.mark.parametrize("seed", range(3))
def test_more_classes_agree_with_simpleitk(seed: int) -> None:
    itk = pytest.importorskip("SimpleITK", reason="SimpleITK is the independent STAPLE")
    masks = raters(seed, 3)
    ours = staple(masks, 3)
    oracle = itk.MultiLabelSTAPLEImageFilter()
    oracle.SetTerminationUpdateThreshold(1e-8)
    oracle.SetMaximumNumberOfIterations(1000)
    theirs = itk.GetArrayFromImage(oracle.Execute([itk.GetImageFromArray(mask) for mask in masks]))
    assert (ours.labels == theirs).all()
    assert (ours.labels != majority(masks, 3)).any()  # else the test would not tell the two apart


def test_staple_trusts_the_careful_rater() -> None:
    masks = raters(5, 3, (0.01, 0.3, 0.3, 0.3))
    result = staple(masks, 3)
    truth = raters(5, 3, (0.0,))[0]
    assert (result.labels != truth).mean() < (majority(masks, 3) != truth).mean()
    care = np.einsum("rcc->rc", result.confusion).min(axis=1)
    assert care.argmax() == 0 and np.allclose(result.confusion.sum(axis=2), 1)
    assert np.allclose(result.probability.sum(axis=0), 1)


def test_raters_who_agree_are_believed() -> None:
    mask = raters(1, 2, (0.0,))[0]
    result = staple([mask, mask, mask], 2)
    assert (result.labels == mask).all() and np.allclose(result.confusion, np.eye(2), atol=1e-6)
    empty = np.zeros_like(mask)
    assert not staple([empty, empty], 2).labels.any()


def test_refusals() -> None:
    mask = np.zeros((1, 2, 2), np.uint8)
    with pytest.raises(DataError, match=r"needs 2 or more"):
        staple([mask], 2)
    with pytest.raises(DataError, match=r"no masks"):
        majority([], 2)
    with pytest.raises(DataError, match=r"mask 2 is .* raters mark one grid"):
        majority([mask, mask[:, :1]], 2)
    with pytest.raises(DataError, match=r"mask 2 holds class 3: classes are 0 to 1"):
        majority([mask, mask + 3], 2)
