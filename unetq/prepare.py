"""What is checked and loaded before a run's first step, so that bad input leaves nothing behind."""

import json
import os
import shlex
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from . import checkpoint as checkpoints
from . import files
from .checkpoint import Checkpoint
from .config import differences, may_differ, to_yaml
from .distill import check_distillation, feature_blocks
from .errors import CheckpointError, ConfigError, DataError, OutputError
from .experiment import Experiment
from .export.program import Preprocessing
from .nets import build_network
from .progressive import phases, widened
from .runs import (
    CONFIG,
    FLOAT,
    STAGES,
    build_training,
    checkpoint_path,
    data_record,
    dataset_of,
    foreign_entry,
    holds_run,
    load_split,
    network_record,
    read_experiment,
)
from .samples import Samples, check_no_leak, check_size, digest
from .scoring import Scorer, check_classes, input_multiple, probe, spatial_axes

STEPS_BEFORE: dict[str, Any] = json.loads(json.dumps(asdict(Preprocessing())))
"""What a checkpoint's preprocessing means where it does not name a step."""


@dataclass(frozen=True)
class TrainingData:
    """Samples, the validation scorer, class names, and the network's channels in and out.

    ``record`` is what checkpoints say of the data; see ``runs.data_record``.
    """

    train: Samples
    validation: Samples
    scorer: Scorer
    labels: tuple[str, ...]
    channels: int
    channels_out: int
    record: dict[str, Any]


def check_folder(experiment: Experiment, out: Path, resume: bool) -> None:
    """Refuse to overwrite a run, or to resume what is not the same run.

    Raises:
        OutputError: ``out`` is a file, or holds a run that is not to be resumed, or other things.
        CheckpointError: there is nothing to resume.
        ConfigError: the resumed run was started with another config; the message names the keys.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return  # a process started by the first one, which has looked already and may have begun to write
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; a run is a folder. Choose another --out.")
    if not resume:
        if holds_run(out):
            raise OutputError(
                f"{out} already holds a run and nothing was overwritten; "
                "add --resume to go on, or choose another --out."
            )
        if (other := foreign_entry(out)) is not None:
            raise OutputError(
                f"{out} holds {other} and is no run; a run has its folder to itself. "
                "Choose another --out, such as a folder in it."
            )
        return
    if not (out / CONFIG).is_file() and holds_run(out):
        raise CheckpointError(
            f"{out} has parts of a run but no {CONFIG}, without which nothing can be resumed; "
            "put the file back, or start again with another --out."
        )
    if not (out / CONFIG).is_file():
        raise CheckpointError(
            f"{out} holds no run to resume (no {CONFIG}); leave --resume out to start one, or check --out."
        )
    changed = {k: v for k, v in differences(read_experiment(out), experiment).items() if not may_differ(k)}
    source = changed.get("train.from_run")
    if source is not None and None not in source and checkpoint_path(out, FLOAT, "best").is_file():
        del changed["train.from_run"]  # the float network was copied into the run at its start
    if changed:
        listed = "; ".join(f"{key} was {old!r}, now {new!r}" for key, (old, new) in changed.items())
        raise ConfigError(
            f"{out} cannot be resumed with another config: {listed}. "
            "Set it back, or start a new run with another --out."
        )


def new_network(experiment: Experiment) -> nn.Module:
    """The network with the experiment's own random weights."""
    torch.manual_seed(experiment.seed)
    return build_network(experiment.network.name, experiment.network.options)


def load_data(experiment: Experiment, network: nn.Module, data: Path | None, device: torch.device) -> TrainingData:
    """Training and validation slices, checked against each other, the data set's test split and the network.

    The low-bit network is built once too, since a setting that it refuses would else be found after the float stage.

    Raises:
        DataError: a split that cannot be given, a slice on two sides, or one smaller than the network's stride.
        ConfigError: a network whose channels or stride do not fit the data or the crop, or a low-bit setting that
            does not fit the network.
        UnsupportedError: a network with an operation that the integer program cannot represent.
    """
    spec, preprocessing = dataset_of(experiment)
    train = load_split(experiment, "train", data)
    validation = load_split(experiment, "validation", data)
    _check_sides(experiment, data, train, validation)
    for sample in (*train, *validation):
        if sample.label is None:
            raise DataError(f"slice {sample.id} has no label: training and validation need the truth; leave it out.")
    channels = int(train[0].image.shape[0])
    _check_axes(experiment, network)
    multiple = input_multiple(network, channels)
    for samples in (train, validation):
        check_size(samples, preprocessing, multiple)
    channels_out = probe(network, channels, size=experiment.crop_size)
    check_classes(channels_out, spec.labels)
    scorer = Scorer(validation, preprocessing, multiple, len(spec.labels), device)
    check_distillation(experiment)
    for phase in phases(experiment):
        quantized = build_training(network, widened(experiment, phase.bits), example_input(experiment, channels))
    if experiment.train.distill.features:
        feature_blocks(quantized, experiment.train.distill.blocks)
    digests = {"train": [digest(sample) for sample in train], "validation": [digest(sample) for sample in validation]}
    record = data_record(experiment, digests)
    return TrainingData(train, validation, scorer, spec.labels, channels, channels_out, record)


def _check_sides(experiment: Experiment, data: Path | None, train: Samples, validation: Samples) -> None:
    """No slice and no person on two sides; the test split is read for this, and let go.

    Where the loader promises ``test_apart``, it is not read. A test split that cannot be given (many folders have
    none) stops nothing here; evaluation on it says why.
    """
    sides = {"train": train, "validation": validation}
    spec, _ = dataset_of(experiment)
    if "test" in spec.splits and not spec.test_apart:
        with suppress(DataError):
            sides["test"] = load_split(experiment, "test", data)
    check_no_leak(sides)


def example_input(experiment: Experiment, channels: int) -> torch.Tensor:
    """A zero input (1, channels, *crop) to trace the network with."""
    return torch.zeros(1, channels, *experiment.crop_size)


def _check_axes(experiment: Experiment, network: nn.Module) -> None:
    axes = spatial_axes(network)
    if axes != experiment.data.dimensions:
        raise ConfigError(
            f"data.dimensions = {experiment.data.dimensions} and the network {experiment.network.name!r} convolves "
            f"{axes} axes: they must be equal; set data.dimensions, or network.options.spatial_dims."
        )


def check_same_slices(out: Path, loaded: TrainingData) -> None:
    """Refuse to resume with other slices than before; where they lie does not matter.

    Raises:
        CheckpointError: a checkpoint of the run records others.
    """
    for stage in STAGES:
        path = checkpoint_path(out, stage, "last")
        if not path.is_file():
            continue
        checkpoint = checkpoints.load(path)
        for split, now in loaded.record["digests"].items():
            before = checkpoints.recorded_digests(checkpoint, split)
            if before is not None and before != now:
                changed = sum(a != b for a, b in zip(before, now, strict=False)) + abs(len(before) - len(now))
                raise CheckpointError(
                    f"{path} was trained with other slices: {changed} of {max(len(before), len(now))} of the {split} "
                    "split differ; a resumed run goes on with the same ones. "
                    "Give the old data with --data, or start a new run with another --out."
                )


def _check_source_data(checkpoint: Checkpoint, loaded: TrainingData) -> None:
    """Refuse a float network that saw another intensity rule, other classes, or slices it would be validated on."""
    path, saved = checkpoint.path, checkpoint.info.get("data")
    if not isinstance(saved, dict) or checkpoints.recorded_digests(checkpoint, "train") is None:
        raise CheckpointError(
            f"{path} does not say which slices it was trained on: it was written by an earlier version; train it again."
        )
    for key, rule in (("preprocessing", "intensities are scaled alike"), ("labels", "the classes are the same")):
        before = saved.get(key)
        if key == "preprocessing" and isinstance(before, dict):
            before = STEPS_BEFORE | before  # an earlier version wrote fewer of them, and did what these say
        if before != loaded.record[key]:
            raise CheckpointError(
                f"{path} was trained with data {key} {before}, this run has {loaded.record[key]}: "
                f"a low-bit run starts from a float network for which {rule}. "
                "Set data.name, data.options and data.preprocessing alike, or train another float network."
            )
    number = checkpoints.shared_slice(checkpoint, loaded.record["digests"]["validation"])
    if number is not None:
        raise CheckpointError(
            f"{path} was trained on slice {loaded.scorer.samples[number].id} of this run's validation split: "
            "no slice may be on two sides of a split. Use the float run's own split (data.options, --data), "
            "or train another float network."
        )


def check_source(experiment: Experiment, out: Path, loaded: TrainingData) -> Path | None:
    """The float checkpoint that ``train.from_run`` names, or its copy in a resumed run; None without ``from_run``.

    Raises:
        ConfigError: the run is float itself.
        CheckpointError: missing, damaged, of another network, intensity rule or classes, or trained on slices
            that this run validates on.
    """
    given = experiment.train.from_run
    if given is None:
        return None
    if experiment.quant.is_float:
        raise ConfigError(
            f"train.from_run = {given} with 32-bit weights and activations: "
            "there is nothing left to train; set quant.weight_bits."
        )
    copy = checkpoint_path(out, FLOAT, "best")
    path = copy if copy.is_file() else Path(given)
    if path.is_dir():
        last = checkpoint_path(path, FLOAT, "last")
        if last.is_file() and not checkpoints.state_of(checkpoints.load(last)).done:
            raise CheckpointError(
                f"{path} has not finished its float stage; resume it first "
                f"(unetq train --resume --out {shlex.quote(str(path))}), "
                f"or name the checkpoint itself: {checkpoint_path(path, FLOAT, 'best')}."
            )
        path = checkpoint_path(path, FLOAT, "best")
    checkpoint = checkpoints.load(path)
    checkpoints.check_network(checkpoint, network_record(experiment), FLOAT)
    checkpoints.state_of(checkpoint)
    checkpoints.load_model(new_network(experiment), checkpoint)
    _check_source_data(checkpoint, loaded)
    return path


def open_folder(experiment: Experiment, out: Path, source: Path | None) -> None:
    """Create the run folder with its config, and the copy of the float network it starts from.

    The config comes first: a run killed between the two can be resumed, and then makes the copy.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        files.write_text(out / CONFIG, to_yaml(experiment))
        if source is not None:
            (out / FLOAT).mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create {out}: {error.strerror or error}. Choose another --out.") from None
    copy = checkpoint_path(out, FLOAT, "best")
    if source is not None and source != copy:
        files.write_json(copy.with_suffix(".json"), checkpoints.load(source).info)
        files.write_bytes(copy, source.read_bytes())  # last: where it is, the copy is complete
