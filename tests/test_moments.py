"""Mean and deviation have NumPy's bits, whatever the size and the memory, and need no copy of the volume."""

import tracemalloc

import numpy as np
import pytest

from unetq import moments
from unetq.export.program import Preprocessing
from unetq.moments import PIECE, moments_of
from unetq.preprocess import volume_moments


def whole(image: np.ndarray) -> moments.Moments:
    """With a float64 copy of all of it."""
    wide = np.ascontiguousarray(image, dtype=np.float64)
    axes = tuple(range(1, wide.ndim))
    return tuple(map(float, wide.mean(axis=axes))), tuple(map(float, wide.std(axis=axes)))


@pytest.mark.parametrize("piece", [128, 136, 1000, PIECE])
@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint8, np.float64])
def test_the_bits_are_those_of_a_whole_copy(piece: int, dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "PIECE", piece)
    rng = np.random.default_rng(piece)
    for trial in range(60):
        shape = [int(rng.integers(1, 4)), *(int(n) for n in rng.integers(1, 40, int(rng.integers(1, 4))))]
        image = (rng.standard_normal(shape) * 60 + 100).astype(dtype)
        if image.ndim == 4 and trial % 2:
            image = np.flip(image.transpose(0, 3, 1, 2), 2)  # lies otherwise in memory
        assert moments_of(image) == whole(image), f"trial {trial}: {shape}"


def test_the_bits_of_a_volume_of_several_pieces() -> None:
    image = np.random.default_rng(5).normal(900, 250, (1, 9, 701, 499))
    assert image.size > 2 * PIECE
    for view in (image, np.flip(image.transpose(0, 2, 3, 1), 1)):
        assert moments_of(view) == whole(view)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_volumes_count_as_float32(dtype: type) -> None:
    """What the network sees: the intensities of wide types are rounded to float32 first."""
    volume = (np.random.default_rng(6).random((2, 5, 9, 11)) * 2**40).astype(np.int64).astype(dtype)
    found = volume_moments(volume, (), Preprocessing("zscore", over="volume"))
    assert found == whole(volume.astype(np.float32))


def test_a_naive_sum_has_other_bits() -> None:
    """So that the tests above can fail: the order of the sums shows."""
    image = np.random.default_rng(5).normal(900, 250, (1, 3, 701, 499))
    in_turn = float(np.cumsum(image)[-1]) / image.size
    assert in_turn != moments_of(image)[0][0]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_no_copy_of_the_volume(turned: bool, dtype: type) -> None:
    image = np.ones((1, 64, 512, 512), dtype)  # in float64 134 MB
    view = image.transpose(0, 2, 3, 1) if turned else image
    tracemalloc.start()
    try:
        volume_moments(view, (), Preprocessing("zscore", over="volume"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30e6
