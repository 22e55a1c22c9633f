"""BatchNorm re-estimation: running statistics measured anew behind rounded weights and activations.

A BatchNorm's running mean and variance are of the float network. Layer by layer they are replaced by the
mean and the variance (unbiased, as torch keeps it) over all calibration images of what the low-bit layer
sends into the norm (Sun et al. 2019, "Hybrid 8-bit floating point training", section 4, and others), so that
behind the norm every channel has the mean and the spread it had in training.
"""

import math

import torch

from .lockstep import Place
from .moments import channel_moments

LEAST_VARIANCE = 1e-12


class BatchNormEstimation:
    """A visitor for ``Lockstep``; ``record`` holds each layer's change, or why it was left out."""

    def __init__(self) -> None:
        self.record: dict[str, dict[str, float | str]] = {}

    def __call__(self, place: Place) -> None:
        block, q = place.block, place.twin.network
        nodes = [node for node in (*block.pre, *block.post) if node.kind == "batch_norm"]
        if not nodes:
            return
        if "@" in block.key:
            self.record[block.key] = {"left_out": "its norm is used in more than one place and measured at the first"}
            return
        values = place.low_bit_sums()
        changes: list[float] = []
        ratios: list[float] = []
        for stage, group in enumerate((block.pre, block.post)):
            if stage == 1:
                values = place.activate(values)
            for node in group:
                if node.kind == "batch_norm":
                    mean, variance = channel_moments(values)
                    count = sum(y.numel() // y.shape[1] for y in values)
                    running_mean = q.tensor(node.parameters["running_mean"])
                    running_var = q.tensor(node.parameters["running_var"])
                    scale = running_var.double().clamp_min(LEAST_VARIANCE).sqrt()
                    changes.append(float(((mean - running_mean.double()) / scale).square().mean().sqrt()))
                    new = variance * (count / max(count - 1, 1))
                    alive = (new > LEAST_VARIANCE) & (running_var > LEAST_VARIANCE)
                    ratio = new[alive].div(running_var.double()[alive]).log().mean() if alive.any() else torch.zeros(())
                    ratios.append(math.exp(float(ratio)))
                    # A channel that became constant keeps its variance: dividing by nothing would blow it up.
                    running_mean.data.copy_(mean)
                    running_var.data.copy_(torch.where(new > LEAST_VARIANCE, new, running_var.double()))
                values = place.norm(values, node, reference=False)
        self.record[block.key] = {
            "mean_change": round(max(changes), 6),
            "variance_ratio": round(math.exp(sum(map(math.log, ratios)) / len(ratios)), 6),
        }
