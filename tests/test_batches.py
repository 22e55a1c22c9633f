"""Training batches are pure functions of (seed, step); augmentation keeps image and label together."""

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from unetq.augment import Augmentation
from unetq.batches import CropDataset, network_inputs, prefetch, train_batches
from unetq.errors import ConfigError, DataError
from unetq.export.program import Preprocessing
from unetq.preprocess import crop, normalize
from unetq.samples import Sample

ZSCORE = Preprocessing("zscore")


def samples(count: int = 3, size: tuple[int, int] = (40, 52), channels: int = 1) -> list[Sample]:
    rng = np.random.default_rng(11)
    return [
        Sample(
            f"s-{index}",
            "v",
            rng.integers(0, 255, (channels, *size), dtype=np.uint8),
            rng.integers(0, 3, size, dtype=np.uint8),
        )
        for index in range(count)
    ]


def equal(one: tuple[torch.Tensor, ...], other: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("augment", [True, False])
def test_shapes_and_types(augment: bool) -> None:
    images, labels = next(train_batches(samples(channels=2), ZSCORE, (24, 32), 5, 0, 0, 1, augment))
    assert images.shape == (5, 2, 24, 32) and images.dtype == torch.float32 and type(images) is torch.Tensor
    assert labels.shape == (5, 24, 32) and labels.dtype == torch.int64 and type(labels) is torch.Tensor
    assert set(labels.unique().tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("augment", [True, False])
def test_a_resumed_run_sees_the_same_batches(augment: bool) -> None:
    data = samples()
    whole = list(train_batches(data, ZSCORE, 24, 4, 7, 0, 6, augment, ahead=0))
    for start in (0, 1, 5):
        for ahead in (0, 1, 3):
            rest = list(train_batches(data, ZSCORE, 24, 4, 7, start, 6, augment, ahead=ahead))
            assert len(rest) == 6 - start
            assert all(equal(one, other) for one, other in zip(whole[start:], rest, strict=True))
    assert list(train_batches(data, ZSCORE, 24, 4, 7, 6, 6, augment)) == []


def test_batches_differ_between_steps_indices_and_seeds() -> None:
    data = samples()
    first, second = itertools.islice(train_batches(data, ZSCORE, 24, 4, 7, 0, 2), 2)
    (other,) = train_batches(data, ZSCORE, 24, 4, 8, 0, 1)
    assert not torch.equal(first[0], second[0]) and not torch.equal(first[0], other[0])
    assert not torch.equal(first[0][0], first[0][3])


def test_every_slice_comes_once_before_any_comes_again() -> None:
    data = [
        Sample(f"s-{index}", "v", np.full((1, 16, 16), index) + np.eye(16), np.full((16, 16), index, np.uint8))
        for index in range(7)
    ]
    labels = [
        label for _, batch in train_batches(data, Preprocessing("none"), 8, 3, 5, 0, 14, False) for label in batch
    ]
    visited = [int(label[0, 0]) for label in labels]
    epochs = [visited[start : start + 7] for start in range(0, 42, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_processes_share_one_larger_batch() -> None:
    data = samples()
    (whole,) = train_batches(data, ZSCORE, 16, 6, 1, 3, 4)
    parts = [next(train_batches(data, ZSCORE, 16, 2, 1, 3, 4, rank=rank, world_size=3)) for rank in range(3)]
    assert equal(whole, tuple(torch.cat(part) for part in zip(*parts, strict=True)))


def test_plain_crops_are_parts_of_the_normalised_slice() -> None:
    data = samples(1)
    whole = torch.from_numpy(normalize(data[0].image, ZSCORE))
    label = torch.from_numpy(data[0].label)
    places = set()
    for images, labels in train_batches(data, ZSCORE, 24, 2, 0, 0, 20, False):
        for image, truth in zip(images, labels, strict=True):
            found = [
                (row, column)
                for row in range(17)
                for column in range(29)
                if torch.equal(whole[:, row : row + 24, column : column + 24], image)
            ]
            assert len(found) == 1
            row, column = found[0]
            assert torch.equal(label[row : row + 24, column : column + 24].long(), truth)
            places.add(found[0])
    assert len(places) > 20


@pytest.mark.parametrize("size", [(10, 9), (1, 5), (1, 1)])
@pytest.mark.parametrize("augment", [True, False])
def test_a_crop_larger_than_the_slice_mirrors_it(size: tuple[int, int], augment: bool) -> None:
    data = samples(2, size)
    images, labels = next(train_batches(data, Preprocessing("none"), 32, 2, 0, 0, 1, augment))
    assert images.shape == (2, 1, 32, 32) and labels.shape == (2, 32, 32)
    if not augment and size == (10, 9):
        assert torch.equal(images[:, :, :10, :9], images[:, :, 18:28, :9])
        assert torch.equal(images[:, :, :10, 1:9], images[:, :, 8 - 9 + 19 : 28, 1:9])
        assert torch.equal(images[..., 7], images[..., 9])  # mirrored, the border pixel not repeated


def test_augmentation_moves_image_and_label_together() -> None:
    # A smooth picture whose label says on which side of 0 it is: after any common move they still agree.
    rows, columns = np.mgrid[0:96, 0:96] / 96.0
    picture = (np.sin(9 * rows + 2) + np.cos(7 * columns - rows)).astype(np.float32)
    label = (picture > 0).astype(np.uint8)
    view = Augmentation((64, 64))
    assert view.margin == (16, 16)
    changed = 0
    for seed in range(60):
        image, truth = view(picture[None], label, seed)
        again = view(picture[None], label, seed)
        assert equal((image, truth), again)
        values = image[0].numpy()
        # Intensity changes are monotone or a light blur: the label is still a threshold of the picture.
        inside, outside = values[truth.numpy() == 1], values[truth.numpy() == 0]
        assert inside.min() > outside.max() - 0.35, f"seed {seed}"
        changed += not np.array_equal(truth.numpy(), label[16:80, 16:80])
    assert changed > 50


def test_augmented_labels_are_never_mixed() -> None:
    label = (np.indices((96, 96)).sum(0) // 5 % 2 * 2).astype(np.uint8)  # classes 0 and 2: a mixture would be 1
    view = Augmentation((64, 64))
    for seed in range(40):
        _, truth = view(np.zeros((1, 96, 96), np.float32), label, seed)
        assert set(truth.unique().tolist()) <= {0, 2}, f"seed {seed}"


def test_the_number_of_threads_changes_no_view() -> None:
    rng = np.random.default_rng(0)
    picture, label = rng.normal(size=(1, 288, 288)).astype(np.float32), rng.integers(0, 2, (288, 288), dtype=np.uint8)
    view, before = Augmentation((192, 192)), torch.get_num_threads()
    try:
        for seed in range(12):
            views = []
            for threads in (1, 3):
                torch.set_num_threads(threads)
                views.append(view(picture, label, seed))
            assert equal(*views), f"seed {seed}"
    finally:
        torch.set_num_threads(before)


def test_augmentation_leaves_its_input_alone() -> None:
    picture, label = np.random.default_rng(0).random((1, 96, 96), np.float32), np.zeros((96, 96), np.uint8)
    copy = picture.copy()
    view = Augmentation((64, 64))
    for seed in range(20):
        image, _ = view(picture, label, seed)
        image.zero_()
    assert (picture == copy).all()


def test_windowed_images_stay_inside_the_window() -> None:
    window = Preprocessing("window", low=50, high=200)
    for images, _ in train_batches(samples(), window, 24, 4, 0, 0, 10):
        assert images.min() >= 0 and images.max() <= 1


def test_whole_slices_are_extended_as_in_prediction() -> None:
    data = samples(2, (21, 34))
    for number, (sample, image) in enumerate(network_inputs(data, ZSCORE, 16)):
        assert sample is data[number]
        assert image.shape == (1, 1, 32, 48) and image.dtype == torch.float32
        assert (crop(image.numpy()[0], (21, 34)) == normalize(sample.image, ZSCORE)).all()
    assert next(network_inputs(data, ZSCORE, (1, 8)))[1].shape == (1, 1, 21, 40)


def test_impossible_requests_are_refused_at_once() -> None:
    data = samples()
    with pytest.raises(ConfigError, match="crop"):
        train_batches(data, ZSCORE, 0, 1, 0, 0, 1)
    with pytest.raises(ConfigError, match="seed = -1"):
        train_batches(data, ZSCORE, 8, 1, -1, 0, 1)
    with pytest.raises(ConfigError, match="batch = 0"):
        train_batches(data, ZSCORE, 8, 0, 0, 0, 1)
    with pytest.raises(DataError, match="no samples"):
        train_batches([], ZSCORE, 8, 1, 0, 0, 1)
    with pytest.raises(DataError, match="s has no label"):
        train_batches([Sample("s", "v", data[0].image, None)], ZSCORE, 8, 1, 0, 0, 1)
    with pytest.raises(DataError, match="channel count"):
        train_batches([data[0], *samples(1, channels=2)], ZSCORE, 8, 1, 0, 0, 1)


def test_slices_beyond_the_cache_are_normalised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    data = samples()
    expected = CropDataset(data, ZSCORE, 24, 0).batch(3, 6)
    monkeypatch.setattr("unetq.batches.CACHE_BYTES", 40 * 52 * 5)
    crops = CropDataset(data, ZSCORE, 24, 0)
    assert equal(crops.batch(3, 6), expected) and equal(crops.batch(3, 6), expected)
    assert len(crops._cache) == 1


def test_prefetching_keeps_order_and_hands_over_errors() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise DataError("the sixth is broken")

    taken = []
    with pytest.raises(DataError, match="sixth"):
        for item in prefetch(items(), 2):
            taken.append(item)
    assert taken == [0, 1, 2, 3, 4]
    assert list(prefetch(iter([]), 2)) == []


def test_prefetching_works_ahead_but_not_too_far_and_ends() -> None:
    made = []

    def items() -> Iterator[int]:
        for number in itertools.count():
            made.append(number)
            yield number

    ahead = prefetch(items(), 2)
    assert next(ahead) == 0
    deadline = time.monotonic() + 60
    while len(made) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)  # for what it must not make
    assert len(made) == 4  # one taken, two waiting, one in hand
    ahead.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "unetq-prefetch"]


def test_an_iterator_left_open_does_not_keep_python_alive() -> None:
    code = "import itertools; from unetq.batches import prefetch; x = prefetch(itertools.count(), 2); print(next(x))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert result.stdout.strip() == "0" and result.stderr == ""


def spotted(shape: tuple[int, ...], spot: tuple[int, ...] | None, value: int = 1) -> Sample:
    label = np.zeros(shape, np.uint8)
    if spot is not None:
        label[spot] = value
    image = np.random.default_rng(3).normal(size=(1, *shape)).astype(np.float32)
    return Sample(f"s{shape}{spot}", "v", image, label, (2.0, 1.0, 1.0))


@pytest.mark.parametrize("shape", [(40, 50), (12, 40, 50)])
def test_crops_are_centred_on_a_foreground_pixel(shape: tuple[int, ...]) -> None:
    spot = tuple(side // 3 for side in shape)
    data = [spotted(shape, spot, 2), spotted(shape, None)]
    crop = (5,) * len(shape)
    crops = CropDataset(data, Preprocessing(), crop, 0, augment=False, foreground=1.0, classes=3)
    for step in range(6):
        _, label = crops.view(step, 0, 1)  # also in the turn of the sample that has none
        assert label[(2,) * len(shape)] == 2
    shares = [
        bool(CropDataset(data, Preprocessing(), crop, 0, augment=False, foreground=0.5).view(step, 0, 1)[1].any())
        for step in range(60)
    ]
    assert 15 <= sum(shares) <= 45


def test_foreground_at_the_border_keeps_the_crop_inside() -> None:
    crops = CropDataset([spotted((20, 20), (0, 19))], Preprocessing(), 8, 0, augment=False, foreground=1.0)
    image, label = crops.view(0, 0, 1)
    assert label[0, 7] == 1 and (image.numpy()[0] == spotted((20, 20), (0, 19)).image[0, :8, 12:]).all()


def test_no_foreground_leaves_the_random_places_as_they_were() -> None:
    data = samples()
    plain = CropDataset(data, ZSCORE, 24, 0).batch(2, 4)
    assert equal(CropDataset(data, ZSCORE, 24, 0, foreground=0.0).batch(2, 4), plain)


def test_crops_of_resampled_samples() -> None:
    rule = Preprocessing(spacing=(0.5, 0.5))
    image, label = CropDataset([spotted((20, 30), (10, 15))], rule, 50, 1, augment=False, foreground=1.0).view(0, 0, 1)
    assert image.shape == (1, 50, 50) and 1 <= int(label.sum()) <= 9


def test_views_of_volumes_are_a_function_of_their_seed() -> None:
    volume = spotted((12, 30, 30), (6, 15, 15))
    crops = CropDataset([volume], ZSCORE, (6, 16, 16), 0)
    views = [crops.view(step, 0, 1) for step in range(12)]
    again = CropDataset([volume], ZSCORE, (6, 16, 16), 0)
    assert all(equal(view, again.view(step, 0, 1)) for step, view in enumerate(views))
    assert all(image.shape == (1, 6, 16, 16) and label.shape == (6, 16, 16) for image, label in views)
    assert len({image.numpy().tobytes() for image, _ in views}) == 12


def test_a_crop_has_as_many_sides_as_the_sample() -> None:
    with pytest.raises(ConfigError, match=r"crop = \(8, 8, 8\): 2 sides"):
        CropDataset(samples(), ZSCORE, (8, 8, 8), 0)
