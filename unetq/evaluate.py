"""A trained run scored in the arithmetic that ships, priced, and written to ``metrics.json`` and ``overlays/``."""

import hashlib
import json
import shutil
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from . import checkpoint as checkpoints
from . import files
from .checkpoint import Checkpoint
from .cost import cost
from .data import DatasetSpec, Sample, digest, digest_all
from .errors import DataError, DeviceError, OutputError, UnsupportedError
from .export.lower import lower
from .export.program import ModelMeta, Program
from .export.run import model_meta
from .metrics import SliceScore, summarize
from .nets import build_network, count_parameters
from .preprocess import padded_size
from .quant.network import QuantNet
from .runs import FLOAT, METRICS, QUANT, Run, checkpoint_path, dataset_of, load_split, open_run
from .scoring import Forward, Scorer, input_multiple

SCHEMA = 1
OVERLAYS = 3
OVERLAY_ARRAYS = {"image", "truth", "prediction", "float_prediction"}
Arithmetic = Literal["integer", "float"]


@dataclass(frozen=True)
class Evaluation:
    """Scores and masks of one split in one arithmetic."""

    record: dict[str, Any]
    scores: list[SliceScore]
    masks: list[NDArray[np.uint8]]


def evaluate(
    run_folder: Path, split: str = "validation", arithmetic: Arithmetic = "integer", data: Path | None = None
) -> dict[str, Any]:
    """Score the best network of a run on whole slices; write and return its ``metrics.json``.

    A low-bit run is scored in its integer arithmetic beside the float network it was tuned from; with
    ``arithmetic`` "float", also with its quantisers off. A 32/32 run has only float32. Splits and arithmetics
    evaluated earlier stay in the file as long as they are of the same checkpoint and the same slices.

    Raises:
        CheckpointError: not a run folder, or no trained network in it.
        ConfigError, DataError: a split that does not exist, that the data cannot give, or that holds slices the
            network was trained on (unless it is the training split).
        OutputError: the results cannot be written.
    """
    run = open_run(run_folder)
    spec, preprocessing = dataset_of(run.experiment)
    stage = FLOAT if run.experiment.quant.is_float else QUANT
    checkpoint_file = checkpoint_path(run.path, stage, "best")
    quantized, checkpoint = run.quantized()
    samples = load_split(run.experiment, split, data)
    unlabelled = [sample.id for sample in samples if sample.label is None]
    if unlabelled:
        raise DataError(
            f"slice {unlabelled[0]} of split {split!r} has no label: it cannot be scored; choose a labelled split."
        )
    _check_unseen(run, split, samples)
    multiple = input_multiple(quantized.net, int(checkpoint.info["input"][0]))
    on_gpu = torch.cuda.is_available() and run.experiment.train.accelerator != "cpu"
    device = torch.device("cuda" if on_gpu else "cpu")
    scorer = Scorer(samples, preprocessing, multiple, len(spec.labels), device)
    quantized.to(device)

    results: dict[str, Evaluation] = {}
    if stage == FLOAT or arithmetic == "float":
        results["float"] = _evaluate(scorer, quantized.float_forward, spec, "float32")
    else:
        results["integer"] = _evaluate(scorer, quantized, spec, "integer")
        if run.has(FLOAT):
            reference, _ = run.float_network()
            results["float_reference"] = _evaluate(scorer, reference.to(device), spec, "float32")

    identity = {
        "stage": stage,
        "step": checkpoint.info["state"]["step"],
        "sha256": hashlib.sha256(checkpoint_file.read_bytes()).hexdigest(),
    }
    metrics = _previous(run, identity)
    if not metrics:
        size = padded_size(samples[0].image.shape[1:], (multiple, multiple))
        metrics = _describe(run, spec, quantized.cpu(), size, checkpoint)
        metrics["checkpoint"] = identity
    metrics["run"] = run.name  # a folder can be moved
    metrics["data_note"] = _note(run, spec)
    slices = digest_all(samples)
    if metrics.setdefault("digests", {}).get(split) != slices:
        metrics["splits"].pop(split, None)  # of other slices, not to be compared with these
    metrics["digests"][split] = slices
    metrics.setdefault("notes", {})[split] = _note(run, spec, split)
    metrics["splits"].setdefault(split, {}).update({key: value.record for key, value in results.items()})
    _write_overlays(run, split, samples, results)
    files.write_json(run.path / METRICS, metrics)
    return metrics


def _check_unseen(run: Run, split: str, samples: Sequence[Sample]) -> None:
    """Refuse to score slices that the low-bit network or the float one it was tuned from was trained on."""
    if split == "train":
        return
    digests = [digest(sample) for sample in samples]
    for stage in filter(run.has, (FLOAT, QUANT)):
        checkpoint = run.best(stage)
        number = checkpoints.shared_slice(checkpoint, digests)
        if number is not None:
            raise DataError(
                f"slice {samples[number].id} of split {split!r} is one that {checkpoint.path} was trained on: "
                "its score would say nothing; give other data with --data, or train with another split."
            )


def _note(run: Run, spec: DatasetSpec, split: str | None = None) -> str:
    """What was scored, in words: in general, or of one split."""
    chose = "; the validation slices also chose the checkpoint" if split == "validation" else ""
    options = spec.complete_options(run.experiment.data.options)
    listed = f" Options: {json.dumps(options)}." if options else ""
    return f"Whole slices of {spec.name!r}{chose}.{listed}"


def _evaluate(scorer: Scorer, forward: Forward, spec: DatasetSpec, arithmetic: str) -> Evaluation:
    began = time.monotonic()
    scores: list[SliceScore] = []
    masks: list[NDArray[np.uint8]] = []
    for sample, mask in scorer.predict(forward):
        scores.append(scorer.score(sample, mask))
        masks.append(mask)
    record = {
        "arithmetic": arithmetic,
        **summarize(scores, spec.labels),
        "seconds": round(time.monotonic() - began, 3),
    }
    return Evaluation(record, scores, masks)


def _previous(run: Run, identity: dict[str, Any]) -> dict[str, Any]:
    """The metrics written before, if they are of the same checkpoint."""
    path = run.path / METRICS
    if not path.is_file():
        return {}
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}  # it is about to be replaced
    same = isinstance(old, dict) and old.get("schema") == SCHEMA and old.get("checkpoint") == identity
    sections = ("network", "bits", "cost", "splits")
    whole = same and all(isinstance(old.get(key), dict) for key in sections)
    return old if whole and all(isinstance(old.get(key, {}), dict) for key in ("digests", "notes")) else {}


def _describe(
    run: Run, spec: DatasetSpec, quantized: QuantNet, size: Sequence[int], checkpoint: Checkpoint
) -> dict[str, Any]:
    experiment = run.experiment
    parameters = count_parameters(build_network(experiment.network.name, experiment.network.options))
    channels = quantized.in_channels
    program = lower(quantized, torch.zeros(1, channels, *size))
    quant = experiment.quant
    return {
        "schema": SCHEMA,
        "run": run.name,
        "dataset": spec.name,
        "data_note": _note(run, spec),
        "network": {"name": experiment.network.name, "options": run.network["options"], "parameters": parameters},
        "bits": {
            "weight": quant.weight_bits,
            "act": quant.act_bits,
            "first": quant.first_bits,
            "last": quant.last_bits,
            "method": quant.title,
            "per_channel": quant.per_channel,
            "float_layers": list(quant.float_layers),
        },
        "labels": list(spec.labels),
        "seed": experiment.seed,
        "cost": {**cost(program, size, parameters).summary(), **_measured(program, model_meta(run, checkpoint), size)},
        "splits": {},
    }


def _measured(program: Program, meta: ModelMeta, size: Sequence[int]) -> dict[str, int | None]:
    """What only the file and the runtime can tell: bytes on disk and of the arena (None without the library)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.uqm"
        try:
            program.save(path, meta)
        except UnsupportedError:
            return {"model_file_bytes": None, "arena_bytes": None}
        model_bytes = path.stat().st_size
        try:
            from .runtime import Runtime

            arena: int | None = int(Runtime(path).plan(tuple(size)).arena_bytes)
        except (DeviceError, ImportError):
            arena = None  # the library is not built on this machine
    return {"model_file_bytes": model_bytes, "arena_bytes": arena}


def _display(image: NDArray[Any]) -> NDArray[np.uint8]:
    """The first channel, its 0.5th to 99.5th percentile stretched over 0…255, for eyes only."""
    plane = image[0].astype(np.float64)
    low, high = np.percentile(plane, (0.5, 99.5))
    if high <= low:
        low, high = float(plane.min()), max(float(plane.max()), float(plane.min()) + 1.0)
    stretched: NDArray[np.uint8] = np.rint(np.clip((plane - low) / (high - low), 0.0, 1.0) * 255.0).astype(np.uint8)
    return stretched


def _write_overlays(run: Run, split: str, samples: Sequence[Sample], results: dict[str, Evaluation]) -> None:
    """The best and the worst slices; a float run's, or the integer ones beside their float reference.

    All new pictures are complete in a neighbouring folder before the first old one goes; files that are no
    pictures of ours stay.
    """
    main = results.get("integer") or (results.get("float") if run.experiment.quant.is_float else None)
    if main is None:
        return  # quantisers off is a diagnosis; the pictures stay those of what ships
    reference = results.get("float_reference")
    order = sorted(range(len(samples)), key=lambda i: main.scores[i].mean_dice)
    chosen = sorted({*order[:OVERLAYS], *order[-OVERLAYS:]})
    folder = run.path / "overlays" / split
    try:
        folder.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{split}.", dir=folder.parent))
    except OSError as error:
        raise OutputError(f"cannot create {folder}: {error.strerror or error}; make the run folder writable.") from None
    try:
        for i in chosen:
            arrays = {"image": _display(samples[i].image), "truth": samples[i].label, "prediction": main.masks[i]}
            if reference is not None:
                arrays["float_prediction"] = reference.masks[i]
            path = fresh / f"{samples[i].id}.npz"
            files.write_with(path, lambda handle, arrays=arrays: np.savez_compressed(handle, **arrays))  # type: ignore[misc]
        names = {path.name for path in fresh.iterdir()}
        for path in list(fresh.iterdir()):
            path.replace(folder / path.name)
        for path in folder.glob("*.npz"):
            if path.name not in names and _is_overlay(path):
                path.unlink()
    except OSError as error:
        raise OutputError(
            f"cannot replace the pictures in {folder}: {error.strerror or error}; make it writable and evaluate again."
        ) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _is_overlay(path: Path) -> bool:
    """True for a picture of ours, told by the arrays in it."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {"image", "truth", "prediction"} <= set(arrays.files) <= OVERLAY_ARRAYS
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError):
        return False
