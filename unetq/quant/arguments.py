"""What the handlers of traced operations share: arguments by name, spatial triples, the result's form."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch.fx import Node as FxNode

if TYPE_CHECKING:
    from .capture import Tracer

Triple = tuple[int, int, int]
Result = tuple[str, list[Any], dict[str, str], dict[str, Any]]
Handler = Callable[["Tracer", FxNode, "Arguments"], Result]


class Arguments:
    """Positional and default arguments of an aten call by their schema names."""

    def __init__(self, node: FxNode) -> None:
        schema = node.target._schema  # type: ignore[union-attr]  # call_function targets of an export are OpOverloads
        self.values: dict[str, Any] = {a.name: a.default_value for a in schema.arguments if a.has_default_value()}
        self.values |= {a.name: v for a, v in zip(schema.arguments, node.args, strict=False)}
        self.values |= node.kwargs

    def __getitem__(self, name: str) -> Any:
        return self.values.get(name)


def triple(value: Any, rank: int, neutral: int) -> Triple:
    """A spatial argument (a number, or one an axis) as (depth, height, width)."""
    values = [int(value)] * rank if isinstance(value, int) else [int(v) for v in value]
    if len(values) == 1:
        values *= rank
    padded = [neutral] * (3 - rank) + values
    return padded[0], padded[1], padded[2]


def shape_of(value: Any) -> tuple[int, ...]:
    """The traced tensor's shape."""
    return tuple(int(n) for n in value.meta["val"].shape)


def alias(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    """The operand itself, sharing its storage."""
    source = node.args[0]
    if isinstance(source, FxNode) and not c.is_map(source):  # a constant or parameter under another name
        if source.name in c.names:
            c.names[node.name] = c.names[source.name]
        else:
            c.constants[node.name] = c.constants[source.name]
        return "constant", [], {}, {}
    return "alias", [source], {}, {}


def copy(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    """The operand's values in a storage of their own."""
    kind, inputs, _, _ = alias(c, node, a)
    return ("copy", inputs, {}, {}) if kind == "alias" else (kind, inputs, {}, {})
