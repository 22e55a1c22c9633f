"""From a run folder to an ONNX model."""

from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError, ConfigError, OutputError
from ..export.lower import lower
from ..export.run import model_meta
from ..preprocess import padded_size
from ..runs import FLOAT, QUANT, checkpoint_path, dataset_of, open_run
from ..scoring import input_multiple


def data_of(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The data set as the model records it; options that name a place on this machine stay out."""
    kept = {k: v for k, v in options.items() if not (isinstance(v, str) and ("/" in v or "\\" in v))}
    return {"name": name, "options": kept}


def export_onnx(run_folder: Path, out: Path, opset: int | None = None, norm_nodes: bool = False) -> dict[str, Any]:
    """Lower the best network of a run and write it as an ONNX model, with preprocessing, labels and provenance.

    ``norm_nodes``: see ``unetq.onnx.norms``. Two exports of one checkpoint are equal byte for byte. Returns a
    summary: ``path``, ``bytes``, ``opset``, ``stage``, ``step``.

    Raises:
        CheckpointError: not a run folder, or nothing trained in it.
        ConfigError: the ``onnx`` package is missing, or an opset that cannot be written.
        UnsupportedError: a layer the program or the ONNX checker refuses.
        OutputError: ``out`` cannot be written, or lies where the run keeps its own files.
    """
    try:
        from .model import OPSET, save
    except ImportError as error:
        raise ConfigError(
            f"the package onnx is not installed ({error}), and models are written with it; "
            "install it with `pip install unetq[onnx]`."
        ) from None
    run = open_run(run_folder)
    if out.is_dir() or out.suffix.lower() != ".onnx":
        raise OutputError(f"{out}: an ONNX model is one file that ends in .onnx, such as {run.name}.onnx; name it so.")
    quantized, checkpoint = run.quantized()
    if run.experiment.data.name != checkpoint.info["dataset"]:
        stage = FLOAT if run.experiment.quant.is_float else QUANT
        raise CheckpointError(
            f"{checkpoint_path(run.path, stage, 'best')} was trained on {checkpoint.info['dataset']!r}, "
            f"the run's config says {run.experiment.data.name!r}; restore the config."
        )
    # A multiple of the stride, so that no padding which depends on the size is traced into the program.
    multiple = input_multiple(quantized.net, quantized.in_channels)
    size = padded_size(checkpoint.info["input"][1:], (multiple,) * len(checkpoint.info["input"][1:]))
    program = lower(quantized, torch.zeros(1, quantized.in_channels, *size))
    spec, _ = dataset_of(run.experiment)
    data = data_of(spec.name, spec.complete_options(run.experiment.data.options))
    chosen = OPSET if opset is None else opset
    save(program, out, model_meta(run, checkpoint), chosen, data, norm_nodes)
    return {
        "path": str(out),
        "bytes": out.stat().st_size,
        "opset": chosen,
        "stage": checkpoint.info["stage"],
        "step": checkpoint.info["state"]["step"],
    }
