"""The training loss: soft Dice plus cross-entropy, from MONAI."""

from collections.abc import Callable

import torch
from monai.losses.dice import DiceCELoss
from torch import Tensor

from .experiment import LossConfig

Loss = Callable[[Tensor, Tensor], Tensor]


def build_loss(channels: int, weights: LossConfig) -> Loss:
    """``weights.dice * Dice + weights.ce * cross-entropy`` for logits of ``channels`` channels.

    The returned function takes logits (N, channels, H, W) float and labels (N, H, W) int64 and gives a scalar.
    One channel means sigmoid and binary cross-entropy against class 1; more mean softmax. Dice pools the
    batch, so that a class absent from one crop does not swing the loss.
    """
    one = channels == 1
    loss = DiceCELoss(
        sigmoid=one, softmax=not one, to_onehot_y=not one, batch=True, lambda_dice=weights.dice, lambda_ce=weights.ce
    )

    def apply(logits: Tensor, labels: Tensor) -> Tensor:
        target = labels.unsqueeze(1)
        value: Tensor = loss(logits.float(), target.to(torch.float32) if one else target)
        return value

    return apply
