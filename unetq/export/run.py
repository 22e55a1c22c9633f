"""From a run folder to a model file."""

import hashlib
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import CheckpointError, OutputError
from ..runs import FLOAT, QUANT, checkpoint_path, dataset_of, open_run
from .lower import lower
from .program import ModelMeta


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
    program = lower(quantized, run.example(checkpoint))
    spec, preprocessing = dataset_of(experiment)
    step = checkpoint.info["state"]["step"]
    meta = ModelMeta(
        name=run.name,
        labels=tuple(spec.labels),
        label_values=tuple(spec.label_values),
        preprocessing=preprocessing,
        provenance={
            "unetq": __version__,
            "dataset": spec.name,
            "network": run.network,
            "quant": experiment.quant.model_dump(),
            "seed": experiment.seed,
            "stage": stage,
            "step": step,
            "validation_dice": checkpoint.info.get("dice"),
            "checkpoint_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        },
    )
    if experiment.data.name != checkpoint.info["dataset"]:
        raise CheckpointError(
            f"{source} was trained on {checkpoint.info['dataset']!r}, "
            f"the run's config says {experiment.data.name!r}; restore the config."
        )
    program.save(out, meta)
    return {"path": str(out), "bytes": out.stat().st_size, "stage": stage, "step": step}
