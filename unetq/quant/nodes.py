"""What a traced network consists of, and how what cannot be represented is told."""

from dataclasses import dataclass, field
from typing import Any

from ..errors import UnsupportedError


@dataclass
class Node:
    """One operation of the traced network.

    ``kind`` is input, conv, batch_norm, instance_norm, group_norm, affine, act, table, dropout, max_pool, fixed
    (a convolution whose weights are 0 and 1), upsample, cat, add, mul or pad; end (softmax, argmax) is dropped.
    ``parameters`` maps a role (weight, bias, running_mean, …) to its name in the state dict. Spatial
    attributes are triples (depth, height, width). ``shape`` is the result's, ``operation`` torch's name.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    where: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    operation: str = ""


@dataclass(frozen=True)
class Captured:
    """The traced network for one spatial size: nodes in execution order and the output's name.

    ``notes`` tell what was left out (a sigmoid at the end).
    """

    nodes: tuple[Node, ...]
    output: str
    spatial_rank: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """One thing that is not supported: the operation, the module it is in, its line of source, what to do."""

    operation: str
    place: str
    source: str
    remedy: str

    def __str__(self) -> str:
        if not self.operation:
            return self.remedy
        place = self.place or "the network's own forward"
        source = f" ({self.source})" if self.source else ""
        return f"operation {self.operation} in {place}{source} is not supported; {self.remedy}"


class Refusal(Exception):
    """Raised while tracing; becomes a part of ``UnsupportedNetworkError``."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class UnsupportedNetworkError(UnsupportedError):
    """A network with operations that cannot be represented; ``problems`` are all of them."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        more = f" ({len(problems) - 1} more: `unetq check` lists all.)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0]}{more}")
        self.problems = problems
