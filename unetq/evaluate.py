"""A trained run scored in the arithmetic that ships, priced, and written to ``metrics.json`` and ``overlays/``."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray

from . import checkpoint as checkpoints
from . import files, layerstats, overlays
from .casescores import Assessor, paired_dice
from .checkpoint import Checkpoint
from .config import EVALUATION
from .cost import cost
from .data import DatasetSpec
from .errors import DataError, UnetqError
from .experiment import FLOAT_BITS
from .export.lower import lower
from .export.program import ModelMeta, Preprocessing
from .export.run import model_meta
from .fixedpoint import F32
from .footprint import Footprint, footprint
from .metrics import SliceScore, summarize
from .nets import build_network, count_parameters
from .preprocess import network_image
from .quant.convert import quantize
from .quant.network import QuantNet
from .runs import FLOAT, METRICS, QUANT, Run, checkpoint_path, dataset_of, load_split, open_run
from .samples import Sample, digest, digest_all
from .scoring import Forward, Scorer, input_multiple

SCHEMA = 1
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
    """Score the best network of a run on whole images; write and return its ``metrics.json``.

    A low-bit run is scored in its integer arithmetic beside the float network it was tuned from; with
    ``arithmetic`` "float", also with its quantisers off. A 32/32 run has only float32. Splits and arithmetics
    evaluated earlier stay in the file as long as they are of the same checkpoint, slices and evaluation settings.

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
    settings, seed = run.experiment.evaluation, run.experiment.seed
    assessor = Assessor(samples, spec.labels, settings, seed)
    quantized.to(device)

    results: dict[str, Evaluation] = {}
    if stage == FLOAT or arithmetic == "float":
        results["float"] = _evaluate(scorer, assessor, quantized.float_forward, "float32")
    else:
        results["integer"] = _evaluate(scorer, assessor, quantized, "integer")
        if run.has(FLOAT):
            network, _ = run.float_network()
            results["float_reference"] = _evaluate(scorer, assessor, network.to(device), "float32")

    identity = {
        "stage": stage,
        "step": checkpoint.info["state"]["step"],
        "sha256": hashlib.sha256(checkpoint_file.read_bytes()).hexdigest(),
    }
    metrics = _previous(run, identity)
    if not metrics:
        metrics = {**_describe(run, spec), "checkpoint": identity}
    if run.experiment.quant.layers:
        metrics["bits"]["words"] = _widths(quantized)
    metrics[EVALUATION] = settings.model_dump()
    no_layers = stage == QUANT and not (run.path / layerstats.LAYERS).is_file()
    if no_layers or metrics["cost"].get("latency") is None:  # of an earlier version, or without the library
        images = _images(samples, preprocessing)
        metrics["cost"] = _cost(run, quantized.cpu(), scorer.call_size(samples[0]), checkpoint, images)
    metrics["run"] = run.name  # a folder can be moved
    metrics["data_note"] = _note(run, spec)
    slices = digest_all(samples)
    if metrics.setdefault("digests", {}).get(split) != slices:
        metrics["splits"].pop(split, None)  # of other slices, not to be compared with these
    metrics["digests"][split] = slices
    metrics.setdefault("notes", {})[split] = _note(run, spec, split)
    metrics.setdefault("skipped", {})[split] = [asdict(item) for item in samples.skipped]
    records = metrics["splits"].setdefault(split, {})
    records.update({key: value.record for key, value in results.items()})
    if {"integer", "float_reference"} <= set(results):
        mine, reference = results["integer"].record, results["float_reference"].record
        records["paired"] = paired_dice(mine, reference, spec.labels, settings, seed)
    _write_overlays(run, split, samples, results, preprocessing)
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
    what = "volumes" if run.experiment.data.dimensions == 3 else "slices"
    return f"Whole {what} of {spec.name!r}{chose}.{listed}"


def _evaluate(scorer: Scorer, assessor: Assessor, forward: Forward, arithmetic: str) -> Evaluation:
    began = time.monotonic()
    scores: list[SliceScore] = []
    masks: list[NDArray[np.uint8]] = []
    for sample, mask in scorer.predict(forward):
        scores.append(scorer.score(sample, mask))
        masks.append(mask)
    seconds = round(time.monotonic() - began, 3)
    record = {
        "arithmetic": arithmetic,
        **summarize(scores, assessor.labels, assessor.settings.empty),
        **assessor.record(scores, masks),
        "seconds": seconds,
    }
    return Evaluation(record, scores, masks)


def _previous(run: Run, identity: dict[str, Any]) -> dict[str, Any]:
    """The metrics written before, if they are of the same checkpoint and were scored by the same settings."""
    path = run.path / METRICS
    if not path.is_file():
        return {}
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}  # it is about to be replaced
    same = isinstance(old, dict) and old.get("schema") == SCHEMA and old.get("checkpoint") == identity
    settings = run.experiment.evaluation.model_dump()
    same = same and old.get(EVALUATION, settings) == settings
    sections = ("network", "bits", "cost", "splits")
    whole = same and all(isinstance(old.get(key), dict) for key in sections)
    return old if whole and all(isinstance(old.get(key, {}), dict) for key in ("digests", "notes", "skipped")) else {}


def _describe(run: Run, spec: DatasetSpec) -> dict[str, Any]:
    experiment = run.experiment
    quant = experiment.quant
    parameters = count_parameters(build_network(experiment.network.name, experiment.network.options))
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
        "cost": {},
        "splits": {},
    }


def _widths(q: QuantNet) -> str:
    """``W1–8 A6–8``: the narrowest and the widest weights and activations of a network whose layers differ."""
    words = []
    for letter, some in (("W", q.weight_quantizers), ("A", q.grids)):
        bits = sorted(cast("int", quantizer.bits) for quantizer in some.values()) or [FLOAT_BITS]
        words.append(f"{letter}{bits[0]}" + (f"–{bits[-1]}" if bits[-1] > bits[0] else ""))
    return " ".join(words)


def _images(samples: Sequence[Sample], preprocessing: Preprocessing) -> list[F32]:
    """Two samples as the network sees them, (C, spatial): its codes are looked at on these."""
    chosen = [samples[place] for place in sorted({len(samples) // 3, 2 * len(samples) // 3})]
    return [network_image(sample.image, sample.spacing, preprocessing, sample.moments) for sample in chosen]


def _cost(
    run: Run, quantized: QuantNet, size: Sequence[int], checkpoint: Checkpoint, images: Sequence[F32]
) -> dict[str, Any]:
    """What one image of ``size`` (network pixels) costs: as computed, and as measured on the packed models.

    The program is at hand here, so ``layers.json`` is written too, of ``images``.
    """
    parameters = count_parameters(build_network(run.experiment.network.name, run.experiment.network.options))
    program, meta = lower(quantized, torch.zeros(1, quantized.in_channels, *size)), model_meta(run, checkpoint)
    layerstats.write(run.path, program, images)
    measured = footprint(program, meta, size)
    in_float = measured if run.experiment.quant.is_float else _float_footprint(run, quantized, size, meta)
    return {**cost(program, size, parameters).summary(), **measured.record(), **in_float.record("float_")}


def _float_footprint(run: Run, quantized: QuantNet, size: Sequence[int], meta: ModelMeta) -> Footprint:
    """That of the same network packed in float32; its weights do not matter, only their number."""
    network = build_network(run.experiment.network.name, run.experiment.network.options).eval()
    image = torch.zeros(1, quantized.in_channels, *size)
    try:
        whole = quantize(network, weight_bits=32, act_bits=32, example_input=image).eval()
        return footprint(lower(whole, image), meta, size)
    except UnetqError as error:
        return Footprint(None, None, None, None, None, f"no float program: {error}")


def _write_overlays(
    run: Run, split: str, samples: Sequence[Sample], results: dict[str, Evaluation], rule: Preprocessing
) -> None:
    """Pictures of a float run's masks, or of the integer ones beside their float reference."""
    main = results.get("integer") or (results.get("float") if run.experiment.quant.is_float else None)
    if main is None:
        return  # quantisers off is a diagnosis; the pictures stay those of what ships
    reference = results.get("float_reference")
    labels = list(main.record["summary"])
    other = reference.masks if reference else None
    painter = overlays.Painter(samples, main.masks, other, labels, rule.context, rule.orientation)
    chosen = overlays.pictured(samples, main.record["cases"])
    overlays.write(run.path / "overlays" / split, (file for unit in chosen for file in painter.files(unit)))
