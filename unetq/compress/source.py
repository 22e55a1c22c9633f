"""Where compression starts: the float network, its data, and the network with widths that can be changed."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import __version__
from .. import checkpoint as checkpoints
from ..batches import CropDataset
from ..checkpoint import Checkpoint
from ..data import DatasetSpec
from ..errors import ConfigError, DataError
from ..experiment import Experiment
from ..export.program import ModelMeta, Preprocessing
from ..losses import build_loss
from ..ptq.network import Options
from ..ptq.run import calibration, quantised_experiment
from ..ptq.source import load_source
from ..quant.network import QuantNet
from ..runs import QUANT, build_quantized, dataset_of, load_split, network_record
from ..samples import Samples, digest, image_part
from ..scoring import Scorer, input_multiple
from .sensitivity import Crops
from .space import Allocation
from .workbench import Workbench

Tell = Callable[[str], None]
STARTING_BITS = {"weight_bits": 8, "act_bits": 8, "first_bits": 8, "last_bits": 8, "layers": []}
METHODS = ("fixed", "lsq")
LONGEST_DICE = 1.2345678901234567e-05  # of a number between 0 and 1, as JSON writes it


@dataclass(frozen=True)
class Start:
    """All that does not depend on the budget.

    Attributes:
        origin: the source run's experiment. checkpoint: its float stage. quant: the config's section without widths.
        scorer: of the validation split. training: samples of the training split.
    """

    origin: Experiment
    checkpoint: Checkpoint
    network: nn.Module
    quant: dict[str, Any]
    options: Options
    samples: int
    spec: DatasetSpec
    preprocessing: Preprocessing
    training: Samples
    scorer: Scorer
    multiple: int

    @property
    def size(self) -> tuple[int, ...]:
        """The spatial size that the network is called with for a validation image."""
        return self.scorer.call_size(self.scorer.samples[0])

    def experiment(self, layers: Sequence[Mapping[str, Any]]) -> Experiment:
        """The config of the run that is written, with the widths of ``layers``."""
        quant = {**self.quant, "layers": [dict(entry) for entry in layers]}
        return quantised_experiment(self.origin, quant, self.options.seed, self.checkpoint.path)

    def identity(self, widths: Sequence[int]) -> dict[str, Any]:
        """All that measurements depend on, as JSON takes it."""
        return {
            "unetq": __version__,
            "checkpoint": _sha256(self.checkpoint.path),
            "validation": [digest(sample) for sample in self.scorer.samples],
            "training": [image_part(digest(sample)) for sample in self.training],
            "quant": self.quant,
            "options": asdict(self.options),
            "samples": self.samples,
            "widths": sorted(set(widths)),
        }

    def meta(self, name: str, bench: Workbench, step: int = 0) -> Callable[[Allocation], ModelMeta]:
        """What the packed file of an allocation will say of itself.

        Args:
            name: of the run folder. step: of fine-tuning, 0 for none; a tuned run also names its Dice, here as long
                as that can get.
        """
        dice = dict.fromkeys(self.spec.labels, LONGEST_DICE) if step else None
        sha = _sha256(self.checkpoint.path)  # as long as that of the run's own checkpoint

        def of(allocation: Allocation) -> ModelMeta:
            quant = self.experiment(bench.space.layers(allocation)).quant.model_dump()
            return ModelMeta(
                name=name,
                labels=tuple(self.spec.labels),
                label_values=tuple(self.spec.label_values),
                preprocessing=self.preprocessing,
                provenance={
                    "unetq": __version__,
                    "dataset": self.spec.name,
                    "network": network_record(self.origin),
                    "quant": quant,
                    "seed": self.options.seed,
                    "stage": QUANT,
                    "step": step,
                    "validation_dice": dice,
                    "checkpoint_sha256": sha,
                },
            )

        return of

    def quantized(self) -> QuantNet:
        """The network's twin at 8 bits, not calibrated."""
        example = torch.zeros(1, *self.checkpoint.info["input"])
        return build_quantized(self.network, self.experiment([]), example)

    def bench(self, widths: Sequence[int], tell: Tell) -> Workbench:
        """The network with a quantiser for every width, ranges as ``unetq ptq`` chooses them."""
        found = calibration(
            self.experiment([]), self.checkpoint, self.network, (), self.samples, None, self.options, tell
        )
        return Workbench(self.quantized(), widths, found.images, self.options, found.weights, self.multiple)

    def crops(self) -> Crops:
        """Labelled crops of the training split to measure sensitivity on: as many as ``samples``."""
        size = [int(side) for side in self.checkpoint.info["input"][1:]]
        drawn = CropDataset(
            self.training, self.preprocessing, size, self.options.seed, augment=False, foreground=0.5,
            classes=len(self.spec.labels),
        )  # fmt: skip
        views = [drawn.view(0, index, self.samples) for index in range(self.samples)]
        images, labels = (torch.stack([view[i] for view in views]) for i in (0, 1))
        with torch.no_grad():
            channels = int(self.network(images[:1]).shape[1])
        loss = build_loss(channels, self.origin.train.loss)

        def in_float(x: Tensor) -> Tensor:
            found: Tensor = self.network(x)
            return found

        return Crops(images, labels, self.spec.labels, in_float, loss)


def open_start(source: Path, settings: Mapping[str, Any], options: Options, samples: int, data: Path | None) -> Start:
    """Read and check everything before any work.

    Args:
        source: a run folder, or a float checkpoint. settings: of the config's section ``quant``, without widths.
        options: the ranges and the seed. samples: crops. data: folder of the data set.

    Raises:
        CheckpointError: no usable float stage. ConfigError: a setting that has no place here.
        DataError: no slices, slices without labels, or validation slices that the network was trained on.
    """
    if samples < 1:
        raise ConfigError(f"samples = {samples}: at least 1 crop is needed; 16 is usual.")
    taken = sorted(set(settings) & set(STARTING_BITS))
    if taken:
        raise ConfigError(f"quant.{taken[0]}: compress itself chooses widths; leave it out, or use `unetq ptq`.")
    method = settings.get("method", METHODS[0])
    if method not in METHODS:
        raise ConfigError(f"quant.method = {method!r}: compress chooses among widths of {' or '.join(METHODS)}.")
    origin, checkpoint, network = load_source(source)
    if data is not None:
        origin = origin.model_copy(update={"data": origin.data.model_copy(update={"root": str(data)})})
    spec, preprocessing = dataset_of(origin)
    training = load_split(origin, "train")
    validation = load_split(origin, "validation")
    for split, found in (("train", training), ("validation", validation)):
        if not found:
            raise DataError(f"split {split!r} has 0 slices: bits are chosen on images; check --data.")
        unlabelled = next((sample.id for sample in found if sample.label is None), None)
        if unlabelled is not None:
            raise DataError(f"slice {unlabelled} of split {split!r} has no label: Dice needs the truth; leave it out.")
    number = checkpoints.shared_slice(checkpoint, [digest(sample) for sample in validation])
    if number is None:
        number = _shared(training, validation)
    if number is not None:
        raise DataError(
            f"slice {validation[number].id} of split 'validation' is one that {checkpoint.path} was trained on: its "
            "Dice would say nothing of a budget; give other data with --data, or choose another split."
        )
    multiple = input_multiple(network, int(checkpoint.info["input"][0]))
    scorer = Scorer(validation, preprocessing, multiple, len(spec.labels), torch.device("cpu"))
    quant = {**STARTING_BITS, "method": METHODS[0], "weight_method": None, "act_method": None, **settings}
    return Start(
        origin, checkpoint, network, quant, options, samples, spec, preprocessing, training, scorer, multiple
    )  # fmt: skip


def _shared(training: Samples, validation: Samples) -> int | None:
    seen = {image_part(digest(sample)) for sample in training}
    return next((i for i, sample in enumerate(validation) if image_part(digest(sample)) in seen), None)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
