"""From a run folder to a model file."""

import hashlib
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..checkpoint import Checkpoint
from ..errors import CheckpointError, OutputError
from ..preprocess import padded_size
from ..runs import FLOAT, QUANT, Run, checkpoint_path, dataset_of, open_run
from ..scoring import input_multiple
from .lower import lower
from .program import ModelMeta


def model_meta(run: Run, checkpoint: Checkpoint) -> ModelMeta:
    """What the model file of a run's ``checkpoint`` says of its data and origin; no times, so that it is repeatable."""
    spec, preprocessing = dataset_of(run.experiment)
    return ModelMeta(
        name=run.name,
        labels=tuple(spec.labels),
        label_values=tuple(spec.label_values),
        preprocessing=preprocessing,
        provenance={
            "unetq": __version__,
            "dataset": spec.name,
            "network": run.network,
            "quant": run.experiment.quant.model_dump(),
            "seed": run.experiment.seed,
            "stage": checkpoint.info["stage"],
            "step": checkpoint.info["state"]["step"],
            "validation_dice": checkpoint.info.get("dice"),
            "checkpoint_sha256": hashlib.sha256(checkpoint.path.read_bytes()).hexdigest(),
        },
    )


def export(run_folder: Path, out: Path) -> dict[str, Any]:
    """Lower the best network of a run, with its data set's preprocessing and labels, into ``out``.

    A 32/32 run gives a float program. Two exports of one checkpoint are equal byte for byte. Returns a summary:
    ``path``, ``bytes``, ``stage``, ``step``.

    Raises:
        CheckpointError: not a run folder, or nothing trained in it.
        UnsupportedError: a layer or width the file cannot represent.
        OutputError: ``out`` cannot be written, or lies where the run keeps its own files.
    """
    run = open_run(run_folder)
    if out.is_dir():
        raise OutputError(f"{out} is a folder; a model is one file. Name it, such as {out / (run.name + '.uqm')}.")
    experiment = run.experiment
    stage = FLOAT if experiment.quant.is_float else QUANT
    source = checkpoint_path(run.path, stage, "best")
    own = [run.path / name for name in ("config.yaml", "run.json", "metrics.json", "history.jsonl")]
    own += [path for folder in (FLOAT, QUANT) for path in (run.path / folder).glob("*")]
    if any(out.exists() and path.exists() and out.samefile(path) for path in own):
        raise OutputError(f"{out} is a file of the run itself; choose another place for the model.")
    quantized, checkpoint = run.quantized()
    # A multiple of the stride, so that no padding which depends on the size is traced into the program.
    multiple = input_multiple(quantized.net, quantized.in_channels)
    crop = checkpoint.info["input"][1:]
    size = padded_size(crop, (multiple,) * len(crop))
    program = lower(quantized, torch.zeros(1, quantized.in_channels, *size))
    if experiment.data.name != checkpoint.info["dataset"]:
        raise CheckpointError(
            f"{source} was trained on {checkpoint.info['dataset']!r}, "
            f"the run's config says {experiment.data.name!r}; restore the config."
        )
    program.save(out, model_meta(run, checkpoint))
    return {"path": str(out), "bytes": out.stat().st_size, "stage": stage, "step": checkpoint.info["state"]["step"]}
