"""OpenVINO's CPU plugin: float32, and post-training quantisation by NNCF."""

import logging

from ...fixedpoint import F32
from ..job import Job
from .loaded import Loaded


def convert(job: Job) -> None:
    """Write ``openvino-int8.xml``; float32 runs the network's ONNX file."""
    if job.option == "float32":
        return
    import nncf
    import openvino

    logging.getLogger("nncf").setLevel(logging.ERROR)
    model = openvino.Core().read_model(str(job.file("network.onnx")))
    images = [x[None] for x in job.calibration()]
    quantized = nncf.quantize(
        model, nncf.Dataset(images), preset=nncf.QuantizationPreset.PERFORMANCE, subset_size=len(images)
    )
    openvino.save_model(quantized, str(job.file("openvino-int8.xml")), compress_to_fp16=False)


def load(job: Job) -> Loaded:
    """Compiled for latency, one stream."""
    import openvino

    config = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": str(job.threads)}
    if job.option == "float32" or job.cap != "none":
        # By itself it takes bfloat16 where the processor has it, and under a cap that hides the instructions from its
        # kernels int8 networks then give noise (version 2026.4). Uncapped int8 keeps the default.
        config["INFERENCE_PRECISION_HINT"] = "f32"
    name = "network.onnx" if job.option == "float32" else "openvino-int8.xml"
    compiled = openvino.Core().compile_model(str(job.file(name)), "CPU", config)
    request = compiled.create_infer_request()

    def run(x: F32) -> F32:
        request.infer([x], share_inputs=True)
        return request.get_output_tensor().data.copy()  # type: ignore[no-any-return]  # untyped library

    settings = "latency hint, one stream"
    if "INFERENCE_PRECISION_HINT" in config:
        settings += ", precision f32"
    if job.option != "float32":
        settings = f"NNCF post-training quantisation, performance preset; {settings}"
    return Loaded(run, str(openvino.__version__).partition("-")[0], settings)
