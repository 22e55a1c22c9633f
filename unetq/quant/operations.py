"""What each traced operation means: one handler an aten operation, all with the same face.

A handler gets the tracer, the traced call and its arguments by name, and returns the kind of node, the
call's tensor operands, parameters by role, and attributes. The kinds "alias" and "copy" make no node.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch.fx import Node as FxNode

if TYPE_CHECKING:
    from .capture import Tracer

Triple = tuple[int, int, int]


def _triple(value: Any, rank: int, neutral: int) -> Triple:
    values = [int(value)] * rank if isinstance(value, int) else [int(v) for v in value]
    if len(values) == 1:
        values *= rank
    padded = [neutral] * (3 - rank) + values
    return padded[0], padded[1], padded[2]


class Arguments:
    """Positional and default arguments of an aten call by their schema names."""

    def __init__(self, node: FxNode) -> None:
        schema = node.target._schema  # type: ignore[union-attr]  # call_function targets of an export are OpOverloads
        self.values: dict[str, Any] = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
        self.values |= {a.name: v for a, v in zip(schema.arguments, node.args, strict=False)}
        self.values |= node.kwargs

    def __getitem__(self, name: str) -> Any:
        return self.values.get(name)


Result = tuple[str, list[Any], dict[str, str], dict[str, Any]]
Handler = Callable[["Tracer", FxNode, Arguments], Result]


def _conv(c: "Tracer", node: FxNode, a: Arguments) -> Result:
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
    return "conv", [a["input"]], c.parameters(node, a, ("weight", "bias")), attributes


def _batch_norm(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    if a["running_mean"] is None:
        raise c.refuse(node, "a BatchNorm without running statistics cannot be folded; use track_running_stats=True.")
    if a["momentum"] is None:
        raise c.refuse(
            node, "BatchNorm momentum None (cumulative average) is not supported; give a number such as 0.1."
        )
    roles = ("weight", "bias", "running_mean", "running_var")
    return (
        "batch_norm",
        [a["input"]],
        c.parameters(node, a, roles),
        {"eps": float(a["eps"]), "momentum": float(a["momentum"])},
    )


def _instance_norm(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    if a["running_mean"] is not None:
        raise c.refuse(node, "InstanceNorm with running statistics is not supported; use track_running_stats=False.")
    return "instance_norm", [a["input"]], c.parameters(node, a, ("weight", "bias")), {"eps": float(a["eps"])}


def _relu(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    return "act", [a["self"]], {}, {"slope": 0.0}


def _leaky_relu(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    return "act", [a["self"]], {}, {"slope": float(a["negative_slope"])}


def _prelu(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    return "act", [a["self"]], {"slope": c.parameter(node, a["weight"], "weight")}, {}


def _alias(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    return "alias", [node.args[0]], {}, {}


def _copy(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    return "copy", [node.args[0]], {}, {}


def _dropout(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    if float(a["p"]) == 0.0:
        return _alias(c, node, a)
    return "dropout", [node.args[0]], {}, {"p": float(a["p"]), "feature": "feature" in str(node.target)}


def _max_pool(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    if a["ceil_mode"] or any(d != 1 for d in _triple(a["dilation"], c.rank, 1)):
        raise c.refuse(node, "max-pooling with ceil_mode or dilation is not supported; use plain pooling.")
    kernel = _triple(a["kernel_size"], c.rank, 1)
    stride = _triple(a["stride"], c.rank, 1) if a["stride"] else kernel
    return (
        "max_pool",
        [a["self"]],
        {},
        {"kernel": kernel, "stride": stride, "padding": _triple(a["padding"], c.rank, 0)},
    )


def _upsample(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    source = node.args[0]
    assert isinstance(source, FxNode)
    before, after = source.meta["val"].shape[2:], node.meta["val"].shape[2:]
    factors = [int(o) // int(i) for i, o in zip(before, after, strict=True)]
    linear = "linear" in str(node.target)
    if any(int(i) * f != int(o) for i, o, f in zip(before, after, factors, strict=True)) or (
        linear and any(f not in (1, 2) for f in factors)
    ):
        raise c.refuse(
            node, f"it goes from {list(before)} to {list(after)}; linear upsampling is by 2, nearest by whole factors."
        )
    given = a["scale_factors"]
    if given is not None and [float(f) for f in given] != [float(f) for f in factors]:
        raise c.refuse(node, f"its scale is {list(given)}; linear upsampling is by 2, nearest by whole factors.")
    if linear and a["align_corners"] and any(f != 1 for f in factors):
        raise c.refuse(
            node, "linear upsampling with align_corners=True has no exact integer form; use align_corners=False."
        )
    return "upsample", [source], {}, {"mode": "linear" if linear else "nearest", "factor": _triple(factors, c.rank, 1)}


def _cat(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    if a["dim"] not in (1, -1 - c.rank):
        raise c.refuse(
            node, f"concatenation along axis {a['dim']} is not supported; only channels (axis 1) are joined."
        )
    return "cat", list(a["tensors"]), {}, {}


def _add(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    operands = [a["self"], a["other"]]
    if not all(isinstance(o, FxNode) and o.name not in c.names for o in operands) or a["alpha"] not in (None, 1):
        raise c.refuse(node, "only the sum of two feature maps is supported; fold constants into a convolution's bias.")
    if operands[0].meta["val"].shape != operands[1].meta["val"].shape:
        raise c.refuse(node, "the two summands differ in shape; broadcasting is not supported.")
    return "add", operands, {}, {}


def _pad(c: "Tracer", node: FxNode, a: Arguments) -> Result:
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
        raise c.refuse(
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


HANDLERS: dict[str, Handler] = {
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

REMEDIES = {
    "sigmoid": "at the end of a network leave it out: masks are decided on logits, above 0; within one, use a ReLU.",
    "softmax": "at the end of a network leave it out: masks are decided on the largest logit; within one it cannot be.",
}
