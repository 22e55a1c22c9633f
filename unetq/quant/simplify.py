"""Rewrites of a traced network that leave its meaning: functions joined, ends dropped, dead nodes removed."""

from dataclasses import replace
from typing import Any

from .functions import ARGUMENT, Expression, substitute
from .nodes import Captured, Node, Problem

DROPPED_FUNCTIONS = (("sigmoid", ARGUMENT), ("tanh", ARGUMENT))
"""Rising and 0 or ½ at 0: the logits decide the same mask."""


def _number(node: Node) -> Expression | None:
    """The expression of a node that maps one number to one, the same everywhere; None for any other."""
    if node.kind == "table":
        return node.attributes["function"]
    if node.kind == "act" and "slope" in node.attributes:
        return ("leaky_relu", ARGUMENT, node.attributes["slope"])
    if node.kind == "affine" and isinstance(node.attributes.get("constant"), float):
        role, sign, constant = (node.attributes[key] for key in ("role", "sign", "constant"))
        operation = {"add": "add", "subtract": "sub", "mul": "mul", "divide": "div"}[role]
        argument = ARGUMENT if sign == 1.0 else ("mul", ARGUMENT, sign)
        return (operation, argument, constant)
    return None


def _has_function(expression: Expression) -> bool:
    """True where more than sums, products and slopes take part, so that it needs a table."""
    if not isinstance(expression, tuple):
        return False
    return expression[0] not in ("add", "sub", "mul", "div", "leaky_relu") or any(map(_has_function, expression[1:]))


class _Joiner:
    """Finds chains and sums or products of functions of one tensor, and makes one function of each."""

    def __init__(self, nodes: list[Node], output: str) -> None:
        self.output = output
        self.nodes = {node.name: node for node in nodes}
        self.users: dict[str, int] = {output: 1}
        for node in nodes:
            for name in node.inputs:
                self.users[name] = self.users.get(name, 0) + 1

    def chain(self, name: str) -> list[tuple[str, Expression]]:
        """All (source, expression) pairs that the tensor ``name`` is, nearest source first; itself is the first."""
        found: list[tuple[str, Expression]] = [(name, ARGUMENT)]
        expression: Expression = ARGUMENT
        node = self.nodes[name]
        while (step := _number(node)) is not None:
            expression = substitute(expression, step)
            found.append((node.inputs[0], expression))
            node = self.nodes[node.inputs[0]]
        return found

    def join(self, node: Node) -> Node:
        """``node`` as one function of an earlier tensor, where it is one that takes a table."""
        if node.kind in ("mul", "add"):
            first, second = (self.chain(name) for name in node.inputs)
            for source, left in first:
                right = next((expression for name, expression in second if name == source), None)
                if right is not None and (_has_function(left) or _has_function(right)):
                    if node.kind == "add" and node.attributes["gains"][1] != 1.0:
                        right = ("mul", right, node.attributes["gains"][1])
                    function = (node.kind, left, right)
                    return replace(node, kind="table", inputs=(source,), attributes={"function": function})
            return node
        own = _number(node)
        before = self.nodes[node.inputs[0]] if own is not None else node
        if own is not None and before.kind == "table" and self.users[before.name] == 1:
            function = substitute(own, before.attributes["function"])
            return replace(node, kind="table", inputs=before.inputs, attributes={"function": function})
        return node

    def run(self) -> list[Node]:
        for name, node in list(self.nodes.items()):
            self.nodes[name] = self.join(node)
        return list(self.nodes.values())


def _alive(nodes: list[Node], output: str) -> list[Node]:
    needed = {output}
    kept: list[Node] = []
    for node in reversed(nodes):
        if node.name in needed or node.kind == "input":
            kept.append(node)
            needed.update(node.inputs)
    return kept[::-1]


def _end_name(node: Node) -> str:
    if node.kind == "end":
        return str(node.attributes["name"])
    return str(node.attributes["function"][0]) if node.attributes.get("function") in DROPPED_FUNCTIONS else ""


def _without_ends(nodes: list[Node], output: str) -> tuple[list[Node], str, tuple[str, ...]]:
    notes: list[str] = []
    by_name: dict[str, Any] = {node.name: node for node in nodes}
    while _end_name(by_name[output]):
        node = by_name[output]
        if sum(node.name in other.inputs for other in nodes):
            break
        place = f" ({node.where})" if node.where else ""
        notes.append(f"{_end_name(node)} at the end{place} is left out: the mask is decided on the logits, alike.")
        output = node.inputs[0]
    return nodes, output, tuple(notes)


def simplify(nodes: list[Node], output: str, rank: int) -> tuple[Captured | None, tuple[Problem, ...]]:
    """The network that is left, or what stands in its way (a softmax that is not at the end)."""
    nodes, output, notes = _without_ends(nodes, output)
    nodes = _alive(_Joiner(_alive(nodes, output), output).run(), output)
    remedy = "at the end of a network it is left out; within one it cannot be: use sigmoid gates."
    problems = tuple(Problem(f"aten.{n.operation}", n.where, "", remedy) for n in nodes if n.kind == "end")
    return (None, problems) if problems else (Captured(tuple(nodes), output, rank, notes), ())
