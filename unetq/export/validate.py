"""What a program must satisfy to be written to, or accepted from, a model file.

The C++ reader checks the same rules; deploy/runtime/FORMAT.md lists them. Every failure is an
``UnsupportedError`` that names the operation, the value and the rule.
"""

import math

import numpy as np

from ..fixedpoint import Grid
from .check_conv import check_conv
from .checks import fail, per_channel, require, same_codes, triple
from .preprocessing import check_rule
from .program import (
    Add,
    Concat,
    Conv,
    Epilogue,
    MaxPool,
    ModelMeta,
    Mul,
    Op,
    Pad,
    Pointwise,
    Program,
    Quantize,
    Table,
    TensorSpec,
    Upsample,
)
from .records import MAX_CHANNELS, MAX_COUNT, MAX_NAME, OP_KINDS, TABLE_BYTES

OP_TYPES: tuple[type, ...] = (Quantize, Conv, Upsample, MaxPool, Add, Pointwise, Concat, Pad, Table, Mul)
KIND_NAMES = dict(zip(OP_TYPES, OP_KINDS, strict=True))


def _check_epilogue(where: str, epilogue: Epilogue, channels: int) -> None:
    arrays = {"gain": epilogue.gain, "offset": epilogue.offset, "slope": epilogue.slope}
    arrays |= {"gain2": epilogue.gain2, "offset2": epilogue.offset2}
    require(
        (epilogue.gain2 is None) == (epilogue.offset2 is None), where, "gain2 and offset2 come together or not at all."
    )
    norm = epilogue.instance_norm
    if norm is not None:
        arrays |= {"instance norm weight": norm.weight, "instance norm bias": norm.bias}
        require(
            math.isfinite(norm.eps) and norm.eps > 0,
            where,
            f"instance norm eps = {norm.eps}: a positive finite number is needed.",
        )
        whole = norm.groups == 0 or (norm.groups > 0 and channels % norm.groups == 0)
        require(whole, where, f"group norm of {norm.groups} groups: they must divide {channels} channels; 0 is none.")
    for name, array in arrays.items():
        if array is not None:
            per_channel(where, name, array, channels)


def _check_table(where: str, op: Table, source: Grid | None, target: Grid | None) -> None:
    if source is None or target is None or source.dynamic or target.dynamic:
        fail(where, "a table is between grids that are not dynamic.")
    table = np.asarray(op.table)
    whole = table.shape == (TABLE_BYTES,) and np.issubdtype(table.dtype, np.integer)
    require(whole, where, f"its table is {table.dtype}{table.shape}: {TABLE_BYTES} codes are needed.")
    entering = np.zeros(TABLE_BYTES, bool)
    entering[np.arange(source.low, source.high + 1) & 0xFF] = True
    least, most = int(table[entering].min()), int(table[entering].max())
    inside = target.low <= least and most <= target.high
    require(inside, where, f"table entries {least} to {most}: the output holds {target.low} to {target.high}.")
    require(not table[~entering].any(), where, "entries of codes that its input cannot take must be 0.")


def _check_op(where: str, op: Op, inputs: list[TensorSpec], output: TensorSpec, flat: bool) -> None:
    one = 1 if flat else None
    nothing = 0 if flat else None
    wanted = 2 if isinstance(op, Add | Mul) else 1
    if not isinstance(op, Conv | Concat):
        require(len(inputs) == wanted, where, f"{len(inputs)} inputs: {wanted} needed.")
        one_for_all = isinstance(op, Mul) and inputs[1].channels == 1
        same = all(t.channels == output.channels for t in (inputs[:1] if one_for_all else inputs))
        require(same, where, f"its inputs must have the output's {output.channels} channels.")
    if isinstance(op, Quantize):
        require(inputs[0].grid is None and output.grid is not None, where, "it takes float32 and makes codes.")
    elif isinstance(op, Conv):
        check_conv(where, op, inputs, output, flat)
    elif isinstance(op, Upsample):
        triple(where, "factor", op.factor, 1, one)
        require(op.mode in ("nearest", "linear"), where, f"mode = {op.mode!r}: nearest or linear.")
        require((op.mode == "linear") == (op.epilogue is not None), where, "linear has an epilogue, nearest has none.")
        require(op.mode == "nearest" or max(op.factor) <= 2, where, f"factor = {op.factor}: linear knows 1 and 2.")
    elif isinstance(op, MaxPool):
        triple(where, "kernel", op.kernel, 1, one)
        triple(where, "stride", op.stride, 1, one)
        triple(where, "padding", op.padding, 0, nothing)
        half = all(2 * p <= k for p, k in zip(op.padding, op.kernel, strict=True))
        require(
            half, where, f"padding = {op.padding}: at most half the kernel {op.kernel}, so that no window is empty."
        )
    elif isinstance(op, Add):
        finite = all(math.isfinite(float(np.float32(g))) for g in op.input_gain)
        require(finite, where, f"input_gain = {op.input_gain}: finite float32 numbers are needed.")
    elif isinstance(op, Concat):
        total = sum(t.channels for t in inputs)
        require(total == output.channels, where, f"its inputs have {total} channels: the output has {output.channels}.")
        moving = any(t.grid is not None and t.grid.dynamic for t in inputs)
        require(not moving, where, "an input lies on a dynamic grid; such have a scale each. Use a static grid there.")
    elif isinstance(op, Mul):
        zeros = [t.grid.zero_point for t in inputs if t.grid is not None]
        require(not any(zeros), where, f"zero-points {zeros}: a product takes 0 only.")
    elif isinstance(op, Table):
        _check_table(where, op, inputs[0].grid, output.grid)
    elif isinstance(op, Pad):
        triple(where, "before", op.before, 0, nothing)
        triple(where, "after", op.after, 0, nothing)
        require(op.mode in ("replicate", "zero"), where, f"mode = {op.mode!r}: replicate or zero.")
    if isinstance(op, MaxPool | Concat | Pad) or (isinstance(op, Upsample) and op.mode == "nearest"):
        require(
            all(same_codes(t.grid, output.grid) for t in inputs),
            where,
            "it keeps the grid: inputs and output must share one.",
        )
    epilogue = getattr(op, "epilogue", None)
    if isinstance(epilogue, Epilogue):
        _check_epilogue(where, epilogue, output.channels)


def _check_tensor(tensor: TensorSpec) -> None:
    where = f"tensor {tensor.name}"
    require(
        1 <= tensor.channels <= MAX_CHANNELS, where, f"{tensor.channels} channels: allowed are 1 to {MAX_CHANNELS}."
    )
    if tensor.grid is not None:
        with np.errstate(over="ignore"):
            finite = math.isfinite(float(tensor.grid.inverse_scale))
        require(finite, where, f"scale = {tensor.grid.scale}: its inverse is not finite; re-calibrate.")


def check_program(program: Program) -> None:
    """Raise ``UnsupportedError`` unless ``program`` can be written to a model file and run by the runtime."""
    tensors, ops, where = program.tensors, program.ops, "program"
    require(1 <= len(tensors) <= MAX_COUNT, where, f"{len(tensors)} tensors: allowed are 1 to {MAX_COUNT}.")
    require(len(ops) <= MAX_COUNT, where, f"{len(ops)} operations: allowed are at most {MAX_COUNT}.")
    require(program.spatial_rank in (2, 3), where, f"spatial rank = {program.spatial_rank}: 2 or 3.")
    flat = program.spatial_rank == 2
    triple(where, "input_multiple", program.input_multiple, 1, 1 if flat else None)
    if program.fixed_size is not None:
        triple(where, "fixed_size", program.fixed_size, 1, 1 if flat else None)
    for name, number in (("input", program.input), ("output", program.output)):
        require(0 <= number < len(tensors), where, f"{name} = tensor {number}: there are {len(tensors)}.")
        require(tensors[number].grid is None, where, f"the {name} is on a grid: it must be float32.")
    for tensor in tensors:
        _check_tensor(tensor)
    ready = {program.input}
    for op in ops:
        label = f"{KIND_NAMES.get(type(op), type(op).__name__)} {op.name}"
        require(type(op) in OP_TYPES, label, "this operation is not known to the file format.")
        require(1 <= len(op.inputs) <= MAX_COUNT, label, f"{len(op.inputs)} inputs: allowed are 1 to {MAX_COUNT}.")
        require(
            all(t in ready for t in op.inputs),
            label,
            f"it reads tensors {op.inputs}: each must be made before it is read.",
        )
        fresh = 0 <= op.output < len(tensors) and op.output not in ready
        require(fresh, label, f"it makes tensor {op.output}: a tensor of the table, made once, is needed.")
        _check_op(label, op, [tensors[t] for t in op.inputs], tensors[op.output], flat)
        ready.add(op.output)
    require(program.output in ready, where, f"its output, tensor {program.output}, is never made.")


def check_meta(program: Program, meta: ModelMeta) -> None:
    """Raise ``UnsupportedError`` unless ``meta`` fits ``program``: labels and preprocessing."""
    where = f"model {meta.name}"
    classes = max(2, program.tensors[program.output].channels)
    for name, count in (("labels", len(meta.labels)), ("label values", len(meta.label_values))):
        require(
            count == classes,
            where,
            f"{count} {name}: the network decides between {classes} classes, one each is needed.",
        )
    for value in meta.label_values:
        require(-(1 << 31) <= value < 1 << 31, where, f"label value {value}: it must fit into 32 bits.")
    for text in (meta.name, *meta.labels, *(t.name for t in program.tensors), *(op.name for op in program.ops)):
        plain = "\0" not in text and len(text.encode()) <= MAX_NAME
        require(plain, where, f"name {text[:40]!r}: at most {MAX_NAME} bytes and no NUL are allowed.")
    check_rule(where, meta.preprocessing, program)
