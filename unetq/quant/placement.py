"""Which weight and which grid gets which quantiser, and at how many bits."""

from collections.abc import Callable
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from ..errors import ConfigError, UnsupportedError
from .blocks import Block, Network, final_blocks, group_consumers
from .methods import FAMILIES, make_activation, make_weight, own_width_method
from .methods.dynamic import DynamicActivation
from .methods.grouped import GroupedWeight
from .methods.lsq import OffsetActivation
from .quantizer import ActivationQuantizer, WeightQuantizer
from .settings import FLOAT_BITS, QuantSettings

TABLE_BITS = 8
"""What a function's table reads and, where nobody else asks, makes: as fine as codes get."""


def layer_name(block: Block) -> str:
    """The convolution's module name; a module called twice has one name and several blocks."""
    return block.key.split("@")[0]


def _is_first(block: Block, network: Network) -> bool:
    """True where a block sees nothing but the image: directly, moved (pooled, padded), or normalised."""
    waiting = list(block.inputs)
    while waiting:
        source = network.block(waiting.pop())
        if source.kind == "input":
            continue
        if not (source.keeps_grid or source.kind == "pointwise"):
            return False
        waiting.extend(source.inputs)
    return True


def _own_bits(block: Block, network: Network, settings: QuantSettings, ordinary: str) -> tuple[int, bool]:
    """A reader's width (``ordinary``: its weights' or what it reads), and whether it is a first or last one's own."""
    if block.kind == "table" and not settings.is_float:  # a function of codes, whatever the layers around it are
        return TABLE_BITS, True
    if block.kind == "conv":
        if settings.keeps_float(layer_name(block)):
            return FLOAT_BITS, False
        own = settings.of_layer(layer_name(block))
    else:
        own = settings.of_operation(block.key)
    if own is not None and getattr(own, ordinary) is not None:
        return int(getattr(own, ordinary)), False
    bits = int(getattr(settings, ordinary))
    if bits == FLOAT_BITS:
        return FLOAT_BITS, False
    if _is_first(block, network):
        return settings.first_bits, True
    if block.key in final_blocks(network):
        return settings.last_bits, True
    return bits, False


def _channel_axis(block: Block, settings: QuantSettings) -> int | None:
    if not settings.per_channel:
        return None
    if not block.attributes["transposed"]:
        return 0
    # A grouped transposed convolution keeps only O / groups channels on its axis 1: one step a tensor there.
    return 1 if block.attributes["groups"] == 1 else None


def reads_codes(block: Block) -> bool:
    """True for sums, products, interpolations and norms: no convolution, and of a width that can be asked for."""
    return block.kind not in ("conv", "table", "input") and not block.keeps_grid


def _check_patterns(network: Network, settings: QuantSettings) -> None:
    names = [layer_name(b) for b in network.blocks if b.kind == "conv"]
    others = [b.key for b in network.blocks if reads_codes(b)]
    given = {"float_layers": settings.float_layers, "layers": tuple(s.pattern for s in settings.layers)}
    for key, patterns in given.items():
        for pattern in patterns:
            if key == "layers" and pattern.startswith("#") and any(fnmatchcase(name, pattern) for name in others):
                continue
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ConfigError(f"{key} {pattern!r} matches no convolution; the layers are {', '.join(names)}.")


def _weight(block: Block, bits: int, own_width: bool, settings: QuantSettings, shape: torch.Size) -> WeightQuantizer:
    layer, own = layer_name(block), settings.of_layer(layer_name(block))
    family = FAMILIES[settings.method][0]
    method = settings.weight_method or family
    if own_width:
        method = own_width_method(family)
    if own is not None and own.weight_method is not None:
        method = own.weight_method
    transposed, size = block.attributes["transposed"], settings.group_size
    grouped = not transposed or block.attributes["groups"] == 1
    if size and not own_width and grouped and shape[0 if transposed else 1] > size:
        if method not in ("fixed", "lsq", "lsq+"):
            raise ConfigError(
                f"layer {layer}: {method} weights have no steps of groups (group_size = {size}); use the method fixed "
                "or lsq, or group_size = 0."
            )
        return GroupedWeight(bits, shape, size, transposed=transposed, power_of_two=method == "fixed")
    return make_weight(method, layer, bits, shape, _channel_axis(block, settings))


def weight_quantizers(
    network: Network, settings: QuantSettings, tensor: Callable[[str], Tensor]
) -> dict[str, WeightQuantizer]:
    """A quantiser for each weight that is not float, by the weight's name in the network.

    Raises:
        ConfigError: a pattern that matches no convolution, or a method that does not exist at a layer's width.
        UnsupportedError: a method that cannot represent a layer, which is named.
    """
    layers = [b for b in network.blocks if b.kind == "conv"]
    _check_patterns(network, settings)
    widths: dict[str, tuple[int, bool]] = {}
    for block in layers:  # a layer that is called twice has the larger width of its places
        name = block.parameters["weight"]
        width = _own_bits(block, network, settings, "weight_bits")
        widths[name] = max(width, widths.get(name, width))
    made: dict[str, WeightQuantizer] = {}
    for block in layers:
        name = block.parameters["weight"]
        bits, own_width = widths[name]
        if bits == FLOAT_BITS or name in made:
            continue
        try:
            made[name] = _weight(block, bits, own_width, settings, tensor(name).shape)
        except UnsupportedError as error:
            raise UnsupportedError(f"layer {layer_name(block)}: {error}") from None
    return made


def _takes_zero_point(readers: list[Block]) -> bool:
    """False where a reader's arithmetic has no place for one (transposed convolutions, products)."""
    return not any(reader.kind == "mul" or reader.attributes.get("transposed") for reader in readers)


def _takes_dynamic(members: list[Block], readers: list[Block]) -> bool:
    """True for tensors of one producer that no concatenation joins and no table reads or makes."""
    roots = [m for m in members if not m.keeps_grid]
    return (
        len(roots) == 1
        and roots[0].kind != "table"
        and not any(m.kind == "cat" for m in members)
        and not any(reader.kind == "table" for reader in readers)
    )


def _activation(
    group: str,
    bits: int,
    own_width: bool,
    signed: bool,
    settings: QuantSettings,
    members: list[Block],
    readers: list[Block],
) -> ActivationQuantizer:
    family = FAMILIES[settings.method][1]
    named = (settings.of_layer(layer_name(r)) for r in readers if r.kind == "conv")
    own = next((s.act_method for s in named if s is not None and s.act_method is not None), None)
    method = own or (own_width_method(family) if own_width else settings.act_method or family)
    if settings.dynamic and own is None and bits > (1 if signed else 0) and _takes_dynamic(members, readers):
        return DynamicActivation(bits, signed)
    if settings.zero_point and own is None and signed and bits > 1 and _takes_zero_point(readers):
        if method not in ("lsq", "lsq+"):
            raise ConfigError(
                f"tensor {group}: {method} activations have no zero-point; use the method lsq+ or lsq, or "
                "zero_point = false."
            )
        return OffsetActivation(bits)
    if method == "lsq+" and not _takes_zero_point(readers):
        method = "lsq"
    return make_activation(method, group, bits, signed)


def grid_quantizers(network: Network, settings: QuantSettings) -> dict[str, ActivationQuantizer]:
    """A quantiser for each grid group that some low-bit reader needs, by the group's name.

    The group is as wide as its widest reader asks for: ``first_bits`` by those that see only the image,
    ``last_bits`` by those behind which no convolution comes, ``act_bits`` by all others.

    Raises:
        ConfigError: a method that does not exist at a tensor's width. UnsupportedError: one that cannot represent it.
    """
    made: dict[str, ActivationQuantizer] = {}
    for group, names in network.groups.items():
        readers, members = group_consumers(network, group), [network.block(name) for name in names]
        needs = [_own_bits(reader, network, settings, "act_bits") for reader in readers]
        needs = [need for need in needs if need[0] != FLOAT_BITS]
        roots = [member for member in members if not member.keeps_grid]
        if not needs and not settings.is_float and any(root.kind == "table" for root in roots):
            needs = [(TABLE_BITS, True)]
        if not needs:
            continue
        bits, own_width = max(needs)
        signed = not all(is_nonnegative(root, network) for root in roots)
        made[group] = _activation(group, bits, own_width, signed, settings, members, readers)
    return made


def is_nonnegative(root: Block, network: Network, seen: frozenset[str] = frozenset()) -> bool:
    """True where a block's output cannot be negative; sums and interpolations ask their sources."""
    if root.key in seen:
        return True
    if root.kind == "add" and min(root.attributes["gains"]) < 0:
        return root.nonnegative
    if root.kind not in ("upsample_linear", "add", "mul", "fixed") or root.act is not None or root.pre or root.post:
        return root.nonnegative
    groups = {network.block(source).group for source in root.inputs}
    members = [network.block(key) for group in groups for key in network.groups[group]]
    return all(m.keeps_grid or is_nonnegative(m, network, seen | {root.key}) for m in members)
