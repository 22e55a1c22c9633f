"""LookSAM (Liu et al. 2022, arXiv 2203.02714): SAM in every k-th step, and what it changed reused in between.

    every k-th step:  g, then g_s at v + epsilon;  g_v = g_s - (g_s . g / ||g||**2) g     (what SAM adds, across g)
    other steps:      along g + alpha * (||g|| / ||g_v||) * g_v                           (one pass, as without SAM)

over the network's parameters; those of quantisers have g_s, or g. g_v lies in the optimizer's state, so that a
checkpoint holds it and a resumed run goes on to the same bits.
"""

import torch
from torch import Tensor

from .places import Place, averaged, gradient, norm_of, watched
from .sam import TINY, Around, Sam

KEY = "looksam"


class LookSam(Sam):
    """LookSAM around SAQ's cases.

    Args:
        every: k, from 1 (which is SAM). alpha: weight of the reused part.
    """

    def __init__(self, around: Around, every: int, alpha: float) -> None:
        super().__init__(around)
        self.every, self.alpha = every, alpha

    def step(self, images: Tensor, labels: Tensor, number: int) -> Tensor:
        """As ``Descent.step``."""
        kept = [self._kept(place) for place in self.places]
        known = [k for k in kept if k is not None]
        looking = number % self.every == 0 or len(known) < len(kept)
        with watched(self.places if looking and self.sides.read_behind else ()):
            loss, _ = self.objective(images, labels)
            self.optimizer.zero_grad(set_to_none=True)
            self.fabric.backward(loss)  # all gradients, averaged over processes
            plain = [gradient(place, behind=False) for place in self.places]
            if looking and self.sides.read_behind:
                uphill = self.uphill(averaged([gradient(p, behind=True) for p in self.places], self.fabric))
            elif looking:
                uphill = self.uphill(plain)
        across = self._look(images, labels, plain, uphill) if looking else self._reuse(plain, known)
        self.optimizer.step()
        for place, tensor in zip(self.places, across, strict=True):  # behind the step: Adam starts with an empty state
            self.optimizer.state[place.parameter][KEY] = tensor
        return loss.detach()

    def _kept(self, place: Place) -> Tensor | None:
        found: Tensor | None = self.optimizer.state.get(place.parameter, {}).get(KEY)
        return found

    def _look(self, images: Tensor, labels: Tensor, plain: list[Tensor], uphill: list[Tensor]) -> list[Tensor]:
        """g_v; ``.grad`` is g_s."""
        self.second_pass(images, labels, self.places, uphill)
        there = [gradient(place, behind=False) for place in self.places]
        along = sum_of_products(there, plain) / norm_of(plain).square().clamp_min(TINY)
        # A parameter's own memory layout, which is what a checkpoint gives back.
        return [
            torch.empty_like(place.parameter, requires_grad=False).copy_(s - along * g)
            for place, s, g in zip(self.places, there, plain, strict=True)
        ]

    def _reuse(self, plain: list[Tensor], known: list[Tensor]) -> list[Tensor]:
        """g_v as it was; ``.grad`` gains its part."""
        factor = self.alpha * norm_of(plain) / norm_of(known).clamp_min(TINY)
        for place, tensor in zip(self.places, known, strict=True):
            if place.parameter.grad is not None:
                place.parameter.grad.add_(tensor * factor)
        return known


def sum_of_products(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """The scalar product over all tensors, float32."""
    return torch.stack([(x.float() * y.float()).sum() for x, y in zip(a, b, strict=True)]).sum()
