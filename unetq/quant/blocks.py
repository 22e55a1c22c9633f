"""Nodes fused into blocks, and the grids their outputs share.

A block is one accumulator (convolution, average, linear upsampling, residual sum, product, or a tensor as it
is) with the norms and the activation that follow it, up to the point where its output is quantised: once. A
"table" block is a function of codes, such as a sigmoid: what it reads is quantised too, so that training and
the integer program agree. Pooling, nearest upsampling, padding and concatenation keep codes, so all tensors
they join lie on one grid, called a grid group. A dropout that nothing before it can take keeps the grid too: it
is nothing but in training.
"""

from dataclasses import dataclass, field
from typing import Any

from .functions import is_nonnegative
from .nodes import Captured, Node

ROOTS = ("input", "conv", "fixed", "upsample_linear", "add", "mul", "table", "pointwise")
"""Kinds whose output is quantised; every other kind keeps the grid of its inputs."""

POINTWISE = ("batch_norm", "instance_norm", "group_norm", "affine", "act")
"""Kinds that end an accumulator, and make a block of their own where they cannot."""


@dataclass
class Block:
    """One step of the quantised network, executed alike in training, calibration and lowering.

    ``key`` is stable across input sizes: the layer's name for convolutions, "#" with kind and number otherwise.
    ``pre`` are norms and constants before the activation, ``post`` BatchNorms and constants behind it; ``act``
    holds the slope of the negative side (a number, or a parameter's name under "slope"). ``nodes`` are all that
    went into the block, in order.
    """

    kind: str
    key: str
    inputs: tuple[str, ...]
    parameters: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    pre: list[Node] = field(default_factory=list)
    act: Node | None = None
    post: list[Node] = field(default_factory=list)
    dropouts: list[Node] = field(default_factory=list)
    group: str = ""
    nodes: list[Node] = field(default_factory=list)

    @property
    def keeps_grid(self) -> bool:
        """True where output codes are input codes, moved."""
        return self.kind not in ROOTS

    @property
    def nonnegative(self) -> bool:
        """True where the block ends in a ReLU (or such a function), so that an unsigned grid loses nothing."""
        if self.kind == "table":
            return is_nonnegative(self.attributes["function"])
        return self.act is not None and self.act.attributes.get("slope") == 0.0 and not self.post


@dataclass(frozen=True)
class Network:
    """All blocks in execution order, the output block's key, and the members of each grid group."""

    blocks: tuple[Block, ...]
    output: str
    spatial_rank: int
    groups: dict[str, tuple[str, ...]]

    def block(self, key: str) -> Block:
        """The block of that key."""
        return next(b for b in self.blocks if b.key == key)

    def consumers(self, key: str) -> list[Block]:
        """Blocks that read the output of block ``key``."""
        return [b for b in self.blocks if key in b.inputs]


def _absorb(block: Block, node: Node) -> bool:
    """Take ``node`` into the epilogue of ``block`` if the fixed order of the epilogue allows it."""
    if node.kind == "dropout":
        block.dropouts.append(node)
        return True
    if block.kind == "table":
        return False  # codes to codes: nothing comes behind
    if block.dropouts and node.kind in ("batch_norm", "instance_norm", "group_norm"):
        return False  # in training the norm would see what the dropout left
    if node.kind in ("batch_norm", "affine"):
        (block.post if block.act is not None else block.pre).append(node)
        return True
    # Sums and products of maps accumulate in float32 where sums over an image depend on their order: their norm
    # waits for codes. A second norm has no place either.
    if node.kind in ("instance_norm", "group_norm"):
        free = block.act is None and not any(n.kind in ("instance_norm", "group_norm") for n in block.pre)
        if free and block.kind not in ("add", "mul"):
            block.pre.append(node)
            return True
        return False
    if node.kind == "act" and block.act is None and not block.post:
        block.act = node
        return True
    return False


class _Fuser:
    def __init__(self, captured: Captured) -> None:
        self.users: dict[str, list[Node]] = {}
        for node in captured.nodes:
            for name in node.inputs:
                self.users.setdefault(name, []).append(node)
        self.output = captured.output
        self.made: dict[str, str] = {}
        self.blocks: list[Block] = []
        self.counts: dict[str, int] = {}
        taken: set[str] = set()
        for node in captured.nodes:
            if node.name not in taken:
                taken |= self._start(node)

    def _key(self, kind: str, node: Node) -> str:
        base = node.parameters["weight"].removesuffix(".weight") if kind == "conv" else kind
        number = self.counts.get(base, 0)
        self.counts[base] = number + 1
        if kind == "conv":
            return base if number == 0 else f"{base}@{number}"
        return "#input" if kind == "input" else f"#{kind}{number}"

    def _start(self, node: Node) -> set[str]:
        kind = node.kind
        if kind == "upsample":
            kind = "upsample_linear" if node.attributes["mode"] == "linear" else "upsample_nearest"
        if kind in POINTWISE:
            kind = "pointwise"
        sources = tuple(self.made[name] for name in node.inputs)
        block = Block(kind, self._key(kind, node), sources, dict(node.parameters), dict(node.attributes))
        block.nodes.append(node)
        taken: set[str] = {node.name}
        last = node
        if kind == "pointwise":
            block.parameters, block.attributes = {}, {}
            _absorb(block, node)
        if kind in ROOTS and kind != "input":
            while last.name != self.output and len(self.users.get(last.name, [])) == 1:
                follower = self.users[last.name][0]
                if len(follower.inputs) != 1 or not _absorb(block, follower):
                    break
                last = follower
                block.nodes.append(last)
                taken.add(last.name)
        self.made[last.name] = block.key
        self.blocks.append(block)
        return taken


def _group(blocks: list[Block]) -> dict[str, tuple[str, ...]]:
    parent = {b.key: b.key for b in blocks}

    def find(key: str) -> str:
        while parent[key] != key:
            key = parent[key]
        return key

    order = {b.key: i for i, b in enumerate(blocks)}
    for block in blocks:
        if block.keeps_grid:
            for source in block.inputs:
                first, second = sorted((find(block.key), find(source)), key=order.__getitem__)
                parent[second] = first
    groups: dict[str, list[str]] = {}
    for block in blocks:
        block.group = find(block.key)
        groups.setdefault(block.group, []).append(block.key)
    return {key: tuple(members) for key, members in groups.items()}


def build_blocks(captured: Captured) -> Network:
    """Fuse the nodes of a traced network and find its grid groups."""
    fuser = _Fuser(captured)
    output = fuser.made[captured.output]
    last = next(b for b in fuser.blocks if b.key == output)
    if last.keeps_grid or last.kind in ("input", "table") or any(output in b.inputs for b in fuser.blocks):
        # The output must be float32; a tensor that others read as codes is turned into numbers once more.
        fuser.blocks.append(Block("pointwise", "#output", (output,)))
        output = "#output"
    groups = _group(fuser.blocks)
    return Network(tuple(fuser.blocks), output, captured.spatial_rank, groups)


def final_blocks(network: Network) -> set[str]:
    """Keys of the blocks whose output reaches the network's output without another convolution."""
    found: set[str] = set()
    waiting = [network.output]
    while waiting:
        block = network.block(waiting.pop())
        if block.key in found:
            continue
        found.add(block.key)
        if block.kind != "conv":
            waiting.extend(block.inputs)
    return found


def group_consumers(network: Network, group: str) -> list[Block]:
    """Root blocks that read any tensor of the group."""
    members = set(network.groups[group])
    return [b for b in network.blocks if not b.keeps_grid and members & set(b.inputs)]
