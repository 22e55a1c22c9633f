"""The loss by its formula, for one channel and for several."""

import pytest
import torch
from torch.nn import functional as F

from unetq.experiment import LossConfig
from unetq.losses import build_loss


def soft_dice(p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """1 - Dice a class with the batch pooled, averaged over classes; (N, C, H, W)."""
    axes = (0, 2, 3)
    return (1 - (2 * (p * t).sum(axes) + 1e-5) / (p.sum(axes) + t.sum(axes) + 1e-5)).mean()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("dice", "ce"), [(1.0, 1.0), (0.5, 0.5), (0.0, 2.0), (1.0, 0.0)])
def test_equals_the_formula(channels: int, dice: float, ce: float) -> None:
    generator = torch.Generator().manual_seed(channels)
    logits = torch.randn(2, channels, 5, 7, generator=generator)
    labels = torch.randint(0, max(channels, 2), (2, 5, 7), generator=generator)
    found = build_loss(channels, LossConfig(dice=dice, ce=ce))(logits, labels)
    if channels == 1:
        target = labels[:, None].float()
        expected = dice * soft_dice(logits.sigmoid(), target) + ce * F.binary_cross_entropy_with_logits(logits, target)
    else:
        target = F.one_hot(labels, channels).movedim(-1, 1).float()
        expected = dice * soft_dice(logits.softmax(1), target) + ce * F.cross_entropy(logits, labels)
    torch.testing.assert_close(found, expected)


def test_bf16_logits_are_reduced_in_float32() -> None:
    logits = torch.zeros(1, 1, 4, 4, dtype=torch.bfloat16, requires_grad=True)
    loss = build_loss(1, LossConfig())(logits, torch.ones(1, 4, 4, dtype=torch.int64))
    assert loss.dtype == torch.float32
    loss.backward()
    assert logits.grad is not None and bool((logits.grad < 0).all())
