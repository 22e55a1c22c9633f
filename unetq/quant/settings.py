"""The bit-widths and the method of a quantised network."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from ..errors import ConfigError

FLOAT_BITS = 32
METHODS = ("fixed", "paper")


@dataclass(frozen=True)
class QuantSettings:
    """Bit-widths (1 to 8, or 32 for float) and method of a quantised network.

    ``first_bits`` and ``last_bits`` hold for weights and for the input activations of the layers that read
    the network's input, and of those whose output reaches the network's output without another
    convolution. ``float_layers`` are shell patterns of layer names that stay float32, input included.
    """

    weight_bits: int = 4
    act_bits: int = 6
    method: str = "fixed"
    per_channel: bool = True
    first_bits: int = 8
    last_bits: int = 8
    float_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("weight_bits", "act_bits", "first_bits", "last_bits"):
            bits = getattr(self, name)
            if isinstance(bits, bool) or not isinstance(bits, int) or not (1 <= bits <= 8 or bits == FLOAT_BITS):
                raise ConfigError(
                    f"{name} = {bits!r}: widths are 1 to 8 bits, or {FLOAT_BITS} for float32; choose one of these."
                )
        if self.method not in METHODS:
            raise ConfigError(f"method = {self.method!r}: choose one of {', '.join(METHODS)}.")

    @property
    def is_float(self) -> bool:
        """True where nothing is quantised at all."""
        return self.weight_bits == FLOAT_BITS and self.act_bits == FLOAT_BITS

    def keeps_float(self, layer: str) -> bool:
        """True where ``float_layers`` names the convolution ``layer``."""
        return any(fnmatchcase(layer, pattern) for pattern in self.float_layers)
