"""Handlers of traced layers with parameters: convolutions, norms, PReLU and dropout."""

from typing import TYPE_CHECKING

from torch.fx import Node as FxNode

from .arguments import Arguments, Handler, Result, alias, shape_of, triple

if TYPE_CHECKING:
    from .capture import Tracer


def _conv(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    operation = str(node.target)
    transposed = "transpose" in operation
    stride, dilation = triple(a["stride"], c.rank, 1), triple(a["dilation"], c.rank, 1)
    weight = a["weight"]
    kernel = triple(shape_of(weight)[2:], c.rank, 1) if isinstance(weight, FxNode) else (1, 1, 1)
    if len(shape_of(a["input"])) != c.rank + 2:
        raise c.refuse(node, f"it takes a tensor of shape {shape_of(a['input'])}; every image needs its batch axis.")
    if isinstance(a["padding"], str):
        total = [d * (k - 1) if a["padding"] == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
        before = total[0] // 2, total[1] // 2, total[2] // 2
        after = total[0] - before[0], total[1] - before[1], total[2] - before[2]
    else:
        before = after = triple(a["padding"], c.rank, 0)
    attributes = {
        "stride": stride,
        "dilation": dilation,
        "pad_before": before,
        "pad_after": after,
        "groups": int(a["groups"]),
        "transposed": transposed,
        "output_padding": triple(a["output_padding"], c.rank, 0) if transposed else (0, 0, 0),
    }
    return "conv", [a["input"]], c.parameters(node, a, ("weight", "bias")), attributes


def _linear(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    shape = shape_of(a["input"])
    if len(shape) != 2:
        raise c.refuse(
            node, f"it works on the last axis of {shape}; only one value a channel (N, C) can be a 1x1 convolution."
        )
    one, nothing = (1, 1, 1), (0, 0, 0)
    attributes = {"stride": one, "dilation": one, "pad_before": nothing, "pad_after": nothing}
    attributes |= {"groups": 1, "transposed": False, "output_padding": nothing}  # type: ignore[dict-item]
    return "conv", [a["input"]], c.parameters(node, a, ("weight", "bias")), attributes


def _batch_norm(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    if a["running_mean"] is None:
        raise c.refuse(node, "a BatchNorm without running statistics cannot be folded; use track_running_stats=True.")
    if a["momentum"] is None:
        raise c.refuse(
            node, "BatchNorm momentum None (cumulative average) is not supported; give a number such as 0.1."
        )
    parameters = c.parameters(node, a, ("weight", "bias", "running_mean", "running_var"))
    return "batch_norm", [a["input"]], parameters, {"eps": float(a["eps"]), "momentum": float(a["momentum"])}


def _instance_norm(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    if a["running_mean"] is not None:
        raise c.refuse(node, "InstanceNorm with running statistics is not supported; use track_running_stats=False.")
    return "instance_norm", [a["input"]], c.parameters(node, a, ("weight", "bias")), {"eps": float(a["eps"])}


def _group_norm(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    attributes = {"eps": float(a["eps"]), "groups": int(a["num_groups"])}
    return "group_norm", [a["input"]], c.parameters(node, a, ("weight", "bias")), attributes


def _layer_norm(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    """Over channels and space together, without a weight for each pixel: group norm of one group."""
    if tuple(int(n) for n in a["normalized_shape"]) != shape_of(a["input"])[1:] or len(shape_of(a["input"])) < 3:
        raise c.refuse(
            node,
            f"LayerNorm over {list(a['normalized_shape'])} of {shape_of(a['input'])} has a mean for each position; "
            "only one over channels and space together is supported: use GroupNorm(1, channels).",
        )
    if a["weight"] is not None or a["bias"] is not None:
        raise c.refuse(
            node, "a LayerNorm with a weight for each pixel is tied to one size; use GroupNorm(1, channels)."
        )
    return "group_norm", [a["input"]], {}, {"eps": float(a["eps"]), "groups": 1}


def _prelu(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    return "act", [a["self"]], {"slope": c.parameter(node, a["weight"], "weight")}, {}


def _dropout(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    if float(a["p"]) == 0.0:
        return alias(c, node, a)
    attributes = {"p": float(a["p"]), "feature": "feature" in str(node.target)}
    # An extra first axis makes the images of a batch the features (torch's unbatched form).
    attributes["unbatched"] = len(shape_of(node.args[0])) == c.rank + 3
    return "dropout", [node.args[0]], {}, attributes


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("conv2d", "conv3d", "conv_transpose2d", "conv_transpose3d"), _conv),
    **dict.fromkeys(("dropout", "feature_dropout"), _dropout),
    "linear": _linear,
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    "prelu": _prelu,
}
