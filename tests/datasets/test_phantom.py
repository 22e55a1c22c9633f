"""The phantom: deterministic, exact, not to be solved by a threshold."""

import time

import numpy as np
import pytest
from unetq_datasets.phantom import KINDS, make

from unetq.data import resolve_dataset
from unetq.errors import ConfigError
from unetq.samples import check_no_leak

TARGET = {"membranes": 0, "cord": 1, "abdomen": 1}  # the class that is hard to find


@pytest.mark.parametrize("kind", KINDS)
def test_slices_are_functions_of_seed_index_and_size(kind: str) -> None:
    image, label = make(kind, 5, 2, 96)
    again, label_again = make(kind, 5, 2, 96)
    assert image.shape == label.shape == (96, 96) and label.dtype == np.uint8
    assert (image == again).all() and (label == label_again).all()
    for other in ((5, 3, 96), (6, 2, 96)):
        different, _ = make(kind, *other)
        assert (image != different).mean() > 0.1
    assert make(kind, 5, 2, (64, 100))[0].shape == (64, 100)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [16, 17, 33, 256])
def test_every_class_is_there_and_the_image_varies(kind: str, size: int) -> None:
    spec = resolve_dataset("phantom", {"kind": kind})
    for index in range(3):
        image, label = make(kind, 0, index, size)
        assert image.min() < image.max() and label.max() < len(spec.labels)
        if size == 256:
            shares = np.bincount(label.ravel(), minlength=len(spec.labels)) / label.size
            assert (shares > 0.008).all(), shares


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other)))


@pytest.mark.parametrize("kind", KINDS)
def test_no_threshold_solves_it(kind: str) -> None:
    for index in range(2):
        image, label = make(kind, 0, index, 256)
        target = label == TARGET[kind]
        cuts = np.unique(np.percentile(image, np.linspace(1, 99, 60)))
        best = max(_dice(side, target) for cut in cuts for side in (image <= cut, image > cut))
        assert best < 0.8, f"{kind} {index}: a threshold reaches {best:.3f}"


def test_the_image_shows_what_the_mask_says() -> None:
    image, label = make("membranes", 0, 0, 256)
    assert image[label == 0].mean() < image[label == 1].mean() - 30
    image, label = make("cord", 0, 0, 256)
    assert image[label == 1].mean() > image[label == 2].mean() + 20
    image, label = make("abdomen", 0, 0, 256)
    assert (50 < image[label == 1].mean() < 130 and image.min() == -1024) or image.min() < -900


@pytest.mark.parametrize("kind", KINDS)
def test_splits_have_their_sizes_and_share_nothing(kind: str) -> None:
    options = {"kind": kind, "size": 48, "train": 5, "validation": 2, "test": 3}
    spec = resolve_dataset("phantom", options)
    splits = {split: spec.load(None, split, options, min_size=16) for split in spec.splits}
    assert [len(samples) for samples in splits.values()] == [5, 2, 3]
    check_no_leak(splits)
    ids = [sample.id for samples in splits.values() for sample in samples]
    assert ids == [f"phantom-{kind}-{index:03d}" for index in range(10)]
    volumes = {sample.volume for samples in splits.values() for sample in samples}
    assert len(volumes) == (1 if kind == "membranes" else 10)


def test_defaults_resemble_em() -> None:
    spec = resolve_dataset("phantom")
    assert spec.labels == ("membrane", "cell") and spec.label_values == (0, 255)
    assert [spec.defaults[split] for split in spec.splits] == [20, 4, 6]


def test_bad_options_are_refused() -> None:
    for options, words in [
        ({"kind": "lung"}, "'lung'.*membranes, cord, abdomen"),
        ({"size": 8}, "8 x 8.*at least 16"),
        ({"seed": -1}, "seed = -1"),
        ({"train": 0}, "train = 0"),
    ]:
        with pytest.raises(ConfigError, match=words):
            resolve_dataset("phantom", options).load(None, "train", {"size": 48, **options})


@pytest.mark.parametrize("kind", KINDS)
def test_a_slice_is_made_quickly(kind: str) -> None:
    make(kind, 0, 0, 256)
    durations = []
    for index in range(5):
        started = time.thread_time()  # of this thread alone: other work on the machine does not count
        make(kind, 0, index, 256)
        durations.append(time.thread_time() - started)
    assert min(durations) < 0.2, f"{kind}: {min(durations):.3f} s"
