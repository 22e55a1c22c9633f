"""ncnn: float32 through pnnx."""

import os

import numpy as np

from ...fixedpoint import F32
from ..job import Job
from .loaded import Loaded

# Half-precision storage is its default, also in the arithmetic of some layers: off for float32.


def convert(job: Job) -> None:
    """Write ``ncnn.param`` and ``ncnn.bin``; pnnx also leaves its intermediate files in the job's folder."""
    import pnnx
    import torch

    from ..networks import float_network

    os.chdir(job.folder)  # pnnx writes beside the current folder
    torch.set_grad_enabled(False)
    pnnx.export(float_network(job), "ncnn.pt", torch.from_numpy(job.input()), optlevel=2, fp16=False)
    job.file("ncnn.ncnn.param").replace(job.file("ncnn.param"))
    job.file("ncnn.ncnn.bin").replace(job.file("ncnn.bin"))


def load(job: Job) -> Loaded:
    """One net; an extractor a run, as its interface asks for."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = job.threads
    net.opt.use_vulkan_compute = False
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    if net.load_param(str(job.file("ncnn.param"))) or net.load_model(str(job.file("ncnn.bin"))):
        raise RuntimeError("ncnn could not read what pnnx wrote")

    def run(x: F32) -> F32:
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(np.ascontiguousarray(x[0])).clone())
        _, out = extractor.extract("out0")
        return np.array(out, dtype=np.float32)[None]

    return Loaded(run, str(ncnn.__version__), "converted by pnnx, float32 storage and arithmetic")
