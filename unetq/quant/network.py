"""A network with quantisers: trainable like any module, exact in evaluation mode."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError, UnsupportedError
from ..export.program import Program
from .blocks import Block, Network, build_blocks, final_blocks, group_consumers
from .capture import capture
from .fixed_point import FixedPointActivation, FixedPointWeight
from .paper import PaperActivation, PaperWeight
from .quantizer import ActivationQuantizer, WeightQuantizer
from .simulate import simulate

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


def _slot(key: str) -> str:
    return key.replace(".", "__")


class QuantNet(nn.Module):
    """``unetq.quantize``'s result: the float network's copy (``net``) and a quantiser a weight and a grid.

    In training mode ``forward`` fake-quantises and is differentiable. In evaluation mode it executes the
    integer program in torch, bit for bit what the NumPy executor and the C++ runtime compute.
    """

    def __init__(self, net: nn.Module, settings: QuantSettings, example: Tensor) -> None:
        super().__init__()
        self.net = net
        self.settings = settings
        self.in_channels = int(example.shape[1])
        self._networks: dict[tuple[int, ...], Network] = {}
        self._programs: dict[Any, Program] = {}
        self.register_buffer("calibrated", torch.zeros((), dtype=torch.bool))
        self.weight_quantizers = nn.ModuleDict()
        self.grids = nn.ModuleDict()
        network = self.network(tuple(example.shape[2:]))
        self._add_weight_quantizers(network)
        self._add_grids(network)
        if not len(self.weight_quantizers) and not len(self.grids):
            self.calibrated.fill_(True)

    # -- structure ---------------------------------------------------------------------------------

    def network(self, size: tuple[int, ...]) -> Network:
        """The fused blocks for a spatial size (traced once a size, then kept)."""
        if size not in self._networks:
            example = torch.zeros((1, self.in_channels, *size), device=self.device)
            network = build_blocks(capture(self.net, example))
            known = {b.key for n in self._networks.values() for b in n.blocks if not b.keeps_grid}
            if known and {b.key for b in network.blocks if not b.keeps_grid} != known:
                raise UnsupportedError(
                    f"at input size {list(size)} the network has other layers than at the size it was quantised for; quantise it with example_input of that size."
                )
            self._networks[size] = network
        return self._networks[size]

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.net.parameters()).device

    def is_float_layer(self, key: str) -> bool:
        """True where the settings keep layer ``key`` in float32."""
        return any(fnmatchcase(key.split("@")[0], pattern) for pattern in self.settings.float_layers)

    def weight_quantizer(self, block: Block) -> WeightQuantizer | None:
        """The quantiser of a convolution's weight, None where it stays float32."""
        name = _slot(block.parameters["weight"])
        return self.weight_quantizers[name] if name in self.weight_quantizers else None  # type: ignore[return-value]

    def grid_quantizer(self, group: str) -> ActivationQuantizer | None:
        """The quantiser of a grid group, None where it stays float32."""
        return self.grids[_slot(group)] if _slot(group) in self.grids else None  # type: ignore[return-value]

    def tensor(self, name: str) -> Tensor:
        """A parameter or buffer of the wrapped network by its name there."""
        owner, _, leaf = name.rpartition(".")
        value: Tensor = getattr(self.net.get_submodule(owner), leaf)
        return value

    def _layer_bits(self, block: Block, network: Network, final: set[str], ordinary: int) -> int:
        if self.is_float_layer(block.key):
            return FLOAT_BITS
        if ordinary == FLOAT_BITS:
            return FLOAT_BITS
        if any(network.block(source).group == "input" for source in block.inputs):
            return self.settings.first_bits
        return self.settings.last_bits if block.key in final else ordinary

    def _add_weight_quantizers(self, network: Network) -> None:
        final = final_blocks(network)
        used: set[str] = set()
        for block in network.blocks:
            if block.kind != "conv":
                continue
            used |= {p for p in self.settings.float_layers if fnmatchcase(block.key.split("@")[0], p)}
            bits = self._layer_bits(block, network, final, self.settings.weight_bits)
            if bits == FLOAT_BITS:
                continue
            shape = self.tensor(block.parameters["weight"]).shape
            own_width = (
                bits != self.settings.weight_bits
                or block.key in final
                or network.block(block.inputs[0]).group == "input"
            )
            if self.settings.method == "paper" and not own_width:
                quantizer: WeightQuantizer = PaperWeight(bits)
            else:
                axis = self._channel_axis(block) if self.settings.per_channel else None
                quantizer = FixedPointWeight(bits, shape, axis)
            self.weight_quantizers[_slot(block.parameters["weight"])] = quantizer
        unused = [p for p in self.settings.float_layers if p not in used]
        if unused:
            names = ", ".join(b.key for b in network.blocks if b.kind == "conv")
            raise ConfigError(f"float_layers {unused} match no convolution; the layers are {names}.")

    @staticmethod
    def _channel_axis(block: Block) -> int | None:
        # A grouped transposed convolution keeps only O / groups channels on its axis 1: one step a tensor there.
        if not block.attributes["transposed"]:
            return 0
        return 1 if block.attributes["groups"] == 1 else None

    def _add_grids(self, network: Network) -> None:
        final = final_blocks(network)
        for group, members in network.groups.items():
            needs = []
            for reader in group_consumers(network, group):
                if reader.kind == "conv" or reader.key not in final:
                    needs.append(self._layer_bits(reader, network, final, self.settings.act_bits))
                else:
                    needs.append(self.settings.last_bits if self.settings.act_bits != FLOAT_BITS else FLOAT_BITS)
            widths = [bits for bits in needs if bits != FLOAT_BITS]
            if not widths:
                continue
            bits = max(widths)
            roots = [network.block(m) for m in members if not network.block(m).keeps_grid]
            signed = not all(self._nonnegative(root, network) for root in roots)
            own_width = (
                group == "input"
                or bits != self.settings.act_bits
                or any(r.key in final for r in group_consumers(network, group))
            )
            if self.settings.method == "paper" and not own_width:
                self.grids[_slot(group)] = PaperActivation(bits, signed)
            else:
                self.grids[_slot(group)] = FixedPointActivation(bits, signed)

    def _nonnegative(self, root: Block, network: Network, seen: frozenset[str] = frozenset()) -> bool:
        """True where a block's output cannot be negative; sums and interpolations ask their sources."""
        if root.key in seen:
            return True
        if root.kind not in ("upsample_linear", "add") or root.act is not None or root.pre or root.post:
            return root.nonnegative
        groups = {network.block(source).group for source in root.inputs}
        members = [network.block(key) for group in groups for key in network.groups[group]]
        return all(m.keeps_grid or self._nonnegative(m, network, seen | {root.key}) for m in members)

    # -- parameters --------------------------------------------------------------------------------

    def quantizer_parameters(self) -> list[nn.Parameter]:
        """Step sizes (log2), to be given a learning rate of their own."""
        return [p for m in (self.weight_quantizers, self.grids) for p in m.parameters() if p.requires_grad]

    def network_parameters(self) -> list[nn.Parameter]:
        """Everything else that is learnable."""
        return [p for p in self.net.parameters() if p.requires_grad]

    def freeze_step_sizes(self) -> None:
        """Stop refining the fraction bits; the steps in use stay as they are."""
        for parameter in self.quantizer_parameters():
            parameter.requires_grad_(False)
            parameter.grad = None

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """As torch's, with a CheckpointError for a checkpoint of another network or other bit-widths."""
        try:
            return super().load_state_dict(state_dict, strict, assign)
        except RuntimeError as error:
            detail = " ".join(str(error).split())[:400]
            raise CheckpointError(
                f"the checkpoint is of another network or other settings: {detail}. Use the config it was trained with."
            ) from error

    # -- execution ---------------------------------------------------------------------------------

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W[, …]) float to logits: fake-quantised in training mode, the integer program otherwise."""
        if self.training:
            return simulate(self, x, quantized=True, training=True)
        return self.integer_forward(x)

    def float_forward(self, x: Tensor) -> Tensor:
        """Logits with all quantisers off and running statistics, in float arithmetic."""
        return simulate(self, x, quantized=False, training=False)

    def integer_forward(self, x: Tensor, trace: dict[str, Tensor] | None = None) -> Tensor:
        """Logits of the integer program, executed in torch; ``trace`` collects every tensor's codes by name."""
        from .execute import execute

        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            return execute(self.program(tuple(x.shape[2:])), x, trace)

    def program(self, size: tuple[int, ...]) -> Program:
        """The integer program for a spatial size, from the parameters as they are now.

        Raises:
            CheckpointError: the network was neither calibrated nor loaded from a checkpoint.
        """
        from .lowering import lower_network

        if not bool(self.calibrated):
            raise CheckpointError(
                "the network has no grids yet; call unetq.calibrate(q, batches) or load a trained state first."
            )
        version = (size, *((id(t), t._version) for t in (*self.parameters(), *self.buffers())))
        if version not in self._programs:
            self._programs = {k: v for k, v in self._programs.items() if k[1:] == version[1:]}
            self._programs[version] = lower_network(self, size)
        return self._programs[version]

    def __deepcopy__(self, memo: dict[int, Any]) -> "QuantNet":
        programs, self._programs = self._programs, {}
        try:
            duplicate = self.__class__.__new__(self.__class__)
            memo[id(self)] = duplicate
            duplicate.__dict__ = copy.deepcopy(self.__dict__, memo)
        finally:
            self._programs = programs
        return duplicate


def _first_convolution(net: nn.Module) -> tuple[int, int]:
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            return module.in_channels, 2 if isinstance(module, nn.Conv2d) else 3
    raise UnsupportedError(
        f"{type(net).__name__} has no convolution layer, so its input is not known; give quantize an example_input."
    )


def _example(net: nn.Module) -> Iterator[Tensor]:
    channels, rank = _first_convolution(net)
    device = next(net.parameters()).device
    for size in (64, 128, 96):
        yield torch.zeros((1, channels, *([size] * rank)), device=device)


def quantize(
    net: nn.Module,
    weight_bits: int = 4,
    act_bits: int = 6,
    *,
    method: str = "fixed",
    per_channel: bool = True,
    first_bits: int = 8,
    last_bits: int = 8,
    float_layers: tuple[str, ...] | list[str] = (),
    example_input: Tensor | None = None,
) -> QuantNet:
    """A trainable low-bit twin of ``net``, which is left untouched.

    Args:
        net: any module of supported operations, one input (N, C, H, W) or (N, C, D, H, W), one output.
        weight_bits, act_bits: 1 to 8, or 32 for float32.
        method: "fixed" (true b-bit fixed point) or "paper" (the published quantiser).
        per_channel: a weight step an output channel instead of one a tensor.
        first_bits, last_bits, float_layers: see ``QuantSettings``.
        example_input: an input the network accepts; by default zeros of 64 to 128 pixels a side.

    Raises:
        ConfigError: a width, method or pattern that does not exist.
        UnsupportedError: an operation the integer program cannot represent, named with its place.
    """
    settings = QuantSettings(weight_bits, act_bits, method, per_channel, first_bits, last_bits, tuple(float_layers))
    duplicate = copy.deepcopy(net)
    candidates = [example_input] if example_input is not None else list(_example(net))
    failure: UnsupportedError | None = None
    for example in candidates:
        try:
            return QuantNet(duplicate, settings, example.detach().float())
        except UnsupportedError as error:
            failure = failure or error
            if "cannot be traced" not in str(error):
                break
    assert failure is not None
    raise failure
