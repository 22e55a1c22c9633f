"""HD95 and surface Dice: by hand, against SciPy's distance transform, and MONAI called plainly; empty masks."""

import numpy as np
import pytest
import torch
from monai.metrics import compute_surface_dice
from scipy import ndimage

from unetq.surface import Distances, distances


def blobs(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Smooth random regions, about half of the grid."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    return np.asarray(ndimage.gaussian_filter(noise, 2.0) > 0.0)


def hd95_by_scipy(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> float:
    """The definition, by erosion and a distance transform of the whole grid."""
    padded = [np.pad(mask, 1) for mask in (a, b)]
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in padded]
    there, back = (
        np.percentile(ndimage.distance_transform_edt(~to, sampling=spacing)[of], 95) for of, to in (edges, edges[::-1])
    )
    return float(max(there, back))


@pytest.mark.parametrize(
    ("shape", "spacing"), [((40, 52), (1.0, 1.0)), ((40, 52), (0.5, 2.0)), ((9, 30, 26), (5.0, 0.5, 0.7))]
)
@pytest.mark.parametrize("seed", range(3))
def test_hd95_is_that_of_a_distance_transform(seed: int, shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    a, b = blobs(seed, shape), blobs(seed + 10, shape)
    found = distances(a, b, spacing)
    assert found.hd95 == pytest.approx(hd95_by_scipy(a, b, spacing), rel=1e-5)  # float32


@pytest.mark.parametrize("axis", range(3))
def test_a_shifted_box_by_hand(axis: int) -> None:
    """Every distance is 0 or the shift in mm along its own axis; NSD changes where the tolerance passes the shift."""
    spacing = (5.0, 0.5, 2.0)
    a = np.zeros((12, 20, 20), np.bool_)
    a[3:8, 5:13, 6:14] = True
    b = np.roll(a, 1, axis)
    shift = spacing[axis]
    found = distances(a, b, spacing, tolerance=shift * 1.01)
    assert found == Distances(pytest.approx(shift), pytest.approx(1.0))
    strict = distances(a, b, spacing, tolerance=shift * 0.5)
    assert strict.nsd is not None and 0.0 < strict.nsd < 1.0
    # The two faces across the axis miss by the shift, on both masks; the sides still touch. Counted in voxels and not
    # by area, the faces across the thick slices would be 0.6 of the surface and not 0.11.
    box = np.array([5, 8, 8]) * np.array(spacing)
    across = box[[i for i in range(3) if i != axis]].prod()
    surface = 2 * sum(box[[i for i in range(3) if i != k]].prod() for k in range(3))
    assert strict.nsd == pytest.approx(1.0 - 2 * across / surface, abs=0.12)  # edges and corners are bevelled


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of MONAI's own call to itself
@pytest.mark.parametrize("seed", range(3))
def test_nsd_is_monais(seed: int) -> None:
    a, b = blobs(seed, (7, 30, 26)), blobs(seed + 5, (7, 30, 26))
    pair = [torch.from_numpy(mask)[None, None] for mask in (a, b)]
    expected = compute_surface_dice(*pair, [1.5], include_background=True, spacing=[3.0, 1.0, 1.0], use_subvoxels=True)
    assert distances(a, b, (3.0, 1.0, 1.0), 1.5).nsd == pytest.approx(float(expected), rel=1e-6)


def test_the_frame_around_masks_does_not_matter() -> None:
    a, b = blobs(1, (20, 20)), blobs(2, (20, 20))
    framed = [np.pad(mask, ((9, 3), (0, 30))) for mask in (a, b)]
    assert distances(a, b, (1.0, 2.0)) == distances(*framed, (1.0, 2.0))


def test_pixels_where_spacing_is_not_known() -> None:
    a = np.zeros((20, 20), np.bool_)
    a[5:10, 5:10] = True
    assert distances(np.roll(a, 3, 1), a).hd95 == pytest.approx(3.0)
    assert distances(np.roll(a, 3, 1), a) == distances(np.roll(a, 3, 1), a, (1.0, 1.0))


def test_a_single_slice_is_measured_in_its_plane() -> None:
    a, b = blobs(3, (1, 30, 30)), blobs(4, (1, 30, 30))
    assert distances(a, b, (9.0, 0.5, 0.5)) == distances(a[0], b[0], (0.5, 0.5))


@pytest.mark.parametrize("shape", [(8, 8), (3, 8, 8)])
def test_empty_masks(shape: tuple[int, ...]) -> None:
    none, some = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    some[..., 2:4, 2:4] = True
    assert distances(none, none) == Distances(None, 1.0)
    assert distances(none, none, empty="skip") == Distances(None, None)
    for policy in ("one", "skip"):
        assert distances(none, some, empty=policy) == Distances(None, 0.0)
        assert distances(some, none, empty=policy) == Distances(None, 0.0)
    assert distances(some, some) == Distances(0.0, 1.0)
