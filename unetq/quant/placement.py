"""Which weight and which grid gets which quantiser, and at how many bits."""

from collections.abc import Callable

from torch import Tensor

from ..errors import ConfigError
from .blocks import Block, Network, final_blocks, group_consumers
from .fixed_point import FixedPointActivation, FixedPointWeight
from .paper import PaperActivation, PaperWeight
from .quantizer import ActivationQuantizer, WeightQuantizer
from .settings import FLOAT_BITS, QuantSettings


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


def _own_bits(block: Block, network: Network, settings: QuantSettings, ordinary: int) -> tuple[int, bool]:
    """A reader's width (for weights, or for what it reads), and whether it is a first or last one's own width."""
    if ordinary == FLOAT_BITS or (block.kind == "conv" and settings.keeps_float(layer_name(block))):
        return FLOAT_BITS, False
    if _is_first(block, network):
        return settings.first_bits, True
    if block.key in final_blocks(network):
        return settings.last_bits, True
    return ordinary, False


def _channel_axis(block: Block, settings: QuantSettings) -> int | None:
    if not settings.per_channel:
        return None
    if not block.attributes["transposed"]:
        return 0
    # A grouped transposed convolution keeps only O / groups channels on its axis 1: one step a tensor there.
    return 1 if block.attributes["groups"] == 1 else None


def weight_quantizers(
    network: Network, settings: QuantSettings, tensor: Callable[[str], Tensor]
) -> dict[str, WeightQuantizer]:
    """A quantiser for each weight that is not float, by the weight's name in the network.

    Raises:
        ConfigError: a pattern of ``float_layers`` that matches no convolution.
    """
    layers = [b for b in network.blocks if b.kind == "conv"]
    names = [layer_name(b) for b in layers]
    for pattern in settings.float_layers:
        alone = QuantSettings(float_layers=(pattern,))
        if not any(alone.keeps_float(name) for name in names):
            raise ConfigError(f"float_layers {pattern!r} matches no convolution; the layers are {', '.join(names)}.")
    widths: dict[str, tuple[int, bool]] = {}
    for block in layers:  # a layer that is called twice has the larger width of its places
        name = block.parameters["weight"]
        width = _own_bits(block, network, settings, settings.weight_bits)
        widths[name] = max(width, widths.get(name, width))
    made: dict[str, WeightQuantizer] = {}
    for block in layers:
        name = block.parameters["weight"]
        bits, own_width = widths[name]
        if bits == FLOAT_BITS or name in made:
            continue
        if settings.method == "paper" and not own_width:
            made[name] = PaperWeight(bits)
        else:
            made[name] = FixedPointWeight(bits, tensor(name).shape, _channel_axis(block, settings))
    return made


def grid_quantizers(network: Network, settings: QuantSettings) -> dict[str, ActivationQuantizer]:
    """A quantiser for each grid group that some low-bit reader needs, by the group's name.

    The group is as wide as its widest reader asks for: ``first_bits`` by those that see only the image,
    ``last_bits`` by those behind which no convolution comes, ``act_bits`` by all others.
    """
    made: dict[str, ActivationQuantizer] = {}
    for group, members in network.groups.items():
        readers = group_consumers(network, group)
        needs = [_own_bits(reader, network, settings, settings.act_bits) for reader in readers]
        needs = [need for need in needs if need[0] != FLOAT_BITS]
        if not needs:
            continue
        bits, own_width = max(needs)
        roots = [network.block(m) for m in members if not network.block(m).keeps_grid]
        signed = not all(is_nonnegative(root, network) for root in roots)
        paper = settings.method == "paper" and not own_width
        made[group] = PaperActivation(bits, signed) if paper else FixedPointActivation(bits, signed)
    return made


def is_nonnegative(root: Block, network: Network, seen: frozenset[str] = frozenset()) -> bool:
    """True where a block's output cannot be negative; sums and interpolations ask their sources."""
    if root.key in seen:
        return True
    if root.kind not in ("upsample_linear", "add") or root.act is not None or root.pre or root.post:
        return root.nonnegative
    groups = {network.block(source).group for source in root.inputs}
    members = [network.block(key) for group in groups for key in network.groups[group]]
    return all(m.keeps_grid or is_nonnegative(m, network, seen | {root.key}) for m in members)
