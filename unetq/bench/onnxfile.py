"""The float network as an ONNX file, the door to every engine that is not torch."""

import warnings
from pathlib import Path

import torch
from torch import nn

from .job import INPUT, OUTPUT

OPSET = 17


def export_onnx(net: nn.Module, example: torch.Tensor, path: Path) -> None:
    """Write ``net`` at the size of ``example``; BatchNorm behind a convolution is folded into it."""
    partial = path.with_suffix(".part")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracer warnings on sizes, which are fixed here
        torch.onnx.export(
            net,
            (example,),
            str(partial),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
        )
    partial.replace(path)
