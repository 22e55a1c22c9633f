"""``unetq.quantize``: from a float network to its trainable low-bit twin."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..errors import UnsupportedError
from .network import QuantNet
from .settings import LayerSettings, QuantSettings


def _first_convolution(net: nn.Module) -> tuple[int, int]:
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            return module.in_channels, 2 if isinstance(module, nn.Conv2d) else 3
    raise UnsupportedError(
        f"{type(net).__name__} has no convolution layer, so its input is not known; give quantize an example_input."
    )


def _example(net: nn.Module) -> Iterator[Tensor]:
    channels, rank = _first_convolution(net)
    device = next(net.parameters()).device
    for size in (64, 128, 96):
        yield torch.zeros((1, channels, *([size] * rank)), device=device)


def quantize(
    net: nn.Module,
    weight_bits: int = 4,
    act_bits: int = 6,
    *,
    method: str = "fixed",
    per_channel: bool = True,
    first_bits: int = 8,
    last_bits: int = 8,
    float_layers: tuple[str, ...] | list[str] = (),
    weight_method: str | None = None,
    act_method: str | None = None,
    group_size: int = 0,
    zero_point: bool = False,
    dynamic: bool = False,
    layers: tuple[LayerSettings, ...] | list[LayerSettings] = (),
    example_input: Tensor | None = None,
) -> QuantNet:
    """A trainable low-bit twin of ``net``, which is left untouched.

    Args:
        net: any module of supported operations, one input (N, C, H, W) or (N, C, D, H, W), one output.
        weight_bits, act_bits: 1 to 8, or 32 for float32.
        method: a family: "fixed" (true b-bit fixed point), "paper" (the published quantiser), "lsq", "lsq+", "pact",
            "dorefa", "bnn", "xnor", "twn", "ttq", "ternarynet", "codebook" or "lcq"; see docs/METHODS.md.
        per_channel: a weight step an output channel instead of one a tensor.
        first_bits, last_bits, float_layers, weight_method, act_method, group_size, zero_point, dynamic, layers: see
            ``QuantSettings``.
        example_input: an input the network accepts; by default zeros of 64 to 128 pixels a side.

    Raises:
        ConfigError: a width, method or pattern that does not exist.
        UnsupportedError: an operation the integer program cannot represent, named with its place.
    """
    settings = QuantSettings(
        weight_bits, act_bits, method, per_channel, first_bits, last_bits, tuple(float_layers), weight_method,
        act_method, group_size, zero_point, dynamic, tuple(layers),
    )  # fmt: skip
    duplicate = copy.deepcopy(net)
    candidates = [example_input] if example_input is not None else list(_example(net))
    failure: UnsupportedError | None = None
    for example in candidates:
        try:
            return QuantNet(duplicate, settings, example.detach().float())
        except UnsupportedError as error:
            failure = failure or error
            if "cannot be traced" not in str(error):
                break
    assert failure is not None
    raise failure
