"""What may have which width: the weights of each layer, and each activation tensor that a layer reads.

Activations are quantised where they are made, once, so the variable is the *grid group* (all tensors that pooling,
nearest upsampling and concatenation join), not the layer: layers that read one group have one width there. Sums,
products and linear upsampling are readers like convolutions. A tensor that a table reads has 8 bits, as has everything
that ``float_layers`` keeps in float32.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import ConfigError, UnsupportedError
from ..ptq.steps import q_size
from ..quant.blocks import group_consumers
from ..quant.network import QuantNet
from ..quant.placement import grid_quantizers, layer_name, reads_codes, weight_quantizers
from ..quant.quantizer import ActivationQuantizer, WeightQuantizer
from ..quant.settings import LayerSettings

WEIGHT, TENSOR = "weight", "tensor"
Variable = tuple[str, str]
"""("weight", layer) or ("tensor", grid group)."""


@dataclass(frozen=True)
class Allocation:
    """A width for every variable."""

    bits: Mapping[Variable, int]

    def __getitem__(self, variable: Variable) -> int:
        return self.bits[variable]

    def having(self, variable: Variable, bits: int) -> "Allocation":
        """The same with one variable at ``bits``."""
        return Allocation({**self.bits, variable: bits})

    @property
    def key(self) -> str:
        """One word for it, equal for equal widths: the widths in the order of names."""
        return ".".join(f"{name}:{bits}" for (_, name), bits in sorted(self.bits.items(), key=lambda item: item[0]))

    def record(self) -> dict[str, dict[str, int]]:
        """As ``compress.json`` holds it: weights by layer, activations by tensor."""
        return {kind: {name: bits for (of, name), bits in self.bits.items() if of == kind} for kind in (WEIGHT, TENSOR)}


def literal(name: str) -> str:
    """A shell pattern that matches ``name`` alone."""
    return "".join(f"[{c}]" if c in "[*?" else c for c in name)


@dataclass(frozen=True)
class Space:
    """All variables with the widths each may have, and the quantiser that each width means.

    Attributes:
        choices: widths, rising. reads: the tensor that each layer reads, by layer (or "#" and an operation's kind and
            number); only where both are variables. readers: the other way round.
        weights, grids: by variable and width; not calibrated.
    """

    choices: Mapping[Variable, tuple[int, ...]]
    reads: Mapping[str, str]
    readers: Mapping[str, tuple[str, ...]]
    weights: Mapping[tuple[str, int], WeightQuantizer]
    grids: Mapping[tuple[str, int], ActivationQuantizer]

    def nearest(self, bits: int) -> Allocation:
        """Every variable at ``bits``, or at the next width above that it may have (the widest where there is none)."""
        return Allocation({v: next((b for b in widths if b >= bits), widths[-1]) for v, widths in self.choices.items()})

    def uniform(self, weight_bits: int, act_bits: int) -> Allocation:
        """As ``nearest``, with weights and activations apart."""
        both = {WEIGHT: self.nearest(weight_bits), TENSOR: self.nearest(act_bits)}
        return Allocation({v: both[v[0]][v] for v in self.choices})

    def layers(self, allocation: Allocation) -> list[dict[str, Any]]:
        """``quant.layers`` of a config that asks for ``allocation``: an entry a layer."""
        entries: dict[str, dict[str, Any]] = {}
        for kind, name in self.choices:
            for layer in (name,) if kind == WEIGHT else self.readers[name]:
                entry = entries.setdefault(layer, {"pattern": literal(layer)})
                entry["weight_bits" if kind == WEIGHT else "act_bits"] = allocation[kind, name]
        return [entries[name] for name in sorted(entries)]


def check_widths(widths: Sequence[int]) -> list[int]:
    """``widths`` in rising order, each once.

    Raises:
        ConfigError: none, or one outside 1…8.
    """
    wanted = sorted(set(widths))
    if not wanted or wanted[0] < 1 or wanted[-1] > 8:
        raise ConfigError(f"bits = {list(widths)}: widths are 1 to 8; give some, such as 2,3,4,6,8.")
    return wanted


def find_space(q: QuantNet, widths: Sequence[int]) -> Space:
    """The variables of a network, each with those of ``widths`` that its methods and its signs allow.

    Args:
        q: at 8 bits, with the methods and ``float_layers`` that are to hold. widths: 1 to 8.

    Raises:
        ConfigError: a width outside 1…8, or a layer that may have none of them.
        UnsupportedError: nothing in the network can have a width.
    """
    wanted = check_widths(widths)
    network = q.network(q_size(q))
    layers = {layer_name(b): b.parameters["weight"] for b in network.blocks if b.kind == "conv"}
    layers = {name: weight for name, weight in layers.items() if not q.settings.keeps_float(name)}
    readers: dict[str, tuple[str, ...]] = {}
    for group in network.groups:
        reading = [b for b in group_consumers(network, group) if layer_name(b) in layers or reads_codes(b)]
        readers[group] = tuple(dict.fromkeys(layer_name(b) if b.kind == "conv" else b.key for b in reading))
    readers = {group: names for group, names in readers.items() if names}
    weights: dict[tuple[str, int], WeightQuantizer] = {}
    grids: dict[tuple[str, int], ActivationQuantizer] = {}
    refused: dict[str, Exception] = {}
    for bits in wanted:
        for name, weight in layers.items():
            asked = replace(q.settings, layers=(LayerSettings(literal(name), weight_bits=bits),))
            try:
                weights[name, bits] = weight_quantizers(network, asked, q.tensor)[weight]
            except (ConfigError, UnsupportedError) as error:
                refused[name] = error
        for group, names in readers.items():
            entries = tuple(LayerSettings(literal(name), act_bits=bits) for name in names)
            try:
                grid = grid_quantizers(network, replace(q.settings, layers=entries))[group]
            except (ConfigError, UnsupportedError) as error:
                refused[group] = error
                continue
            if grid.bits == bits:  # else a sum or a table that reads it too asks for more
                grids[group, bits] = grid
    choices = {(WEIGHT, name): _widths(name, weights, refused) for name in layers}
    choices |= {(TENSOR, name): found for name in readers if (found := _widths(name, grids, {})) and len(found) > 1}
    if not layers or not choices:
        raise UnsupportedError("no layer of this network can have a width: float_layers keeps all; drop some of it.")
    tensors = {name: readers[name] for kind, name in choices if kind == TENSOR}
    reads = {layer: tensor for tensor, names in tensors.items() for layer in names}
    return Space(choices, reads, tensors, weights, grids)


def _widths(name: str, made: Iterable[tuple[Hashable, int]], refused: Mapping[str, Exception]) -> tuple[int, ...]:
    found = tuple(sorted(bits for key, bits in made if key == name))
    if not found and name in refused:
        raise ConfigError(f"layer {name} may have none of the widths asked for: {refused[name]}")
    return found
