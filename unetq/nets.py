"""Networks by name: the paper's U-Net and MONAI's. A user's own ``torch.nn.Module`` needs no entry here."""

import inspect
import json
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import torch
from monai.networks.nets.basic_unet import BasicUNet
from monai.networks.nets.unet import UNet
from torch import Tensor, nn

from .errors import ConfigError

PAPER_FLOAT_LAYERS = ("encoder.0.*", "head")
"""The published layer policy: the first block's two convolutions and the last one stay float32."""


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions with bias, each with BatchNorm and ReLU in the chosen order.

    (N, inputs, H, W) to (N, outputs, H, W). ``order`` is "conv-relu-norm" (the paper's) or "conv-norm-relu".
    """

    def __init__(self, inputs: int, outputs: int, order: str) -> None:
        layers: list[nn.Module] = []
        for channels in (inputs, outputs):
            layers.append(nn.Conv2d(channels, outputs, 3, padding=1))
            tail: list[nn.Module] = [nn.ReLU(), nn.BatchNorm2d(outputs)]
            layers.extend(tail if order == "conv-relu-norm" else reversed(tail))
        super().__init__(*layers)


class PaperUNet(nn.Module):
    """The U-Net of AskariHemmat et al. 2019 (arXiv 1908.01073): 4,837,249 parameters at the default widths.

    3x3 convolutions with bias, max-pooling, bilinear upsampling, concatenation, a 1x1 convolution at the
    end. The published count holds one BatchNorm more than the convolutions have; it is placed behind the
    bottom block, where it folds into the same epilogue.

    (N, in_channels, H, W) float to (N, out_channels, H, W) logits; H and W are multiples of
    ``2 ** (len(widths) - 1)``. ``widths`` are the channels from the finest level to the bottom.

    Raises:
        ConfigError: fewer than two widths, a width or channel count that is no whole number of at least 1, or an
            unknown ``order``.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        widths: tuple[int, ...] = (64, 128, 256, 256),
        order: str = "conv-relu-norm",
    ) -> None:
        super().__init__()
        if not isinstance(widths, list | tuple) or len(widths) < 2 or not all(map(_is_count, widths)):
            raise ConfigError(
                f"widths = {json.dumps(widths, default=str)}: give a list of at least two channel counts, whole "
                "numbers from 1, finest level first, such as [16, 32]."
            )
        for key, count in (("in_channels", in_channels), ("out_channels", out_channels)):
            if not _is_count(count):
                raise ConfigError(
                    f"{key} = {json.dumps(count, default=str)}: a number of channels is a whole number from 1; "
                    "correct it."
                )
        if order not in ("conv-relu-norm", "conv-norm-relu"):
            raise ConfigError(f"order = {order!r}: choose conv-relu-norm (the paper's) or conv-norm-relu.")
        self.encoder = nn.ModuleList(
            DoubleConv(before, after, order) for before, after in zip((in_channels, *widths[:-1]), widths, strict=True)
        )
        self.bottom_norm = nn.BatchNorm2d(widths[-1])
        self.pool = nn.MaxPool2d(2)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
        levels = range(len(widths) - 2, -1, -1)
        self.decoder = nn.ModuleList(DoubleConv(widths[i + 1] + widths[i], widths[i], order) for i in levels)
        self.head = nn.Conv2d(widths[0], out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) image to (N, out_channels, H, W) logits."""
        skips: list[Tensor] = []
        for i, block in enumerate(self.encoder):
            x = block(x if i == 0 else self.pool(x))
            skips.append(x)
        x = self.bottom_norm(skips.pop())
        for block in self.decoder:
            x = block(torch.cat([self.up(x), skips.pop()], dim=1))
        return self.head(x)  # type: ignore[no-any-return]  # nn.Module calls are untyped


def _monai(network: Callable[..., nn.Module], defaults: dict[str, Any]) -> Callable[..., nn.Module]:
    def build(**options: Any) -> nn.Module:
        return network(**{**defaults, **options})

    build.__signature__ = inspect.signature(network)  # type: ignore[attr-defined]  # read by _check_options
    return build


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "paper": PaperUNet,
    "unet": _monai(
        UNet,
        {
            "spatial_dims": 2,
            "in_channels": 1,
            "out_channels": 1,
            "channels": (16, 32, 64, 128),
            "strides": (2, 2, 2),
            "num_res_units": 2,
        },
    ),
    "basic_unet": _monai(BasicUNet, {"spatial_dims": 2, "in_channels": 1, "out_channels": 1}),
}


def _nearest(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}? Known: " if close else "known: "


def build_network(name: str, options: dict[str, Any] | None = None) -> nn.Module:
    """A freshly initialised float network: "paper", "unet" (MONAI UNet) or "basic_unet" (MONAI BasicUNet).

    ``options`` are the constructor's keyword arguments; lists stand for tuples.

    Raises:
        ConfigError: an unknown name or option, or a value the network refuses.
    """
    if name not in NETWORKS:
        raise ConfigError(
            f"network {name!r} does not exist; {_nearest(name, list(NETWORKS))}{', '.join(NETWORKS)}. Choose one."
        )
    factory = NETWORKS[name]
    signature = inspect.signature(factory)
    known = list(signature.parameters)
    arguments = {k: tuple(v) if isinstance(v, list) else v for k, v in (options or {}).items()}
    for key in arguments:
        if key not in known:
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
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise ConfigError(
            f"network {name!r} refuses the options {arguments}: {error}. Correct them in the config."
        ) from error


def count_parameters(network: nn.Module) -> int:
    """Number of learnable values."""
    return sum(p.numel() for p in network.parameters())
