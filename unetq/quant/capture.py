"""From any ``torch.nn.Module`` to a list of plain nodes, by ``torch.export``.

Python control flow is gone afterwards; what is left are convolutions, norms, functions of one number, pooling,
upsampling, concatenation, padding, sums and products, each with its parameters named as in the module's
``state_dict``. Anything else is refused with the operation, its place and a remedy; all refusals are found.
"""

import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.fx import Node as FxNode
from torch.overrides import TorchFunctionMode

from ..errors import UnsupportedError
from .nodes import Captured, Node, Problem, Refusal, UnsupportedNetworkError
from .operations import HANDLERS, REMEDIES, Arguments
from .simplify import simplify

__all__ = ["Captured", "Node", "Problem", "Tracer", "capture", "trace"]

ELSE = "replace it by supported layers, or keep it outside the exported network."


@dataclass
class Tracer:
    """Walks an exported graph once, in execution order, and collects its nodes and what it cannot represent."""

    program: torch.export.ExportedProgram
    rank: int
    nodes: list[Node] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    output: str = ""

    def __post_init__(self) -> None:
        signature = self.program.graph_signature
        self.names: dict[str, str] = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.constants: dict[str, torch.Tensor] = {
            name: self.program.constants[key] for name, key in signature.inputs_to_lifted_tensor_constants.items()
        }
        # One cell a storage: names that alias each other share it, and an in-place operation writes into it.
        self.cells: dict[str, list[str]] = {}
        # Tensors in a shape that only some pattern can make sense of: refused where anything else reads them.
        self.pending: dict[str, Refusal] = {}
        self.lost: set[str] = set()  # results of refused operations: what reads them is no problem of its own
        for node in self.program.graph.nodes:
            self._visit(node, set(signature.user_inputs))

    def _visit(self, node: FxNode, user_inputs: set[Any]) -> None:
        if node.op == "placeholder":
            if node.name in user_inputs:
                self.nodes.append(Node("input", node.name, (), shape=tuple(node.meta["val"].shape)))
                self.cells[node.name] = [node.name]
        elif node.op == "output":
            self._finish(node)
        elif node.op == "call_function":
            if any(n.name in self.lost for n in node.all_input_nodes):
                self.lost.add(node.name)
            try:
                self._call(node)
            except Refusal as refusal:
                if refusal.problem not in self.problems:
                    self.problems.append(refusal.problem)
                self.lost.add(node.name)
        else:
            self.problems.append(
                Problem(f"graph node {node.op} ({node.name})", "", "", "make it a parameter of a supported layer.")
            )

    def _finish(self, node: FxNode) -> None:
        results: Any = node.args[0]
        count = len(results) if isinstance(results, list | tuple) else 0
        if count != 1:
            text = f"the network returns {count} tensors; one is supported. "
            remedy = "Wrap it in a module that returns the logits alone (deep supervision off)."
            self.problems.append(Problem("", "", "", text + remedy))
            return
        if results[0].name in self.lost:
            return
        try:
            self.output = self.source(results[0])
        except Refusal as refusal:
            self.problems.append(refusal.problem)

    def source(self, node: Any) -> str:
        """The node whose result the traced tensor holds at this point of the execution."""
        if node.name in self.pending:
            raise self.pending[node.name]
        return self.cells[node.name][0]

    @staticmethod
    def place(node: FxNode) -> str:
        """The module that an operation is called in."""
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        return str(stack[-1][0]) if stack else ""

    def refuse(self, node: FxNode, remedy: str) -> Refusal:
        """The error for an operation that cannot be represented: what, where, and the remedy."""
        lines = [line.strip() for line in (node.meta.get("stack_trace") or "").splitlines() if line.strip()]
        source = f"{lines[-2].removesuffix(',')}: {lines[-1]}" if len(lines) >= 2 else ""
        return Refusal(Problem(str(node.target), self.place(node), source, remedy))

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

    def is_map(self, value: Any) -> bool:
        """True where an operand is a feature map, not a number, parameter or constant."""
        return isinstance(value, FxNode) and value.name not in self.names and value.name not in self.constants

    def _call(self, node: FxNode) -> None:
        name = str(node.target).removeprefix("aten.")
        operation = name.split(".")[0]
        inplace = operation.endswith("_") and not operation.endswith("__")
        handler = HANDLERS.get(operation.rstrip("_") if inplace else operation)
        if handler is None:
            if node.name in self.lost and name.startswith("<built-in function getitem"):
                return
            raise self.refuse(node, REMEDIES.get(operation, ELSE))
        kind, inputs, parameters, attributes = handler(self, node, Arguments(node))
        if kind == "constant" or node.name in self.lost:
            return
        if kind == "pending":
            self.pending[node.name] = self.refuse(node, attributes["remedy"])
            return
        sources = tuple(self.source(i) for i in inputs)
        if kind == "alias":
            self.cells[node.name] = self.cells[inputs[0].name]
            return
        if kind == "copy":
            self.cells[node.name] = [sources[0]]
            return
        shape = tuple(node.meta["val"].shape)
        self.nodes.append(Node(kind, node.name, sources, self.place(node), parameters, attributes, shape, name))
        cell = self.cells[inputs[0].name] if inplace else [""]
        cell[0] = node.name
        self.cells[node.name] = cell


class _DataIsDetach(TorchFunctionMode):
    """``tensor.data`` as ``tensor.detach()``, which tracing follows; the former it takes for a constant."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == torch.Tensor.data.__get__:  # type: ignore[attr-defined]  # made anew each time it is asked for
            return args[0].detach()
        return func(*args, **(kwargs or {}))


def _export(network: nn.Module, example: torch.Tensor) -> torch.export.ExportedProgram:
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        autocast = torch.autocast(example.device.type, enabled=False)
        with torch.no_grad(), autocast, _DataIsDetach(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch.export's own making
            return torch.export.export(network, (example,), strict=False)
    except Exception as error:  # torch.export raises many kinds for the same thing: a network it cannot follow
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnsupportedError(
            f"{type(network).__name__} cannot be traced at input {tuple(example.shape)}: {reason}. "
            "Check that the network runs at this size, and that its forward has no data-dependent control flow."
        ) from error
    finally:
        for module, mode in modes.items():
            module.training = mode


def trace(network: nn.Module, example: torch.Tensor) -> tuple[list[Node], Captured | None, tuple[Problem, ...]]:
    """Trace like ``capture``, but return what is not supported instead of raising: all that is understood as it
    was traced, the network (None where anything is not supported), and the problems.

    Raises:
        UnsupportedError: the trace itself fails, so that nothing is known.
    """
    rank = example.ndim - 2
    if rank not in (2, 3):
        raise UnsupportedError(f"input of shape {tuple(example.shape)}: networks take (N, C, H, W) or (N, C, D, H, W).")
    tracer = Tracer(_export(network, example), rank)
    if tracer.problems:
        return tracer.nodes, None, tuple(tracer.problems)
    captured, problems = simplify(tracer.nodes, tracer.output, rank)
    return tracer.nodes, captured, problems


def capture(network: nn.Module, example: torch.Tensor) -> Captured:
    """Trace ``network`` in evaluation mode on ``example`` (N, C, H, W) or (N, C, D, H, W).

    The module's training flags are left as they were. Nodes that depend on the spatial size (padding
    of odd sizes, averages over the whole image) are those of ``example``.

    Raises:
        UnsupportedError: an operation outside the supported set, several outputs, or a failed trace. All that is
            not supported is in ``UnsupportedNetworkError.problems``.
    """
    _, captured, problems = trace(network, example)
    if captured is None:
        raise UnsupportedNetworkError(problems)
    return captured
