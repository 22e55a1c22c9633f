"""Noise in place of rounding while a low-bit network trains; what is evaluated and exported is rounded as ever.

Q is a quantiser, s its step, c = clip(w, low s, high s) what it rounds, and k(t) the strength at the fraction t of
the low-bit steps (``NoiseSettings.strength``). Every step a quantised weight is, drawn anew:

    uniform       c + k s u, u in U(-1/2, 1/2)      rounding's error as independent noise of the same variance, s^2/12:
                                                    QReg's model (AskariHemmat et al. 2022, arXiv 2206.12372), the
                                                    pseudo noise of DiffQ (Defossez et al. 2021, arXiv 2104.09987)
    quant_noise   Q(w) with probability k, else w   Fan et al. 2020, arXiv 2004.07320 (scalar case); of activations
                                                    as in QDrop (Wei et al. 2022, arXiv 2203.05740)
    tempering     Q(w) + k (c - Q(w)) u, u in U(-1, 1)   noise as large as the error that rounding makes, decaying:
                                                    after Wang et al. 2022, arXiv 2212.05603, whose learned scale of
                                                    the gradient is left out

Gradients: "uniform" is smooth, 1 to w inside the range and 0 outside, and s learns from ``u`` inside and ``low + u`` or
``high + u`` outside as LSQ's does from ``round(w/s) - w/s``, low and high (that the scale hears of the noise is what
noise-based training needs: Qiu et al. 2023, RAND, arXiv 2305.15536). "quant_noise" is exact for what is not
rounded and Q's own for the rest. "tempering" has Q's own: its noise is a constant.

Quantisers take part without knowing, through forward hooks that act in training mode only. All draws follow from
the seed, the step's number and the tensor's place, so that a resumed run and every process draw alike, and the weights
of a step with several passes have one noise. Where nobody tells the step's number, torch's own generator draws.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ..errors import ConfigError
from . import noise_rules as rules
from .placement import layer_name
from .quantizer import ActivationQuantizer, WeightQuantizer

if TYPE_CHECKING:
    from .network import QuantNet

Kind = Literal["uniform", "quant_noise", "tempering"]
Shape = Literal["linear", "cosine", "exponential"]
DECAY = 5.0  # of "exponential": what is left of the way after a span is e**-5, and taken off
DEFAULTS: dict[Kind, tuple[float, float, Shape]] = {
    "uniform": (1.0, 1.0, "linear"),
    "quant_noise": (0.5, 1.0, "linear"),
    "tempering": (1.0, 0.0, "exponential"),
}
"""Of each kind: the first strength, the last one, and the way from one to the other."""


@dataclass(frozen=True)
class NoiseSettings:
    """What noise, where, how strong, and when.

    ``first``, ``last`` (0 to 1) and ``shape`` are the kind's of ``DEFAULTS`` where None; ``begin`` and ``end`` are the
    fractions of the steps between which the strength changes; from the fraction ``until`` on there is no noise.
    ``tensors`` is "weights", "activations" or "both"; ``blocks`` ("element", "kernel" or "channel") are what
    "quant_noise" rounds or leaves together.
    """

    kind: Kind
    tensors: Literal["weights", "activations", "both"] = "weights"
    first: float | None = None
    last: float | None = None
    begin: float = 0.0
    end: float = 0.8
    shape: Shape | None = None
    blocks: rules.Blocks = "element"
    until: float = 1.0
    seed: int = 0

    def strength(self, done: float) -> float:
        """k(t) of the module, 0 to 1, at the fraction ``done`` of the low-bit steps."""
        first, last, shape = DEFAULTS[self.kind]
        first = first if self.first is None else self.first
        last = last if self.last is None else self.last
        way = (done - self.begin) / (self.end - self.begin) if self.end > self.begin else float(done >= self.end)
        way = min(max(way, 0.0), 1.0)
        shape = self.shape or shape
        if shape == "cosine":
            way = 0.5 * (1.0 - math.cos(math.pi * way))
        elif shape == "exponential":
            way = math.expm1(-DECAY * way) / math.expm1(-DECAY)
        return first + (last - first) * way


class Noise:
    """The noise of one network: its settings, and how far the training is."""

    def __init__(self, settings: NoiseSettings) -> None:
        self.settings = settings
        self.set_progress(0.0, None)

    def set_progress(self, done: float, number: int | None) -> None:
        """Take note of the fraction of training done, and of the step's number where there is one."""
        self.number = number
        self.strength = None if done >= self.settings.until else self.settings.strength(done)
        self._calls: dict[int, int] = {}

    def generator(self, place: int, device: torch.device, *, again: bool) -> torch.Generator | None:
        """What draws for a place in this step, anew at every call where ``again``; None: torch's own."""
        if self.number is None:
            return None
        call = self._calls[place] = self._calls.get(place, -1) + 1 if again else 0
        drawn = f"{self.settings.seed}/{self.number}/{place}/{call}".encode()
        seed = int.from_bytes(hashlib.blake2b(drawn, digest_size=7).digest(), "little")
        return torch.Generator(device).manual_seed(seed)


Quantizer = WeightQuantizer | ActivationQuantizer


@dataclass(eq=False)
class _Hook:
    """Behind one quantiser: (value, Q(value)) to the noisy one."""

    noise: Noise
    place: int
    blocks: rules.Blocks
    axes: tuple[int, int]

    def __call__(self, quantizer: Quantizer, arguments: tuple[Tensor], rounded: Tensor) -> Tensor | None:
        strength, kind = self.noise.strength, self.noise.settings.kind
        if strength is None or not quantizer.training:
            return None
        (value,) = arguments
        # A weight that is used twice is one weight; the tensors of one grid are several.
        generator = self.noise.generator(self.place, value.device, again=isinstance(quantizer, ActivationQuantizer))
        if kind == "quant_noise":
            return rules.partly(value, rounded, strength, self.blocks, self.axes, generator)
        if kind == "tempering":
            with torch.no_grad():
                cell = quantizer.unrounded(value)
                error = (value if cell is None else cell.value) - rounded
            return rules.tempered(rounded, error, strength, generator)
        cell = quantizer.unrounded(value)
        assert cell is not None  # add_noise has seen to it
        return rules.uniform(cell, strength, generator).to(value.dtype)


def add_noise(q: "QuantNet", settings: NoiseSettings) -> None:
    """Let ``q`` train with noise, as the module says. Its state and what it computes in evaluation stay the same.

    Raises:
        ConfigError: nothing there is quantised, or "uniform" (on activations: "tempering" too) where a quantiser has
            no even steps, which is named.
    """
    places = [*_weights(q)] if settings.tensors != "activations" else []
    places += [*_tensors(q)] if settings.tensors != "weights" else []
    if not places:
        raise ConfigError(
            f"quant.noise.kind = {settings.kind}, quant.noise.tensors = {settings.tensors}: all of these have 32 bits, "
            "so that nothing is rounded. Set quant.weight_bits or quant.act_bits, or quant.noise.tensors."
        )
    for place in places:
        _check(place, settings.kind)
    q.noise = Noise(settings)
    for number, place in enumerate(places):
        place.quantizer.register_forward_hook(_Hook(q.noise, number, settings.blocks, place.axes))


@dataclass(frozen=True)
class _Place:
    """A quantiser, its name for messages, a tensor that it takes, and the axes of ``noise_rules.partly``."""

    name: str
    quantizer: Quantizer
    example: Tensor
    axes: tuple[int, int]


def _weights(q: "QuantNet") -> Iterator[_Place]:
    seen = set()
    for block in q.blocks():
        quantizer = q.weight_quantizer(block) if block.kind == "conv" else None
        if quantizer is not None and quantizer not in seen:
            seen.add(quantizer)
            axes = (1, 0) if block.attributes["transposed"] else (0, 1)
            yield _Place(f"layer {layer_name(block)}", quantizer, q.tensor(block.parameters["weight"]), axes)


def _tensors(q: "QuantNet") -> Iterator[_Place]:
    seen = set()
    for block in q.blocks():
        quantizer = q.grid_quantizer(block.group)
        if quantizer is not None and quantizer not in seen:
            seen.add(quantizer)
            yield _Place(f"tensor {block.group}", quantizer, torch.zeros((1, 1), device=q.device), (1, 0))


def _check(place: _Place, kind: Kind) -> None:
    quantizer = place.quantizer
    needs_steps = kind == "uniform" or (kind == "tempering" and isinstance(quantizer, ActivationQuantizer))
    if needs_steps and quantizer.unrounded(place.example) is None:
        raise ConfigError(
            f"quant.noise.kind = {kind}: {place.name} is quantised by {type(quantizer).__name__} at {quantizer.bits} "
            "bits, which has no even steps within a range; use the method lsq, lsq+ or fixed there, or "
            "quant.noise.kind=quant_noise."
        )
