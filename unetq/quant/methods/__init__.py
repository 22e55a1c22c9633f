"""The quantisers by name: for weights, for activations, and as families that name a pair.

docs/METHODS.md has the formulas, papers, widths and how each is packed.
"""

from collections.abc import Callable, Sequence

from ...errors import ConfigError, UnsupportedError
from ..fixed_point import FixedPointActivation, FixedPointWeight
from ..paper import PaperActivation, PaperWeight
from ..quantizer import ActivationQuantizer, WeightQuantizer
from .binary import BnnWeight, XnorWeight
from .clipped import PactActivation
from .codebook import CodebookWeight
from .companding import CompandingWeight
from .dorefa import DorefaWeight
from .lsq import LsqActivation, LsqWeight, OffsetActivation, at_least_two_bits
from .ternary import TernaryActivation, TtqWeight, TwnWeight

WeightMaker = Callable[[int, Sequence[int], int | None], WeightQuantizer]
"""(bits, the weight's shape, the output channels' axis or None for one step a tensor) to a quantiser."""
ActMaker = Callable[[int, bool], ActivationQuantizer]
"""(bits, signed) to a quantiser."""


def _lsq(bits: int, shape: Sequence[int], axis: int | None) -> WeightQuantizer:
    at_least_two_bits("lsq", bits)
    return LsqWeight(bits, tuple(shape), axis)


def _lsq_plus(bits: int, shape: Sequence[int], axis: int | None) -> WeightQuantizer:
    at_least_two_bits("lsq+", bits)
    return LsqWeight(bits, tuple(shape), axis, spread=True)


def _clip(learned: bool) -> ActMaker:
    def make(bits: int, signed: bool) -> ActivationQuantizer:
        if signed and bits < 2:
            raise UnsupportedError(
                "activations that can be negative have no symmetric grid of 1 bit (0 must be a code); use 2 bits or "
                "more, or a ReLU before them."
            )
        return PactActivation(bits, signed, learned=learned)

    return make


def _lsq_activation(bits: int, signed: bool) -> ActivationQuantizer:
    """At one bit {0, step} whatever the sign: two's complement of one bit would keep the negative values only."""
    return LsqActivation(bits, signed and bits > 1)


def _lsq_plus_activation(bits: int, signed: bool) -> ActivationQuantizer:
    return OffsetActivation(bits) if signed and bits > 1 else _lsq_activation(bits, signed)


WEIGHT_METHODS: dict[str, WeightMaker] = {
    "fixed": lambda bits, shape, axis: FixedPointWeight(bits, shape, axis),
    "paper": lambda bits, shape, axis: PaperWeight(bits),
    "lsq": _lsq,
    "lsq+": _lsq_plus,
    "dorefa": lambda bits, shape, axis: DorefaWeight(bits),
    "bnn": lambda bits, shape, axis: BnnWeight(),
    "xnor": lambda bits, shape, axis: XnorWeight(axis),
    "twn": lambda bits, shape, axis: TwnWeight(axis),
    "ttq": lambda bits, shape, axis: TtqWeight(),
    "codebook": lambda bits, shape, axis: CodebookWeight(bits, shape),
    "lcq": lambda bits, shape, axis: CompandingWeight(bits),
}
ACT_METHODS: dict[str, ActMaker] = {
    "fixed": FixedPointActivation,
    "paper": PaperActivation,
    "lsq": _lsq_activation,
    "lsq+": _lsq_plus_activation,
    "pact": _clip(learned=True),
    "dorefa": _clip(learned=False),
    "ternary": lambda bits, signed: TernaryActivation(signed),
}
FAMILIES: dict[str, tuple[str, str]] = {
    "fixed": ("fixed", "fixed"),
    "paper": ("paper", "paper"),
    "lsq": ("lsq", "lsq"),
    "lsq+": ("lsq+", "lsq+"),
    "pact": ("lsq", "pact"),
    "dorefa": ("dorefa", "dorefa"),
    "bnn": ("bnn", "lsq"),
    "xnor": ("xnor", "lsq"),
    "twn": ("twn", "lsq"),
    "ttq": ("ttq", "lsq"),
    "ternarynet": ("twn", "ternary"),
    "codebook": ("codebook", "lsq"),
    "lcq": ("lcq", "lsq"),
}
"""Each family's methods for weights and for activations."""

WEIGHT_BITS: dict[str, tuple[int, int]] = {
    "fixed": (1, 8), "paper": (1, 8), "lsq": (2, 8), "lsq+": (2, 8), "dorefa": (1, 7), "bnn": (1, 1), "xnor": (1, 1),
    "twn": (2, 2), "ttq": (2, 2), "codebook": (1, 4), "lcq": (2, 4),
}  # fmt: skip
"""The widths at which a weight method exists; another one is refused by the layer's name."""

ACT_BITS: dict[str, tuple[int, int]] = {name: (2, 2) if name == "ternary" else (1, 8) for name in ACT_METHODS}


def own_width_method(method: str) -> str:
    """The method of first and last layers, which keep a width of their own: uniform, like the rest of the family."""
    return "fixed" if method in ("fixed", "paper") else "lsq"


def make_weight(method: str, layer: str, bits: int, shape: Sequence[int], axis: int | None) -> WeightQuantizer:
    """The quantiser of a layer's weight.

    Raises:
        ConfigError: no such method, or a width at which it does not exist, with the layer's name.
        UnsupportedError: the method cannot represent this weight.
    """
    if method not in WEIGHT_METHODS:
        raise ConfigError(f"weight method {method!r}: choose one of {', '.join(WEIGHT_METHODS)}.")
    low, high = WEIGHT_BITS[method]
    if not low <= bits <= high:
        allowed = f"{low} bit" if low == high else f"{low} to {high} bits"
        raise ConfigError(
            f"layer {layer}: {method} weights have {allowed}, {bits} are asked for; change weight_bits, or "
            "give the layer another method under quant.layers."
        )
    return WEIGHT_METHODS[method](bits, shape, axis)


def make_activation(method: str, tensor: str, bits: int, signed: bool) -> ActivationQuantizer:
    """The quantiser of a tensor (a grid group, by its first member's name).

    Raises:
        ConfigError: no such method, or a width at which it does not exist.
        UnsupportedError: the method cannot represent this tensor.
    """
    if method in ("bnn", "xnor", "sign"):
        raise ConfigError(
            f"activation method {method!r}: activations of -1 and +1 have no code for the 0 of a padded border; use "
            "lsq at 1 bit, whose codes are 0 and 1."
        )
    if method not in ACT_METHODS:
        raise ConfigError(f"activation method {method!r}: choose one of {', '.join(ACT_METHODS)}.")
    low, high = ACT_BITS[method]
    if not low <= bits <= high:
        raise ConfigError(
            f"tensor {tensor}: {method} activations have {low} bits, {bits} are asked for; set act_bits to {low}, or "
            "take another activation method."
        )
    try:
        return ACT_METHODS[method](bits, signed)
    except UnsupportedError as error:
        raise UnsupportedError(f"tensor {tensor}: {error}") from None
