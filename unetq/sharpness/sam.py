"""Sharpness-aware minimisation (Foret et al. 2021, arXiv 2010.01412), with SAQ's cases for quantised weights.

    g = gradient at v,  epsilon = rho * g / ||g||      (v: w, or Q(w); see ``saq``)
    step along the gradient at v + epsilon, from w

The first pass is an ordinary one, its running statistics stay; the second one leaves none. Gradients of several
processes are averaged before the norm is taken, so that all of them move to the same point. With bf16 a step below
half a unit of a weight's last place (2**-9 of it) is lost in the convolution; where Q(w) is 0 nothing is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from .descent import Descent, Objective
from .places import Place, averaged, buffers_kept, find_places, gradient, moved, norm_of, read, watched
from .saq import CASES, Case

TINY = 1e-12


@dataclass(frozen=True)
class Around:
    """What every sharpness-aware step goes around.

    Attributes:
        objective, optimizer: what Fabric wrapped.
        network: the float network or ``QuantNet`` inside the objective's.
        rho: length of the perturbation over all places together, in units of the weights.
        case: of ``saq``; without quantisers all three are SAM.
    """

    objective: Objective
    optimizer: torch.optim.Optimizer
    fabric: Fabric
    network: nn.Module
    rho: float
    case: Case


class Sam(Descent):
    """A step along the gradient at the worst point nearby."""

    def __init__(self, around: Around) -> None:
        super().__init__(around.objective, around.optimizer, around.fabric)
        self.network, self.rho, self.sides = around.network, around.rho, CASES[around.case]
        self.places = find_places(around.network)

    def step(self, images: Tensor, labels: Tensor, number: int) -> Tensor:
        """As ``Descent.step``."""
        loss, _, gradients = self.first_pass(images, labels, self.places)
        self.second_pass(images, labels, self.places, self.uphill(gradients))
        self.optimizer.step()
        return loss

    def first_pass(
        self, images: Tensor, labels: Tensor, places: Sequence[Place]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Loss and logits at the weights themselves, gradients of ``places`` alone, averaged; no ``.grad`` stays."""
        behind = self.sides.read_behind
        with watched(places if behind else ()), self.fabric.no_backward_sync(self.objective.network):  # type: ignore[arg-type]
            loss, logits = self.objective(images, labels)
            self.optimizer.zero_grad(set_to_none=True)
            self.fabric.backward(loss, inputs=[tensor for place in places for tensor in read(place, behind=behind)])
            gradients = [gradient(place, behind=behind) for place in places]
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach(), logits.detach(), averaged(gradients, self.fabric)

    def uphill(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """epsilon, a tensor a place; zeros where all gradients are."""
        factor = self.rho / norm_of(gradients).clamp_min(TINY)
        return [g * factor for g in gradients]

    def second_pass(self, images: Tensor, labels: Tensor, places: Sequence[Place], steps: Sequence[Tensor]) -> None:
        """Leave in ``.grad`` of all parameters the gradient at the moved places; the parameters are as before."""
        with moved(places, steps, behind=self.sides.add_behind), buffers_kept(self.network):
            loss, _ = self.objective(images, labels)
            self.optimizer.zero_grad(set_to_none=True)
            self.fabric.backward(loss)
