"""What a program must satisfy to be written to, or accepted from, a model file.

The C++ reader checks the same rules; deploy/runtime/FORMAT.md lists them. Every failure is an
``UnsupportedError`` that names the operation, the value and the rule.
"""

import math
from typing import Any, NoReturn

import numpy as np

from ..errors import UnsupportedError
from ..fixedpoint import Grid
from .packing import FLOAT_BITS, WEIGHT_WIDTHS, code_range
from .program import (
    Add,
    Concat,
    Conv,
    Epilogue,
    MaxPool,
    ModelMeta,
    Op,
    Pad,
    Pointwise,
    Program,
    Quantize,
    TensorSpec,
    Upsample,
)
from .records import MAX_CHANNELS, MAX_COUNT, MAX_EXTENT, MAX_NAME, MAX_PHASES, MAX_REACH, NORMALIZE, OP_KINDS

OP_TYPES: tuple[type, ...] = (Quantize, Conv, Upsample, MaxPool, Add, Pointwise, Concat, Pad)
INT32_LIMIT = (1 << 31) - 1
AXES = ("depth", "height", "width")
KIND_NAMES = dict(zip(OP_TYPES, OP_KINDS, strict=True))


def _fail(where: str, text: str) -> NoReturn:
    raise UnsupportedError(f"{where}: {text}")


def _require(condition: bool, where: str, text: str) -> None:
    if not condition:
        _fail(where, text)


def _triple(where: str, name: str, value: tuple[int, ...], low: int, neutral: int | None) -> None:
    """Three sizes within ``low`` … MAX_EXTENT; ``neutral`` is what a 2-D program has in depth."""
    _require(len(value) == 3, where, f"{name} = {value}: three entries are needed (depth, height, width).")
    for axis, entry in zip(AXES, value, strict=True):
        _require(low <= entry <= MAX_EXTENT, where, f"{name} in {axis} = {entry}: allowed are {low} to {MAX_EXTENT}.")
    if neutral is not None:
        _require(value[0] == neutral, where, f"{name} in depth = {value[0]}: a 2-D program has {neutral} there.")


def _channels(where: str, name: str, values: Any, channels: int) -> None:
    """A float32 array with one finite number a channel."""
    array = np.asarray(values)
    _require(
        array.shape == (channels,),
        where,
        f"{name} has shape {array.shape}: one number a channel ({channels}) is needed.",
    )
    _require(
        bool(np.isfinite(array).all()), where, f"{name} is not finite: NaN and infinity are not allowed; re-calibrate."
    )


def same_codes(a: Grid | None, b: Grid | None) -> bool:
    """Whether codes of the two grids mean the same values (None is float32)."""
    if a is None or b is None:
        return a is None and b is None
    return (a.bits, a.signed, a.scale, a.zero_point) == (b.bits, b.signed, b.scale, b.zero_point)


def _check_epilogue(where: str, epilogue: Epilogue, channels: int) -> None:
    arrays = {"gain": epilogue.gain, "offset": epilogue.offset, "slope": epilogue.slope}
    arrays |= {"gain2": epilogue.gain2, "offset2": epilogue.offset2}
    _require(
        (epilogue.gain2 is None) == (epilogue.offset2 is None), where, "gain2 and offset2 come together or not at all."
    )
    norm = epilogue.instance_norm
    if norm is not None:
        arrays |= {"instance norm weight": norm.weight, "instance norm bias": norm.bias}
        _require(
            math.isfinite(norm.eps) and norm.eps > 0,
            where,
            f"instance norm eps = {norm.eps}: a positive finite number is needed.",
        )
    for name, array in arrays.items():
        if array is not None:
            _channels(where, name, array, channels)


def _check_conv(where: str, op: Conv, inputs: list[TensorSpec], output: TensorSpec, flat: bool) -> None:
    _require(op.weight.ndim == 5, where, f"weight has {op.weight.ndim} axes: (O, I / groups, kd, kh, kw) is needed.")
    channels_out, channels_in, *kernel = op.weight.shape
    _triple(where, "kernel", tuple(kernel), 1, 1 if flat else None)
    _triple(where, "stride", op.stride, 1, 1 if flat else None)
    _triple(where, "dilation", op.dilation, 1, 1 if flat else None)
    _triple(where, "pad_before", op.pad_before, 0, 0 if flat else None)
    _triple(where, "pad_after", op.pad_after, -MAX_EXTENT, 0 if flat else None)
    _triple(where, "output_padding", op.output_padding, 0, 0 if flat else None)
    _require(
        op.transposed or op.output_padding == (0, 0, 0), where, "output_padding: only a transposed convolution has it."
    )
    phases = op.stride[0] * op.stride[1] * op.stride[2]
    _require(not op.transposed or phases <= MAX_PHASES, where, f"stride = {op.stride}: at most {MAX_PHASES} phases.")
    reach = max(d * (k - 1) for d, k in zip(op.dilation, kernel, strict=True))
    _require(reach <= MAX_REACH, where, f"dilation x (kernel - 1) = {reach}: at most {MAX_REACH}.")
    total = sum(t.channels for t in inputs)
    _require(total <= MAX_CHANNELS, where, f"the inputs have {total} channels: at most {MAX_CHANNELS} together.")
    _require(
        op.groups >= 1 and channels_out % op.groups == 0,
        where,
        f"groups = {op.groups}: it must divide {channels_out} outputs.",
    )
    _require(
        channels_in * op.groups == total,
        where,
        f"the inputs have {total} channels: the weight is made for {channels_in * op.groups}.",
    )
    _require(
        channels_out == output.channels,
        where,
        f"{channels_out} rows of weights: the output has {output.channels} channels.",
    )
    _require(
        all(same_codes(t.grid, inputs[0].grid) for t in inputs),
        where,
        "its inputs lie on different grids; they must share one.",
    )
    scale = np.asarray(op.weight_scale)
    _require(
        scale.shape in ((1,), (channels_out,)),
        where,
        f"weight_scale has shape {scale.shape}: (1,) or ({channels_out},) is needed.",
    )
    _require(bool(np.isfinite(scale).all()), where, "weight_scale is not finite; re-calibrate.")
    if op.weight_kind == "float32":
        _require(
            op.weight_bits == FLOAT_BITS, where, f"weight_bits = {op.weight_bits}: float32 weights have {FLOAT_BITS}."
        )
        _require(op.weight.dtype == np.float32, where, f"weight is {op.weight.dtype}: the kind says float32.")
        _require(bool(np.isfinite(op.weight).all()), where, "a weight is not finite: NaN and infinity are not allowed.")
        return
    _require(op.weight_kind in WEIGHT_WIDTHS, where, f"weight_kind = {op.weight_kind!r} is not known.")
    widths = WEIGHT_WIDTHS[op.weight_kind]
    _require(
        widths[0] <= op.weight_bits <= widths[1],
        where,
        f"weight_bits = {op.weight_bits}: {op.weight_kind} has {widths[0]} to {widths[1]}.",
    )
    _require(np.issubdtype(op.weight.dtype, np.integer), where, f"weight is {op.weight.dtype}: the kind says codes.")
    low, high = code_range(op.weight_bits, op.weight_kind)
    least, most = int(op.weight.min()), int(op.weight.max())
    _require(
        low <= least and most <= high,
        where,
        f"weight codes {least} to {most}: {op.weight_kind} at {op.weight_bits} bit holds {low} to {high}.",
    )
    if op.weight_kind == "codebook":
        levels, places = np.unique(op.weight).size, 1 << op.weight_bits
        _require(levels <= places, where, f"{levels} different weights: {op.weight_bits} bit has {places} levels.")
    grid = inputs[0].grid
    if grid is not None:
        sums = np.abs(op.weight.astype(np.int64)).reshape(channels_out, -1).sum(axis=1)
        bound = int(sums.max()) * (1 << (grid.bits - 1) if grid.signed else grid.high)
        _require(
            bound <= INT32_LIMIT, where, f"accumulators may reach {bound}: int32 ends at {INT32_LIMIT}; use fewer bits."
        )


def _check_op(where: str, op: Op, inputs: list[TensorSpec], output: TensorSpec, flat: bool) -> None:
    one = 1 if flat else None
    nothing = 0 if flat else None
    wanted = 2 if isinstance(op, Add) else 1
    if not isinstance(op, Conv | Concat):
        _require(len(inputs) == wanted, where, f"{len(inputs)} inputs: {wanted} needed.")
        same = all(t.channels == output.channels for t in inputs)
        _require(same, where, f"its inputs must have the output's {output.channels} channels.")
    if isinstance(op, Quantize):
        _require(inputs[0].grid is None and output.grid is not None, where, "it takes float32 and makes codes.")
    elif isinstance(op, Conv):
        _check_conv(where, op, inputs, output, flat)
    elif isinstance(op, Upsample):
        _triple(where, "factor", op.factor, 1, one)
        _require(op.mode in ("nearest", "linear"), where, f"mode = {op.mode!r}: nearest or linear.")
        _require((op.mode == "linear") == (op.epilogue is not None), where, "linear has an epilogue, nearest has none.")
        _require(op.mode == "nearest" or max(op.factor) <= 2, where, f"factor = {op.factor}: linear knows 1 and 2.")
    elif isinstance(op, MaxPool):
        _triple(where, "kernel", op.kernel, 1, one)
        _triple(where, "stride", op.stride, 1, one)
        _triple(where, "padding", op.padding, 0, nothing)
        half = all(2 * p <= k for p, k in zip(op.padding, op.kernel, strict=True))
        _require(
            half, where, f"padding = {op.padding}: at most half the kernel {op.kernel}, so that no window is empty."
        )
    elif isinstance(op, Add):
        finite = all(math.isfinite(float(np.float32(g))) for g in op.input_gain)
        _require(finite, where, f"input_gain = {op.input_gain}: finite float32 numbers are needed.")
    elif isinstance(op, Concat):
        total = sum(t.channels for t in inputs)
        _require(
            total == output.channels, where, f"its inputs have {total} channels: the output has {output.channels}."
        )
    elif isinstance(op, Pad):
        _triple(where, "before", op.before, 0, nothing)
        _triple(where, "after", op.after, 0, nothing)
        _require(op.mode in ("replicate", "zero"), where, f"mode = {op.mode!r}: replicate or zero.")
    if isinstance(op, MaxPool | Concat | Pad) or (isinstance(op, Upsample) and op.mode == "nearest"):
        _require(
            all(same_codes(t.grid, output.grid) for t in inputs),
            where,
            "it keeps the grid: inputs and output must share one.",
        )
    epilogue = getattr(op, "epilogue", None)
    if isinstance(epilogue, Epilogue):
        _check_epilogue(where, epilogue, output.channels)


def _check_tensor(tensor: TensorSpec) -> None:
    where = f"tensor {tensor.name}"
    _require(
        1 <= tensor.channels <= MAX_CHANNELS, where, f"{tensor.channels} channels: allowed are 1 to {MAX_CHANNELS}."
    )
    if tensor.grid is not None:
        zero = tensor.grid.zero_point
        _require(
            zero == 0,
            where,
            f"zero-point = {zero}: model files know only 0; use a symmetric or unsigned grid.",
        )
        with np.errstate(over="ignore"):
            finite = math.isfinite(float(tensor.grid.inverse_scale))
        _require(finite, where, f"scale = {tensor.grid.scale}: its inverse is not finite; re-calibrate.")


def check_program(program: Program) -> None:
    """Raise ``UnsupportedError`` unless ``program`` can be written to a model file and run by the runtime."""
    tensors, ops, where = program.tensors, program.ops, "program"
    _require(1 <= len(tensors) <= MAX_COUNT, where, f"{len(tensors)} tensors: allowed are 1 to {MAX_COUNT}.")
    _require(len(ops) <= MAX_COUNT, where, f"{len(ops)} operations: allowed are at most {MAX_COUNT}.")
    _require(program.spatial_rank in (2, 3), where, f"spatial rank = {program.spatial_rank}: 2 or 3.")
    flat = program.spatial_rank == 2
    _triple(where, "input_multiple", program.input_multiple, 1, 1 if flat else None)
    if program.fixed_size is not None:
        _triple(where, "fixed_size", program.fixed_size, 1, 1 if flat else None)
    for name, number in (("input", program.input), ("output", program.output)):
        _require(0 <= number < len(tensors), where, f"{name} = tensor {number}: there are {len(tensors)}.")
        _require(tensors[number].grid is None, where, f"the {name} is on a grid: it must be float32.")
    for tensor in tensors:
        _check_tensor(tensor)
    ready = {program.input}
    for op in ops:
        label = f"{KIND_NAMES.get(type(op), type(op).__name__)} {op.name}"
        _require(type(op) in OP_TYPES, label, "this operation is not known to the file format.")
        _require(1 <= len(op.inputs) <= MAX_COUNT, label, f"{len(op.inputs)} inputs: allowed are 1 to {MAX_COUNT}.")
        _require(
            all(t in ready for t in op.inputs),
            label,
            f"it reads tensors {op.inputs}: each must be made before it is read.",
        )
        fresh = 0 <= op.output < len(tensors) and op.output not in ready
        _require(fresh, label, f"it makes tensor {op.output}: a tensor of the table, made once, is needed.")
        _check_op(label, op, [tensors[t] for t in op.inputs], tensors[op.output], flat)
        ready.add(op.output)
    _require(program.output in ready, where, f"its output, tensor {program.output}, is never made.")


def check_meta(program: Program, meta: ModelMeta) -> None:
    """Raise ``UnsupportedError`` unless ``meta`` fits ``program``: a label and a value a class, finite window."""
    where = f"model {meta.name}"
    classes = max(2, program.tensors[program.output].channels)
    for name, count in (("labels", len(meta.labels)), ("label values", len(meta.label_values))):
        _require(
            count == classes,
            where,
            f"{count} {name}: the network decides between {classes} classes, one each is needed.",
        )
    for value in meta.label_values:
        _require(-(1 << 31) <= value < 1 << 31, where, f"label value {value}: it must fit into 32 bits.")
    for text in (meta.name, *meta.labels, *(t.name for t in program.tensors), *(op.name for op in program.ops)):
        plain = "\0" not in text and len(text.encode()) <= MAX_NAME
        _require(plain, where, f"name {text[:40]!r}: at most {MAX_NAME} bytes and no NUL are allowed.")
    rule = meta.preprocessing
    _require(rule.normalize in NORMALIZE, where, f"normalize = {rule.normalize!r}: one of {', '.join(NORMALIZE)}.")
    finite = math.isfinite(rule.low) and math.isfinite(rule.high)
    _require(
        finite and (rule.normalize != "window" or rule.high > rule.low),
        where,
        f"window {rule.low} to {rule.high}: finite and rising.",
    )
