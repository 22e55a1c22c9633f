"""This toolkit: quantised after training, packed, run by the C++ runtime."""

import re
import shutil
from pathlib import Path

import numpy as np

from ... import __version__
from ...fixedpoint import F32
from ...runtime import Runtime
from ..images import images
from ..job import Job
from .loaded import Loaded

CHECK_SIZE = 64


def _model(job: Job) -> Path:
    return job.file(f"unetq-{job.option}.uqm")


def _is_packed(network: str) -> bool:
    return network.endswith(".uqm")


def convert(job: Job) -> None:
    """Write ``unetq-OPTION.uqm``: a copy of a packed model, a run's export, or S or L quantised to OPTION's bits."""
    target = _model(job)
    if _is_packed(job.network):
        shutil.copyfile(job.network, target)
        return
    if job.option == "own":
        from ...export.run import export

        export(Path(job.network), target)
        return
    import torch

    from ...export.lower import lower
    from ...export.program import ModelMeta, Preprocessing
    from ...quant.calibrate import calibrate
    from ...quant.convert import quantize
    from ..networks import float_network

    weight_bits, act_bits = bits_of(job.option)
    example = torch.from_numpy(job.input())
    q = quantize(float_network(job), weight_bits, act_bits, example_input=example).eval()
    calibrate(q, [torch.from_numpy(job.calibration())], seed=job.seed)
    count = int(np.load(job.file("reference.npy")).shape[1])
    labels = ("background", "object") if count == 1 else tuple(f"class{i}" for i in range(count))
    meta = ModelMeta(f"bench-{job.option}", labels, tuple(range(len(labels))), Preprocessing("none"), {})
    lower(q, example).save(target, meta)


def bits_of(option: str) -> tuple[int, int]:
    """ "w4a6" as (4, 6)."""
    found = re.fullmatch(r"w(\d+)a(\d+)", option)
    assert found is not None  # the command line has checked it
    return int(found[1]), int(found[2])


def _equals_scalar(job: Job, runtime: Runtime) -> bool | None:
    """Whether the kernels give the scalar ones' logits bit for bit, on a small image; None where they are the same."""
    if runtime.isa == "scalar" or runtime.fixed_size is not None:
        return None
    size = tuple(min(n, -(-CHECK_SIZE // m) * m) for n, m in zip(job.size, runtime.input_multiple, strict=True))
    x = images(1, job.channels, size, job.seed + 2)
    with Runtime(_model(job), isa="scalar") as scalar:
        expected = scalar.run(x)
    return bool(np.array_equal(runtime.run(x).view(np.uint32), expected.view(np.uint32)))


def load(job: Job) -> Loaded:
    """The packed model; the kernels follow $UNETQ_ISA."""
    runtime = Runtime(_model(job), threads=job.threads)
    plan = runtime.plan(job.size)

    def run(x: F32) -> F32:
        return runtime.run(x)

    facts = {
        "isa": runtime.isa,
        "arena_bytes": plan.arena_bytes,
        "file_bytes": _model(job).stat().st_size,
        "exact": _equals_scalar(job, runtime),
    }
    return Loaded(run, __version__, f"kernels {runtime.isa}, first and last layer at 8 bits", facts)
