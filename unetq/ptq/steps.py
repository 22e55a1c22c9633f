"""Calibration after training: a step for every weight and every grid by the rules of ``ranges``."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import DataError, UnsupportedError
from ..fixedpoint import F32
from ..quant.blocks import Block
from ..quant.fixed_point import FixedPointActivation, FixedPointWeight
from ..quant.methods.clipped import PactActivation
from ..quant.methods.lsq import LsqActivation, LsqWeight
from ..quant.network import QuantNet
from ..quant.quantizer import ActivationQuantizer, WeightQuantizer
from ..quant.simulate import simulate
from .foreground import positions
from .ranges import Levels, choose_steps

SAMPLES_PER_BATCH = 16384


@dataclass
class Sample:
    """Values of one grid group: drawn ones, and the extremes of all."""

    drawn: list[Tensor]
    low: float = np.inf
    high: float = -np.inf


class Observer:
    """Draws values of every grid group and the largest magnitude of each channel while the float network runs.

    ``weights`` are maps (N, 1, H, W) of a batch's pixels by which positions are drawn, or None for all alike.
    """

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.groups: dict[str, Sample] = {}
        self.ranges: dict[str, np.ndarray] = {}
        self.weights: Tensor | None = None

    def __call__(self, block: Block, values: Tensor) -> None:
        y = values.detach().float()
        low, high = (float(v) for v in y.aminmax())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise DataError(
                f"layer {block.key} makes NaN or infinity in float already; "
                "repair the network or its checkpoint before quantising."
            )
        sample = self.groups.setdefault(block.group, Sample([]))
        sample.low, sample.high = min(sample.low, low), max(sample.high, high)
        flat = y.flatten(2)
        where = positions(y.shape, self.weights, SAMPLES_PER_BATCH, self.generator)
        channel = torch.randint(flat.shape[1], (SAMPLES_PER_BATCH,), generator=self.generator)
        sample.drawn.append(flat[where // flat.shape[2], channel, where % flat.shape[2]])
        largest = flat.abs().amax(dim=(0, 2)).numpy()
        self.ranges[block.key] = np.maximum(self.ranges.get(block.key, np.zeros_like(largest)), largest)


POWERS_OF_TWO = (FixedPointWeight, FixedPointActivation)
FLOATS = (LsqWeight, LsqActivation, PactActivation)


def levels_of(quantizer: nn.Module) -> Levels | None:
    """The grid of a quantiser whose steps can be set from outside; None for one that has its own rule."""
    if isinstance(quantizer, POWERS_OF_TWO):
        return Levels(quantizer.low, quantizer.high, getattr(quantizer, "binary", False), power_of_two=True)
    if isinstance(quantizer, FLOATS):
        return Levels(quantizer.low, quantizer.high, power_of_two=False)
    return None


def set_steps(quantizer: nn.Module, steps: np.ndarray) -> None:
    """Write steps, one or one a channel, into a quantiser that ``levels_of`` knows."""
    stored = quantizer.log2_step  # a parameter, or a buffer where it is not learned
    assert isinstance(stored, Tensor)
    with torch.no_grad():
        stored.copy_(torch.from_numpy(np.log2(steps)).to(stored).reshape(stored.shape))


def calibrate_weight(quantizer: WeightQuantizer, weight: Tensor, rule: str, percentile: float) -> bool:
    """Choose a weight's steps by ``rule``; False where its method has a rule of its own, which was used."""
    values = weight.detach().float().cpu()
    levels = levels_of(quantizer)
    if levels is None:
        quantizer.calibrate(values)
        return False
    if quantizer.channel_axis is not None:
        values = values.movedim(quantizer.channel_axis, 0)
        rows = values.reshape(values.shape[0], -1).numpy()
    else:
        rows = values.reshape(1, -1).numpy()
    set_steps(quantizer, choose_steps(rows, levels, rule, percentile))
    return True


def calibrate_grid(quantizer: ActivationQuantizer, sample: Sample, rule: str, percentile: float) -> bool:
    """Choose a tensor's step by ``rule``; False where its method has a rule of its own, which was used."""
    values: F32 = torch.cat(sample.drawn).numpy()
    extremes = np.array([sample.low, sample.high], dtype=np.float32)
    levels = levels_of(quantizer)
    if levels is None:
        quantizer.calibrate(np.concatenate([values, extremes]))
        return False
    seen = np.concatenate([values, extremes]) if rule == "minmax" else values
    set_steps(quantizer, choose_steps(seen[None], levels, rule, percentile))
    return True


def observe(q: QuantNet, images: Sequence[Tensor], weights: Sequence[Tensor | None], seed: int) -> Observer:
    """Run the float network over all batches; ``weights`` one a batch, see ``Observer``."""
    observer = Observer(seed)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        for image, weight in zip(images, weights, strict=True):
            observer.weights = weight
            simulate(q, image, quantized=False, training=False, observe=observer)
    return observer


def calibrate(q: QuantNet, observer: Observer, rule: str, weight_rule: str, percentile: float) -> dict[str, list[str]]:
    """Choose all steps of ``q`` and mark it calibrated.

    Returns:
        {"own_rule": names of layers and tensors whose method chose their steps by a rule of its own,
        "constant": tensors that are 0 everywhere, "dead": layers whose codes are all 0}.

    Raises:
        DataError: a weight holds NaN or infinity. UnsupportedError: a grid whose tensor was never seen.
    """
    found: dict[str, list[str]] = {"own_rule": [], "constant": [], "dead": []}
    done: set[str] = set()
    for block in q.blocks():
        quantizer = q.weight_quantizer(block) if block.kind == "conv" else None
        name = block.parameters.get("weight", "")
        if quantizer is not None and name not in done:
            done.add(name)
            weight = q.tensor(name)
            if not torch.isfinite(weight).all():
                raise DataError(f"the weight of layer {block.key} holds NaN or infinity; repair the checkpoint first.")
            if not calibrate_weight(quantizer, weight, weight_rule, percentile):
                found["own_rule"].append(block.key)
            if not quantizer.codes(np.ascontiguousarray(weight.detach().float().numpy())).codes.any():
                found["dead"].append(block.key)
    for group in q.network(q_size(q)).groups:
        grid = q.grid_quantizer(group)
        if grid is None:
            continue
        if group not in observer.groups:
            raise UnsupportedError(f"tensor {group} was not seen while calibrating; use method 'fixed'.")
        sample = observer.groups[group]
        if sample.low == sample.high == 0:
            found["constant"].append(group)
        if not calibrate_grid(grid, sample, rule, percentile):
            found["own_rule"].append(group)
    q.calibrated.fill_(True)  # type: ignore[operator]  # a registered buffer
    return found


def q_size(q: QuantNet) -> tuple[int, ...]:
    """The spatial size that a network was quantised for."""
    return next(iter(q._networks))
