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


def _reads_image(block: Block, network: Network) -> bool:
    return any(network.block(source).group == "input" for source in block.inputs)


def _layer_bits(block: Block, network: Network, settings: QuantSettings, ordinary: int) -> tuple[int, bool]:
    """A convolution's width for weights or for its input activations, and whether it is an own width."""
    if ordinary == FLOAT_BITS or settings.keeps_float(layer_name(block)):
        return FLOAT_BITS, False
    if _reads_image(block, network):
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
    made: dict[str, WeightQuantizer] = {}
    for block in layers:
        bits, own_width = _layer_bits(block, network, settings, settings.weight_bits)
        name = block.parameters["weight"]
        if bits == FLOAT_BITS or name in made:
            continue
        if settings.method == "paper" and not own_width:
            made[name] = PaperWeight(bits)
        else:
            made[name] = FixedPointWeight(bits, tensor(name).shape, _channel_axis(block, settings))
    return made


def grid_quantizers(network: Network, settings: QuantSettings) -> dict[str, ActivationQuantizer]:
    """A quantiser for each grid group that some low-bit reader needs, by the group's name.

    The group is as wide as its widest reader asks for: a convolution asks for its own input width,
    other readers for ``act_bits``, or ``last_bits`` where only they stand before the output.
    """
    made: dict[str, ActivationQuantizer] = {}
    final = final_blocks(network)
    for group, members in network.groups.items():
        needs: list[tuple[int, bool]] = []
        for reader in group_consumers(network, group):
            if reader.kind == "conv":
                needs.append(_layer_bits(reader, network, settings, settings.act_bits))
            elif settings.act_bits != FLOAT_BITS:
                last = reader.key in final
                needs.append((settings.last_bits if last else settings.act_bits, last))
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
