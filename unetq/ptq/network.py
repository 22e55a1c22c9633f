"""Post-training quantisation of a network: every step, in the order in which each helps the next."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError, DataError
from ..quant.network import QuantNet
from .adaround import AdaRound
from .batchnorm import BatchNormEstimation
from .bias import BiasCorrection
from .equalize import equalize, find_pairs
from .lockstep import Lockstep, Place
from .ranges import RULES
from .steps import calibrate, observe, q_size

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What to do. ``range`` is for activations, ``weight_range`` for weights; see ``ranges.choose_steps``.

    ``iterations`` are AdaRound's, a layer. ``seed`` decides all that is drawn.
    """

    range: str = "mse"
    weight_range: str = "mse"
    percentile: float = 99.99
    equalize: bool = False
    bias_correction: bool = False
    adaround: bool = False
    bn_reestimate: bool = False
    foreground: bool = False
    iterations: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("range", "weight_range"):
            if getattr(self, name) not in RULES:
                raise ConfigError(f"{name} = {getattr(self, name)!r}: choose one of {', '.join(RULES)}.")
        if not 50.0 < self.percentile <= 100.0:
            raise ConfigError(f"percentile = {self.percentile}: it is above 50 and at most 100; 99.99 is usual.")
        if self.iterations < 1:
            raise ConfigError(f"iterations = {self.iterations}: AdaRound takes at least 1; 500 is usual.")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed = {self.seed}: a seed is 0 to {2**31 - 1}; choose another.")


def quantize_after_training(
    q: QuantNet,
    images: Sequence[Tensor],
    options: Options,
    weights: Sequence[Tensor] | None = None,
    tell: Tell = lambda text: None,
) -> dict[str, Any]:
    """Turn ``q``, the uncalibrated twin of a trained float network, into a calibrated low-bit one, in place.

    Args:
        q: of ``unetq.quantize``; on the CPU. images: batches (N, C, H, W[, …]) of one size, preprocessed.
        options: what to do. weights: maps (N, 1, H, W[, …]) of the batches, by which pixels count; None for all alike.
        tell: called with a line of progress now and then.

    Returns:
        A record of JSON values: options, and for each step what it found layer by layer.

    Raises:
        DataError: no batch, batches of several sizes, NaN or infinity in images or weights.
        UnsupportedError: AdaRound with a quantiser that moves its own levels.
    """
    _check(images)
    maps: Sequence[Tensor | None] = list(weights) if weights is not None else [None] * len(images)
    record: dict[str, Any] = {"options": asdict(options), "seconds": {}}

    def timed(name: str, began: float) -> None:
        record["seconds"][name] = round(time.monotonic() - began, 3)

    q.eval()
    began = time.monotonic()
    tell("observing the float network")
    observer = observe(q, images, maps, options.seed)
    timed("observe", began)
    if options.equalize:
        began = time.monotonic()
        network = q.network(q_size(q))
        width = {**_widths(q, images[0]), **{key: len(found) for key, found in observer.ranges.items()}}
        # Channels of what the float network keeps out of grids were not seen: such a layer is left out.
        pairs = find_pairs(network, width, set(observer.ranges))
        record["equalize"] = equalize(q, pairs, observer.ranges)
        tell(f"equalised {len(pairs.found)} layers, left out {len(pairs.left_out)}")
        observer = observe(q, images, maps, options.seed)
        timed("equalize", began)
    began = time.monotonic()
    reference = copy.deepcopy(q)
    record["calibrate"] = calibrate(q, observer, options.range, options.weight_range, options.percentile)
    for kind, text in (("constant", "tensor {} is 0 everywhere"), ("dead", "layer {}: all its codes are 0")):
        for name in record["calibrate"][kind]:
            tell("warning: " + text.format(name))
    timed("calibrate", began)
    visits = _visits(options, weights, tell)
    if visits:
        began = time.monotonic()

        def visit(place: Place) -> None:
            for step in visits.values():
                step(place)

        Lockstep(reference, q, images).run(visit)
        record.update({name: step.record for name, step in visits.items()})
        timed("layers", began)
    return record


def _visits(
    options: Options, weights: Sequence[Tensor] | None, tell: Tell
) -> dict[str, AdaRound | BatchNormEstimation | BiasCorrection]:
    """Rounding first, for it changes what the other two measure; constants last."""
    visits: dict[str, AdaRound | BatchNormEstimation | BiasCorrection] = {}
    if options.adaround:

        def told(layer: str, nearest: float, chosen: float) -> None:
            tell(f"{layer}: error {nearest:.3g} of the variance by nearest rounding, {chosen:.3g} as chosen")

        visits["adaround"] = AdaRound(options.seed, options.iterations, weights, told)
    if options.bn_reestimate:
        visits["bn_reestimate"] = BatchNormEstimation()
    if options.bias_correction:
        visits["bias_correction"] = BiasCorrection(weights)
    return visits


def _check(images: Sequence[Tensor]) -> None:
    if not images:
        raise DataError("calibration got 0 images; give it at least one.")
    for batch in images:
        if not isinstance(batch, Tensor) or batch.numel() == 0:
            found = f"shape {tuple(batch.shape)}" if isinstance(batch, Tensor) else f"a {type(batch).__name__}"
            raise DataError(f"a calibration batch is {found}; give float tensors (N, C, H, W[, D]), N at least 1.")
        if batch.shape[1:] != images[0].shape[1:]:
            raise DataError(
                f"calibration batches are {tuple(images[0].shape[1:])} and {tuple(batch.shape[1:])}: "
                "all have one size; crop them alike."
            )
        if not torch.isfinite(batch).all():
            raise DataError("a calibration batch holds NaN or infinity; clean the images first.")


def _widths(q: QuantNet, image: Tensor) -> dict[str, int]:
    """The channels of every block's output."""
    widths: dict[str, int] = {}
    for block in q.network(tuple(image.shape[2:])).blocks:
        if block.kind == "input":
            widths[block.key] = int(image.shape[1])
        elif block.kind == "conv":
            shape = q.tensor(block.parameters["weight"]).shape
            a = block.attributes
            widths[block.key] = int(shape[1]) * int(a["groups"]) if a["transposed"] else int(shape[0])
        elif block.kind == "cat":
            widths[block.key] = sum(widths[source] for source in block.inputs)
        else:
            widths[block.key] = max(widths[source] for source in block.inputs)
    return widths
