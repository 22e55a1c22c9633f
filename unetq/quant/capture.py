"""From any ``torch.nn.Module`` to a list of plain nodes, by ``torch.export``.

Python control flow is gone afterwards; what is left are convolutions, norms, activations, pooling,
upsampling, concatenation, padding and residual sums, each with its parameters named as in the
module's ``state_dict``. Anything else is refused with the operation, its place and a remedy.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.fx import Node as FxNode

from ..errors import UnsupportedError

Triple = tuple[int, int, int]


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


def _triple(value: Any, rank: int, neutral: int) -> Triple:
    values = [int(value)] * rank if isinstance(value, int) else [int(v) for v in value]
    if len(values) == 1:
        values *= rank
    padded = [neutral] * (3 - rank) + values
    return padded[0], padded[1], padded[2]


class _Arguments:
    """Positional and default arguments of an aten call by their schema names."""

    def __init__(self, node: FxNode) -> None:
        schema = node.target._schema  # type: ignore[union-attr]  # call_function targets of an export are OpOverloads
        self.values: dict[str, Any] = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
        self.values |= {a.name: v for a, v in zip(schema.arguments, node.args, strict=False)}
        self.values |= node.kwargs

    def __getitem__(self, name: str) -> Any:
        return self.values.get(name)


class _Capture:
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

    def _refuse(self, node: FxNode, remedy: str) -> UnsupportedError:
        place = self._place(node) or "the network's own forward"
        lines = [line.strip() for line in (node.meta.get("stack_trace") or "").splitlines() if line.strip()]
        source = f" ({lines[-2].removesuffix(',')}: {lines[-1]})" if len(lines) >= 2 else ""
        return UnsupportedError(f"operation {node.target} in {place}{source} is not supported; {remedy}")

    def _parameter(self, node: FxNode, value: Any, role: str) -> str:
        if not isinstance(value, FxNode) or value.name not in self.names:
            raise self._refuse(
                node,
                f"its {role} is computed, not a parameter; bake it into the layer first (such as remove weight_norm).",
            )
        return self.names[value.name]

    def _parameters(self, node: FxNode, arguments: _Arguments, roles: tuple[str, ...]) -> dict[str, str]:
        return {role: self._parameter(node, arguments[role], role) for role in roles if arguments[role] is not None}

    def _call(self, node: FxNode) -> None:
        name = str(node.target).removeprefix("aten.")
        operation = name.split(".")[0]
        inplace = operation.endswith("_") and not operation.endswith("__")
        handler = _HANDLERS.get(operation.rstrip("_") if inplace else operation)
        if handler is None:
            raise self._refuse(
                node,
                _REMEDIES.get(operation, "replace it by supported layers, or keep it outside the exported network."),
            )
        kind, inputs, parameters, attributes = handler(self, node, _Arguments(node))
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


_Result = tuple[str, list[Any], dict[str, str], dict[str, Any]]
_Handler = Callable[[_Capture, FxNode, _Arguments], _Result]


def _conv(c: _Capture, node: FxNode, a: _Arguments) -> _Result:
    operation = str(node.target)
    transposed = "transpose" in operation
    stride, dilation = _triple(a["stride"], c.rank, 1), _triple(a["dilation"], c.rank, 1)
    weight = a["weight"]
    kernel = _triple(weight.meta["val"].shape[2:], c.rank, 1) if isinstance(weight, FxNode) else (1, 1, 1)
    if isinstance(a["padding"], str):
        total = [d * (k - 1) if a["padding"] == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
        before = total[0] // 2, total[1] // 2, total[2] // 2
        after = total[0] - before[0], total[1] - before[1], total[2] - before[2]
    else:
        before = after = _triple(a["padding"], c.rank, 0)
    attributes = {
        "stride": stride,
        "dilation": dilation,
        "pad_before": before,
        "pad_after": after,
        "groups": int(a["groups"]),
        "transposed": transposed,
        "output_padding": _triple(a["output_padding"], c.rank, 0) if transposed else (0, 0, 0),
    }
    return "conv", [a["input"]], c._parameters(node, a, ("weight", "bias")), attributes


def _batch_norm(c: _Capture, node: FxNode, a: _Arguments) -> _Result:
    if a["running_mean"] is None:
        raise c._refuse(node, "a BatchNorm without running statistics cannot be folded; use track_running_stats=True.")
    if a["momentum"] is None:
        raise c._refuse(
            node, "BatchNorm momentum None (cumulative average) is not supported; give a number such as 0.1."
        )
    roles = ("weight", "bias", "running_mean", "running_var")
    return (
        "batch_norm",
        [a["input"]],
        c._parameters(node, a, roles),
        {"eps": float(a["eps"]), "momentum": float(a["momentum"])},
    )


def _instance_norm(c: _Capture, node: FxNode, a: _Arguments) -> _Result:
    if a["running_mean"] is not None:
        raise c._refuse(node, "InstanceNorm with running statistics is not supported; use track_running_stats=False.")
    return "instance_norm", [a["input"]], c._parameters(node, a, ("weight", "bias")), {"eps": float(a["eps"])}


def _relu(c: _Capture, node: FxNode, a: _Arguments) -> _Result:
    return "act", [a["self"]], {}, {"slope": 0.0}


def _leaky_relu(c: _Capture, node: FxNode, a: _Arguments) -> _Result:
    return "act", [a["self"]], {}, {"slope": float(a["negative_slope"])}


def _prelu(c: _Capture, node: FxNode, a: _Arguments) -> _Result:
    return "act", [a["self"]], {"slope": c._parameter(node, a["weight"], "weight")}, {}


def _alias(c: _Capture, node: FxNode, a: _Arguments) -> _Result:
    return "alias", [node.args[0]], {}, {}


def _copy(c: _Capture, node: FxNode, a: _Arguments) -> _Result:
    return "copy", [node.args[0]], {}, {}


def _dropout(c: _Capture, node: FxNode, a: _Arguments) -> _Result:
    if float(a["p"]) == 0.0:
        return _alias(c, node, a)
    return "dropout", [node.args[0]], {}, {"p": float(a["p"]), "feature": "feature" in str(node.target)}


def _max_pool(c: _Capture, node: FxNode, a: _Arguments) -> _Result:
    if a["ceil_mode"] or any(d != 1 for d in _triple(a["dilation"], c.rank, 1)):
        raise c._refuse(node, "max-pooling with ceil_mode or dilation is not supported; use plain pooling.")
    kernel = _triple(a["kernel_size"], c.rank, 1)
    stride = _triple(a["stride"], c.rank, 1) if a["stride"] else kernel
    return (
        "max_pool",
        [a["self"]],
        {},
        {"kernel": kernel, "stride": stride, "padding": _triple(a["padding"], c.rank, 0)},
    )


def _upsample(c: _Capture, node: FxNode, a: _Arguments) -> _Result:
    source = node.args[0]
    assert isinstance(source, FxNode)
    before, after = source.meta["val"].shape[2:], node.meta["val"].shape[2:]
    factors = [int(o) // int(i) for i, o in zip(before, after, strict=True)]
    linear = "linear" in str(node.target)
    if any(int(i) * f != int(o) for i, o, f in zip(before, after, factors, strict=True)) or (
        linear and any(f not in (1, 2) for f in factors)
    ):
        raise c._refuse(
            node, f"it goes from {list(before)} to {list(after)}; linear upsampling is by 2, nearest by whole factors."
        )
    given = a["scale_factors"]
    if given is not None and [float(f) for f in given] != [float(f) for f in factors]:
        raise c._refuse(node, f"its scale is {list(given)}; linear upsampling is by 2, nearest by whole factors.")
    if linear and a["align_corners"] and any(f != 1 for f in factors):
        raise c._refuse(
            node, "linear upsampling with align_corners=True has no exact integer form; use align_corners=False."
        )
    return "upsample", [source], {}, {"mode": "linear" if linear else "nearest", "factor": _triple(factors, c.rank, 1)}


def _cat(c: _Capture, node: FxNode, a: _Arguments) -> _Result:
    if a["dim"] not in (1, -1 - c.rank):
        raise c._refuse(
            node, f"concatenation along axis {a['dim']} is not supported; only channels (axis 1) are joined."
        )
    return "cat", list(a["tensors"]), {}, {}


def _add(c: _Capture, node: FxNode, a: _Arguments) -> _Result:
    operands = [a["self"], a["other"]]
    if not all(isinstance(o, FxNode) and o.name not in c.names for o in operands) or a["alpha"] not in (None, 1):
        raise c._refuse(
            node, "only the sum of two feature maps is supported; fold constants into a convolution's bias."
        )
    if operands[0].meta["val"].shape != operands[1].meta["val"].shape:
        raise c._refuse(node, "the two summands differ in shape; broadcasting is not supported.")
    return "add", operands, {}, {}


def _pad(c: _Capture, node: FxNode, a: _Arguments) -> _Result:
    pads = [int(p) for p in a["pad"]]
    if not any(pads):
        return _copy(c, node, a)
    mode = a["mode"] or "constant"
    if (
        min(pads) < 0
        or len(pads) > 2 * c.rank
        or mode not in ("replicate", "constant")
        or (mode == "constant" and (a["value"] or 0) != 0)
    ):
        raise c._refuse(
            node, f"padding {pads} in mode {mode!r} is not supported; use replicate or zero padding of spatial axes."
        )
    before, after = [0, 0, 0], [0, 0, 0]
    for i in range(len(pads) // 2):
        before[2 - i], after[2 - i] = pads[2 * i], pads[2 * i + 1]
    return (
        "pad",
        [node.args[0]],
        {},
        {"mode": "replicate" if mode == "replicate" else "zero", "before": tuple(before), "after": tuple(after)},
    )


_HANDLERS: dict[str, _Handler] = {
    **dict.fromkeys(("conv2d", "conv3d", "conv_transpose2d", "conv_transpose3d"), _conv),
    **dict.fromkeys(("dropout", "feature_dropout"), _dropout),
    **dict.fromkeys(("contiguous", "alias", "detach"), _alias),
    "clone": _copy,
    **dict.fromkeys(("max_pool2d", "max_pool3d"), _max_pool),
    **dict.fromkeys(
        ("upsample_bilinear2d", "upsample_trilinear3d", "upsample_nearest2d", "upsample_nearest3d"), _upsample
    ),
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "cat": _cat,
    "add": _add,
    "pad": _pad,
}

_REMEDIES = {
    "sigmoid": "at the end of a network leave it out: masks are decided on logits, above 0; within one, use a ReLU.",
    "softmax": "at the end of a network leave it out: masks are decided on the largest logit; within one it cannot be.",
}


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
    result = _Capture(program, rank)
    return Captured(tuple(result.nodes), result.output, rank)
