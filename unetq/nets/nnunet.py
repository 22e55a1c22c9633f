"""nnU-Net's networks (Isensee et al. 2021, 2024) from the package dynamic-network-architectures, the extra ``nets``.

Their constructors take classes; here everything is a number or a word, so that a config can say it.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from torch import nn

from ..errors import ConfigError

PACKAGE = "dynamic_network_architectures.architectures.unet"
NORMS = ("instance", "batch", "group", "none")
ACTIVATIONS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "leaky_relu": (nn.LeakyReLU, {"negative_slope": 0.01, "inplace": True}),
    "relu": (nn.ReLU, {"inplace": True}),
    "prelu": (nn.PReLU, {}),
    "elu": (nn.ELU, {"inplace": True}),
    "silu": (nn.SiLU, {"inplace": True}),
    "gelu": (nn.GELU, {}),
}


class _GroupNorm(nn.GroupNorm):
    """GroupNorm with the channels first, as these networks make their norms."""

    def __init__(self, channels: int, eps: float = 1e-5, affine: bool = True, groups: int = 8) -> None:
        super().__init__(groups, channels, eps, affine)


def _architecture(name: str) -> Any:
    try:
        return getattr(import_module(PACKAGE), name)
    except ImportError as error:
        raise ConfigError(
            f"{name} is in the package dynamic-network-architectures, which cannot be imported ({error}). "
            "Install it: pip install 'unetq[nets]'."
        ) from error


def _choose(word: str, known: Sequence[str], key: str) -> str:
    if word not in known:
        raise ConfigError(f"{key} = {word!r}: choose one of {', '.join(known)}.")
    return word


def _build(name: str, spatial_dims: int, groups: int, norm: str, activation: str, **options: Any) -> nn.Module:
    _choose(norm, NORMS, "norm")
    _choose(activation, tuple(ACTIVATIONS), "activation")
    if spatial_dims not in (2, 3):
        raise ConfigError(f"spatial_dims = {spatial_dims}: 2 or 3.")
    flat = spatial_dims == 2
    norms: dict[str, tuple[Any, dict[str, Any]]] = {
        "instance": (nn.InstanceNorm2d if flat else nn.InstanceNorm3d, {"eps": 1e-5, "affine": True}),
        "batch": (nn.BatchNorm2d if flat else nn.BatchNorm3d, {"eps": 1e-5, "affine": True}),
        "group": (_GroupNorm, {"eps": 1e-5, "affine": True, "groups": groups}),
        "none": (None, {}),
    }
    norm_op, norm_options = norms[norm]
    nonlin, nonlin_options = ACTIVATIONS[activation]
    network: nn.Module = _architecture(name)(
        conv_op=nn.Conv2d if flat else nn.Conv3d,
        norm_op=norm_op,
        norm_op_kwargs=norm_options,
        nonlin=nonlin,
        nonlin_kwargs=nonlin_options,
        deep_supervision=False,
        **options,
    )
    return network


def plain_conv_unet(
    spatial_dims: int = 2,
    in_channels: int = 1,
    out_channels: int = 1,
    features: Sequence[int] = (16, 32, 64, 128),
    strides: Sequence[Any] = (1, 2, 2, 2),
    kernel_size: Any = 3,
    blocks: Any = 2,
    decoder_blocks: Any = 2,
    norm: str = "instance",
    activation: str = "leaky_relu",
    groups: int = 8,
) -> nn.Module:
    """nnU-Net's PlainConvUNet: convolution, norm, activation; strided down, transposed up, one logits head.

    Args:
        features, strides: one entry a stage, finest first. blocks, decoder_blocks: convolutions a stage.
        norm: instance, batch, group (``groups`` of channels) or none. activation: a name of ``ACTIVATIONS``.

    Raises:
        ConfigError: a word that is not known, or dynamic-network-architectures is missing.
    """
    return _build(
        "PlainConvUNet", spatial_dims, groups, norm, activation,
        input_channels=in_channels, num_classes=out_channels, n_stages=len(features), features_per_stage=list(features),
        kernel_sizes=kernel_size, strides=list(strides), n_conv_per_stage=blocks,
        n_conv_per_stage_decoder=decoder_blocks, conv_bias=True,
    )  # fmt: skip


def residual_encoder_unet(
    spatial_dims: int = 2,
    in_channels: int = 1,
    out_channels: int = 1,
    features: Sequence[int] = (16, 32, 64, 128),
    strides: Sequence[Any] = (1, 2, 2, 2),
    kernel_size: Any = 3,
    blocks: Any = (1, 2, 2, 2),
    decoder_blocks: Any = 1,
    norm: str = "instance",
    activation: str = "leaky_relu",
    groups: int = 8,
) -> nn.Module:
    """nnU-Net's ResidualEncoderUNet: residual blocks down, plain convolutions up; arguments as ``plain_conv_unet``."""
    count = blocks if isinstance(blocks, int) else list(blocks)
    return _build(
        "ResidualEncoderUNet", spatial_dims, groups, norm, activation,
        input_channels=in_channels, num_classes=out_channels, n_stages=len(features), features_per_stage=list(features),
        kernel_sizes=kernel_size, strides=list(strides), n_blocks_per_stage=count,
        n_conv_per_stage_decoder=decoder_blocks, conv_bias=True,
    )  # fmt: skip
