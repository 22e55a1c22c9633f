"""Rand and information scores of cells: the formulas written out, and cases by hand."""

from itertools import combinations

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import adapted_rand_error

from unetq.boundaries import BoundaryScores, boundary_scores, mean_scores, membrane_class


def cells(seed: int, size: int = 60) -> np.ndarray:
    """Cells parted by thin curves."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((size, size)), 4.0)
    return np.asarray(np.abs(noise) > 0.012)


def written_out(prediction: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Arganda-Carreras et al. 2015 from their formulas, with SciPy's components and a dense table."""
    true, _ = ndimage.label(truth)
    found, _ = ndimage.label(prediction)
    inside = true > 0
    t, s = true[inside], found[inside].astype(np.int64)
    s[s == 0] = s.max() + 1 + np.arange((s == 0).sum())
    table = np.zeros((s.max() + 1, t.max() + 1))
    np.add.at(table, (s, t), 1.0)
    pairs = [np.sum(n * (n - 1)) for n in (table, table.sum(axis=1), table.sum(axis=0))]
    rand = pairs[0] / (0.5 * pairs[1] + 0.5 * pairs[2])
    p = table / table.sum()
    rows, columns = p.sum(axis=1, keepdims=True), p.sum(axis=0, keepdims=True)
    some = p > 0
    shared = np.sum(p[some] * np.log(p[some] / (rows * columns)[some]))
    entropies = [-np.sum(q[q > 0] * np.log(q[q > 0])) for q in (rows, columns)]
    return float(rand), float(shared / (0.5 * sum(entropies)))


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_formulas(seed: int) -> None:
    truth = cells(seed)
    prediction = truth & cells(seed + 20)
    found = boundary_scores(prediction, truth)
    assert found is not None and 0.0 < found.rand < 1.0
    assert (found.rand, found.information) == pytest.approx(written_out(prediction, truth), rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_equals_scikit_image_where_no_true_cell_holds_membrane(seed: int) -> None:
    truth = cells(seed)
    prediction = truth | cells(seed + 7)
    error = adapted_rand_error(ndimage.label(truth)[0], ndimage.label(prediction)[0])[0]
    found = boundary_scores(prediction, truth)
    assert found is not None and found.rand == pytest.approx(1.0 - error, rel=1e-9)


def test_rand_is_the_f_score_of_pairs_of_pixels() -> None:
    """Counted one by one: of all pairs of pixels inside true cells, those together in truth and in prediction."""
    truth, prediction = np.ones((4, 9), np.bool_), np.ones((4, 9), np.bool_)
    truth[:, 4] = False
    prediction[:, 6] = False
    t, s = ndimage.label(truth)[0], ndimage.label(prediction)[0]
    points = [p for p in np.ndindex(truth.shape) if truth[p]]
    in_truth = in_both = in_prediction = 0
    for a, b in combinations(points, 2):
        alike = s[a] == s[b] != 0
        in_truth += t[a] == t[b]
        in_prediction += alike
        in_both += t[a] == t[b] and alike
    found = boundary_scores(prediction, truth)
    assert found is not None and found.rand == pytest.approx(in_both / (0.5 * in_truth + 0.5 * in_prediction))


def test_merging_two_cells_by_hand() -> None:
    """Two equal cells in truth, one in the prediction: V_Rand = 2/3 in the limit; nothing is told of two: V_Info 0."""
    truth, prediction = np.ones((50, 41), np.bool_), np.ones((50, 41), np.bool_)
    truth[:, 20] = False
    found = boundary_scores(prediction, truth)
    assert found is not None and found.rand == pytest.approx(2 / 3, abs=1e-3) and found.information == 0.0


def test_the_width_of_membranes_counts_little() -> None:
    truth = np.ones((60, 61), np.bool_)
    truth[:, 30] = False
    wide, merged = truth.copy(), truth.copy()
    wide[:, 29:32] = False
    merged[30, 30] = True
    by_width, by_merger = boundary_scores(wide, truth), boundary_scores(merged, truth)
    assert by_width is not None and by_merger is not None and by_width.rand > 0.95 > 0.7 > by_merger.rand


def test_edges() -> None:
    truth = cells(0)
    assert boundary_scores(truth, truth) == BoundaryScores(pytest.approx(1.0), pytest.approx(1.0))
    assert boundary_scores(truth, np.zeros_like(truth)) is None  # no cell to find
    nothing = boundary_scores(np.zeros_like(truth), truth)
    assert nothing is not None and nothing.rand == 0.0
    whole = np.ones((5, 5), np.bool_)
    assert boundary_scores(whole, whole) == BoundaryScores(1.0, 1.0)
    lone = np.zeros((3, 3), np.bool_)
    lone[1, 1] = True
    assert boundary_scores(lone, lone) == BoundaryScores(1.0, 1.0)


def test_cells_meet_at_sides_not_at_corners() -> None:
    truth = np.zeros((6, 6), np.bool_)
    truth[:3, :3] = truth[3:, 3:] = True
    apart = boundary_scores(truth, truth)
    joined = truth.copy()
    joined[2, 3] = True
    merged = boundary_scores(joined, truth)
    assert apart is not None and merged is not None and apart.rand == 1.0 > merged.rand


def test_mean_over_slices_and_the_class() -> None:
    labels = ("membrane", "cell")
    assert membrane_class(labels) == 0 and membrane_class(("cell", "membrane")) == 1
    assert membrane_class(("background", "cord")) is None
    truth = np.stack([cells(1), cells(2), np.zeros((60, 60), np.bool_)]).astype(np.uint8)
    prediction = np.stack([cells(1), cells(3), cells(4)]).astype(np.uint8)
    single = [boundary_scores(p > 0, t > 0) for p, t in zip(prediction, truth, strict=True)]
    assert single[2] is None and single[0] is not None and single[1] is not None
    found = mean_scores(prediction, truth, 0)
    assert found is not None and found.rand == pytest.approx((single[0].rand + single[1].rand) / 2)
    assert mean_scores(prediction[0], truth[0], 0) == single[0]
    assert mean_scores(prediction, np.zeros_like(truth), 0) is None
    assert mean_scores(1 - prediction, 1 - truth, 1) == found
