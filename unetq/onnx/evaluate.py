"""An ONNX model scored in onnxruntime on whole slices, through the pipeline that scores runs."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import config as configs
from ..errors import ConfigError, DataError
from ..experiment import Experiment
from ..metrics import summarize
from ..runs import dataset_of, load_split
from ..runtime import Runtime
from ..scoring import Scorer
from .session import OnnxModel

Mask = NDArray[np.uint8]


def _experiment(path: Path, model: OnnxModel, config: str | None) -> Experiment:
    """The data set to score on, a config's or the one the model says it was trained for, seen as the model wants it."""
    known = model.known
    if config is not None:
        values = configs.load_experiment(config).model_dump()
    elif known.data:
        values = {"data": known.data}
    else:
        raise ConfigError(f"{path} does not say which data set it is for; name one with --config, such as em.")
    rule = json.loads(json.dumps(asdict(model.meta.preprocessing)))
    seen = {"data": {"dimensions": model.spatial_rank, "preprocessing": rule}}
    return configs.build(configs.merge(values, seen), f"the metadata of {path}")


def evaluate_onnx(
    path: Path,
    split: str = "validation",
    data: Path | None = None,
    config: str | None = None,
    against: Path | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Dice of an ONNX model on the whole slices of a split; nothing is written.

    Args:
        path: a file that ``unetq export --onnx`` wrote.
        split, data: as for a run; which slices the network was trained on is not in the file, so that is not checked.
        config: a config whose ``data`` section is used in place of the data set the model names.
        against: a ``.uqm`` file: also how many pixels its masks have in common with these.
        threads: how many onnxruntime uses.

    Returns:
        {"model", "dataset", "split", "arithmetic": "onnxruntime", Dice as in ``metrics.json``, "seconds", and with
        ``against`` "agreement": {"model", "pixels", "equal", "share", "slices": {id: share}, Dice of the other}}.

    Raises:
        ConfigError: onnxruntime is missing, the data set is not known, or its labels are not the model's.
        ModelFileError: a damaged file. DataError: a split that cannot be given, or has no labels.
    """
    with OnnxModel(path, threads) as model:
        experiment = _experiment(path, model, config)
        spec, _ = dataset_of(experiment)
        if tuple(spec.labels) != model.meta.labels:
            raise ConfigError(
                f"{path} has the labels {', '.join(model.meta.labels)}, data set {spec.name!r} has "
                f"{', '.join(spec.labels)}; score it on the data it was trained for (--config)."
            )
        samples = load_split(experiment, split, data)
        unlabelled = [sample.id for sample in samples if sample.label is None]
        if unlabelled:
            raise DataError(f"slice {unlabelled[0]} of split {split!r} has no label; choose a labelled split.")
        preprocessing, first = model.meta.preprocessing, 3 - model.spatial_rank
        multiple = (model.fixed_size or model.input_multiple)[first:]
        scorer = Scorer(samples, preprocessing, multiple, len(spec.labels), torch.device("cpu"))
        record, masks = _score(scorer, model, spec.labels)
    found = {"model": str(path), "dataset": spec.name, "split": split, "arithmetic": "onnxruntime", **record}
    if against is not None:
        with Runtime(against, threads=threads) as runtime:
            other, expected = _score(scorer, runtime, spec.labels)
        shares = {s.id: float((a == b).mean()) for s, a, b in zip(samples, masks, expected, strict=True)}
        pixels = sum(mask.size for mask in masks)
        equal = sum(int((a == b).sum()) for a, b in zip(masks, expected, strict=True))
        found["agreement"] = {
            "model": str(against),
            "pixels": pixels,
            "equal": equal,
            "share": equal / pixels,
            "slices": shares,
            "volume_dice": other["volume_dice"],
        }
    return found


def _score(scorer: Scorer, model: OnnxModel | Runtime, labels: Any) -> tuple[dict[str, Any], list[Mask]]:
    def forward(images: Tensor) -> Tensor:
        return torch.from_numpy(model.run(images.numpy()))

    began = time.monotonic()
    scores, masks = [], []
    for sample, mask in scorer.predict(forward):
        scores.append(scorer.score(sample, mask))
        masks.append(mask)
    return {**summarize(scores, labels), "seconds": round(time.monotonic() - began, 3)}, masks


def describe(found: dict[str, Any]) -> str:
    """The result in a few lines for a terminal."""

    def dice(record: dict[str, Any]) -> str:
        return ", ".join(f"{label} {100 * value:.2f}" for label, value in record["volume_dice"].items())

    lines = [
        f"{found['model']} on {found['dataset']}, split {found['split']}",
        f"  onnxruntime: Dice {dice(found)}  ({len(found['slices'])} slices, {found['seconds']:.1f} s)",
    ]
    if "agreement" in found:
        same = found["agreement"]
        lines += [
            f"  {same['model']}: Dice {dice(same)}",
            f"  {same['equal']:,} of {same['pixels']:,} pixels have one class ({100 * same['share']:.4f} %)",
        ]
    return "\n".join(lines)
