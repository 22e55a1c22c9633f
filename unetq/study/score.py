"""A run of a study scored on whole images that are not augmented: loss and Dice of both splits, and on distorted ones.

It is scored as it ships: low-bit activations in the integer arithmetic, float ones by the same executor with float
layers. A run of the noise arm has its weights unrounded, as its training saw them, clipped to the grid's ends.
"""

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..batches import CropDataset
from ..data import DatasetSpec
from ..errors import DataError
from ..experiment import Experiment
from ..export.program import Preprocessing
from ..losses import Loss, build_loss
from ..metrics import headline, volume_dice
from ..nets import build_network
from ..preprocess import decide
from ..quant.network import QuantNet
from ..quant.unrounded import unrounded_weights
from ..resample import resample, resample_label
from ..runs import FLOAT, QUANT, checkpoint_path, dataset_of, load_split, open_run
from ..samples import Samples
from ..scoring import Forward, Scorer, input_multiple, probe
from .distortions import DISTORTIONS, distort_samples
from .plan import Arm


@dataclass(frozen=True)
class Score:
    """The mean loss of a split's images, and Dice 0…1 by class (pixels of a volume pooled) with their "mean"."""

    loss: float
    dice: dict[str, float]


@dataclass(frozen=True)
class Trained:
    """A trained run: the network, how it is run, and the hash of the checkpoint it is from."""

    network: QuantNet
    forward: Forward
    rounded: bool
    sha256: str


class Bench:
    """The data that all runs of a study are measured on, loaded once.

    Args:
        experiment: of any of its runs; they have one data set, network and loss.
        seed: of what is drawn: crops and distortions.

    Raises:
        ConfigError, DataError: the data cannot be loaded.
    """

    def __init__(self, experiment: Experiment, seed: int) -> None:
        self.experiment, self.seed = experiment, seed
        spec, preprocessing = dataset_of(experiment)
        self.spec: DatasetSpec = spec
        self.preprocessing: Preprocessing = preprocessing
        self.train, self.validation = self._split("train"), self._split("validation")
        network = build_network(experiment.network.name, experiment.network.options)
        channels = int(self.train[0].image.shape[0])
        self.multiple = input_multiple(network, channels)
        self.loss: Loss = build_loss(
            probe(network, channels, self.multiple, axes=experiment.data.dimensions), experiment.train.loss
        )

    def _split(self, name: str) -> Samples:
        samples = load_split(self.experiment, name)
        unlabelled = next((sample.id for sample in samples if sample.label is None), None)
        if unlabelled is not None:
            raise DataError(
                f"slice {unlabelled} of split {name!r} has no label: a study needs the truth; leave it out."
            )
        return samples

    @cached_property
    def distorted(self) -> dict[str, dict[str, Samples]]:
        """The validation images by distortion and severity ("1" …)."""
        return {
            name: {
                str(severity): distort_samples(self.validation, name, severity, self.seed, self.preprocessing)
                for severity in range(1, len(strengths) + 1)
            }
            for name, strengths in DISTORTIONS.items()
        }

    def crops(self, count: int) -> tuple[list[Tensor], list[Tensor]]:
        """``count`` fixed crops of training images in batches of the training's size: images and labels."""
        size = min(self.experiment.train.batch, count)
        drawn = CropDataset(
            self.train, self.preprocessing, self.experiment.crop_size, self.seed, augment=False,
            classes=len(self.spec.labels),
        )  # fmt: skip
        batches = [drawn.batch(step, size) for step in range(max(count // size, 1))]
        return [images for images, _ in batches], [labels for _, labels in batches]

    def score(self, samples: Sequence[Any], forward: Forward) -> Score:
        """``forward`` maps (1, C, H, W) or (1, C, D, H, W) to logits; every image counts alike in the loss."""
        scorer = Scorer(samples, self.preprocessing, self.multiple, len(self.spec.labels), torch.device("cpu"))
        losses, scores = [], []
        for sample in samples:
            logits = scorer.logits(sample, forward)
            truth = resample_label(sample.label, logits.shape[1:], len(self.spec.labels))
            target = torch.from_numpy(truth.astype(np.int64))[None]
            losses.append(float(self.loss(torch.from_numpy(logits)[None], target)))
            scores.append(scorer.score(sample, decide(resample(logits, sample.image.shape[1:]))))
        dice = volume_dice(scores, self.spec.labels)
        return Score(float(np.mean(losses)), {**dice, "mean": headline(dice)})

    def robustness(self, forward: Forward) -> dict[str, dict[str, float]]:
        """Mean validation Dice by distortion and severity."""
        return {
            name: {severity: self.score(samples, forward).dice["mean"] for severity, samples in by.items()}
            for name, by in self.distorted.items()
        }


def checkpoint_digest(folder: Path, arm: Arm) -> str:
    """Of the checkpoint that a finished run is measured by."""
    path = checkpoint_path(folder, FLOAT if arm == "float" else QUANT, "best")
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def open_trained(folder: Path, arm: Arm) -> Trained:
    """The network of a finished run, as its arm is evaluated.

    Raises:
        CheckpointError: missing or damaged.
    """
    network, _ = open_run(folder).quantized()
    sha256 = checkpoint_digest(folder, arm)
    if arm == "noise":
        network = copy.deepcopy(network)
        with torch.no_grad():
            for name, value in unrounded_weights(network).items():
                network.tensor(name).copy_(value)
    if arm in ("float", "noise"):
        return Trained(network, network.float_forward, False, sha256)
    return Trained(network, network, True, sha256)
