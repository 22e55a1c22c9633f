"""Batches of a data set's samples: random crops to train on, whole images to measure on.

A training batch is a pure function of (seed, step): nothing is carried from one step to the next, so
a run that is resumed at step n sees exactly what an uninterrupted one would have seen.
"""

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from .augment import Augmentation
from .errors import ConfigError, DataError
from .export.program import Preprocessing
from .fixedpoint import F32
from .preprocess import network_image
from .resample import resample_label
from .samples import Sample
from .tiling import input_size, windows

Batch = tuple[torch.Tensor, torch.Tensor]
T = TypeVar("T")
CACHE_BYTES = 512 << 20  # normalised slices that are kept; the rest are normalised again at each visit
_ORDER, _VIEW = 0, 1  # streams of random numbers drawn from one seed


class CropDataset:
    """Random training crops of labelled samples, addressed by (step, index).

    Every sample comes once before any comes again, in an order that is shuffled anew each time. It is resampled and
    normalised whole, then cropped at a uniformly drawn place. A crop that is larger than the sample is filled by
    mirroring it (again and again if need be), image and label alike. A share ``foreground`` of the crops is centred,
    as far as the border allows, on a pixel of a foreground class (not class 0), which is drawn first; where the
    sample whose turn it is has none, another takes its place.

    Args:
        samples: labelled samples of equal channel count; sizes may differ.
        preprocessing: applied to the whole sample before cropping.
        crop: side of the square or cubic crop, or a side for each spatial axis.
        seed: 0 or above; with (step, index) it decides everything.
        augment: random views by ``unetq.augment``; False gives plain crops.
        foreground: 0…1.
        classes: how many there are, for labels that are resampled.

    Raises:
        ConfigError: crop, seed or foreground out of range.
        DataError: no samples, a sample without label, or differing channel counts.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        preprocessing: Preprocessing,
        crop: int | Sequence[int],
        seed: int,
        *,
        augment: bool = True,
        foreground: float = 0.0,
        classes: int = 2,
    ) -> None:
        if not samples:
            raise DataError("no samples to train on: a training split has at least one slice; check the data set.")
        axes = samples[0].image.ndim - 1
        self.crop = (crop,) * axes if isinstance(crop, int) else tuple(crop)
        if min(self.crop) < 1 or len(self.crop) != axes:
            raise ConfigError(f"crop = {self.crop}: {axes} sides of at least 1 pixel are needed; choose such a size.")
        if seed < 0:
            raise ConfigError(f"seed = {seed}: a seed is 0 or above; choose another.")
        if not 0.0 <= foreground <= 1.0:
            raise ConfigError(f"foreground = {foreground}: it is a share, 0 to 1; choose one.")
        if len({sample.image.shape[0] for sample in samples}) > 1:
            raise DataError("the training slices differ in their channel count: a network has one; select slices.")
        self._labels = [_label(sample) for sample in samples]
        self._samples = samples
        self._preprocessing = preprocessing
        self._seed = seed
        self._augmentation = Augmentation(self.crop) if augment else None
        self._classes = classes
        self._foreground = foreground
        filled = [number for number, label in enumerate(self._labels) if label.any()] if foreground else []
        self._filled = frozenset(filled)
        self._filled_order = np.array(filled, dtype=np.int64)
        self._cache: dict[int, tuple[F32, NDArray[np.uint8]]] = {}
        self._cached_bytes = 0
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def view(self, step: int, index: int, batch: int) -> Batch:
        """View ``index`` of the ``batch`` views of ``step``: float32 (C, *crop) and int64 crop."""
        epoch, position = divmod(step * batch + index, len(self._samples))
        if self._order[0] != epoch:  # remembered only for speed: a function of (seed, epoch)
            order = np.random.default_rng([self._seed, _ORDER, epoch]).permutation(len(self._samples))
            self._order = (epoch, order)
        number = int(self._order[1][position])
        draws = np.random.default_rng([self._seed, _VIEW, step, index])
        centred = bool(self._filled) and draws.random() < self._foreground
        if centred and number not in self._filled:
            number = int(draws.choice(self._filled_order))
        image, label = self._seen(number)
        margin = self._augmentation.margin if self._augmentation else (0,) * len(self.crop)
        starts = self._centred(label, draws) if centred else self._anywhere(label, draws)
        places = np.ix_(
            *(
                _mirrored(start - border, want + 2 * border, have)
                for start, want, border, have in zip(starts, self.crop, margin, label.shape, strict=True)
            )
        )
        patch = np.stack([channel[places] for channel in image])
        truth = np.ascontiguousarray(label[places])
        if self._augmentation is None:
            return torch.from_numpy(patch), torch.from_numpy(truth.astype(np.int64))
        picture, classes = self._augmentation(patch, truth, int(draws.integers(0, 2**32)))
        if self._preprocessing.normalize == "window":
            picture = picture.clamp_(0.0, 1.0)  # a window never lets more through, neither here nor on the device
        return picture, classes

    def _anywhere(self, label: NDArray[np.uint8], draws: np.random.Generator) -> list[int]:
        return [
            int(draws.integers(0, max(have - want, 0) + 1)) for have, want in zip(label.shape, self.crop, strict=True)
        ]

    def _centred(self, label: NDArray[np.uint8], draws: np.random.Generator) -> list[int]:
        """The first pixel of a crop around a drawn pixel of a drawn foreground class."""
        present = np.flatnonzero(np.bincount(label.reshape(-1), minlength=2)[1:]) + 1
        if not len(present):  # lost in resampling
            return self._anywhere(label, draws)
        pixels = np.flatnonzero(label == draws.choice(present))
        centre = np.unravel_index(int(draws.choice(pixels)), label.shape)
        return [
            min(max(int(at) - want // 2, 0), max(have - want, 0))
            for at, want, have in zip(centre, self.crop, label.shape, strict=True)
        ]

    def batch(self, step: int, batch: int, *, rank: int = 0, world_size: int = 1) -> Batch:
        """The batch of ``step``: float32 (N, C, *crop) and int64 (N, *crop).

        With ``world_size`` processes, each makes its own ``batch`` views of one larger batch.
        """
        first = rank * batch
        views = [self.view(step, first + index, batch * world_size) for index in range(batch)]
        return torch.stack([image for image, _ in views]), torch.stack([label for _, label in views])

    def _seen(self, number: int) -> tuple[F32, NDArray[np.uint8]]:
        """A sample and its label as the network would see them whole."""
        if number in self._cache:
            return self._cache[number]
        sample = self._samples[number]
        image = network_image(sample.image, sample.spacing, self._preprocessing, sample.moments)
        label = resample_label(self._labels[number], image.shape[1:], self._classes)
        size = image.nbytes + label.nbytes
        if self._cached_bytes + size <= CACHE_BYTES:
            self._cache[number] = image, label
            self._cached_bytes += size
        return image, label


def train_batches(
    samples: Sequence[Sample],
    preprocessing: Preprocessing,
    crop: int | Sequence[int],
    batch: int,
    seed: int,
    start_step: int,
    steps: int,
    augment: bool = True,
    *,
    foreground: float = 0.0,
    classes: int = 2,
    rank: int = 0,
    world_size: int = 1,
    ahead: int = 2,
) -> Iterator[Batch]:
    """The batches of steps ``start_step … steps - 1``: images float32 (N, C, *crop), labels int64 (N, *crop).

    ``steps`` is where the schedule ends, whatever ``start_step`` is. Up to ``ahead`` batches are made in
    advance by one background thread (0: none, made when asked for); this changes no batch. Close the
    iterator (or let it go) to end the thread.

    Raises:
        ConfigError, DataError: as ``CropDataset``, at once and not at the first batch.
    """
    if batch < 1 or not 0 <= rank < world_size:
        raise ConfigError(f"batch = {batch}, rank {rank} of {world_size}: a batch has at least 1 crop a process.")
    crops = CropDataset(samples, preprocessing, crop, seed, augment=augment, foreground=foreground, classes=classes)
    made = (crops.batch(step, batch, rank=rank, world_size=world_size) for step in range(start_step, steps))
    return prefetch(made, ahead) if ahead > 0 else made


def network_inputs(
    samples: Sequence[Sample], preprocessing: Preprocessing, multiple: int | Sequence[int]
) -> Iterator[tuple[Sample, torch.Tensor]]:
    """What the network is called with for whole samples, one by one: (sample, float32 (1, C, *size)).

    The image is resampled, normalised, and extended at its end to the network's ``multiple`` (one number or an
    entry for each spatial axis) exactly as ``predict`` does it; with a sliding window each window comes in its turn.
    """
    for sample in samples:
        image = network_image(sample.image, sample.spacing, preprocessing, sample.moments)
        axes = image.ndim - 1
        steps = (multiple,) * axes if isinstance(multiple, int) else tuple(multiple)
        for window in windows(image, input_size(image.shape[1:], preprocessing.window, steps), preprocessing.overlap):
            yield sample, torch.from_numpy(window)[None]


def prefetch(items: Iterator[T], ahead: int) -> Iterator[T]:
    """Yield ``items`` in order, made up to ``ahead`` in advance by one background thread.

    An error of ``items`` is raised here, in its turn. The thread ends when the iterator is exhausted,
    closed or let go.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=ahead)
    stopped = threading.Event()

    def put(entry: tuple[T | None, BaseException | None]) -> bool:
        while not stopped.is_set() and threading.main_thread().is_alive():
            try:
                ready.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((None, StopIteration()))
        except BaseException as error:  # handed over: the consumer must see what went wrong
            put((None, error))

    # Not a daemon: one that is cut off inside torch while Python shuts down can crash the process. It ends by
    # itself once the main thread has, even if nobody closed the iterator.
    thread = threading.Thread(target=work, name="unetq-prefetch")
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]  # an entry without error carries an item
    finally:
        stopped.set()
        thread.join(timeout=5.0)


def _label(sample: Sample) -> NDArray[np.uint8]:
    if sample.label is None:
        raise DataError(f"slice {sample.id} has no label: training needs the truth; leave unlabelled slices out.")
    return sample.label


def _mirrored(start: int, length: int, size: int) -> NDArray[np.int64]:
    """Indices ``start … start + length - 1`` into an axis of ``size``, mirrored at its ends without repeating them."""
    period = max(2 * (size - 1), 1)
    folded = np.arange(start, start + length) % period
    return np.asarray(np.minimum(folded, period - folded) if size > 1 else np.zeros(length), dtype=np.int64)
