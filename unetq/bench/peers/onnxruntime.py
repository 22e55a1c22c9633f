"""ONNX Runtime, CPU provider: float32, and static QDQ quantisation by its own tool."""

from collections.abc import Callable, Iterator
from typing import Any

from ...fixedpoint import F32
from ..job import INPUT, Job
from .loaded import Loaded

# Its documentation: on x86-64 U8S8 (unsigned activations, signed weights) is the fast form; S8S8 is for ARM.
# Per channel; every operator type it knows is quantised (leaving out transposed convolutions was slower).
FOR_ARM = "int8-s8s8"


def convert(job: Job) -> None:
    """Write ``onnxruntime-OPTION.onnx``; float32 runs the network's own file."""
    if job.option == "float32":
        return
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):  # type: ignore[misc]  # untyped base
        def __init__(self) -> None:
            self.left: Iterator[dict[str, F32]] = iter([{INPUT: x[None]} for x in job.calibration()])

        def get_next(self) -> dict[str, F32] | None:
            return next(self.left, None)

    prepared = job.file("onnxruntime-prepared.onnx")
    quant_pre_process(str(job.file("network.onnx")), str(prepared))
    quantize_static(
        str(prepared),
        str(job.file(f"onnxruntime-{job.option}.onnx")),
        Images(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8 if job.option == FOR_ARM else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def load(job: Job) -> Loaded:
    """One session, all graph optimisations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = job.threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    name = "network.onnx" if job.option == "float32" else "onnxruntime-int8.onnx"
    session = onnxruntime.InferenceSession(str(job.file(name)), options, providers=["CPUExecutionProvider"])
    execute: Callable[..., Any] = session.run

    def run(x: F32) -> F32:
        return execute(None, {INPUT: x})[0]  # type: ignore[no-any-return]  # untyped library

    settings = "all graph optimisations"
    if job.option != "float32":
        settings = "static QDQ, U8S8, per channel, min-max calibration, all graph optimisations"
    return Loaded(run, onnxruntime.__version__, settings)
