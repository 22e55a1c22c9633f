"""The door from a trained network to the integer program."""

from torch import Tensor

from ..quant.network import QuantNet
from .passes import fold_concat
from .program import Program


def lower(q: QuantNet, example_input: Tensor) -> Program:
    """The integer program of ``q``: exactly what ``q.eval()`` computes.

    Args:
        q: a calibrated or trained network from ``unetq.quantize``.
        example_input: (N, C, H, W) or (N, C, D, H, W); its size decides how size-dependent padding is
            traced. Programs without such padding accept every multiple of the network's stride.

    Raises:
        CheckpointError: ``q`` is not calibrated. UnsupportedError: a layer without an exact form.
    """
    return fold_concat(q.program(tuple(example_input.shape[2:])))
