"""What sharpness-aware steps cost: milliseconds a training step of each method, and their ratio to the plain step.

    python scripts/sharpness_overhead.py --widths 16 32 64 --crop 96 --batch 4 --bits 4 6
    python scripts/sharpness_overhead.py --noise --quantizer lsq      noise in place of rounding instead

The paper's network, low-bit, in the training loop's own step (forward, backward, optimizer) on random images; no data
are loaded. Methods take turns, a step each, and the least time of ``--rounds`` counts, since others may use the
machine too. Times of LookSAM are means over whole turns of its k steps.
"""

import argparse
import json
import time

import torch
from lightning_fabric import Fabric

from unetq.experiment import LossConfig, SharpnessConfig
from unetq.losses import build_loss
from unetq.nets import build_network
from unetq.quant.calibrate import calibrate
from unetq.quant.convert import quantize
from unetq.quant.noise import Kind, NoiseSettings, add_noise
from unetq.sharpness.build import build_descent
from unetq.sharpness.descent import Descent, Objective

METHODS = ("none", "sam", "saq", "esam", "looksam")
KINDS: tuple[Kind, ...] = ("uniform", "quant_noise", "tempering")
NOISES = {
    "none": None,
    **{kind: NoiseSettings(kind) for kind in KINDS},
    **{f"{kind}, activations too": NoiseSettings(kind, tensors="both") for kind in KINDS},
}


def build(method: str, given: argparse.Namespace, images: torch.Tensor, rho: float) -> Descent:
    """The step of ``method`` on a network of its own; all start alike."""
    torch.manual_seed(given.seed)
    network = build_network("paper", {"widths": given.widths})
    weight, act = given.bits
    quantized = quantize(network, weight_bits=weight, act_bits=act, method=given.quantizer, example_input=images[:1])
    calibrate(quantized, [images])
    noise = NOISES.get(method)
    if noise is not None:
        add_noise(quantized, noise)
        quantized.set_progress(0.0, 0)
    quantized = quantized.to(given.device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(quantized.parameters(), lr=1e-4)
    accelerator = "cpu" if given.device == "cpu" else "cuda"
    fabric = Fabric(accelerator=accelerator, devices=1, precision="32-true" if given.float32 else "bf16-mixed")
    wrapped, optimizer = fabric.setup(quantized, optimizer)
    objective = Objective(wrapped, build_loss(1, LossConfig()))
    config = SharpnessConfig(method="none" if method in NOISES else method, rho=rho)
    return build_descent(config, "quant", objective, optimizer, fabric, quantized, 0)


def main() -> None:
    """Measure and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--crop", type=int, default=96)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--bits", type=int, nargs=2, default=[4, 6], metavar=("WEIGHTS", "ACTIVATIONS"))
    parser.add_argument("--quantizer", default="fixed", help="fixed, lsq, …")
    parser.add_argument("--noise", action="store_true", help="noise in place of rounding, not sharpness")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--float32", action="store_true", help="no bf16")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    images = torch.randn(given.batch, 1, given.crop, given.crop)
    labels = (images[:, 0] > 0).long().to(given.device)
    methods = tuple(NOISES) if given.noise else METHODS
    steps = {method: build(method, given, images, 0.3) for method in methods}
    images = images.to(given.device).to(memory_format=torch.channels_last)
    turn = SharpnessConfig().every
    alone = given.device == "cpu" and given.threads == 1
    clock = time.process_time if alone else time.perf_counter  # what others run does not count where that is possible
    seconds: dict[str, list[float]] = {method: [] for method in methods}
    for number in range(-1, given.rounds):  # the first round warms up
        for method, descent in steps.items():
            count = turn if method == "looksam" else 1
            if given.device == "cuda":
                torch.cuda.synchronize()
            began = clock()
            for i in range(count):
                descent.step(images, labels, (number + 1) * count + i)
            if given.device == "cuda":
                torch.cuda.synchronize()
            if number >= 0:
                seconds[method].append((clock() - began) / count)
    least = {method: min(values) for method, values in seconds.items()}
    ratios = {method: value / least["none"] for method, value in least.items()}
    if given.json:
        print(json.dumps({"seconds": least, "ratio": ratios, "settings": vars(given)}))
        return
    print("| method | ms a step | of the plain step |\n|---|---|---|")
    for method in methods:
        print(f"| {method} | {1000 * least[method]:.1f} | {ratios[method]:.2f} |")


if __name__ == "__main__":
    main()
