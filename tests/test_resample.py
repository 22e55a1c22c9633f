"""Linear resampling: the written arithmetic, against torch and SciPy, and what it keeps."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from unetq.errors import ConfigError, DataError
from unetq.export.program import Preprocessing
from unetq.preprocess import network_image, network_size, volume_moments
from unetq.resample import resample, resample_label, resampled_size


@pytest.mark.parametrize(
    ("size", "have", "want", "expected"),
    [
        ((10, 20), (0.5, 0.5), (0.5, 0.25), (10, 40)),
        ((10, 20), (0.5, 0.5), (0.0, 1.0), (10, 10)),
        ((1, 3), (0.1, 0.1), (5.0, 5.0), (1, 1)),
        ((5, 5), (0.5, 0.5), (1.0, 1.0), (3, 3)),  # 2.5 and its like go up
        ((256,), (0.7031249,), (0.5,), (360,)),  # 0.7031 mm: 359.99
    ],
)
def test_sizes(size: tuple[int, ...], have: tuple[float, ...], want: tuple[float, ...], expected: object) -> None:
    assert resampled_size(size, have, want) == expected


def test_a_spacing_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match=r"spacing of 1e-05 mm.*above 0"):
        resampled_size((4,), (1e-5,), (1.0,))


@pytest.mark.parametrize("seed", range(20))
def test_as_torch_interpolates_and_scipy_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 4))
    size, target = rng.integers(1, 12, rank), rng.integers(1, 20, rank)
    image = rng.normal(size=(2, *size)).astype(np.float32)
    found = resample(image, target)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[rank]
    expected = torch.nn.functional.interpolate(torch.from_numpy(image)[None], tuple(map(int, target)), mode=mode)[0]
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=3e-6)
    places = [np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1) for n, m in zip(size, target, strict=True)]
    grid = np.meshgrid(*places, indexing="ij")
    np.testing.assert_allclose(found[0], map_coordinates(image[0].astype(np.float64), grid, order=1), atol=3e-6)


def test_the_arithmetic_is_float32_axis_by_axis() -> None:
    image = np.array([[0.1, 0.7], [0.3, 1e7]], np.float32)
    found = resample(image, (3, 2))
    weight = np.float32(0.5)
    assert found[1, 1] == np.float32(image[0, 1] * weight) + np.float32(image[1, 1] * weight)
    assert found.dtype == np.float32 and (found[0] == image[0]).all() and (found[2] == image[1]).all()


def test_an_axis_of_its_own_length_is_not_touched() -> None:
    image = np.array([[np.float32(np.pi), 3e38]], np.float32)
    assert resample(image, (1, 2)) is image


def test_labels_keep_their_classes_and_ties_go_to_the_lower_one() -> None:
    label = np.array([[0, 2], [0, 2]], np.uint8)
    assert resample_label(label, (2, 4), 3).tolist() == [[0, 0, 2, 2]] * 2
    assert resample_label(label, (2, 3), 3)[0].tolist() == [0, 0, 2]
    assert resample_label(label, (2, 2), 3) is label


def test_labels_of_large_regions_survive_there_and_back() -> None:
    rows, columns = np.mgrid[:60, :60]
    label = ((rows - 30) ** 2 + (columns - 25) ** 2 < 200).astype(np.uint8) * 3
    back = resample_label(resample_label(label, (85, 71), 4), (60, 60), 4)
    assert set(np.unique(back)) == {0, 3} and (back != label).mean() < 0.01


def test_what_a_network_sees() -> None:
    rule = Preprocessing("zscore", spacing=(0.5, 1.0))
    image = np.random.default_rng(0).integers(0, 100, (1, 20, 30)).astype(np.int16)
    seen = network_image(image, (3.0, 1.0, 1.0), rule)
    assert seen.shape == (1, 40, 30) and abs(float(seen.mean())) < 1e-6
    assert network_size((20, 30), (), Preprocessing()) == (20, 30)


def test_volume_statistics_serve_every_slice() -> None:
    volume = np.random.default_rng(1).normal(50, 9, (1, 4, 8, 8))
    rule = Preprocessing("zscore", over="volume", spacing=(0.5, 0.0))
    moments = volume_moments(volume, (1.0, 1.0, 1.0), rule)
    whole = resample(volume.astype(np.float32), (16, 8))
    assert moments is not None and moments[0][0] == pytest.approx(whole.astype(np.float64).mean(), abs=1e-12)
    seen = np.stack([network_image(volume[:, k], (1.0, 1.0, 1.0), rule, moments) for k in range(4)], axis=1)
    assert abs(seen.mean()) < 1e-6 and seen.std() == pytest.approx(1.0, abs=1e-6)
    assert volume_moments(volume, (), Preprocessing("zscore")) is None


@pytest.mark.parametrize(
    ("spacing", "wanted", "error", "message"),
    [
        ((), (1.0, 1.0), DataError, r"1 x 1 mm and the image does not say.*NIfTI"),
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), ConfigError, r"2 spatial axes takes 2 numbers"),
    ],
)
def test_impossible_spacings(
    spacing: tuple[float, ...], wanted: tuple[float, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        network_size((5, 5), spacing, Preprocessing(spacing=wanted))
