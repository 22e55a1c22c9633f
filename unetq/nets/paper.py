"""The paper's U-Net."""

import json
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError

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
