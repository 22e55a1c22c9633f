"""Networks by name: the paper's U-Net, MONAI's, nnU-Net's, or a user's own as ``module:Class``.

A ``torch.nn.Module`` that a program makes itself needs no entry here. docs/NETWORKS.md lists what was tried.
"""

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from monai.networks.nets.attentionunet import AttentionUnet
from monai.networks.nets.basic_unet import BasicUNet
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.flexible_unet import FlexibleUNet
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.unet import UNet
from monai.networks.nets.vnet import VNet
from torch import nn

from ..errors import ConfigError
from .nnunet import plain_conv_unet, residual_encoder_unet
from .own import own_network
from .paper import PAPER_FLOAT_LAYERS, DoubleConv, PaperUNet

__all__ = ["NETWORKS", "PAPER_FLOAT_LAYERS", "DoubleConv", "PaperUNet", "build_network", "count_parameters"]


def _monai(network: Callable[..., nn.Module], **defaults: Any) -> Callable[..., nn.Module]:
    def build(**options: Any) -> nn.Module:
        return network(**{**defaults, **options})

    build.__signature__ = inspect.signature(network)  # type: ignore[attr-defined]  # read by build_network
    return build


_PLAIN: dict[str, Any] = {"in_channels": 1, "out_channels": 1}
_FLAT: dict[str, Any] = {"spatial_dims": 2, **_PLAIN}

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "paper": PaperUNet,
    "unet": _monai(UNet, **_FLAT, channels=(16, 32, 64, 128), strides=(2, 2, 2), num_res_units=2),
    "basic_unet": _monai(BasicUNet, **_FLAT),
    "dynunet": _monai(
        DynUNet,
        **_FLAT,
        kernel_size=(3, 3, 3, 3),
        strides=(1, 2, 2, 2),
        upsample_kernel_size=(2, 2, 2),
        filters=(16, 32, 64, 128),
    ),
    "attention_unet": _monai(AttentionUnet, **_FLAT, channels=(16, 32, 64, 128), strides=(2, 2, 2)),
    "segresnet": _monai(SegResNet, **_FLAT, init_filters=16),
    "vnet": _monai(VNet, **_FLAT),
    "flexible_unet": _monai(FlexibleUNet, **_PLAIN, backbone="resnet10"),
    "plain_conv_unet": plain_conv_unet,
    "residual_encoder_unet": residual_encoder_unet,
}


def _nearest(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}? Known: " if close else "known: "


def build_network(name: str, options: dict[str, Any] | None = None) -> nn.Module:
    """A freshly initialised float network: a name of ``NETWORKS``, or the user's own class as "module:Class".

    ``options`` are the constructor's keyword arguments; lists stand for tuples.

    Raises:
        ConfigError: an unknown name or option, or a value the network refuses.
    """
    if ":" in name:
        factory: Callable[..., nn.Module] = own_network(name)
    elif name in NETWORKS:
        factory = NETWORKS[name]
    else:
        raise ConfigError(
            f"network {name!r} does not exist; {_nearest(name, list(NETWORKS))}{', '.join(NETWORKS)}. "
            "Choose one, or name a class of your own as module:Class."
        )
    signature = inspect.signature(factory)
    known = list(signature.parameters)
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in (options or {}).items()}
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values())
    for key in arguments:
        if key not in known:
            if anything:
                continue
            raise ConfigError(
                f"option {key!r} of network {name!r} does not exist; {_nearest(key, known)}{', '.join(known)}."
            )
        if isinstance(arguments[key], bool) and type(signature.parameters[key].default) in (int, float):
            raise ConfigError(
                f"option {key} = {str(arguments[key]).lower()} of network {name!r}: it takes a number, "
                f"for example {signature.parameters[key].default}."
            )
    try:
        return factory(**arguments)
    except (TypeError, ValueError, KeyError, RuntimeError, AssertionError, AttributeError, IndexError) as error:
        raise ConfigError(
            f"network {name!r} refuses the options {arguments}: {error}. Correct them in the config."
        ) from error


def count_parameters(network: nn.Module) -> int:
    """Number of learnable values."""
    return sum(p.numel() for p in network.parameters())
