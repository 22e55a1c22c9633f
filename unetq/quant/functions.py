"""Functions of one number, as expressions: what a ``Table`` of the integer program tabulates.

An expression is ``"x"`` (the argument), a number, or a tuple of a function's name and its arguments, such as
``("mul", "x", ("sigmoid", "x"))``. Being plain data it compares, prints and travels with a traced network.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Expression = Any  # str | float | tuple[str, Expression, …]: recursive
ARGUMENT = "x"
PROBE_REACH = 256.0  # |x| up to which an expression's sign is looked at


def _leaky_relu(x: Tensor, slope: float) -> Tensor:
    return F.relu(x) if slope == 0.0 else F.leaky_relu(x, slope)


def _elu(x: Tensor, alpha: float, scale: float, input_scale: float) -> Tensor:
    """``scale * (x if x > 0 else alpha * (exp(input_scale * x) - 1))`` (Clevert et al. 2016, arXiv 1511.07289)."""
    return scale * torch.where(x > 0, x, alpha * torch.expm1(input_scale * x.clamp_max(0)))


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "abs": torch.abs,
    "add": torch.add,
    "celu": lambda x, alpha: F.celu(x, alpha),
    "clamp": lambda x, low, high: torch.clamp(x, low, high),
    "div": torch.div,
    "elu": _elu,
    "erf": torch.erf,
    "exp": torch.exp,
    "gelu": lambda x: F.gelu(x),
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "hardshrink": lambda x, width: F.hardshrink(x, width),
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "leaky_relu": _leaky_relu,
    "log_sigmoid": F.logsigmoid,
    "mish": F.mish,
    "mul": torch.mul,
    "pow": torch.pow,
    "selu": torch.selu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "softplus": lambda x, beta, threshold: F.softplus(x, beta, threshold),
    "softshrink": lambda x, width: F.softshrink(x, width),
    "sub": torch.sub,
    "tanh": torch.tanh,
    "threshold": lambda x, limit, value: F.threshold(x, limit, value),
}


def evaluate(expression: Expression, x: Tensor) -> Tensor:
    """The expression's value at every element of ``x``, in its dtype; differentiable."""

    def value(part: Expression) -> Any:
        if part == ARGUMENT:
            return x
        if not isinstance(part, tuple):
            return part
        return FUNCTIONS[part[0]](*(value(argument) for argument in part[1:]))

    result: Tensor = value(expression)
    return result


def substitute(expression: Expression, inner: Expression) -> Expression:
    """``expression`` with ``inner`` in place of its argument."""
    if expression == ARGUMENT:
        return inner
    if not isinstance(expression, tuple):
        return expression
    return (expression[0], *(substitute(part, inner) for part in expression[1:]))


def describe(expression: Expression) -> str:
    """The expression as a person writes it: ``mul(x, sigmoid(x))``."""
    if not isinstance(expression, tuple):
        return expression if isinstance(expression, str) else f"{expression:g}"
    if all(part == ARGUMENT or not isinstance(part, tuple | str) for part in expression[1:]) and len(expression) == 2:
        return str(expression[0])
    return f"{expression[0]}({', '.join(describe(part) for part in expression[1:])})"


def is_nonnegative(expression: Expression) -> bool:
    """True where the expression is nowhere negative, as far as a dense sample of -256 … 256 shows."""
    sample = torch.linspace(-PROBE_REACH, PROBE_REACH, 16385, dtype=torch.float64)
    values = evaluate(expression, sample)
    return bool((values >= 0).all()) and math.isfinite(float(values.max()))
