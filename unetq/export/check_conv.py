"""What a convolution must satisfy to be written to, or accepted from, a model file."""

import numpy as np

from ..fixedpoint import Grid
from .checks import require, same_codes, triple
from .packing import FLOAT_BITS, WEIGHT_WIDTHS, code_range, shift_groups, unshifted
from .program import Conv, TensorSpec
from .records import MAX_CHANNELS, MAX_EXTENT, MAX_PHASES, MAX_REACH, MAX_SHIFT

INT32_LIMIT = (1 << 31) - 1


def _check_shape(where: str, op: Conv, inputs: list[TensorSpec], output: TensorSpec, flat: bool) -> None:
    require(op.weight.ndim == 5, where, f"weight has {op.weight.ndim} axes: (O, I / groups, kd, kh, kw) is needed.")
    channels_out, channels_in, *kernel = op.weight.shape
    triple(where, "kernel", tuple(kernel), 1, 1 if flat else None)
    triple(where, "stride", op.stride, 1, 1 if flat else None)
    triple(where, "dilation", op.dilation, 1, 1 if flat else None)
    triple(where, "pad_before", op.pad_before, 0, 0 if flat else None)
    triple(where, "pad_after", op.pad_after, -MAX_EXTENT, 0 if flat else None)
    triple(where, "output_padding", op.output_padding, 0, 0 if flat else None)
    require(
        op.transposed or op.output_padding == (0, 0, 0), where, "output_padding: only a transposed convolution has it."
    )
    phases = op.stride[0] * op.stride[1] * op.stride[2]
    require(not op.transposed or phases <= MAX_PHASES, where, f"stride = {op.stride}: at most {MAX_PHASES} phases.")
    reach = max(d * (k - 1) for d, k in zip(op.dilation, kernel, strict=True))
    require(reach <= MAX_REACH, where, f"dilation x (kernel - 1) = {reach}: at most {MAX_REACH}.")
    total = sum(t.channels for t in inputs)
    require(total <= MAX_CHANNELS, where, f"the inputs have {total} channels: at most {MAX_CHANNELS} together.")
    require(
        op.groups >= 1 and channels_out % op.groups == 0,
        where,
        f"groups = {op.groups}: it must divide {channels_out} outputs.",
    )
    require(
        channels_in * op.groups == total,
        where,
        f"the inputs have {total} channels: the weight is made for {channels_in * op.groups}.",
    )
    require(
        channels_out == output.channels,
        where,
        f"{channels_out} rows of weights: the output has {output.channels} channels.",
    )
    require(
        all(same_codes(t.grid, inputs[0].grid) for t in inputs),
        where,
        "its inputs lie on different grids; they must share one.",
    )
    if len(inputs) > 1:
        require(
            not any(t.grid is not None and t.grid.dynamic for t in inputs),
            where,
            "several inputs, one of them on a dynamic grid; such have a scale each. Use a static grid there.",
        )
    zero = inputs[0].grid.zero_point if inputs[0].grid is not None else 0
    require(
        not (op.transposed and zero),
        where,
        f"zero-point {zero} at the input of a transposed convolution: not every tap meets a pixel; 0 is needed.",
    )


def _check_weights(where: str, op: Conv, grid: Grid | None) -> None:
    channels_out = op.weight.shape[0]
    scale = np.asarray(op.weight_scale)
    require(
        scale.shape in ((1,), (channels_out,)),
        where,
        f"weight_scale has shape {scale.shape}: (1,) or ({channels_out},) is needed.",
    )
    require(bool(np.isfinite(scale).all()), where, "weight_scale is not finite; re-calibrate.")
    shifted = op.weight_kind == "shifted"
    shared = (op.weight_shift is not None) == shifted and (op.group_size != 0) == shifted
    require(shared, where, "shifted weights have both weight_shift and group_size, others neither.")
    if op.weight_kind == "float32":
        require(
            op.weight_bits == FLOAT_BITS, where, f"weight_bits = {op.weight_bits}: float32 weights have {FLOAT_BITS}."
        )
        require(op.weight.dtype == np.float32, where, f"weight is {op.weight.dtype}: the kind says float32.")
        require(bool(np.isfinite(op.weight).all()), where, "a weight is not finite: NaN and infinity are not allowed.")
        return
    require(op.weight_kind in WEIGHT_WIDTHS, where, f"weight_kind = {op.weight_kind!r} is not known.")
    widths = WEIGHT_WIDTHS[op.weight_kind]
    require(
        widths[0] <= op.weight_bits <= widths[1],
        where,
        f"weight_bits = {op.weight_bits}: {op.weight_kind} has {widths[0]} to {widths[1]}.",
    )
    require(np.issubdtype(op.weight.dtype, np.integer), where, f"weight is {op.weight.dtype}: the kind says codes.")
    if op.weight_kind == "shifted":
        _check_shifts(where, op)
    else:
        low, high = code_range(op.weight_bits, op.weight_kind)
        least, most = int(op.weight.min()), int(op.weight.max())
        require(
            low <= least and most <= high,
            where,
            f"weight codes {least} to {most}: {op.weight_kind} at {op.weight_bits} bit holds {low} to {high}.",
        )
    if op.weight_kind == "codebook":
        levels, places = np.unique(op.weight).size, 1 << op.weight_bits
        require(levels <= places, where, f"{levels} different weights: {op.weight_bits} bit has {places} levels.")
    if grid is not None:
        sums = np.abs(op.weight.astype(np.int64)).reshape(channels_out, -1).sum(axis=1)
        bound = int(sums.max()) * (1 << (grid.bits - 1) if grid.signed else grid.high)
        require(
            bound <= INT32_LIMIT, where, f"accumulators may reach {bound}: int32 ends at {INT32_LIMIT}; use fewer bits."
        )


def _check_shifts(where: str, op: Conv) -> None:
    """The codes behind the weights are whole and fit their bits; the weights fit int8."""
    outputs, inputs = op.weight.shape[:2]
    size, shifts = op.group_size, np.asarray(op.weight_shift)
    require(1 <= size <= MAX_CHANNELS, where, f"group_size = {size}: allowed are 1 to {MAX_CHANNELS}.")
    shape = (outputs, shift_groups(inputs, size))
    require(shifts.shape == shape, where, f"weight_shift has shape {shifts.shape}: {shape} is needed.")
    whole = np.issubdtype(shifts.dtype, np.integer)
    require(whole and shifts.min() >= 0 and shifts.max() <= MAX_SHIFT, where, f"weight_shift: 0 to {MAX_SHIFT}.")
    least, most = int(op.weight.min()), int(op.weight.max())
    require(least >= -128 and most <= 127, where, f"shifted weights {least} to {most}: they must fit int8.")
    codes, steps = unshifted(op.weight, shifts, size)
    require(bool((codes * steps == op.weight).all()), where, "a weight is no multiple of its group's power of two.")
    low, high = code_range(op.weight_bits, "twos_complement")
    least, most = int(codes.min()), int(codes.max())
    require(
        low <= least and most <= high,
        where,
        f"weight codes {least} to {most} before their shift: {op.weight_bits} bit holds {low} to {high}.",
    )


def check_conv(where: str, op: Conv, inputs: list[TensorSpec], output: TensorSpec, flat: bool) -> None:
    """Raise ``UnsupportedError`` unless a convolution's shape, weights, scales and sums are within the format."""
    _check_shape(where, op, inputs, output, flat)
    _check_weights(where, op, inputs[0].grid)
