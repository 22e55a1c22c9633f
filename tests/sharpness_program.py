"""Two processes train the tiny network with every method; each writes its weights: ``sharpness_program.py FOLDER``.

Fabric starts the second process with the same arguments. The seeds of the processes differ, as in training.
"""

import sys
from pathlib import Path

import torch
from lightning_fabric import Fabric
from sharpness_reference import LEARNING_RATE, Tiny, batch, loss_of

from unetq.experiment import SharpnessConfig
from unetq.processes import launched
from unetq.quant.calibrate import calibrate
from unetq.quant.convert import quantize
from unetq.quant.network import QuantNet
from unetq.sharpness.build import build_descent
from unetq.sharpness.descent import Objective

SEED = 71_001
BITS = 4
METHODS = {
    "case 1": {"method": "saq", "case": 1},
    "case 2": {"method": "saq", "case": 2},
    "case 3": {"method": "saq", "case": 3},
    "esam": {"method": "esam"},
    "looksam": {"method": "looksam", "every": 2},
}
RHO = 0.4


def network() -> QuantNet:
    """The network that every process and the test begin with."""
    torch.manual_seed(SEED)
    q = quantize(
        Tiny(), weight_bits=BITS, act_bits=32, method="lsq", first_bits=BITS, last_bits=BITS,
        example_input=torch.zeros(1, 1, 12, 12),
    )  # fmt: skip
    calibrate(q, [batch(4, SEED)[0]])
    for quantizer in q.weight_quantizers.values():
        quantizer.log2_step.data -= 1.0  # some weights saturate, and none lies on the edge itself
    return q.train()


def run(fabric: Fabric, folder: Path) -> None:
    """Train three steps with each method; write the weights after the first and the last."""
    torch.set_num_threads(1)
    rank = fabric.global_rank
    for name, settings in METHODS.items():
        q = network()
        wrapped, optimizer = fabric.setup(q, torch.optim.SGD(q.parameters(), lr=LEARNING_RATE))
        config = SharpnessConfig(**{"rho": RHO, **settings})
        step = build_descent(config, "quant", Objective(wrapped, loss_of), optimizer, fabric, q, SEED)
        torch.manual_seed(SEED + rank)
        for number in range(3):
            step.step(*batch(4, SEED + 10 * number + rank), number)
            if number in (0, 2):
                state = {k: v.detach().clone() for k, v in q.named_parameters()}
                torch.save(state, folder / f"{name}-{number}-{rank}.pt")


if __name__ == "__main__":
    together = Fabric(accelerator="cpu", devices=2, strategy="ddp", precision="32-true")
    with launched(together):
        run(together, Path(sys.argv[1]))
