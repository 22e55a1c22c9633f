"""Sliding windows: where they lie, how they are blended, against MONAI's."""

import numpy as np
import pytest
import torch
from monai.inferers.utils import sliding_window_inference

from unetq.errors import ConfigError
from unetq.fixedpoint import F32
from unetq.tiling import check_window, input_size, starts, tiled, weights, windows


def test_starts() -> None:
    assert starts(100, 128, 0.5) == [0] and starts(128, 128, 0.5) == [0]
    assert starts(129, 128, 0.5) == [0, 1]
    assert starts(10, 4, 0.25) == [0, 3, 6]
    assert starts(11, 4, 0.25) == [0, 3, 6, 7]
    assert starts(6, 4, 0.9) == [0, 1, 2]  # a step is at least one pixel


def test_sizes_of_calls() -> None:
    assert input_size((100, 30), (), (8, 8)) == (104, 32)
    assert input_size((100, 30), (64, 64), (8, 8)) == (64, 32)


def test_weights_are_whole_and_highest_in_the_middle() -> None:
    found = weights((3, 4))
    assert found.dtype == np.float32
    assert found.tolist() == [[1, 2, 2, 1], [2, 4, 4, 2], [1, 2, 2, 1]]


def network(image: F32) -> F32:
    """Depends on the place within the window, so that blending shows."""
    ramp = np.linspace(0, 1, image.shape[-1], dtype=np.float32)
    return np.concatenate([image * ramp, image[:, ::-1].copy()])


@pytest.mark.parametrize("seed", range(12))
def test_as_monai_slides(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(2, 4))
    window = tuple(int(v) for v in 4 * rng.integers(1, 4, rank))
    size = tuple(int(w + rng.integers(0, 15)) for w in window)
    overlap = float(rng.choice([0.0, 0.25, 0.5, 0.7]))
    image = rng.normal(size=(1, *size)).astype(np.float32)
    found = tiled(network, image, window, overlap)

    def of_torch(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.stack([network(item) for item in x.numpy()]))

    expected = sliding_window_inference(
        torch.from_numpy(image)[None], window, 1, of_torch, overlap, roi_weight_map=torch.from_numpy(weights(window))
    )
    assert isinstance(expected, torch.Tensor)
    np.testing.assert_allclose(found, expected[0].numpy(), rtol=0, atol=2e-6)


def test_what_does_not_depend_on_the_window_comes_out_exactly() -> None:
    image = np.random.default_rng(0).integers(-50, 50, (2, 21, 34)).astype(np.float32)
    assert (tiled(lambda x: x, image, (8, 16), 0.5) == image).all()


def test_short_axes_are_extended_and_cut_back() -> None:
    image = np.random.default_rng(0).normal(size=(1, 5, 40)).astype(np.float32)
    seen = list(windows(image, (8, 16), 0.25))
    assert all(window.shape == (1, 8, 16) and window.flags.c_contiguous for window in seen) and len(seen) == 3
    assert tiled(lambda x: x, image, (8, 16), 0.25).shape == (1, 5, 40)


def test_windows_that_do_not_fit_the_network() -> None:
    check_window((64, 32), (16, 16))
    with pytest.raises(ConfigError, match=r"window 60 x 32.*stride 16 x 16.*data\.preprocessing\.window"):
        check_window((60, 32), (16, 16))
