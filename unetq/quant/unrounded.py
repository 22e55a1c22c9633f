"""A low-bit network with its weights as they are: what their quantisers round, before it is rounded.

For networks trained with noise in place of rounding (``noise``), whose training saw these weights and never the
rounded ones. They are clipped to the quantiser's range, as in training.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from ..errors import UnsupportedError
from .network import QuantNet
from .placement import layer_name
from .quantizer import WeightQuantizer
from .simulate import simulate


def unrounded_weights(q: QuantNet) -> dict[str, Tensor]:
    """Each quantised weight, by its name in ``q.net``, clipped and not rounded; differentiable in the weight.

    Raises:
        UnsupportedError: a quantiser without even steps, with the layer's name.
    """
    found: dict[str, Tensor] = {}
    for block in q.blocks():
        quantizer = q.weight_quantizer(block) if block.kind == "conv" else None
        if quantizer is None:
            continue
        name = block.parameters["weight"]
        cell = quantizer.unrounded(q.tensor(name))
        if cell is None:
            raise UnsupportedError(
                f"layer {layer_name(block)}: weights of {type(quantizer).__name__} at {quantizer.bits} bits have no "
                "value between their levels; use a network of the method lsq, lsq+ or fixed."
            )
        found[name] = cell.value
    return found


def unrounded_forward(q: QuantNet, x: Tensor) -> Tensor:
    """Logits of ``unrounded_weights``: float arithmetic, running statistics, activations quantised where they are.

    Args:
        x: (N, C, H, W[, D]) float. ``q`` may be in either mode, and stays in it.

    Raises:
        UnsupportedError: as ``unrounded_weights``.
    """
    unrounded_weights(q)  # so that the layer is named
    with _not_rounding(q):
        return simulate(q, x, quantized=True, training=False)


@contextmanager
def _not_rounding(q: QuantNet) -> Iterator[None]:
    def value(quantizer: WeightQuantizer, arguments: tuple[Tensor], rounded: Tensor) -> Tensor:
        cell = quantizer.unrounded(arguments[0])
        assert cell is not None
        return cell.value

    handles = [quantizer.register_forward_hook(value) for quantizer in q.weight_quantizers.values()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
