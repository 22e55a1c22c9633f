"""Distortions: what each one does, how much of it, and that it is the same each time."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from unetq.errors import ConfigError
from unetq.export.program import Preprocessing
from unetq.preprocess import network_image, volume_moments
from unetq.samples import Sample
from unetq.study.distortions import DISTORTIONS, distort, distort_samples, line_kernel

NAMES = list(DISTORTIONS)


def picture(shape: tuple[int, ...] = (1, 40, 48), seed: int = 0) -> NDArray[np.uint8]:
    """Smooth structure with some grain, 0 to 255."""
    rough = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(rough, [0, *[2] * (len(shape) - 1)]) * 8 + 0.2 * rough
    scaled = (smooth - smooth.min()) / np.ptp(smooth) * 255
    return scaled.astype(np.uint8)


def distance(name: str, severity: int, seed: int = 3) -> float:
    image = picture()
    return float(np.abs(distort(image, name, severity, seed) - image).mean())


@pytest.mark.parametrize("name", NAMES)
def test_a_higher_severity_goes_further(name: str) -> None:
    moved = [distance(name, severity) for severity in (1, 2, 3)]
    assert 0.5 < moved[0] < moved[1] < moved[2]


@pytest.mark.parametrize("shape", [(1, 33, 40), (3, 33, 40), (1, 5, 33, 40)])
@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_same_each_time_and_keeps_shape(name: str, shape: tuple[int, ...]) -> None:
    image = picture(shape)
    before = image.copy()
    once, again, other = (distort(image, name, 2, seed) for seed in (7, 7, 8))
    assert once.shape == shape and once.dtype == np.float32 and np.isfinite(once).all()
    assert np.array_equal(once, again) and np.array_equal(image, before)
    assert np.array_equal(once, other) == (name in ("blur", "contrast"))


def test_blur_is_a_gaussian_of_the_stated_width() -> None:
    point = np.zeros((1, 41, 41), dtype=np.float32)
    point[0, 20, 20] = 1.0
    spread = distort(point, "blur", 2, 0)[0].astype(np.float64)
    rows = np.arange(41) - 20
    assert spread.sum() == pytest.approx(1.0, rel=1e-5)
    assert (spread.sum(axis=1) * rows**2).sum() == pytest.approx(DISTORTIONS["blur"][1] ** 2, rel=0.03)
    edge = np.full((1, 20, 20), 100.0, dtype=np.float32)
    np.testing.assert_allclose(distort(edge, "blur", 3, 0), edge, rtol=1e-5)  # the border is mirrored


def test_noise_is_a_share_of_the_images_own_deviation() -> None:
    image = picture((2, 60, 80)).astype(np.float32) * 37.0  # any unit
    added = distort(image, "noise", 1, 5) - image
    assert added.std() == pytest.approx(DISTORTIONS["noise"][0] * image.std(), rel=0.03)
    assert abs(added.mean()) < 0.05 * added.std()
    assert abs(np.corrcoef(added[0].reshape(-1), added[1].reshape(-1))[0, 1]) < 0.05


def test_contrast_keeps_the_ends_and_bends_between() -> None:
    image = picture().astype(np.float32) - 100.0
    bent = distort(image, "contrast", 2, 0)
    low, reach = image.min(), np.ptp(image)
    np.testing.assert_allclose(bent, ((image - low) / reach) ** DISTORTIONS["contrast"][1] * reach + low, atol=1e-2)
    plain = Preprocessing(normalize="zscore")
    assert np.abs(network_image(bent, (), plain) - network_image(image, (), plain)).max() > 0.3


def test_motion_smears_along_a_line() -> None:
    kernel = line_kernel(9, 0.0)
    expected = np.zeros((9, 9))
    expected[4] = 1 / 9
    np.testing.assert_allclose(kernel, expected, atol=1e-7)
    for angle in (0.3, 1.2, 2.5):
        line = line_kernel(15, angle).astype(np.float64)
        rows, columns = np.indices(line.shape) - 7
        across = rows * np.cos(angle) - columns * np.sin(angle)
        along = rows * np.sin(angle) + columns * np.cos(angle)
        assert line.sum() == pytest.approx(1.0) and line.min() >= 0.0
        assert (line * across**2).sum() < 0.4 < 14 < (line * along**2).sum()
        np.testing.assert_allclose(line, line[::-1, ::-1], atol=1e-7)
    volume = np.zeros((1, 3, 21, 21), dtype=np.float32)
    volume[0, 1, 10, 10] = 1.0
    moved = distort(volume, "motion", 1, 1)
    assert moved[0, 1].sum() == pytest.approx(1.0, rel=1e-5) and not moved[0, [0, 2]].any()  # within its slice


def test_a_bias_field_is_a_smooth_factor_above_the_lowest_value() -> None:
    image = picture((2, 40, 48)).astype(np.float32) - 1000.0
    low = image.min()
    factor = (distort(image, "bias_field", 2, 4) - low)[image > low + 20] / (image - low)[image > low + 20]
    assert factor.min() > 0 and factor.std() > 0.05
    flat = np.full((2, 40, 48), 5.0, dtype=np.float32)
    flat[:, 0, 0] = 0.0
    field = distort(flat, "bias_field", 2, 4)[:, 1:, 1:] / 5.0
    assert np.array_equal(field[0], field[1])
    assert np.abs(np.diff(field[0], axis=0)).max() < 0.25 * np.ptp(field[0])


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'fog' is not known; choose among blur"):
        distort(picture(), "fog", 1, 0)
    for severity in (0, 4):
        with pytest.raises(ConfigError, match="1 to 3"):
            distort(picture(), "blur", severity, 0)


def slices(count: int, moments: object = None) -> list[Sample]:
    label = np.zeros((40, 48), np.uint8)
    return [
        Sample(f"v-{i}", "v", picture(seed=i), label, index=i, moments=moments)  # type: ignore[arg-type]
        for i in range(count)
    ]


def test_samples_keep_all_but_their_image_and_their_draws_are_their_own() -> None:
    samples = slices(3)
    whole = distort_samples(samples, "noise", 1, seed=2)
    assert [s.id for s in whole] == ["v-0", "v-1", "v-2"] and whole[0].label is samples[0].label
    assert np.array_equal(distort_samples(samples[1:], "noise", 1, seed=2)[0].image, whole[1].image)
    added = [(s.image - t.image).reshape(-1) for s, t in zip(whole, samples, strict=True)]
    assert abs(np.corrcoef(added[0], added[1])[0, 1]) < 0.1
    assert not np.array_equal(distort_samples(samples, "noise", 1, seed=3)[0].image, whole[0].image)
    stronger = (distort_samples(samples, "noise", 2, seed=2)[0].image - samples[0].image).reshape(-1)
    np.testing.assert_allclose(stronger, 2 * added[0], atol=1e-3)  # severities share their draws


def test_moments_are_those_of_the_distorted_volume() -> None:
    rule = Preprocessing(normalize="zscore", over="volume")
    clean = volume_moments(np.stack([s.image[0] for s in slices(3)])[None], (), rule)
    samples = slices(3, clean)
    found = distort_samples(reversed(samples), "contrast", 3, preprocessing=rule)
    expected = volume_moments(np.stack([s.image[0] for s in reversed(found)])[None], (), rule)
    assert found[0].moments == expected != clean
    assert distort_samples(samples, "contrast", 3)[0].moments == clean
