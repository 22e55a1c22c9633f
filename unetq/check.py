"""``unetq check``: what of a network can be represented, what each layer becomes, and what stands in the way.

The network is built, traced, quantised on noise and lowered, as training and export would; nothing is written.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import config as configs
from .errors import ConfigError, UnsupportedError
from .experiment import Experiment
from .export.lower import lower
from .export.program import Add, Concat, Conv, Epilogue, MaxPool, Op, Pad, Pointwise, Program, Quantize, Table, Upsample
from .export.validate import check_program
from .nets import NETWORKS, build_network, count_parameters
from .quant.blocks import Block
from .quant.calibrate import calibrate
from .quant.capture import trace
from .quant.functions import describe as describe_function
from .quant.network import QuantNet
from .quant.nodes import Node, Problem
from .runs import build_quantized

SIZES = {2: (64, 128, 96), 3: (32, 64, 96)}  # tried in this order; networks differ in what they accept

WORDS = {"conv": "convolution", "act": "activation", "cat": "concatenation", "add": "sum", "mul": "product"}
WORDS |= {"fixed": "convolution with weights 0 and 1", "affine": "gain or offset", "end": "left out"}


def experiment_of(network: str, settings: Sequence[str]) -> Experiment:
    """The experiment of a network's name, its ``module:Class``, a shipped config or a YAML file, with settings."""
    named = network in NETWORKS or (":" in network and not Path(network).exists())
    if not named and Path(network).suffix not in (".yaml", ".yml") and network not in configs.shipped_configs():
        known = ", ".join([*NETWORKS, *configs.shipped_configs()])
        raise ConfigError(
            f"network {network!r} does not exist: it is no network or shipped config (known: {known}), no YAML file, "
            "and no module:Class. Name one of these."
        )
    if not named:
        return configs.load_experiment(network, settings)
    return configs.build(configs.overlay({"network": {"name": network}}, configs.parse_settings(settings)))


def parse_size(text: str) -> tuple[int, ...]:
    """``"64"`` or ``"64x48"`` as numbers; one stands for every axis."""
    parts = text.lower().split("x")
    if not all(part.isdecimal() and int(part) > 0 for part in parts) or len(parts) > 3:
        raise ConfigError(f"size {text!r}: give pixels an axis, such as 64 or 64x48 or 32x64x64.")
    return tuple(int(part) for part in parts)


def _sizes(given: str | None, rank: int) -> Iterator[tuple[int, ...]]:
    if given is None:
        yield from ((n,) * rank for n in SIZES[rank])
        return
    size = parse_size(given)
    if len(size) not in (1, rank):
        raise ConfigError(f"size {given!r}: this network has {rank} spatial axes; give one number, or {rank}.")
    yield size * rank if len(size) == 1 else size


def _input_of(network: nn.Module) -> tuple[int, int]:
    """Channels and spatial axes of the input, as the first convolution wants them."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            return module.in_channels, 2 if isinstance(module, nn.Conv2d) else 3
    raise UnsupportedError(f"{type(network).__name__} has no convolution, so its input is not known; it is no U-Net.")


def _node_row(node: Node) -> dict[str, Any]:
    return {
        "layer": node.where,
        "operations": [node.operation.split(".")[0]],
        "becomes": WORDS.get(node.kind, node.kind.replace("_", " ")),
        "output": list(node.shape[1:]),
    }


def _extent(values: Sequence[int], rank: int) -> str:
    return "x".join(map(str, values[3 - rank :]))


def _root(op: Op, block: Block, rank: int) -> str:
    if isinstance(op, Conv):
        what = "transposed convolution" if op.transposed else "convolution"
        stride = f" stride {_extent(op.stride, rank)}" if max(op.stride) > 1 else ""
        groups = f" in {op.groups} groups" if op.groups > 1 else ""
        method = "" if op.weight_kind in ("twos_complement", "float32") else f" {op.weight_kind}"
        width = "float32" if op.weight_kind == "float32" else f"{op.weight_bits}-bit{method}"
        kind = "weights 0 and 1" if block.kind == "fixed" else f"weights {width}"
        return f"{what} {_extent(op.weight.shape[2:], rank)}{stride}{groups}, {kind}"
    if isinstance(op, Table):
        return f"table {describe_function(block.attributes['function'])}"
    if isinstance(op, Upsample):
        return f"{op.mode} upsampling by {_extent(op.factor, rank)}"
    if isinstance(op, MaxPool):
        return f"max-pooling {_extent(op.kernel, rank)}"
    if isinstance(op, Pad):
        return f"{op.mode} padding"
    if isinstance(op, Concat):
        return "concatenation"
    return {Add: "sum", Pointwise: "pointwise"}.get(type(op), "product")


def _becomes(op: Op, block: Block, rank: int) -> str:
    """One line for an operation of the program and its epilogue."""
    parts = [_root(op, block, rank)]
    epilogue = getattr(op, "epilogue", None)
    if isinstance(epilogue, Epilogue):
        if epilogue.instance_norm is not None:
            groups = epilogue.instance_norm.groups
            parts.append(f"group norm of {groups}" if groups else "instance norm")
        if epilogue.slope is not None:
            parts.append("slope" if epilogue.slope.any() else "relu")
        if epilogue.gain2 is not None:
            parts.append("gain and offset")
    return " + ".join(parts)


def _codes(program: Program, number: int) -> str:
    grid = program.tensors[number].grid
    return "float32" if grid is None else f"{grid.bits}-bit {'signed' if grid.signed else 'unsigned'}"


def _rows(q: QuantNet, program: Program, size: tuple[int, ...]) -> list[dict[str, Any]]:
    made = {program.tensors[op.output].name: op for op in program.ops}
    rows: list[dict[str, Any]] = []
    for block in q.network(size).blocks:
        op = made.get(block.key)
        shape = next((n.shape[1:] for n in reversed(block.nodes) if n.kind != "dropout"), ())
        if block.kind == "input":
            op = made.get("#input")
            becomes = "quantised image" if isinstance(op, Quantize) else "float32 image"
        elif block.kind == "dropout":
            becomes = "nothing (it is for training)"
        elif op is None:
            becomes = "read in parts by the next layer"
        else:
            becomes = _becomes(op, block, program.spatial_rank)
        rows.append(
            {
                "layer": block.nodes[0].where if block.nodes and block.nodes[0].where else block.key,
                "operations": [node.operation.split(".")[0] for node in block.nodes if node.operation],
                "becomes": becomes,
                "codes": _codes(program, op.output) if op is not None else "",
                "output": list(shape),
            }
        )
    return rows


def _problem(problem: Problem) -> dict[str, str]:
    return {
        "operation": problem.operation,
        "place": problem.place,
        "source": problem.source,
        "remedy": problem.remedy,
    }


def _lowered(found: dict[str, Any], network: nn.Module, experiment: Experiment, example: Tensor) -> None:
    """Quantise on noise and lower; the rows, the sizes and what still stands in the way go into ``found``."""
    q = build_quantized(network, experiment, example)
    calibrate(q, [torch.randn(example.shape, generator=torch.Generator().manual_seed(0))])
    program = lower(q.eval(), example)
    check_program(program)
    skip, size = 3 - program.spatial_rank, tuple(example.shape[2:])
    found["layers"] = _rows(q, program, size)
    found["input_multiple"] = list(program.input_multiple[skip:])
    found["fixed_size"] = None if program.fixed_size is None else list(program.fixed_size[skip:])


def _examine(network: nn.Module, experiment: Experiment, example: Tensor) -> dict[str, Any]:
    found: dict[str, Any] = {"layers": [], "problems": [], "notes": []}
    nodes, captured, problems = trace(network, example)
    found["problems"] = [_problem(problem) for problem in problems]
    found["layers"] = [_node_row(node) for node in nodes]
    if captured is not None:
        found["notes"] = list(captured.notes)
        made = next(node.shape[2:] for node in captured.nodes if node.name == captured.output)
        if made != tuple(example.shape[2:]):
            sizes = f"The output is {list(made)} for an input of {list(example.shape[2:])}"
            found["notes"].append(f"{sizes}: a mask would not lie on its image.")
        quant = experiment.quant
        try:
            if quant.is_float:
                found["notes"].append("Everything stays float32 (32 bits): no layer was quantised or lowered.")
            else:
                _lowered(found, network, experiment, example)
        except UnsupportedError as error:
            found["problems"].append(_problem(Problem("", "", "", str(error))))
    return found


def check(network: str, settings: Sequence[str] = (), size: str | None = None) -> dict[str, Any]:
    """What ``network`` (a name, ``module:Class``, shipped config or YAML file) becomes; plain JSON values.

    ``layers`` lists every layer: where it is, torch's operations, what they become, codes and shape. ``problems``
    are all operations that are not supported, each with place, line of source and remedy; ``supported`` is true
    where there is none. Without ``size``, sizes are tried until the network can be traced.

    Raises:
        ConfigError: no such network, option, setting or size.
    """
    if ":" in network and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # named by its user: found as `python` itself would find it
    experiment = experiment_of(network, settings)
    module = build_network(experiment.network.name, experiment.network.options)
    channels, rank = _input_of(module)
    failure: UnsupportedError | None = None
    for chosen in _sizes(size, rank):
        example = torch.zeros((1, channels, *chosen))
        try:
            found = _examine(module, experiment, example)
            break
        except UnsupportedError as error:  # the trace failed: another size may do
            failure = failure or error
    else:
        found = {"layers": [], "problems": [_problem(Problem("", "", "", str(failure)))], "notes": []}
    return {
        "network": experiment.network.name,
        "options": experiment.network.options,
        "parameters": count_parameters(module),
        "input": list(example.shape),
        "supported": not found["problems"],
        **found,
    }


def describe(found: dict[str, Any]) -> str:
    """The result of ``check`` as text for a terminal."""
    rows = [["layer", "operations", "becomes", "codes", "output"]]
    for row in found["layers"]:
        shape = "x".join(map(str, row["output"]))
        rows.append([row["layer"], ", ".join(row["operations"]), row["becomes"], row.get("codes", ""), shape])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * w for w in widths))
    lines.append("")
    lines += [f"note: {note}" for note in found["notes"]]
    problems = [Problem(p["operation"], p["place"], p["source"], p["remedy"]) for p in found["problems"]]
    lines += [f"{i}. {problem}" for i, problem in enumerate(problems, start=1)]
    shape = "x".join(map(str, found["input"]))
    head = f"{found['network']}: {found['parameters']:,} parameters, traced at {shape}"
    if problems:
        verdict = f"{head}: NOT supported, {len(problems)} thing{'s' if len(problems) > 1 else ''} to change (above)."
    else:
        fixed, multiple = found.get("fixed_size"), found.get("input_multiple")
        sizes = f"exactly {fixed}" if fixed else f"multiples of {multiple}" if multiple else "any size"
        verdict = f"{head}: supported; takes {sizes}."
    return "\n".join([*lines, verdict])
