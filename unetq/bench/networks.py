"""The float networks that are timed: S, L, or a run's; untrained ones with live activations."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..nets import PaperUNet, build_network
from .job import Job

NETWORKS = {
    "s": "paper U-Net 64-128-256-256, conv-BN-ReLU, bilinear upsampling",
    "l": "MONAI BasicUNet 32-32-64-128-256-32, BatchNorm, ReLU, transposed convolutions",
}
_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def _small() -> nn.Module:
    net = PaperUNet(order="conv-norm-relu")
    net.bottom_norm = nn.Identity()  # type: ignore[assignment]  # a lone BatchNorm folds nowhere in the other engines
    return net


class _Joined(nn.Module):
    """MONAI's UpCat without its cases: torch's graph mode cannot trace those. Sizes here always fit."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.upsample, self.convs = block.upsample, block.convs

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Upsample ``x``, join it behind ``skip``, convolve."""
        joined: Tensor = self.convs(torch.cat([skip, self.upsample(x)], dim=1))
        return joined


def _light() -> nn.Module:
    net = build_network("basic_unet", {"features": (32, 32, 64, 128, 256, 32), "act": "relu", "norm": "batch"})
    for name in ("upcat_4", "upcat_3", "upcat_2", "upcat_1"):
        setattr(net, name, _Joined(getattr(net, name)))
    return net


def _settle(net: nn.Module, batch: Tensor) -> None:
    """Give every BatchNorm the statistics of ``batch`` and seeded gains, so that no layer runs dry."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.8, 1.2)
        nn.init.normal_(norm.bias, 0.0, 0.2)
        norm.momentum = None  # the plain mean
    net.train()
    with torch.no_grad():
        net(batch)


def float_network(job: Job) -> nn.Module:
    """The network in evaluation mode; from ``network.safetensors`` in the job's folder once ``prepare`` wrote it."""
    if job.network in NETWORKS:
        from safetensors.torch import load_file

        torch.manual_seed(job.seed)
        net = _small() if job.network == "s" else _light()
        stored = job.file("network.safetensors")
        if stored.exists():
            net.load_state_dict(load_file(stored))
        else:
            _settle(net, torch.from_numpy(job.calibration()))
    else:
        from ..runs import open_run

        net = open_run(Path(job.network)).quantized()[0].net
    return net.eval()


def multiply_accumulates(net: nn.Module, x: Tensor) -> int:
    """Of all convolutions for one image; positions in the padding count."""
    total = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        side = inputs[0] if isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d) else output
        weight: Tensor = module.weight  # type: ignore[assignment]  # of a convolution
        total += weight.numel() * side[0, 0].numel()

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, _CONVOLUTIONS)]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    return total
