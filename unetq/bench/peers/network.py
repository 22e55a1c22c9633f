"""Not an engine: makes the float network, its ONNX file and its logits, from which all engines convert."""

import torch

from ...files import write_json, write_with
from ..job import Job
from ..networks import float_network, multiply_accumulates
from ..onnxfile import export_onnx


def convert(job: Job) -> None:
    """Write ``network.safetensors``, ``network.onnx``, ``reference.npy`` and ``network.json``."""
    import numpy as np
    from safetensors.torch import save_file

    net = float_network(job)
    x = torch.from_numpy(job.input())
    with torch.no_grad():
        logits = net(x).numpy()
    state = {key: value.contiguous() for key, value in net.state_dict().items()}
    facts = {
        "parameters": sum(p.numel() for p in net.parameters()),
        "macs": multiply_accumulates(net, x),
        "deviation": float(logits.std()),
    }
    export_onnx(net, x, job.file("network.onnx"))
    write_with(job.file("reference.npy"), lambda handle: np.save(handle, logits))
    save_file(state, str(job.file("network.safetensors")))
    write_json(job.file("network.json"), facts)
