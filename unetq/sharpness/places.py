"""The points of a network that sharpness-aware steps move, their gradients, and the way back to the last bit.

A place is a parameter of the network. One that has a weight quantiser can be read and moved in front of it (the
latent weight w) or behind it (Q(w), what the convolution sees); biases, norms and float weights have one side only.
The side behind is reached with hooks that are there during one pass, so that every quantiser, the user's own too,
takes part without knowing. Parameters of quantisers (steps, levels) are never moved.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..quant.network import QuantNet
from ..quant.quantizer import WeightQuantizer


@dataclass(eq=False)
class Place:
    """A learnable parameter, and its quantiser where it has one; ``seen`` are the Q(w) of the pass that is watched."""

    parameter: nn.Parameter
    quantizer: WeightQuantizer | None = None
    seen: list[Tensor] = field(default_factory=list)


def find_places(network: nn.Module) -> tuple[Place, ...]:
    """All places of a float network or a ``QuantNet``, in the order of its parameters, each once."""
    if not isinstance(network, QuantNet):
        return tuple(Place(p) for p in network.parameters() if p.requires_grad)
    quantizers = {}
    for block in network.blocks():
        quantizer = network.weight_quantizer(block) if block.kind == "conv" else None
        if quantizer is not None:
            quantizers[id(network.tensor(block.parameters["weight"]))] = quantizer
    return tuple(Place(p, quantizers.get(id(p))) for p in network.network_parameters())


@contextmanager
def watched(places: Iterable[Place]) -> Iterator[None]:
    """Passes inside keep Q(w) of ``places`` that have a quantiser, with its gradient once there is one."""
    with ExitStack() as stack:
        for place in places:
            if place.quantizer is not None:
                stack.callback(place.quantizer.register_forward_hook(_watch(place)).remove)
                stack.callback(place.seen.clear)
        yield


def _watch(place: Place) -> Any:
    def hook(module: nn.Module, arguments: Any, output: Tensor) -> None:
        output.retain_grad()
        place.seen.append(output)

    return hook


def read(place: Place, *, behind: bool) -> list[Tensor]:
    """The tensors whose gradients sum to the place's: Q(w) once a use, or the parameter."""
    return list(place.seen) if behind and place.quantizer is not None else [place.parameter]


def gradient(place: Place, *, behind: bool) -> Tensor:
    """The gradient that the last backward left at a place, float32, of the parameter's shape; zeros where none came."""
    found = [tensor.grad for tensor in read(place, behind=behind) if tensor.grad is not None]
    if not found:
        return torch.zeros_like(place.parameter)
    return found[0].detach().clone() if len(found) == 1 else torch.stack(found).sum(0)


@contextmanager
def moved(places: Sequence[Place], steps: Sequence[Tensor], *, behind: bool) -> Iterator[None]:
    """Inside, ``steps`` are added to ``places``; after it every parameter has the bits that it had.

    Args:
        steps: one a place, of its parameter's shape.
        behind: add to Q(w) where there is a quantiser, else to w.
    """
    with ExitStack() as stack:
        for place, step in zip(places, steps, strict=True):
            if behind and place.quantizer is not None:
                stack.callback(place.quantizer.register_forward_hook(_add(step)).remove)
            else:
                stack.callback(_put_back, place.parameter, place.parameter.detach().clone())
                with torch.no_grad():
                    place.parameter.add_(step)
        yield


def _add(step: Tensor) -> Any:
    def hook(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        return output + step.to(output.dtype)

    return hook


def _put_back(parameter: nn.Parameter, before: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(before)


@contextmanager
def buffers_kept(network: nn.Module) -> Iterator[None]:
    """Passes inside leave no trace in running statistics and other buffers: those of moved weights are not wanted."""
    before = {name: value.detach().clone() for name, value in network.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in network.named_buffers():
                value.copy_(before[name])


def norm_of(tensors: Sequence[Tensor]) -> Tensor:
    """The 2-norm over all of ``tensors``, float32, a scalar."""
    norm: Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(t.float()) for t in tensors]))
    return norm


def averaged(tensors: Sequence[Tensor], fabric: Any) -> list[Tensor]:
    """``tensors``, averaged over all processes in one message."""
    if fabric.world_size == 1:
        return list(tensors)
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    flat = fabric.all_reduce(flat, reduce_op="sum") / fabric.world_size
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
