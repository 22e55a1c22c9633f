"""``unetq ptq``: from a trained float network to a low-bit run folder in minutes, without labels."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import __version__, files
from .. import checkpoint as checkpoints
from .. import config as configs
from ..checkpoint import Checkpoint, State
from ..errors import ConfigError, OutputError
from ..experiment import Experiment
from ..facts import Facts
from ..processes import build_fabric
from ..quant.network import QuantNet
from ..runs import (
    CONFIG,
    FACTS,
    FLOAT,
    QUANT,
    build_quantized,
    checkpoint_path,
    dataset_of,
    load_split,
    network_record,
)
from ..samples import digest, image_part
from ..scoring import input_multiple
from .foreground import choose_crops, class_shares, pixel_weights, predicted_classes
from .images import CANDIDATES, batches, crops, own_samples, read_samples
from .network import Options, quantize_after_training
from .source import load_source

RECORD = "ptq.json"
SCHEMA = 1
BATCH = 4
STEPS = ("equalize", "adaround", "bn_reestimate", "bias_correction", "foreground")
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Calibration:
    """Batches of crops, their pixel weights where the foreground counts, and a record of what they are."""

    images: list[Tensor]
    weights: list[Tensor] | None
    record: dict[str, Any]


def ptq(
    source: Path,
    out: Path,
    quant: Mapping[str, Any],
    options: Options,
    *,
    images: Sequence[Path] = (),
    samples: int = 16,
    data: Path | None = None,
    command: str = "",
    tell: Tell = lambda text: None,
) -> dict[str, Any]:
    """Quantise the float network of ``source`` after training and write the run folder ``out``, whole or not at all.

    Args:
        source: a run folder or a float checkpoint.
        quant: values of the config's section ``quant`` over those of the source: widths, method and so on.
        options: what to do; see ``Options``.
        images: files and folders to calibrate on; empty: the training slices of the source's data set.
        samples: crops to calibrate on, of the size that the network was trained with.
        data: folder of the data set, before the config's own.
        command: for ``run.json``. tell: called with a line of progress now and then.

    Returns:
        What ``ptq.json`` holds.

    Raises:
        CheckpointError: ``source`` has no usable float stage. ConfigError: nothing to quantise, or a bad setting.
        DataError: no images, or images that cannot be used. UnsupportedError: the network or the method cannot.
        OutputError: ``out`` is not empty or cannot be written.
    """
    started = time.time()
    check_out(out)
    if samples < 1:
        raise ConfigError(f"samples = {samples}: at least 1 crop is needed; 16 is usual.")
    origin, checkpoint, network = load_source(source)
    experiment = quantised_experiment(origin, quant, options.seed, checkpoint.path)
    facts_fabric = build_fabric(_on_cpu(experiment).train)
    # Built before any image is read: a setting that the network refuses is told at once.
    quantized = build_quantized(network, experiment, _example(checkpoint))
    found = calibration(experiment, checkpoint, network, images, samples, data, options, tell)
    record = {
        "schema": SCHEMA,
        "unetq": __version__,
        "source": {"checkpoint": str(checkpoint.path), "sha256": _sha256(checkpoint.path)},
        "quant": experiment.quant.model_dump(),
        "images": found.record,
        **quantize_after_training(quantized, found.images, options, found.weights, tell),
    }
    quantized.program(tuple(found.images[0].shape[2:]))  # what cannot be exported is told before writing
    seconds = time.time() - started
    record["seconds"]["total"] = round(seconds, 3)
    _write(out, experiment, checkpoint, quantized, record, seconds, command, facts_fabric)
    return record


def describe(out: Path, record: Mapping[str, Any]) -> str:
    """A record in a few lines for people."""
    options, quant, images = record["options"], record["quant"], record["images"]
    steps = [name for name in STEPS if options[name]]
    lines = [
        f"{out}: W{quant['weight_bits']}A{quant['act_bits']}, {quant['method']}, range {options['range']}"
        f"{''.join(', ' + name.replace('_', ' ') for name in steps)}",
        f"  {images['crops']} crops of {images['slices']} slices, {record['seconds']['total']:.0f} s",
    ]
    for name in STEPS:
        found = record.get(name)
        if not isinstance(found, dict):
            continue
        left = found["left_out"] if name == "equalize" else _reasons(found)
        if left:
            listed = "; ".join(f"{key}: {reason}" for key, reason in left.items())
            lines.append(f"  {name.replace('_', ' ')} left out {len(left)} layers: {listed}")
    return "\n".join(lines)


def _reasons(layers: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {key: str(entry["left_out"]) for key, entry in layers.items() if "left_out" in entry}


def check_out(out: Path) -> None:
    """Refuse a place where no run folder can be made.

    Raises:
        OutputError: it is not empty, or lies below a file.
    """
    if out.absolute().parent.is_dir():
        files.refuse_full_folder(out)
    elif any(p.exists() and not p.is_dir() for p in out.absolute().parents):
        raise OutputError(f"{out} lies below a file; a run is a folder. Choose another place.")


def quantised_experiment(origin: Experiment, quant: Mapping[str, Any], seed: int, source: Path) -> Experiment:
    """The config of a low-bit run made from the float checkpoint ``source`` of ``origin``.

    Args:
        quant: values of its section ``quant`` over those of ``origin``.

    Raises:
        ConfigError: a setting that does not exist, or 32-bit weights and activations.
    """
    values = configs.overlay(
        origin.model_dump(),
        {"quant": dict(quant), "train": {"from_run": str(source), "from_scratch": False}, "seed": seed},
    )
    experiment = configs.build(values, "the command")
    if experiment.quant.is_float:
        raise ConfigError("32-bit weights and activations: nothing is left to quantise; set --weight-bits.")
    return experiment


def _on_cpu(experiment: Experiment) -> Experiment:
    train = experiment.train.model_copy(update={"accelerator": "cpu", "devices": 1, "strategy": "auto"})
    return experiment.model_copy(update={"train": train})


def _example(checkpoint: Checkpoint) -> Tensor:
    return torch.zeros(1, *checkpoint.info["input"])


def calibration(
    experiment: Experiment,
    checkpoint: Checkpoint,
    network: nn.Module,
    images: Sequence[Path],
    samples: int,
    data: Path | None,
    options: Options,
    tell: Tell,
) -> Calibration:
    """Crops to choose ranges on, of the size that the network was trained with; see ``ptq`` for the arguments.

    Raises:
        DataError: no images, or images that cannot be used.
    """
    channels, *size = (int(n) for n in checkpoint.info["input"])
    stride = input_multiple(network, channels)
    _, preprocessing = dataset_of(experiment)
    if images:
        slices = read_samples(images, preprocessing, channels, stride, len(size))
        origin = "files"
    else:
        slices = own_samples(load_split(experiment, "train", data), preprocessing, channels, stride)
        origin = "the training slices"
    tell(f"calibrating on {samples} crops of {len(slices)} slices ({origin})")
    drawn = samples * CANDIDATES if options.foreground else samples
    chosen = crops(slices, preprocessing, size, drawn, options.seed)
    record: dict[str, Any] = {"origin": origin, "slices": len(slices), "crops": samples, "crop": size}
    weights: list[Tensor] | None = None
    if options.foreground:
        chosen, maps, shares = _foreground(network, chosen, samples, options.seed)
        weights = list(batches([torch.from_numpy(m)[None] for m in maps], BATCH))
        record["predicted_shares"] = [round(float(s), 6) for s in shares]
    record["slice_digests"] = [image_part(digest(s)) for s in slices]
    held = checkpoints.recorded_digests(checkpoint, "validation") or []
    known = {image_part(item) for item in held}
    record["validation_slices"] = sum(item in known for item in record["slice_digests"])
    if record["validation_slices"]:
        tell(
            f"warning: {record['validation_slices']} of the slices are of the validation split; "
            "its score is then of images that the ranges were made for."
        )
    return Calibration(list(batches(chosen, BATCH)), weights, record)


def _foreground(
    network: nn.Module, drawn: Sequence[Tensor], count: int, seed: int
) -> tuple[list[Tensor], list[np.ndarray], np.ndarray]:
    with torch.no_grad():
        maps = [m for batch in batches(drawn, BATCH) for m in predicted_classes(network(batch))]
    shares = class_shares(maps)
    weights = pixel_weights(maps, shares)
    chosen = choose_crops(weights, count, seed)
    return [drawn[i] for i in chosen], [weights[i] for i in chosen], shares


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(
    out: Path,
    experiment: Experiment,
    checkpoint: Checkpoint,
    quantized: QuantNet,
    record: Mapping[str, Any],
    seconds: float,
    command: str,
    fabric: Any,
) -> None:
    state = State(seconds=round(seconds, 3), done=True)
    info: dict[str, Any] = {
        **{key: checkpoint.info[key] for key in ("input", "dataset", "data") if key in checkpoint.info},
        "stage": QUANT,
        "network": network_record(experiment),
        "seed": experiment.seed,
        "quant": experiment.quant.model_dump(),
        "state": asdict(state),
        "ptq": record["options"],
    }
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create {out.absolute().parent}: {error.strerror or error}.") from None
    with files.atomic_folder(out) as folder:
        for stage in (FLOAT, QUANT):
            (folder / stage).mkdir()
        files.write_text(folder / CONFIG, configs.to_yaml(experiment))
        files.write_json(folder / RECORD, record)
        copy = checkpoint_path(folder, FLOAT, "best")
        files.write_json(copy.with_suffix(".json"), checkpoint.info)
        files.write_bytes(copy, checkpoint.path.read_bytes())
        # "best" is what is evaluated and exported; "last", done, tells a resumed training that nothing is left to do.
        for which in ("best", "last"):
            checkpoints.save(checkpoint_path(folder, QUANT, which), quantized, info)
        facts = Facts(folder, experiment, fabric, command)
        facts.stage(QUANT, replace(state))
        facts.finish()
        values = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        values["started"] = _stamp(time.time() - seconds)
        files.write_json(folder / FACTS, values)


def _stamp(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
