"""Normalisation, extension and decision: what the words of ``Preprocessing`` mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetq.errors import ConfigError, DataError
from unetq.export.program import Preprocessing
from unetq.preprocess import crop, decide, normalize, pad_to_multiple, pad_to_size, padded_size


def test_zscore_is_per_channel_and_float32() -> None:
    rng = np.random.default_rng(0)
    image = np.stack([rng.normal(100, 5, (20, 30)), rng.normal(-3, 0.1, (20, 30))])
    result = normalize(image, Preprocessing("zscore"))
    assert result.dtype == np.float32
    expected = [(channel - channel.mean()) / channel.std() for channel in image]
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
def test_zscore_does_not_overflow_in_any_type(dtype: type) -> None:
    image = np.full((1, 64, 64), 120, dtype=dtype)
    image[0, ::2] = 7
    np.testing.assert_allclose(np.unique(normalize(image, Preprocessing("zscore"))), [-1, 1], atol=1e-6)


def test_zscore_of_a_constant_is_zero() -> None:
    assert (normalize(np.full((1, 4, 4), 9.0), Preprocessing("zscore")) == 0).all()


def test_window_clips_and_scales() -> None:
    image = np.array([[[-1000, -160, 40, 240, 3000]]], dtype=np.int16)
    result = normalize(image, Preprocessing("window", low=-160, high=240))
    assert result.dtype == np.float32
    assert result.tolist() == [[[0.0, 0.0, 0.5, 1.0, 1.0]]]


def test_none_keeps_values() -> None:
    image = np.arange(6, dtype=np.uint16).reshape(1, 2, 3)
    result = normalize(image, Preprocessing("none"))
    assert result.dtype == np.float32 and (result == image).all()


def test_volumes_are_normalised_over_all_their_slices() -> None:
    volume = np.stack([np.zeros((4, 4)), np.ones((4, 4))])[None]
    np.testing.assert_allclose(np.unique(normalize(volume, Preprocessing("zscore"))), [-1, 1])


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, -2.0)])
def test_an_empty_window_is_refused(low: float, high: float) -> None:
    with pytest.raises(ConfigError, match="above the lower end"):
        normalize(np.zeros((1, 2, 2)), Preprocessing("window", low=low, high=high))


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'minmax'.*zscore"):
        normalize(np.zeros((1, 2, 2)), Preprocessing("minmax"))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rule", ["none", "zscore"])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_what_is_not_finite_is_refused(value: float, rule: str) -> None:
    image = np.ones((1, 3, 3))
    image[0, 1, 1] = value
    with pytest.raises(DataError, match="not finite"):
        normalize(image, Preprocessing(rule))  # type: ignore[arg-type]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 16), st.integers(1, 16))
def test_extension_rule_and_its_undoing(height: int, width: int, down: int, across: int) -> None:
    image = np.arange(height * width, dtype=np.float32).reshape(1, height, width)
    padded = pad_to_multiple(image, (down, across))
    assert padded.shape[1:] == padded_size((height, width), (down, across))
    assert padded.shape[1] % down == 0 and padded.shape[2] % across == 0
    assert padded.shape[1] - height < down and padded.shape[2] - width < across
    rows, columns = _rule(height, padded.shape[1]), _rule(width, padded.shape[2])
    assert (padded[0] == image[0][np.ix_(rows, columns)]).all()
    assert (crop(padded, (height, width)) == image).all()


def _rule(length: int, target: int) -> list[int]:
    """The written rule, index by index: mirror without repeating the border, else repeat the last pixel."""
    extra = target - length
    if length > extra:
        return [*range(length), *(length - 2 - step for step in range(extra))]
    return [*range(length), *([length - 1] * extra)]


def test_only_the_spatial_axes_are_extended() -> None:
    assert pad_to_size(np.zeros((2, 3, 5, 7)), (8, 8)).shape == (2, 3, 8, 8)
    assert pad_to_multiple(np.zeros((1, 3, 5, 7)), (2, 4, 4)).shape == (1, 4, 8, 8)


def test_impossible_extensions_are_refused() -> None:
    with pytest.raises(DataError, match="at least 1 pixel"):
        pad_to_multiple(np.zeros((1, 0, 4)), (4, 4))
    with pytest.raises(DataError, match="10 x 4 pixels does not fit into 8 x 8"):
        pad_to_size(np.zeros((1, 10, 4)), (8, 8))


def test_one_channel_decides_above_zero_only() -> None:
    logits = np.array([[[-1.0, -0.0, 0.0, np.nextafter(np.float32(0), np.float32(1))]]], dtype=np.float32)
    result = decide(logits)
    assert result.dtype == np.uint8 and result.tolist() == [[0, 0, 0, 1]]


def test_ties_go_to_the_first_class() -> None:
    logits = np.array([[[1.0, 2.0, 0.0]], [[1.0, 2.0, 3.0]], [[1.0, 5.0, 3.0]]], dtype=np.float32)
    assert decide(logits).tolist() == [[0, 2, 1]]


def test_too_many_classes_are_refused() -> None:
    assert decide(np.eye(256)[:, None, :]).max() == 255
    with pytest.raises(DataError, match="257 classes"):
        decide(np.zeros((257, 1, 1)))
