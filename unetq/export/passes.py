"""Exact rewrites of a program: the result computes the same codes, with less to do or to keep."""

from dataclasses import replace
from typing import Any

from .program import Concat, Conv, Op, Program


def fold_concat(program: Program) -> Program:
    """Let convolutions read a concatenation's parts directly, so that the joined tensor is never made.

    A concatenation goes where all its readers are ungrouped convolutions and its parts are on one grid;
    each reader takes the parts as its inputs, in order. Parts that are themselves folded are expanded.
    """
    readers: dict[int, list[Op]] = {}
    for op in program.ops:
        for tensor in op.inputs:
            readers.setdefault(tensor, []).append(op)
    parts: dict[int, tuple[int, ...]] = {}
    ops: list[Op] = []

    def expand(inputs: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(p for t in inputs for p in parts.get(t, (t,)))

    for op in program.ops:
        if isinstance(op, Concat):
            read_by = readers.get(op.output, [])
            same_grid = len({program.tensors[t].grid for t in op.inputs}) == 1
            if (
                read_by
                and same_grid
                and op.output != program.output
                and all(_absorbs(r, readers, program.output) for r in read_by)
            ):
                parts[op.output] = expand(op.inputs)
                continue
            ops.append(replace(op, inputs=expand(op.inputs)))
        elif isinstance(op, Conv):
            ops.append(replace(op, inputs=expand(op.inputs)))
        else:
            ops.append(op)
    return drop_unused(replace(program, ops=tuple(ops)))


def _absorbs(op: Op, readers: dict[int, list[Op]], output: int) -> bool:
    """True where ``op`` can read the parts instead of the whole: a dense convolution, or a folded concatenation."""
    return (isinstance(op, Conv) and op.groups == 1) or isinstance(op, Concat)


def drop_unused(program: Program) -> Program:
    """Remove operations whose result nobody reads, and renumber the tensors that are left."""
    needed = {program.output}
    kept: list[Op] = []
    for op in reversed(program.ops):
        if op.output in needed:
            kept.append(op)
            needed.update(op.inputs)
    kept.reverse()
    needed.add(program.input)
    order = sorted(needed)
    number = {old: new for new, old in enumerate(order)}
    ops = tuple(_renumber(op, number) for op in kept)
    tensors = tuple(program.tensors[t] for t in order)
    return replace(program, tensors=tensors, ops=ops, input=number[program.input], output=number[program.output])


def _renumber(op: Op, number: dict[int, int]) -> Op:
    # Each operation has its own arity, which `replace` cannot know for the union of them.
    changes: dict[str, Any] = {"inputs": tuple(number[t] for t in op.inputs), "output": number[op.output]}
    return replace(op, **changes)
