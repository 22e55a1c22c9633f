"""torch: float32 through inductor, int8 through graph-mode quantisation (x86 and QNNPACK engines) and through PT2E."""

import copy
import io
import logging
import warnings
from collections.abc import Callable
from typing import Any

from ...fixedpoint import F32
from ..job import Job
from .loaded import Loaded

ENGINES = {"x86": "x86", "qnnpack": "qnnpack"}


def convert(job: Job) -> None:
    """Write ``torch-x86.pt`` or ``torch-qnnpack.pt`` for graph mode; the others are compiled where they are loaded."""
    if job.option not in ENGINES:
        return
    import torch
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    from ..networks import float_network

    warnings.simplefilter("ignore")
    torch.backends.quantized.engine = ENGINES[job.option]
    net, x = float_network(job), torch.from_numpy(job.input())
    prepared = prepare_fx(copy.deepcopy(net), get_default_qconfig_mapping(ENGINES[job.option]), (x,))
    with torch.no_grad():
        prepared(torch.from_numpy(job.calibration()))
        traced = torch.jit.freeze(torch.jit.trace(convert_fx(prepared), x).eval())
    content = io.BytesIO()
    torch.jit.save(traced, content)
    job.file(f"torch-{job.option}.pt").write_bytes(content.getvalue())


def _compiled(job: Job) -> Callable[[Any], Any]:
    """Inductor with frozen weights, channels last; for PT2E with quantised patterns."""
    import torch
    import torch._inductor.config as inductor

    from ..networks import float_network

    inductor.freezing = True
    layout = torch.channels_last if len(job.size) == 2 else torch.channels_last_3d
    net = float_network(job).to(memory_format=layout)  # type: ignore[call-overload]  # stubs lack it
    x = torch.from_numpy(job.input()).contiguous(memory_format=layout)
    if job.option == "pt2e":
        import torchao.quantization.pt2e as pt2e
        import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
        net = prepare_pt2e(torch.export.export(net, (x,)).module(), quantizer)
        for image in torch.from_numpy(job.calibration()):
            net(image[None].contiguous(memory_format=layout))
        net = convert_pt2e(net)
        pt2e.move_exported_model_to_eval(net)
    compiled = torch.compile(net)
    compiled(x)

    def call(image: Any) -> Any:
        return compiled(image.contiguous(memory_format=layout))

    return call


def load(job: Job) -> Loaded:
    """A callable on NumPy arrays."""
    import torch

    warnings.simplefilter("ignore")
    logging.getLogger("torch").setLevel(logging.ERROR)
    torch.set_num_threads(job.threads)
    torch.set_grad_enabled(False)
    if job.option in ENGINES:
        torch.backends.quantized.engine = ENGINES[job.option]
        net: Callable[[Any], Any] = torch.jit.load(str(job.file(f"torch-{job.option}.pt")))
        settings = f"graph-mode static quantisation, {job.option} engine, default observers, traced and frozen"
    else:
        net = _compiled(job)
        settings = "torch.compile with frozen weights, channels last"
        if job.option == "pt2e":
            settings = f"PT2E static quantisation (X86InductorQuantizer), {settings}"

    def run(x: F32) -> F32:
        return net(torch.from_numpy(x)).numpy()  # type: ignore[no-any-return]  # untyped

    return Loaded(run, torch.__version__.partition("+")[0], settings)
