"""Handlers of traced operations that work element by element: functions, constants, sums and products."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node as FxNode

from .arguments import Arguments, Handler, Result, copy, shape_of
from .functions import ARGUMENT

if TYPE_CHECKING:
    from .capture import Tracer


def _relu(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    return "act", [a["self"]], {}, {"slope": 0.0}


def _leaky_relu(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    return "act", [a["self"]], {}, {"slope": float(a["negative_slope"])}


def _function(name: str, *arguments: str) -> Handler:
    """A function of one number; ``arguments`` are the aten names of its further, numeric ones."""

    def handle(c: "Tracer", node: FxNode, a: Arguments) -> Result:
        return "table", [node.args[0]], {}, {"function": (name, ARGUMENT, *(float(a[k]) for k in arguments))}

    return handle


def _gelu(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    name = "gelu_tanh" if a["approximate"] == "tanh" else "gelu"
    return "table", [a["self"]], {}, {"function": (name, ARGUMENT)}


def _clamp(low: str | float | None, high: str | float | None) -> Handler:
    def limit(a: Arguments, which: str | float | None, otherwise: float) -> float:
        value = a[which] if isinstance(which, str) else which
        return otherwise if value is None else float(value)

    def handle(c: "Tracer", node: FxNode, a: Arguments) -> Result:
        least, most = limit(a, low, -math.inf), limit(a, high, math.inf)
        if (least, most) == (0.0, math.inf):
            return "act", [a["self"]], {}, {"slope": 0.0}
        return "table", [a["self"]], {}, {"function": ("clamp", ARGUMENT, least, most)}

    return handle


def _power(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    exponent = a["exponent"]
    if not isinstance(exponent, int | float) or exponent != int(exponent) or exponent < 0:
        raise c.refuse(node, f"the exponent {exponent} is not supported; a whole number from 0 is.")
    return "table", [a["self"]], {}, {"function": ("pow", ARGUMENT, float(exponent))}


def _constant(c: "Tracer", node: FxNode, value: Any, maps: tuple[int, ...]) -> float | tuple[float, ...] | str:
    """A number, a number a channel, or the name of a parameter with one or one a channel."""
    if isinstance(value, bool | int | float):
        return float(value)
    shape = shape_of(value)
    full = (1,) * (len(maps) - len(shape)) + shape
    if len(full) > len(maps) or any(n != 1 for i, n in enumerate(full) if i != 1):
        raise c.refuse(
            node, f"a constant of shape {list(shape)} varies in space; only a number, or one a channel, can be folded."
        )
    if value.name in c.names:
        return c.names[value.name]
    values = c.constants[value.name].detach().double().reshape(-1)
    if not bool(torch.isfinite(values).all()):
        raise c.refuse(node, "a constant holds NaN or infinity; correct it.")
    return float(values[0]) if values.numel() == 1 else tuple(values.tolist())


def _affine(c: "Tracer", node: FxNode, x: FxNode, other: Any, role: str, sign: float = 1.0) -> Result:
    """``sign * x + c``, or ``x * c``, or ``x / c``; ``role`` is add, subtract, mul or divide."""
    value = _constant(c, node, other, shape_of(x))
    if isinstance(value, str):
        return "affine", [x], {"constant": value}, {"role": role, "sign": sign}
    neutral = {"add": 0.0, "subtract": 0.0, "mul": 1.0, "divide": 1.0}[role]
    if value == neutral and sign == 1.0:
        return copy(c, node, Arguments(node)) if x is node.args[0] else ("copy", [x], {}, {})
    if role == "divide" and (0.0 in value if isinstance(value, tuple) else value == 0.0):
        raise c.refuse(node, "it divides by 0; correct the constant.")
    return "affine", [x], {}, {"role": role, "sign": sign, "constant": value}


def _add(subtract: bool, reverse: bool = False) -> Handler:
    def handle(c: "Tracer", node: FxNode, a: Arguments) -> Result:
        first, second = a["self"], a["other"]
        alpha = 1.0 if a["alpha"] is None else float(a["alpha"])
        factor = -alpha if subtract else alpha
        if reverse:
            first, second, factor = second, first, -1.0
        both = c.is_map(first), c.is_map(second)
        if not any(both):
            raise c.refuse(node, "it adds two constants; fold them before the trace.")
        if not all(both):
            if alpha != 1.0:
                raise c.refuse(node, f"a constant times alpha = {alpha} is not supported; multiply it in.")
            if both[0]:
                return _affine(c, node, first, second, "subtract" if factor < 0 else "add")
            return _affine(c, node, second, first, "add", sign=factor)
        if shape_of(first) != shape_of(second):
            raise c.refuse(
                node,
                f"the two summands differ in shape, {shape_of(first)} and {shape_of(second)}; "
                "broadcasting is not supported: bring both to one shape.",
            )
        return "add", [first, second], {}, {"gains": (1.0, factor)}

    return handle


def _multiply(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    first, second = a["self"], a["other"]
    both = c.is_map(first), c.is_map(second)
    if not any(both):
        raise c.refuse(node, "it multiplies two constants; fold them before the trace.")
    if not all(both):
        return _affine(c, node, *((first, second) if both[0] else (second, first)), role="mul")
    large, small = shape_of(first), shape_of(second)
    if math.prod(large) < math.prod(small):
        first, second, large, small = second, first, small, large
    fits = len(large) == len(small) and small[1] in (1, large[1])
    if not (fits and (small[2:] == large[2:] or all(n == 1 for n in small[2:]))):
        raise c.refuse(
            node,
            f"factors of shape {large} and {small}; the second needs the first's channels or 1, and its size or 1.",
        )
    return "mul", [first, second], {}, {}


def _divide(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    if not c.is_map(a["self"]) or c.is_map(a["other"]):
        raise c.refuse(node, "only a feature map divided by a constant is supported; multiply by a gate instead.")
    return _affine(c, node, a["self"], a["other"], "divide")


def _negate(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    return "affine", [a["self"]], {}, {"role": "mul", "sign": 1.0, "constant": -1.0}


def _end(name: str) -> Callable[["Tracer", FxNode, Arguments], Result]:
    def handle(c: "Tracer", node: FxNode, a: Arguments) -> Result:
        if a["dim"] not in (1, -1 - c.rank) or shape_of(a["self"])[1] == 1:
            raise c.refuse(node, f"{name} over another axis than several channels is not supported; leave it out.")
        return "end", [a["self"]], {}, {"name": name}

    return handle


HANDLERS: dict[str, Handler] = {
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    **{name: _function(name) for name in ("abs", "erf", "exp", "hardsigmoid", "hardswish", "log_sigmoid", "mish")},
    **{name: _function(name) for name in ("selu", "sigmoid", "silu", "tanh")},
    "celu": _function("celu", "alpha"),
    "elu": _function("elu", "alpha", "scale", "input_scale"),
    "hardshrink": _function("hardshrink", "lambd"),
    "softplus": _function("softplus", "beta", "threshold"),
    "softshrink": _function("softshrink", "lambd"),
    "threshold": _function("threshold", "threshold", "value"),
    "gelu": _gelu,
    "pow": _power,
    "relu6": _clamp(0.0, 6.0),
    "hardtanh": _clamp("min_val", "max_val"),
    "clamp": _clamp("min", "max"),
    "clamp_min": _clamp("min", None),
    "clamp_max": _clamp(None, "max"),
    "add": _add(subtract=False),
    "sub": _add(subtract=True),
    "rsub": _add(subtract=True, reverse=True),
    "mul": _multiply,
    "div": _divide,
    "neg": _negate,
    **{name: _end(name) for name in ("softmax", "log_softmax", "argmax")},
}
