"""Whole images through a network, decided and compared with the truth: one way for training and evaluation."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .errors import ConfigError, DataError
from .export.program import Preprocessing
from .fixedpoint import F32
from .metrics import SliceScore, count
from .preprocess import decide, network_image
from .resample import resample
from .samples import Sample
from .tiling import check_window, input_size, tiled

LARGEST_MULTIPLE = 128
Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Scorer:
    """Predicts samples and scores them on their own grid.

    ``samples`` all have labels; ``multiple`` is what a side of the network's input must be a multiple of
    (one number, or an entry for each spatial axis).
    ``forward`` functions bring their own device; images are moved to ``device``.
    """

    samples: Sequence[Sample]
    preprocessing: Preprocessing
    multiple: int | Sequence[int]
    classes: int
    device: torch.device

    def __post_init__(self) -> None:
        if self.preprocessing.window:
            check_window(self.preprocessing.window, self._multiple(len(self.preprocessing.window)))

    def predict(self, forward: Forward) -> Iterator[tuple[Sample, NDArray[np.uint8]]]:
        """Each sample with its class indices; ``forward`` takes (1, C, H, W) or (1, C, D, H, W) and gives logits."""
        for sample in self.samples:
            yield sample, decide(resample(self.logits(sample, forward), sample.image.shape[1:]))

    def logits(self, sample: Sample, forward: Forward) -> F32:
        """Logits (K, spatial) on the network's grid, windows blended."""

        def run(image: F32) -> F32:
            with torch.no_grad():
                found = forward(torch.from_numpy(image)[None].to(self.device))
            return np.asarray(found[0].float().cpu().numpy())

        image = network_image(sample.image, sample.spacing, self.preprocessing, sample.moments)
        return tiled(run, image, self._call(image.shape[1:]), self.preprocessing.overlap)

    def call_size(self, sample: Sample) -> tuple[int, ...]:
        """The spatial size that the network is called with for a sample."""
        image = network_image(sample.image, sample.spacing, self.preprocessing, sample.moments)
        return self._call(image.shape[1:])

    def score(self, sample: Sample, prediction: NDArray[np.uint8]) -> SliceScore:
        """Pixel counts of one prediction."""
        if sample.label is None:
            raise DataError(f"slice {sample.id} has no label: it cannot be scored; choose a labelled split.")
        return SliceScore(sample.id, sample.volume, count(prediction, sample.label, self.classes))

    def _call(self, size: Sequence[int]) -> tuple[int, ...]:
        return input_size(size, self.preprocessing.window, self._multiple(len(size)))

    def _multiple(self, axes: int) -> tuple[int, ...]:
        return (self.multiple,) * axes if isinstance(self.multiple, int) else tuple(self.multiple)


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


def probe(
    network: nn.Module, channels: int, multiple: int | None = None, size: Sequence[int] | None = None, axes: int = 2
) -> int:
    """Number of logit channels, from a dry run on zeros; the network must keep the spatial size.

    Args:
        network: what is tried, on its own device.
        channels: of its input.
        multiple: tried on three times this, where ``size`` is not given.
        size: the spatial size to try.
        axes: how many spatial axes there are, where ``size`` is not given.

    Raises:
        ConfigError: the network refuses ``channels`` channels or ``size``.
    """
    sides = tuple(size) if size is not None else (3 * (multiple or 1),) * axes
    shown = " x ".join(map(str, (channels, *sides)))
    training = network.training
    network.eval()
    device = next(network.parameters()).device
    try:
        with torch.no_grad():
            output = network(torch.zeros(1, channels, *sides, device=device))
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"the network does not take {shown} inputs ({reason}); set network.options to the data's channels and "
            "dimensions, and train.crop to a multiple of the network's stride."
        ) from None
    finally:
        network.train(training)
    if not isinstance(output, Tensor) or output.shape[2:] != sides:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ConfigError(f"the network turns 1 x {shown} into {found}; one map of the same size is needed.")
    return int(output.shape[1])


def input_multiple(network: nn.Module, channels: int, axes: int | None = None) -> int:
    """The smallest power of two whose multiples the network takes as sides.

    Tried on three times each candidate, since an odd multiple cannot fit by chance.

    Args:
        network: what is tried.
        channels: of its input.
        axes: spatial axes; by default as many as its first convolution has.

    Raises:
        ConfigError: none up to 128 works; the message is that of the largest.
    """
    spatial = axes or spatial_axes(network)
    multiple = 1
    while True:
        try:
            probe(network, channels, multiple, axes=spatial)
            return multiple
        except ConfigError:
            if multiple >= LARGEST_MULTIPLE:
                raise
            multiple *= 2


def spatial_axes(network: nn.Module) -> int:
    """2 or 3: the spatial axes of the network's first convolution; 2 where there is none."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            return 2
        if isinstance(module, nn.Conv3d | nn.ConvTranspose3d):
            return 3
    return 2
