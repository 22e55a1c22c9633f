"""Whole slices through a network, decided and compared with the truth: one way for training and evaluation."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .batches import full_slices
from .data import Sample
from .errors import ConfigError, DataError
from .export.program import Preprocessing
from .metrics import SliceScore, count
from .preprocess import crop, decide

LARGEST_MULTIPLE = 128
Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Scorer:
    """Predicts slices and scores them.

    ``samples`` all have labels; ``multiple`` is what a side of the network's input must be a multiple of
    (one number, or an entry for each of height and width).
    ``forward`` functions bring their own device; images are moved to ``device``.
    """

    samples: Sequence[Sample]
    preprocessing: Preprocessing
    multiple: int | Sequence[int]
    classes: int
    device: torch.device

    def predict(self, forward: Forward) -> Iterator[tuple[Sample, NDArray[np.uint8]]]:
        """Each sample with its class indices (H, W); ``forward`` takes (1, C, H, W) float32 and gives logits."""
        for sample, image in full_slices(self.samples, self.preprocessing, self.multiple):
            with torch.no_grad():
                logits = forward(image.to(self.device))
            values = logits[0].float().cpu().numpy()
            yield sample, decide(crop(values, sample.image.shape[1:]))

    def score(self, sample: Sample, prediction: NDArray[np.uint8]) -> SliceScore:
        """Pixel counts of one prediction."""
        if sample.label is None:
            raise DataError(f"slice {sample.id} has no label: it cannot be scored; choose a labelled split.")
        return SliceScore(sample.id, sample.volume, count(prediction, sample.label, self.classes))


def check_classes(channels: int, labels: Sequence[str]) -> None:
    """A network has one logit channel for two classes, or one a class.

    Raises:
        ConfigError: otherwise.
    """
    if channels != len(labels) and not (channels == 1 and len(labels) == 2):
        fit = "1 or 2" if len(labels) == 2 else str(len(labels))
        raise ConfigError(
            f"the network has {channels} output channels, the data set {len(labels)} classes ({', '.join(labels)}): "
            f"{fit} channels fit; set network.options.out_channels."
        )


def probe(network: nn.Module, channels: int, multiple: int | None = None, size: int | None = None) -> int:
    """Number of logit channels, from a dry run on zeros; the network must keep the spatial size.

    Raises:
        ConfigError: the network refuses ``channels`` channels or ``size``.
    """
    side = size or 3 * (multiple or 1)
    training = network.training
    network.eval()
    device = next(network.parameters()).device
    try:
        with torch.no_grad():
            output = network(torch.zeros(1, channels, side, side, device=device))
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"the network does not take {channels} x {side} x {side} inputs ({reason}); "
            "set network.options to the data's channels and train.crop to a multiple of the network's stride."
        ) from None
    finally:
        network.train(training)
    if not isinstance(output, Tensor) or output.shape[2:] != (side, side):
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ConfigError(
            f"the network turns 1 x {channels} x {side} x {side} into {found}; one map of the same size is needed."
        )
    return int(output.shape[1])


def input_multiple(network: nn.Module, channels: int) -> int:
    """The smallest power of two whose multiples the network takes as height and width.

    Tried on three times each candidate, since an odd multiple cannot fit by chance.

    Raises:
        ConfigError: none up to 128 works; the message is that of the largest.
    """
    multiple = 1
    while True:
        try:
            probe(network, channels, multiple)
            return multiple
        except ConfigError:
            if multiple >= LARGEST_MULTIPLE:
                raise
            multiple *= 2
