"""A run folder as an object: its config, its data set, its networks as trained."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from . import checkpoint as checkpoints
from . import config as configs
from . import files
from .checkpoint import Checkpoint
from .data import DatasetSpec, find_root, resolve_dataset
from .errors import CheckpointError, ConfigError
from .experiment import EvaluationConfig, Experiment
from .export.program import Preprocessing
from .folds import Fold
from .nets import build_network
from .quant.convert import quantize
from .quant.network import QuantNet
from .quant.noise import NoiseSettings, add_noise
from .quant.settings import LayerSettings
from .samples import Samples

CONFIG, FACTS, HISTORY, METRICS = "config.yaml", "run.json", "history.jsonl", "metrics.json"
FLOAT, QUANT = "float", "quant"
STAGES = (FLOAT, QUANT)


def checkpoint_path(run: Path, stage: str, which: str) -> Path:
    """``<run>/<stage>/<best|last>.safetensors``."""
    return run / stage / f"{which}.safetensors"


def holds_run(folder: Path) -> bool:
    """True when the folder has anything of a run in it."""
    return any((folder / name).exists() for name in (CONFIG, FACTS, HISTORY, METRICS, *STAGES))


def foreign_entry(folder: Path) -> str | None:
    """The first entry of a folder that is not what a training killed at its start leaves; None where there is none."""
    if not folder.is_dir():
        return None
    return min((e.name for e in folder.iterdir() if not e.name.startswith(f".{CONFIG}.")), default=None)


def dataset_of(experiment: Experiment) -> tuple[DatasetSpec, Preprocessing]:
    """The data set under its options, and the preprocessing in force: its own, overlaid with the config's.

    Raises:
        ConfigError: an unknown data set or option, or keys that do not fit together.
    """
    spec = resolve_dataset(experiment.data.name, experiment.data.options)
    own = experiment.data.preprocessing
    given = {} if own is None else {key: value for key, value in own.model_dump().items() if value is not None}
    given |= {key: tuple(given[key]) for key in ("spacing", "window") if key in given}
    preprocessing = replace(spec.preprocessing, **given)
    if preprocessing.normalize == "window" and not preprocessing.low < preprocessing.high:
        raise ConfigError(
            f"data.preprocessing.low = {preprocessing.low}: it must be below high = {preprocessing.high}; widen it."
        )
    axes = experiment.data.dimensions
    for key in ("spacing", "window"):
        value = getattr(preprocessing, key)
        if value and len(value) != axes:
            raise ConfigError(
                f"data.preprocessing.{key} = {list(value)} of data set {spec.name!r} with data.dimensions = {axes}: "
                f"it takes {axes} numbers; set it."
            )
    return replace(spec, preprocessing=preprocessing), preprocessing


def load_split(experiment: Experiment, split: str, data: Path | None = None, min_size: int = 1) -> Samples:
    """The samples of one split; ``data`` (the command line's) goes before ``data.root``."""
    spec, _ = dataset_of(experiment)
    chosen = experiment.data
    root = data or (Path(chosen.root) if chosen.root else None)
    fold = None if chosen.fold is None else Fold(chosen.fold, chosen.folds, chosen.by)
    return spec.load(
        find_root(spec, root), split, chosen.options, dimensions=chosen.dimensions, fold=fold, min_size=min_size
    )


def build_quantized(network: nn.Module, experiment: Experiment, example: torch.Tensor) -> QuantNet:
    """The low-bit network of ``experiment`` around ``network``, not calibrated."""
    quant = experiment.quant
    return quantize(
        network,
        weight_bits=quant.weight_bits,
        act_bits=quant.act_bits,
        method=quant.method,
        per_channel=quant.per_channel,
        first_bits=quant.first_bits,
        last_bits=quant.last_bits,
        float_layers=tuple(quant.float_layers),
        weight_method=quant.weight_method,
        act_method=quant.act_method,
        group_size=quant.group_size,
        zero_point=quant.zero_point,
        dynamic=quant.dynamic,
        layers=[LayerSettings(**layer.model_dump()) for layer in quant.layers],
        example_input=example,
    )


def build_training(network: nn.Module, experiment: Experiment, example: torch.Tensor) -> QuantNet:
    """``build_quantized``, with the noise that ``quant.noise`` trains with.

    Raises:
        ConfigError: noise where nothing is rounded, or that a quantiser cannot have.
    """
    quantized, noise = build_quantized(network, experiment, example), experiment.quant.noise
    if noise.kind != "none":
        begin, end = noise.anneal
        add_noise(
            quantized,
            NoiseSettings(
                noise.kind, noise.tensors, noise.first, noise.last, begin, end, noise.shape, noise.blocks, noise.until,
                seed=experiment.seed,
            ),
        )  # fmt: skip
    return quantized


@dataclass(frozen=True)
class Run:
    """A run folder that ``open_run`` has checked."""

    path: Path
    experiment: Experiment

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @property
    def network(self) -> dict[str, Any]:
        """Name and options, as checkpoints carry them."""
        return network_record(self.experiment)

    def best(self, stage: str) -> Checkpoint:
        """The best checkpoint of a stage, checked to be of this run's network."""
        checkpoint = checkpoints.load(checkpoint_path(self.path, stage, "best"))
        checkpoints.check_network(checkpoint, self.network, stage)
        checkpoints.state_of(checkpoint)
        return checkpoint

    def has(self, stage: str) -> bool:
        """True when the stage has a best checkpoint."""
        return checkpoint_path(self.path, stage, "best").is_file()

    def float_network(self) -> tuple[nn.Module, Checkpoint]:
        """The float stage's best network, in evaluation mode."""
        checkpoint = self.best(FLOAT)
        network = build_network(self.experiment.network.name, self.experiment.network.options)
        checkpoints.load_model(network, checkpoint)
        return network.eval(), checkpoint

    def quantized(self) -> tuple[QuantNet, Checkpoint]:
        """The network this run is about, in evaluation mode: the best low-bit one, or the float one at 32/32 bits."""
        if self.experiment.quant.is_float:
            network, checkpoint = self.float_network()
            return build_quantized(network, self.experiment, self.example(checkpoint)).eval(), checkpoint
        checkpoint = self.best(QUANT)
        network = build_network(self.experiment.network.name, self.experiment.network.options)
        quantized = build_quantized(network, self.experiment, self.example(checkpoint))
        checkpoints.load_model(quantized, checkpoint)
        return quantized.eval(), checkpoint

    def example(self, checkpoint: Checkpoint) -> torch.Tensor:
        """A zero input (1, C, H, W) or (1, C, D, H, W) of a size the network was trained on."""
        return torch.zeros(1, *checkpoint.info["input"])


def network_record(experiment: Experiment) -> dict[str, Any]:
    """What makes two networks the same: name and options, as JSON gives them back."""
    record: dict[str, Any] = json.loads(
        json.dumps({"name": experiment.network.name, "options": experiment.network.options})
    )
    return record


def read_experiment(run: Path) -> Experiment:
    """The merged config of a run folder.

    Raises:
        CheckpointError: the folder or its config is missing or damaged.
    """
    path = run / CONFIG
    if not path.is_file():
        raise CheckpointError(
            f"{run} is not a run folder: it has no {CONFIG}. Give the folder that `unetq train --out` wrote."
        )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        return configs.build(values, str(path))
    except (yaml.YAMLError, OSError, ValueError, ConfigError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}); a run's config is written by `unetq train`. Train again."
        ) from None


def set_evaluation(run: Path, settings: EvaluationConfig) -> None:
    """Have a run scored by ``settings`` from now on; its next evaluation drops what was scored by others.

    Raises:
        CheckpointError: as ``read_experiment``. OutputError: its files cannot be written.
    """
    there = read_experiment(run)
    if there.evaluation == settings:
        return
    try:
        metrics = json.loads((run / METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        metrics = None  # there is nothing to be told apart
    if isinstance(metrics, dict) and configs.EVALUATION not in metrics:  # of an earlier version
        files.write_json(run / METRICS, {**metrics, configs.EVALUATION: there.evaluation.model_dump()})
    files.write_text(run / CONFIG, configs.to_yaml(there.model_copy(update={"evaluation": settings})))


def open_run(path: Path) -> Run:
    """Read a run folder's config.

    Raises:
        CheckpointError: not a run folder.
    """
    return Run(path, read_experiment(path))


def data_record(experiment: Experiment, digests: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What a checkpoint records of its data, as JSON gives it back; ``digests`` are those of each split's slices."""
    spec, preprocessing = dataset_of(experiment)
    record: dict[str, Any] = json.loads(
        json.dumps(
            {
                "name": spec.name,
                "options": spec.complete_options(experiment.data.options),
                "preprocessing": asdict(preprocessing),
                "labels": list(spec.labels),
                "digests": {split: list(items) for split, items in digests.items()},
            }
        )
    )
    return record
