"""The bit-widths and the methods of a quantised network."""

import json
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase

from ..errors import ConfigError

FLOAT_BITS = 32
METHODS = (
    "fixed", "paper", "lsq", "lsq+", "pact", "dorefa", "bnn", "xnor", "twn", "ttq", "ternarynet", "codebook", "lcq",
)  # fmt: skip
"""The families; ``unetq.quant.methods`` has what each means for weights and for activations."""


def _check_bits(name: str, bits: object) -> None:
    if isinstance(bits, bool) or not isinstance(bits, int) or not (1 <= bits <= 8 or bits == FLOAT_BITS):
        raise ConfigError(
            f"{name} = {bits!r}: widths are 1 to 8 bits, or {FLOAT_BITS} for float32; choose one of these."
        )


@dataclass(frozen=True)
class LayerSettings:
    """What differs in the convolutions whose names match the shell pattern ``pattern``; None is as elsewhere.

    ``act_bits`` and ``act_method`` are of what the layer reads: a tensor with several readers gets the widest
    width and the method of the first reader that names one. Sums, products, interpolations and norms that read codes
    go by their kind and number ("#upsample_linear0", "#add1") and have ``act_bits`` alone.
    """

    pattern: str
    weight_bits: int | None = None
    act_bits: int | None = None
    weight_method: str | None = None
    act_method: str | None = None

    def __post_init__(self) -> None:
        for name in ("weight_bits", "act_bits"):
            if getattr(self, name) is not None:
                _check_bits(f"layers {self.pattern!r}: {name}", getattr(self, name))
        if self.pattern.startswith("#") and (self.weight_bits or self.weight_method or self.act_method):
            raise ConfigError(f"layers {self.pattern!r}: only convolutions have weights and methods; leave act_bits.")


@dataclass(frozen=True)
class QuantSettings:
    """Bit-widths (1 to 8, or 32 for float) and methods of a quantised network.

    ``method`` names a family; ``weight_method`` and ``act_method`` replace its half. ``first_bits`` and ``last_bits``
    hold for weights and for the input activations of the layers that read the network's input, and of those whose
    output reaches the network's output without another convolution; these layers are uniform in every family.
    ``float_layers`` are shell patterns of layer names that stay float32, input included; ``layers`` are settings of
    single layers, the first match counts and goes before all else. ``group_size`` input channels share a
    power-of-two multiple of their output channel's step (0: no groups; 32 is MX's); with ``zero_point`` tensors that
    can be negative lie on asymmetric grids; with ``dynamic`` ranges are found for each image where the tensor
    allows it.
    """

    weight_bits: int = 4
    act_bits: int = 6
    method: str = "fixed"
    per_channel: bool = True
    first_bits: int = 8
    last_bits: int = 8
    float_layers: tuple[str, ...] = ()
    weight_method: str | None = None
    act_method: str | None = None
    group_size: int = 0
    zero_point: bool = False
    dynamic: bool = False
    layers: tuple[LayerSettings, ...] = ()

    def __post_init__(self) -> None:
        for name in ("weight_bits", "act_bits", "first_bits", "last_bits"):
            _check_bits(name, getattr(self, name))
        if self.method not in METHODS:
            raise ConfigError(f"method = {self.method!r}: choose one of {', '.join(METHODS)}.")
        size = self.group_size
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= 1 << 16:
            raise ConfigError(
                f"group_size = {size!r}: it is a number of input channels, 1 to 65536, or 0 for no groups."
            )

    @property
    def is_float(self) -> bool:
        """True where nothing is quantised at all."""
        narrow = (self.weight_bits, self.act_bits) != (FLOAT_BITS, FLOAT_BITS)
        return not narrow and not any(s.weight_bits or s.act_bits for s in self.layers)

    def keeps_float(self, layer: str) -> bool:
        """True where ``float_layers`` names the convolution ``layer``."""
        return any(fnmatchcase(layer, pattern) for pattern in self.float_layers)

    def of_layer(self, layer: str) -> LayerSettings | None:
        """The settings of ``layer``'s own, if it has any."""
        return next((s for s in self.layers if fnmatchcase(layer, s.pattern)), None)

    def of_operation(self, key: str) -> LayerSettings | None:
        """The settings that name what is no convolution, such as "#upsample_linear0"; patterns begin with "#"."""
        own = (s for s in self.layers if s.pattern.startswith("#"))
        return next((s for s in own if fnmatchcase(key, s.pattern)), None)


def same_settings(first: bytes, second: bytes) -> bool:
    """Whether two settings, as checkpoints hold them (JSON), are equal; what one does not name has its default."""
    defaults = json.loads(json.dumps(asdict(QuantSettings())))
    try:
        return bool({**defaults, **json.loads(first)} == {**defaults, **json.loads(second)})
    except (ValueError, TypeError):
        return False
