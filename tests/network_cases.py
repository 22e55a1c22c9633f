"""Networks of the field, small, with random weights and random norm statistics: 2-D and 3-D, each with a size."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from unetq.nets import build_network


@dataclass(frozen=True)
class NetworkCase:
    """A network by name and options, an input's spatial size, its channels, and whether a package is needed."""

    name: str
    network: str
    options: dict[str, Any]
    size: tuple[int, ...]
    channels: int = 1

    def build(self, seed: int = 0) -> nn.Module:
        """The network with weights, biases, norms and running statistics drawn from ``seed``."""
        torch.manual_seed(seed)
        network = build_network(self.network, {**self.options, "in_channels": self.channels})
        randomise(network, seed)
        return network.eval()

    def image(self, seed: int = 0) -> Tensor:
        """Normally distributed input: two images, one for the networks that take long."""
        batch = 1 if self.name in SLOW else 2
        rng = np.random.default_rng([len(self.name), seed])
        return torch.from_numpy(rng.normal(0, 1, (batch, self.channels, *self.size))).float()


SLOW = ("vnet-relu-3d-16x16x16", "vnet-batch-elu-16x32", "flexible_unet-efficientnet-32x32")


def randomise(network: nn.Module, seed: int) -> None:
    """Norms that are no identity: weights, biases, running means and variances; slopes of both signs."""
    rng = np.random.default_rng([20261121, seed])

    def normal(like: Tensor, mean: float, spread: float) -> Tensor:
        return torch.from_numpy(rng.normal(mean, spread, tuple(like.shape))).float()

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, _NormBase | nn.GroupNorm):
                if module.weight is not None:
                    module.weight.copy_(normal(module.weight, 1, 0.4))
                    module.bias.copy_(normal(module.bias, 0, 0.4))
                if getattr(module, "running_mean", None) is not None:
                    module.running_mean.copy_(normal(module.running_mean, 0, 0.3))
                    module.running_var.copy_(normal(module.running_var, 0, 0.5).square() + 0.2)
            if isinstance(module, nn.PReLU):
                module.weight.copy_(normal(module.weight, 0.2, 0.3))


def _unet(rank: int = 2, **options: Any) -> dict[str, Any]:
    plain = {"spatial_dims": rank, "out_channels": 2, "channels": [4, 6, 8], "strides": [2, 2], "num_res_units": 1}
    return {**plain, **options}


def _basic(rank: int = 2, **options: Any) -> dict[str, Any]:
    return {"spatial_dims": rank, "out_channels": 2, "features": [4, 4, 4, 6, 6, 4], **options}


def _dyn(rank: int = 2, **options: Any) -> dict[str, Any]:
    plain = {"kernel_size": [3, 3, 3], "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [4, 6, 8]}
    return {"spatial_dims": rank, "out_channels": 3, **plain, **options}


def _seg(rank: int = 2, **options: Any) -> dict[str, Any]:
    plain = {"init_filters": 8, "blocks_down": [1, 1, 1], "blocks_up": [1, 1], "out_channels": 2}
    return {"spatial_dims": rank, **plain, **options}


def _nnunet(rank: int = 2, **options: Any) -> dict[str, Any]:
    plain = {"features": [4, 6, 8], "strides": [1, 2, 2], "out_channels": 2, "groups": 2}
    return {"spatial_dims": rank, **plain, **options}


def _group(groups: int) -> list[Any]:
    return ["GROUP", {"num_groups": groups}]


def _case(network: str, label: str, options: dict[str, Any], *size: int, channels: int = 1) -> NetworkCase:
    return NetworkCase(f"{network}-{label}-{'x'.join(map(str, size))}", network, options, size, channels)


CASES = (
    _case("paper", "norm-relu", {"widths": [4, 6, 8], "order": "conv-norm-relu"}, 20, 12, channels=2),
    _case("unet", "instance-prelu", _unet(), 20, 12),
    _case("unet", "batch-leaky", _unet(norm="BATCH", act="LEAKYRELU", num_res_units=2), 12, 28, channels=2),
    _case("unet", "group-silu", _unet(norm=_group(2), act="SWISH"), 16, 16),
    _case("unet", "instance-gelu", _unet(act="GELU", num_res_units=0), 16, 12),
    _case("unet", "batch-hardswish-3d", _unet(3, norm="BATCH", act="MEMSWISH"), 8, 12, 4),
    _case("unet", "group-elu-3d", _unet(3, norm=_group(1), act="ELU", num_res_units=0), 8, 4, 12),
    _case("unet", "instance-mish", _unet(act="MISH"), 12, 12),
    _case("basic_unet", "instance-leaky", _basic(), 35, 37),
    _case("basic_unet", "batch-relu", _basic(norm="BATCH", act="RELU"), 32, 48, channels=3),
    _case("basic_unet", "group-prelu", _basic(norm=_group(2), act="PRELU"), 33, 32),
    _case("basic_unet", "pixelshuffle", _basic(upsample="pixelshuffle"), 32, 32),
    _case("basic_unet", "batch-3d", _basic(3, norm="BATCH"), 17, 16, 19),
    _case("dynunet", "instance-leaky", _dyn(), 20, 12),
    _case("dynunet", "residual-batch", _dyn(res_block=True, norm_name="batch", act_name="relu"), 12, 12),
    _case("dynunet", "residual-group-3d", _dyn(3, res_block=True, norm_name=["GROUP", {"num_groups": 2}]), 8, 4, 12),
    _case("dynunet", "anisotropic-3d", _dyn(3, kernel_size=[[1, 3, 3], 3, 3], strides=[1, [1, 2, 2], 2],
                                           upsample_kernel_size=[[1, 2, 2], 2]), 6, 12, 8),
    _case("attention_unet", "batch-relu", {"spatial_dims": 2, "out_channels": 2, "channels": [4, 6, 8],
                                           "strides": [2, 2]}, 20, 12),
    _case("attention_unet", "3d", {"spatial_dims": 3, "out_channels": 2, "channels": [4, 6], "strides": [2]}, 6, 10, 4),
    _case("segresnet", "group-relu", _seg(), 20, 12),
    _case("segresnet", "deconv-3d", _seg(3, blocks_down=[1, 1], blocks_up=[1], upsample_mode="deconv"), 6, 10, 4),
    _case("segresnet", "pixelshuffle", _seg(upsample_mode="pixelshuffle", act="LEAKYRELU"), 12, 16, channels=2),
    _case("vnet", "batch-elu", {"spatial_dims": 2, "out_channels": 2}, 16, 32),
    _case("vnet", "relu-3d", {"spatial_dims": 3, "out_channels": 2, "act": "relu"}, 16, 16, 16),
    _case("flexible_unet", "resnet10", {"backbone": "resnet10", "out_channels": 2,
                                        "decoder_channels": [8, 8, 6, 4, 4]}, 32, 32),
    _case("flexible_unet", "efficientnet", {"backbone": "efficientnet-b0", "out_channels": 2,
                                            "decoder_channels": [8, 8, 6, 4, 4]}, 32, 32, channels=3),
    _case("plain_conv_unet", "instance-leaky", _nnunet(), 20, 12),
    _case("plain_conv_unet", "group-elu-3d", _nnunet(3, norm="group", activation="elu"), 8, 4, 12),
    _case("plain_conv_unet", "batch-prelu-3d", _nnunet(3, norm="batch", activation="prelu"), 4, 12, 8),
    _case("residual_encoder_unet", "instance-leaky", _nnunet(blocks=[1, 2, 1]), 12, 20),
    _case("residual_encoder_unet", "batch-silu-3d", _nnunet(3, blocks=[1, 1, 1], norm="batch", activation="silu"),
          4, 8, 12),
)  # fmt: skip
