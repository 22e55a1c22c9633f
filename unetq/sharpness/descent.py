"""One step of training: the gradient of a loss, and the optimizer's step along it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ..losses import Loss

Guide = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Objective:
    """What is minimised: ``loss`` of the logits, and what ``guide`` adds from the images and the logits they gave.

    ``network`` is the one that Fabric wrapped, (N, C, …) images to logits.
    """

    network: nn.Module
    loss: Loss
    guide: Guide | None = None

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, a scalar, and the logits."""
        logits: Tensor = self.network(images)
        loss = self.loss(logits, labels)
        if self.guide is not None:
            loss = loss + self.guide(images, logits)
        return loss, logits

    def each(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of every image by itself, (N,), without gradient and without the guide."""
        with torch.no_grad():
            return torch.stack([self.loss(logits[i : i + 1], labels[i : i + 1]) for i in range(len(logits))])


class Descent:
    """The plain step. ``optimizer`` is the one that Fabric wrapped."""

    def __init__(self, objective: Objective, optimizer: torch.optim.Optimizer, fabric: Fabric) -> None:
        self.objective, self.optimizer, self.fabric = objective, optimizer, fabric

    def step(self, images: Tensor, labels: Tensor, number: int) -> Tensor:
        """Change the network once.

        Args:
            images: (N, C, …) on the network's device. labels: (N, …) int64, there too.
            number: of the step; with the seed it decides all that a step draws, so that a resumed run draws alike.

        Returns:
            The loss before the step at the weights themselves, a detached scalar.
        """
        loss, _ = self.objective(images, labels)
        self.optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.optimizer.step()
        return loss.detach()
