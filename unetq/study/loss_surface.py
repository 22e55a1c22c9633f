"""The loss as a function of a network's weights, everything else held still.

Activations are clipped where a grid ends and not rounded, norms use their running statistics, nothing is dropped, and
the images are always the same: so it is a deterministic function that can be differentiated twice, for a float network
and for the quantised one alike.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ..curvature import Term
from ..errors import DataError
from ..losses import Loss
from ..quant.network import QuantNet
from ..quant.quantizer import ActivationQuantizer
from ..quant.simulate import simulate


@dataclass(frozen=True, eq=False)
class LossSurface:
    """The mean of ``terms`` as a function of ``weights``.

    Attributes:
        names: of the weights in the network.
        weights: float32 leaves that require gradients; moved by the measures, and put back to the last bit.
        terms: closures, each the loss of one batch at the weights as they are, a differentiable scalar.
    """

    names: tuple[str, ...]
    weights: tuple[Tensor, ...]
    terms: tuple[Term, ...]

    def loss(self) -> float:
        """The loss at the weights as they are."""
        with torch.no_grad():
            return sum(float(term()) for term in self.terms) / len(self.terms)

    def gradient(self) -> tuple[float, list[Tensor]]:
        """The loss and its gradient in each of ``weights``."""
        total, value = [torch.zeros_like(w) for w in self.weights], 0.0
        for term in self.terms:
            loss = term()
            value += float(loss.detach()) / len(self.terms)
            for part, found in zip(total, torch.autograd.grad(loss, self.weights, materialize_grads=True), strict=True):
                part += found / len(self.terms)
        return value, total

    @property
    def count(self) -> int:
        """How many values all weights have together."""
        return sum(w.numel() for w in self.weights)

    def norm(self) -> float:
        """The 2-norm over all weights."""
        return math.sqrt(sum(float(w.detach().double().square().sum()) for w in self.weights))

    @contextmanager
    def at(self, values: Sequence[Tensor]) -> Iterator[None]:
        """Inside, the weights are ``values``, tensors of their shapes."""
        before = [w.detach().clone() for w in self.weights]
        try:
            self._put(values)
            yield
        finally:
            self._put(before)

    def _put(self, values: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for weight, value in zip(self.weights, values, strict=True):
                weight.copy_(value)


def loss_surface(
    network: nn.Module, images: Sequence[Tensor], labels: Sequence[Tensor], loss: Loss, *, rounded: bool
) -> LossSurface:
    """The surface around a network's own weights, on a copy of it.

    Its weights are all parameters of two axes or more (convolutions and linear layers), the same in every arm of a
    study: biases, norms and the quantisers' own numbers stay still.

    Args:
        network: a float network, or a ``QuantNet``, whose activations are clipped to the ends of their grids, as in
            training, and not rounded.
        images, labels: batches (N, C, H, W[, …]) float32 as the network sees them and (N, H, W[, …]) int64, on the
            network's device; each counts alike, so give them equal sizes.
        loss: of logits and labels.
        rounded: put Q(w) in the place of every weight w that has a quantiser.

    Raises:
        DataError: no images.
    """
    if not len(images):
        raise DataError("the loss surface got 0 batches of images: it is measured on at least one; give some.")
    twin = copy.deepcopy(network).eval()
    net = twin.net if isinstance(twin, QuantNet) else twin
    chosen = {name: p for name, p in net.named_parameters() if p.ndim >= 2}
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name in chosen)
    if rounded and isinstance(network, QuantNet):
        with torch.no_grad():
            for name, value in rounded_weights(network).items():
                chosen[name].copy_(value)
    forward = _clipping(twin) if isinstance(twin, QuantNet) else twin
    terms = tuple(partial(_term, forward, loss, x, y) for x, y in zip(images, labels, strict=True))
    return LossSurface(tuple(chosen), tuple(chosen.values()), terms)


def _term(forward: Callable[[Tensor], Tensor], loss: Loss, images: Tensor, labels: Tensor) -> Tensor:
    return loss(forward(images), labels)


def _clipping(q: QuantNet) -> Callable[[Tensor], Tensor]:
    """``q`` with its weights as they lie there and its activations clipped to their grids: twice differentiable."""

    def clip(quantizer: ActivationQuantizer, arguments: tuple[Tensor], rounded: Tensor) -> Tensor:
        cell = quantizer.unrounded(arguments[0])
        return arguments[0] if cell is None else cell.value

    q.weight_quantizers = nn.ModuleDict()
    for grid in q.grids.values():
        grid.register_forward_hook(clip)
    return partial(simulate, q, quantized=True, training=False)


def rounded_weights(q: QuantNet) -> dict[str, Tensor]:
    """Q(w) as evaluation has it, by the name of each weight that has a quantiser; float32 copies."""
    found: dict[str, Tensor] = {}
    for block in q.blocks():
        quantizer = q.weight_quantizer(block) if block.kind == "conv" else None
        if quantizer is not None:
            name = block.parameters["weight"]
            with torch.no_grad():
                found[name] = copy.deepcopy(quantizer).eval()(q.tensor(name).detach().float()).detach().clone()
    return found
