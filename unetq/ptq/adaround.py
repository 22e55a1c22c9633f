"""AdaRound (Nagel et al. 2020, arXiv 2004.10568): which weights are rounded up, learned from a layer's outputs.

With the step s and the floor n = floor(w / s) fixed, every weight gets a variable V and the rectified
sigmoid ``h(V) = clip(sigmoid(V) * (zeta - gamma) + gamma, 0, 1)``, zeta = 1.1, gamma = -0.1 (eq. 23), and the
soft weight ``s * clip(n + h(V), low, high)`` (eq. 22). Minimised is (eq. 21, 24, 25)

    || f(W x) - f(W~ x^) ||^2 + lambda * sum(1 - |2 h(V) - 1| ** beta)

where x^ is the input as the low-bit layers before make it, f the norm by running statistics and the
activation that follow, and beta falls from 20 to 2 by a cosine, after a first fifth without the second term.
The first term is in units of the output's variance, summed over channels. Every channel keeps the better of
this rounding and the nearest one, on positions that were not used for learning.

The result is written as the layer's weight, ``s * code``: its codes are what was chosen.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UnsupportedError
from ..quant.quantizer import WeightQuantizer
from .bias import IMAGE_NORMS
from .foreground import positions
from .lockstep import Batches, Place
from .patches import gather, matrix, multiply, pick, weight_of
from .ranges import Levels
from .steps import levels_of

ZETA, GAMMA = 1.1, -0.1
BETAS = (20.0, 2.0)
WARM_UP = 0.2
STRENGTH = 0.01
LEARNING_RATE = 1e-2
LEARNED, HELD_OUT, BATCH = 4096, 2048, 256
Tell = Callable[[str, float, float], None]


def rectified_sigmoid(v: Tensor) -> Tensor:
    """``h(V)``, in 0 … 1 with both ends reached."""
    return (torch.sigmoid(v) * (ZETA - GAMMA) + GAMMA).clamp(0.0, 1.0)


def inverse_rectified_sigmoid(h: Tensor) -> Tensor:
    """V with ``h(V)`` = ``h``, for h in 0 … 1."""
    return -torch.log((ZETA - GAMMA) / (h - GAMMA) - 1.0)


def beta_at(iteration: int, iterations: int) -> float | None:
    """The exponent of the rounding term; None while there is no such term yet."""
    first = round(WARM_UP * iterations)
    if iteration < first:
        return None
    done = (iteration - first) / max(iterations - first, 1)
    high, low = BETAS
    return low + 0.5 * (high - low) * (1.0 + math.cos(math.pi * done))


class AdaRound:
    """A visitor for ``Lockstep``; ``record`` holds each layer's error with either rounding, or why it was left out.

    Args:
        seed: of the sampled positions and of their order. iterations: of Adam, a layer.
        weights: maps by which positions are drawn; see ``foreground``. tell: called with (layer, nearest, chosen).
    """

    def __init__(
        self,
        seed: int,
        iterations: int = 500,
        weights: Sequence[Tensor | None] | None = None,
        tell: Tell = lambda layer, nearest, chosen: None,
    ) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.iterations, self.weights, self.tell = iterations, weights, tell
        self.record: dict[str, dict[str, Any]] = {}

    def __call__(self, place: Place) -> None:
        block, q = place.block, place.twin.network
        quantizer = q.weight_quantizer(block)
        levels = levels_of(quantizer) if quantizer is not None else None
        reason = ""
        if quantizer is None:
            reason = "its weight stays float32"
        elif "@" in block.key:
            reason = "its weight is used in more than one place and was rounded at the first"
        elif levels is None or levels.binary:
            reason = "its method has no neighbouring levels to choose from"
        if quantizer is None or levels is None or reason:
            self.record[block.key] = {"left_out": reason}
            return
        self._round(place, quantizer, levels)

    def _round(self, place: Place, quantizer: WeightQuantizer, levels: Levels) -> None:
        block = place.block
        parameter = place.twin.network.tensor(block.parameters["weight"])
        weight = parameter.detach().float()
        coded = quantizer.codes(weight.numpy())
        problem = _Problem(self, place)
        nearest = matrix(block, torch.from_numpy(coded.codes.astype(np.float32)))
        scale = torch.from_numpy(coded.scale).reshape(-1)
        step = scale.reshape(nearest.shape[0], -1, 1) if scale.numel() > 1 else scale.reshape(1, 1, 1)
        rows = matrix(block, weight) / step
        learned = self._learn(problem, rows, step, levels)
        plain, found = problem.error(nearest * step), problem.error(learned * step)
        better = (found < plain).reshape(nearest.shape[0], -1, 1)
        codes = torch.where(better, learned, nearest)
        before, after = float(plain.sum()), float(torch.where(found < plain, found, plain).sum())
        value = weight_of(block, codes * step, weight.shape)
        kept = quantizer.codes(np.ascontiguousarray(value.numpy())).codes
        if not np.array_equal(kept, weight_of(block, codes, weight.shape).numpy().astype(np.int8)):
            raise UnsupportedError(
                f"layer {block.key}: its quantiser ({type(quantizer).__name__}) moves weights that are levels already, "
                "so that a chosen rounding is lost; leave --adaround out or use method 'fixed' or 'lsq'."
            )
        parameter.data.copy_(value)
        self.record[block.key] = {
            "error_nearest": round(before, 8),
            "error_chosen": round(after, 8),
            "moved": round(float((codes != nearest).double().mean()), 6),
        }
        self.tell(block.key, before, after)

    def _learn(self, problem: "_Problem", rows: Tensor, step: Tensor, levels: Levels) -> Tensor:
        floor = rows.floor()
        v = inverse_rectified_sigmoid((rows - floor).clamp(0.0, 1.0)).requires_grad_(True)
        optimizer = torch.optim.Adam([v], lr=LEARNING_RATE)
        for iteration in range(self.iterations):
            beta = beta_at(iteration, self.iterations)
            with torch.enable_grad():
                h = rectified_sigmoid(v)
                loss = problem.loss((floor + h).clamp(levels.low, levels.high) * step, self.generator)
                if beta is not None:
                    loss = loss + STRENGTH * (1.0 - (2.0 * h - 1.0).abs().pow(beta)).sum()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return (floor + (rectified_sigmoid(v.detach()) >= 0.5)).clamp(levels.low, levels.high)


class _Problem:
    """One layer at sampled positions: what it reads in low bits, what the float layer makes there."""

    def __init__(self, owner: AdaRound, place: Place) -> None:
        self.place = place
        block, q = place.block, place.twin.network
        exact = place.float_sums()
        kernel = tuple(q.tensor(block.parameters["weight"]).shape[2:]) or (1,) * (exact[0].ndim - 2)
        share = -(-(LEARNED + HELD_OUT) // len(exact))
        patches: list[Tensor] = []
        targets: list[Tensor] = []
        for i, values in enumerate(exact):
            weight = owner.weights[i] if owner.weights is not None else None
            where = positions(values.shape, weight, share, owner.generator)
            patches.append(gather(block, place.inputs[i], where, values.shape, kernel))
            targets.append(pick(values, where))
        order = torch.randperm(share * len(exact), generator=owner.generator)
        self.patches = torch.cat(patches, dim=1)[:, order]
        self.bias = q.tensor(block.parameters["bias"]).detach() if "bias" in block.parameters else None
        self.target = self._follow([torch.cat(targets)[order]], reference=True)
        self.learned = len(order) * LEARNED // (LEARNED + HELD_OUT)
        self.variance = float(self.target.var(dim=0).mean().clamp_min(1e-12))

    def _follow(self, values: Batches, *, reference: bool) -> Tensor:
        """The norms by running statistics and the activation behind the accumulator, (positions, channels)."""
        block = self.place.block
        if any(node.kind in IMAGE_NORMS for node in block.pre):
            return values[0]  # a norm over an image cannot be had at single positions
        for node in block.pre:
            values = self.place.norm(values, node, reference=reference)
        values = self.place.activate(values)
        for node in block.post:
            values = self.place.norm(values, node, reference=reference)
        return values[0]

    def _outputs(self, rows: Tensor, chosen: Tensor) -> Tensor:
        sums = multiply(self.patches[:, chosen], rows)
        return self._follow([sums if self.bias is None else sums + self.bias], reference=False)

    def loss(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """The squared error on a batch of positions, in units of the variance, summed over channels."""
        chosen = torch.randint(self.learned, (BATCH,), generator=generator)
        error = self._outputs(rows, chosen) - self.target[chosen]
        return error.square().mean(dim=0).sum() / self.variance

    def error(self, rows: Tensor) -> Tensor:
        """Each channel's mean squared error on the positions that were held out, as a share of the variance."""
        chosen = torch.arange(self.learned, len(self.target))
        with torch.no_grad():
            error = self._outputs(rows, chosen) - self.target[chosen]
        return error.square().mean(dim=0) / (self.variance * error.shape[1])
