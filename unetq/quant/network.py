"""A network with quantisers: trainable like any module, exact in evaluation mode."""

import copy
import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, UnsupportedError
from ..export.program import Program
from .blocks import Block, Network, build_blocks
from .capture import capture
from .placement import grid_quantizers, weight_quantizers
from .quantizer import ActivationQuantizer, WeightQuantizer
from .settings import QuantSettings, same_settings
from .simulate import Observer, simulate

if TYPE_CHECKING:
    from .noise import Noise

_NOT_CALIBRATED = "the network has no grids yet; call unetq.calibrate(q, batches) or load a trained state first."


def _slot(key: str) -> str:
    """``key`` as the name of a submodule, which may not hold dots; no two keys share one."""
    return key.replace("/", "//").replace(".", "/")


def _grid_slot(group: str) -> str:
    return "grid/" + _slot(group)  # the prefix keeps a layer called "keys" off ModuleDict's own names


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
        self.observe: Observer | None = None  # sees a training forward's tensors before they are quantised
        self.noise: Noise | None = None  # of training; see ``noise.add_noise``
        self._networks: dict[tuple[int, ...], Network] = {}
        self._programs: dict[tuple[tuple[int, ...], bytes], Program] = {}
        network = self.network(tuple(example.shape[2:]))
        weights = weight_quantizers(network, settings, self.tensor)
        grids = grid_quantizers(network, settings)
        self.weight_quantizers = nn.ModuleDict({_slot(name): module for name, module in weights.items()})
        self.grids = nn.ModuleDict({_grid_slot(group): module for group, module in grids.items()})
        # Travels with the state, so that a checkpoint of other bit-widths is recognised.
        described = json.dumps(asdict(settings), sort_keys=True).encode()
        self.register_buffer("settings_json", torch.tensor(list(described), dtype=torch.uint8))
        # Without any quantiser there is nothing to calibrate.
        self.register_buffer("calibrated", torch.tensor(not weights and not grids))

    # -- structure ---------------------------------------------------------------------------------

    def network(self, size: tuple[int, ...]) -> Network:
        """The fused blocks for a spatial size (traced once a size, then kept)."""
        if size not in self._networks:
            example = torch.zeros((1, self.in_channels, *size), device=self.device)
            network = build_blocks(capture(self.net, example))
            known = {b.key for n in self._networks.values() for b in n.blocks if not b.keeps_grid}
            if known and {b.key for b in network.blocks if not b.keeps_grid} != known:
                raise UnsupportedError(
                    f"at input size {list(size)} the network has other layers than at the size it was quantised for; "
                    "quantise it with an example_input of that size."
                )
            self._networks[size] = network
        return self._networks[size]

    def blocks(self) -> tuple[Block, ...]:
        """The fused blocks at the size the network was quantised for."""
        return next(iter(self._networks.values())).blocks

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next((p.device for p in self.net.parameters()), torch.device("cpu"))

    def weight_quantizer(self, block: Block) -> WeightQuantizer | None:
        """The quantiser of a convolution's weight, None where it stays float32."""
        found = self._find(self.weight_quantizers, _slot(block.parameters["weight"]))
        assert found is None or isinstance(found, WeightQuantizer)
        return found

    def grid_quantizer(self, group: str) -> ActivationQuantizer | None:
        """The quantiser of a grid group, None where it stays float32."""
        found = self._find(self.grids, _grid_slot(group))
        assert found is None or isinstance(found, ActivationQuantizer)
        return found

    @staticmethod
    def _find(modules: nn.ModuleDict, slot: str) -> nn.Module | None:
        return modules[slot] if slot in modules else None  # noqa: SIM401  (ModuleDict has no get)

    def tensor(self, name: str) -> Tensor:
        """A parameter or buffer of the wrapped network by its name there."""
        value: Tensor = getattr(self.owner(name), name.rpartition(".")[2])
        return value

    def owner(self, name: str) -> nn.Module:
        """The submodule of the wrapped network that holds a parameter or buffer."""
        return self.net.get_submodule(name.rpartition(".")[0])

    # -- parameters --------------------------------------------------------------------------------

    def quantizer_parameters(self) -> list[nn.Parameter]:
        """Step sizes (log2), levels and shapes of quantisers, to be given a learning rate of their own."""
        return [p for m in (self.weight_quantizers, self.grids) for p in m.parameters() if p.requires_grad]

    def snapping_parameters(self) -> list[nn.Parameter]:
        """Those of the quantisers that round what they learned before use (powers of two)."""
        quantizers = (*self.weight_quantizers.values(), *self.grids.values())
        return [p for q in quantizers if getattr(q, "snaps", False) for p in q.parameters() if p.requires_grad]

    def network_parameters(self) -> list[nn.Parameter]:
        """Everything else that is learnable."""
        return [p for p in self.net.parameters() if p.requires_grad]

    def freeze_step_sizes(self) -> None:
        """Stop refining the fraction bits; the steps in use stay as they are. Steps that are not rounded go on."""
        for parameter in self.snapping_parameters():
            parameter.requires_grad_(False)
            parameter.grad = None

    def set_progress(self, done: float, number: int | None = None) -> None:
        """Tell the noise and the quantisers that anneal (those with a ``set_progress``) how far training is.

        Args:
            done: the fraction of the low-bit steps that is done, 0 to 1.
            number: of the step that comes, from which the noise draws; None leaves that to torch's generator.
        """
        if self.noise is not None:
            self.noise.set_progress(done, number)
        for module in (*self.weight_quantizers.modules(), *self.grids.modules()):
            hook = getattr(module, "set_progress", None)
            if hook is not None:
                hook(done)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """As torch's, with a CheckpointError for a checkpoint of another network or other bit-widths."""
        found = state_dict.get("settings_json")
        own = self.get_buffer("settings_json").cpu()
        if found is not None and not same_settings(bytes(found.tolist()), bytes(own.tolist())):
            raise CheckpointError(
                f"the checkpoint has the settings {bytes(found.tolist()).decode(errors='replace')}, this network "
                f"{bytes(own.tolist()).decode()}: their codes mean different numbers. "
                "Use the config it was trained with."
            )
        if found is not None:
            state_dict = {**state_dict, "settings_json": own}
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
            if not bool(self.calibrated):
                raise CheckpointError(_NOT_CALIBRATED)
            return simulate(self, x, quantized=True, training=True, observe=self.observe)
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
        digest = self._digest()
        if (size, digest) not in self._programs:
            self._programs = {key: program for key, program in self._programs.items() if key[1] == digest}
            self._programs[size, digest] = lower_network(self, size)
        return self._programs[size, digest]

    def _digest(self) -> bytes:
        """Of all parameters and buffers as they are: version counters miss what is written through ``.data``.

        And of the quantisers' own settings: two of other bits may have equal steps.
        """
        content = hashlib.blake2b(digest_size=16)
        for name, module in (*self.weight_quantizers.named_modules(), *self.grids.named_modules()):
            own = {k: v for k, v in vars(module).items() if not k.startswith("_") and k != "training"}
            content.update(repr((name, type(module).__qualname__, sorted(own.items()))).encode())
        for value in (*self.parameters(), *self.buffers()):
            flat = value.detach().cpu().contiguous().reshape(-1)
            content.update(flat.view(torch.uint8).numpy().data)
        return content.digest()

    def __deepcopy__(self, memo: dict[int, Any]) -> "QuantNet":
        programs, self._programs = self._programs, {}
        try:
            duplicate = self.__class__.__new__(self.__class__)
            memo[id(self)] = duplicate
            duplicate.__dict__ = copy.deepcopy(self.__dict__, memo)
        finally:
            self._programs = programs
        return duplicate
