"""From any ``torch.nn.Module`` to a list of plain nodes, by ``torch.export``.

Python control flow is gone afterwards; what is left are convolutions, norms, activations, pooling,
upsampling, concatenation, padding and residual sums, each with its parameters named as in the
module's ``state_dict``. Anything else is refused with the operation, its place and a remedy.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.fx import Node as FxNode

from ..errors import UnsupportedError
from .operations import HANDLERS, REMEDIES, Arguments


@dataclass
class Node:
    """One operation of the traced network.

    ``kind`` is input, conv, batch_norm, instance_norm, act, dropout, max_pool, upsample, cat, add or pad.
    ``parameters`` maps a role (weight, bias, running_mean, …) to its name in the state dict. Spatial
    attributes are triples (depth, height, width).
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    where: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Captured:
    """The traced network for one spatial size: nodes in execution order and the output's name."""

    nodes: tuple[Node, ...]
    output: str
    spatial_rank: int


class Tracer:
    """Walks an exported graph once, in execution order, and collects its nodes."""

    def __init__(self, program: torch.export.ExportedProgram, rank: int) -> None:
        signature = program.graph_signature
        self.names: dict[str, str] = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.rank = rank
        # One cell a storage: names that alias each other share it, and an in-place operation writes into it.
        self.cells: dict[str, list[str]] = {}
        self.nodes: list[Node] = []
        self.output = ""
        for node in program.graph.nodes:
            self._visit(node, set(signature.user_inputs))

    def _visit(self, node: FxNode, user_inputs: set[Any]) -> None:
        if node.op == "placeholder":
            if node.name in user_inputs:
                self.nodes.append(Node("input", node.name, ()))
                self.cells[node.name] = [node.name]
        elif node.op == "output":
            results = node.args[0]
            if not isinstance(results, list | tuple) or len(results) != 1:
                raise UnsupportedError(
                    f"the network returns {len(results) if isinstance(results, list | tuple) else 0} tensors; "
                    "one is supported. Wrap it in a module that returns the logits alone (deep supervision off)."
                )
            self.output = self._source(results[0])
        elif node.op == "call_function":
            self._call(node)
        else:
            raise UnsupportedError(
                f"graph node {node.op} ({node.name}) cannot be represented; make it a parameter of a supported layer."
            )

    def _source(self, node: Any) -> str:
        """The node whose result the traced tensor holds at this point of the execution."""
        return self.cells[node.name][0]

    def _place(self, node: FxNode) -> str:
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        return str(stack[-1][0]) if stack else ""

    def refuse(self, node: FxNode, remedy: str) -> UnsupportedError:
        """The error for an operation that cannot be represented: what, where, and the remedy."""
        place = self._place(node) or "the network's own forward"
        lines = [line.strip() for line in (node.meta.get("stack_trace") or "").splitlines() if line.strip()]
        source = f" ({lines[-2].removesuffix(',')}: {lines[-1]})" if len(lines) >= 2 else ""
        return UnsupportedError(f"operation {node.target} in {place}{source} is not supported; {remedy}")

    def parameter(self, node: FxNode, value: Any, role: str) -> str:
        """The name of the parameter or buffer that an operand is."""
        if not isinstance(value, FxNode) or value.name not in self.names:
            raise self.refuse(
                node,
                f"its {role} is computed, not a parameter; bake it into the layer first (such as remove weight_norm).",
            )
        return self.names[value.name]

    def parameters(self, node: FxNode, arguments: Arguments, roles: tuple[str, ...]) -> dict[str, str]:
        """Names by role, for the roles that are given."""
        return {role: self.parameter(node, arguments[role], role) for role in roles if arguments[role] is not None}

    def _call(self, node: FxNode) -> None:
        name = str(node.target).removeprefix("aten.")
        operation = name.split(".")[0]
        inplace = operation.endswith("_") and not operation.endswith("__")
        handler = HANDLERS.get(operation.rstrip("_") if inplace else operation)
        if handler is None:
            raise self.refuse(
                node,
                REMEDIES.get(operation, "replace it by supported layers, or keep it outside the exported network."),
            )
        kind, inputs, parameters, attributes = handler(self, node, Arguments(node))
        sources = tuple(self._source(i) for i in inputs)
        if kind == "alias":
            self.cells[node.name] = self.cells[inputs[0].name]
            return
        if kind == "copy":
            self.cells[node.name] = [sources[0]]
            return
        self.nodes.append(Node(kind, node.name, sources, self._place(node), parameters, attributes))
        cell = self.cells[inputs[0].name] if inplace else [""]
        cell[0] = node.name
        self.cells[node.name] = cell


def capture(network: nn.Module, example: torch.Tensor) -> Captured:
    """Trace ``network`` in evaluation mode on ``example`` (N, C, H, W[, D-first as torch does]).

    The module's training flags are left as they were. Nodes that depend on the spatial size (padding
    of odd sizes) are those of ``example``.

    Raises:
        UnsupportedError: an operation outside the supported set, several outputs, or a failed trace.
    """
    rank = example.ndim - 2
    if rank not in (2, 3):
        raise UnsupportedError(f"input of shape {tuple(example.shape)}: networks take (N, C, H, W) or (N, C, D, H, W).")
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad(), torch.autocast(example.device.type, enabled=False):
            program = torch.export.export(network, (example,), strict=False)
    except UnsupportedError:
        raise
    except Exception as error:  # torch.export raises many kinds for the same thing: a network it cannot follow
        raise UnsupportedError(
            f"{type(network).__name__} cannot be traced at input {tuple(example.shape)}: {str(error).splitlines()[0]}. "
            "Check that the network runs at this size, and that its forward has no data-dependent control flow."
        ) from error
    finally:
        for module, mode in modes.items():
            module.training = mode
    result = Tracer(program, rank)
    return Captured(tuple(result.nodes), result.output, rank)
