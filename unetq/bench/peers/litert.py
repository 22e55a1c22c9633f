"""LiteRT with its default delegate (XNNPACK): float32, and full-integer quantisation by its own quantiser."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...fixedpoint import F32
from ..job import Job
from .loaded import Loaded


def convert(job: Job) -> None:
    """Write ``litert-float32.tflite`` or ``litert-int8.tflite``, channels last at both ends."""
    import litert_torch
    import torch

    from ..networks import float_network

    warnings.simplefilter("ignore")
    torch.set_grad_enabled(False)
    net = litert_torch.to_channel_last_io(float_network(job), args=[0], outputs=[0])
    floating = job.file(f"litert-{job.option}-from.tflite" if job.option == "int8" else "litert-float32.tflite")
    x = np.ascontiguousarray(np.moveaxis(job.input(), 1, -1))
    litert_torch.convert(net.eval(), (torch.from_numpy(x),)).export(str(floating))
    if job.option == "int8":
        from ai_edge_quantizer import quantizer, recipe

        tool = quantizer.Quantizer(str(floating), recipe.static_wi8_ai8())
        runner = _interpreter(str(floating), 1).get_signature_runner()
        key = next(iter(runner.get_input_details()))
        images = [{key: np.ascontiguousarray(np.moveaxis(i[None], 1, -1))} for i in job.calibration()]
        name = next(iter(_interpreter(str(floating), 1).get_signature_list()))
        tool.quantize(tool.calibrate({name: images})).export_model(str(job.file("litert-int8.tflite")), overwrite=True)


def _interpreter(path: str, threads: int):  # type: ignore[no-untyped-def]  # an untyped library's class
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_path=path, num_threads=threads)


def load(job: Job) -> Loaded:
    """Tensors allocated, delegate applied."""
    from importlib.metadata import version

    interpreter = _interpreter(str(job.file(f"litert-{job.option}.tflite")), job.threads)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(x: F32) -> F32:
        image: NDArray[Any] = np.ascontiguousarray(np.moveaxis(x, 1, -1))
        if source["dtype"] == np.int8:
            scale, zero = source["quantization"]
            image = np.clip(np.rint(image / np.float32(scale)) + zero, -128, 127).astype(np.int8)
        interpreter.set_tensor(source["index"], image)
        interpreter.invoke()
        logits: NDArray[Any] = np.moveaxis(interpreter.get_tensor(target["index"]), -1, 1)
        if target["dtype"] == np.int8:
            scale, zero = target["quantization"]
            logits = (logits.astype(np.float32) - np.float32(zero)) * np.float32(scale)
        return logits

    settings = "XNNPACK delegate"
    if job.option == "int8":
        settings = "static int8 weights (per channel) and activations by ai-edge-quantizer, XNNPACK delegate"
    return Loaded(run, version("ai-edge-litert"), settings)
