"""Efficient SAM (Du et al. 2022, arXiv 2110.03141): fewer weights are moved, fewer images say where to go.

Stochastic weight perturbation: each tensor of the network is moved with probability beta, by 1/beta as much; only
its gradient is taken. The norm over all of them, which is then not known, is estimated as that of the moved ones
over sqrt(beta), so that epsilon is that of SAM on average:

    epsilon = (1 / beta) * rho * g / (||g|| / sqrt(beta))      on the moved tensors, 0 elsewhere

Sharpness-sensitive data selection: the second gradient is of those images alone, a share gamma of the batch, whose
loss rises most from w to w + epsilon.

The paper's two ideas save little where the forward that selects is a third of a step, as in a U-Net. So the first
gradient too is of a share of the batch only (its first images; batches are drawn at random), as in K-SAM (Ni et al.
2022, arXiv 2210.12864); the others pass forward once, for their loss. ``ascent`` = 1 is the paper's algorithm.
"""

import math

import torch
from torch import Tensor

from .places import Place, buffers_kept, moved
from .sam import Around, Sam


class Esam(Sam):
    """ESAM around SAQ's cases.

    Args:
        beta: share of the tensors that is moved, above 0 to 1. gamma: share of the images that the second gradient
            is of, likewise. ascent: share of the images that the first one is of.
        seed: with the number of a step it decides which tensors are moved, alike in all processes.
    """

    def __init__(self, around: Around, beta: float, gamma: float, ascent: float, seed: int) -> None:
        super().__init__(around)
        self.beta, self.gamma, self.ascent, self.seed = beta, gamma, ascent, seed

    def step(self, images: Tensor, labels: Tensor, number: int) -> Tensor:
        """As ``Descent.step``."""
        places, first = self.subset(number), share(self.ascent, images)
        loss, logits, gradients = self.first_pass(images[:first], labels[:first], places)
        scale = 1.0 / math.sqrt(self.beta)  # 1/beta of the formula, times sqrt(beta) of the norm
        steps = [step * scale for step in self.uphill(gradients)]
        chosen = self.selected(images, labels, logits, places, steps)
        self.second_pass(images[chosen], labels[chosen], places, steps)
        self.optimizer.step()
        return loss

    def subset(self, number: int) -> tuple[Place, ...]:
        """The places moved in step ``number``; never none."""
        generator = torch.Generator().manual_seed((self.seed << 32) + number)
        draws = torch.rand(len(self.places), generator=generator)
        chosen = tuple(p for p, draw in zip(self.places, draws.tolist(), strict=True) if draw < self.beta)
        return chosen or (self.places[int(draws.argmin())],)

    def selected(
        self, images: Tensor, labels: Tensor, logits: Tensor, places: tuple[Place, ...], steps: list[Tensor]
    ) -> Tensor:
        """Numbers of the images whose loss rises most, in order.

        ``logits`` are those of the first images at the weights themselves. Images of one pass share BatchNorm's
        statistics, so that those that pass together before do so after, too.
        """
        count, first = share(self.gamma, images), len(logits)
        if count == len(images):
            return torch.arange(count, device=images.device)
        network, each = self.objective.network, self.objective.each
        groups = [
            (images[:first], labels[:first]),
            *([(images[first:], labels[first:])] if first < len(images) else []),
        ]
        with buffers_kept(self.network), torch.no_grad():
            before = [each(logits, labels[:first]), *(each(network(x), y) for x, y in groups[1:])]
            with moved(places, steps, behind=self.sides.add_behind):
                after = [each(network(x), y) for x, y in groups]
        return (torch.cat(after) - torch.cat(before)).topk(count).indices.sort().values


def share(part: float, images: Tensor) -> int:
    """``part`` of a batch in whole images, at least one."""
    return max(1, round(part * len(images)))
