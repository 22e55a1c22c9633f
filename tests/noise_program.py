"""Two processes train the tiny network with noise; each writes its weights: ``noise_program.py FOLDER``.

Fabric starts the second process with the same arguments. The seeds of the processes differ, as in training.
"""

import sys
from pathlib import Path

import torch
from lightning_fabric import Fabric
from sharpness_reference import LEARNING_RATE, batch, loss_of
from torch import nn

from unetq.processes import launched
from unetq.quant.calibrate import calibrate
from unetq.quant.convert import quantize
from unetq.quant.network import QuantNet
from unetq.quant.noise import Kind, NoiseSettings, add_noise

SEED = 71_003
STEPS = 3
KINDS: tuple[Kind, ...] = ("uniform", "quant_noise", "tempering")


def network(kind: Kind) -> QuantNet:
    """The network that every process and the test begin with; without BatchNorm, so that batches can be added up."""
    torch.manual_seed(SEED)
    layers = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))
    q = quantize(
        layers, weight_bits=3, act_bits=32, method="lsq", first_bits=3, last_bits=3,
        example_input=torch.zeros(1, 1, 12, 12),
    )  # fmt: skip
    calibrate(q, [batch(4, SEED)[0]])
    add_noise(q, NoiseSettings(kind, seed=SEED))
    return q.train()


def optimizer_of(q: QuantNet) -> torch.optim.Optimizer:
    """Plain descent, so that a step is its gradient."""
    return torch.optim.SGD(q.parameters(), lr=LEARNING_RATE)


def run(fabric: Fabric, folder: Path) -> None:
    """Train with each kind; write the weights after the last step."""
    torch.set_num_threads(1)
    rank = fabric.global_rank
    for kind in KINDS:
        q = network(kind)
        wrapped, optimizer = fabric.setup(q, optimizer_of(q))
        torch.manual_seed(SEED + rank)
        for number in range(STEPS):
            q.set_progress(number / STEPS, number)
            images, labels = batch(4, SEED + 10 * number + rank)
            loss = loss_of(wrapped(images), labels)
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
        torch.save({k: v.detach().clone() for k, v in q.named_parameters()}, folder / f"{kind}-{rank}.pt")


if __name__ == "__main__":
    together = Fabric(accelerator="cpu", devices=2, strategy="ddp", precision="32-true")
    with launched(together):
        run(together, Path(sys.argv[1]))
