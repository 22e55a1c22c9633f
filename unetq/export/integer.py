"""The NumPy executor: the reference that torch evaluation and the C++ runtime equal to the last bit.

Integer convolutions are computed by floating-point matrix products over integers. A product sum whose
terms' absolute values add up to less than 2**24 is exact in float32 in any order of summation, one
below 2**53 in float64; the bound is taken from the layer's own weights and code range.
"""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, UnsupportedError
from ..fixedpoint import F32, Grid, quantize
from .program import (
    Add,
    Concat,
    Conv,
    Epilogue,
    InstanceNorm,
    MaxPool,
    Op,
    Pad,
    Pointwise,
    Program,
    Quantize,
    Triple,
    Upsample,
)

Array = NDArray[Any]
FLOAT32_EXACT = 1 << 24
INT32_LIMIT = (1 << 31) - 1


def accumulator_bound(weight: Array, grid: Grid) -> int:
    """Largest |accumulator| a convolution can reach, or pass through, for any input on ``grid``.

    The sum over one output channel of |weight code| times the largest |code|; every partial sum, in
    any order, stays within it. ``weight`` is (O, I / groups, …) codes.
    """
    largest = max(abs(grid.low), abs(grid.high))
    magnitudes = np.abs(weight.astype(np.int64)).reshape(weight.shape[0], -1).sum(axis=1)
    return int(magnitudes.max(initial=0)) * largest


def conv_output_size(op: Conv, size: Triple) -> Triple:
    """Spatial output size of a (transposed) convolution for an input of ``size``, as in torch."""
    kernel = op.weight.shape[2:]

    def one(a: int) -> int:
        span = op.dilation[a] * (kernel[a] - 1)
        padding = op.pad_before[a] + op.pad_after[a]
        if op.transposed:
            return int((size[a] - 1) * op.stride[a] - padding + span + op.output_padding[a] + 1)
        return int((size[a] + padding - span - 1) // op.stride[a] + 1)

    return one(0), one(1), one(2)


def pool_output_size(op: MaxPool, size: Triple) -> Triple:
    """Spatial output size of a max-pooling (floor mode)."""
    d, h, w = ((size[a] + 2 * op.padding[a] - op.kernel[a]) // op.stride[a] + 1 for a in range(3))
    return d, h, w


def output_size(op: Op, size: Triple) -> Triple:
    """Spatial output size of any operation whose (first) input has ``size``."""
    if isinstance(op, Conv):
        return conv_output_size(op, size)
    if isinstance(op, MaxPool):
        return pool_output_size(op, size)
    if isinstance(op, Upsample):
        return size[0] * op.factor[0], size[1] * op.factor[1], size[2] * op.factor[2]
    if isinstance(op, Pad):
        d, h, w = (size[a] + op.before[a] + op.after[a] for a in range(3))
        return d, h, w
    return size


def _tap_slice(start: int, step: int, count: int) -> slice:
    return slice(start, start + step * (count - 1) + 1, step)


def _convolve(op: Conv, x: Array, weight: Array) -> Array:
    """Dense convolution of x (C, D, H, W) in the arithmetic of ``weight``'s dtype, a matrix product a tap."""
    size: Triple = (x.shape[1], x.shape[2], x.shape[3])
    out = conv_output_size(op, size)
    if min(out) < 1:
        raise DataError(f"layer {op.name}: an input of {size} gives an output of {out}; use a larger image.")
    channels_out, channels_in = weight.shape[0] // op.groups, weight.shape[1]
    acc = np.zeros((weight.shape[0], *out), dtype=weight.dtype)
    padded = np.pad(
        x.astype(weight.dtype), [(0, 0), *((b, max(a, 0)) for b, a in zip(op.pad_before, op.pad_after, strict=True))]
    )
    for tap in np.ndindex(*weight.shape[2:]):
        where = tuple(_tap_slice(tap[a] * op.dilation[a], op.stride[a], out[a]) for a in range(3))
        view = padded[(slice(None), *where)]
        for g in range(op.groups):
            rows, columns = (
                slice(g * channels_out, (g + 1) * channels_out),
                slice(g * channels_in, (g + 1) * channels_in),
            )
            product = weight[rows, :, tap[0], tap[1], tap[2]] @ view[columns].reshape(channels_in, -1)
            acc[rows] += product.reshape(channels_out, *out)
    return acc


def _convolve_transposed(op: Conv, x: Array, weight: Array) -> Array:
    """Transposed convolution: each tap adds to ``input * stride + tap * dilation - pad_before``."""
    size: Triple = (x.shape[1], x.shape[2], x.shape[3])
    out = conv_output_size(op, size)
    if min(out) < 1:
        raise DataError(f"layer {op.name}: an input of {size} gives an output of {out}; use a larger image.")
    kernel = weight.shape[2:]
    channels_out, channels_in = weight.shape[0] // op.groups, weight.shape[1]
    full = [
        max((size[a] - 1) * op.stride[a] + op.dilation[a] * (kernel[a] - 1) + 1, op.pad_before[a] + out[a])
        for a in range(3)
    ]
    acc = np.zeros((weight.shape[0], *full), dtype=weight.dtype)
    values = x.astype(weight.dtype)
    for tap in np.ndindex(*kernel):
        where = tuple(_tap_slice(tap[a] * op.dilation[a], op.stride[a], size[a]) for a in range(3))
        for g in range(op.groups):
            rows, columns = (
                slice(g * channels_out, (g + 1) * channels_out),
                slice(g * channels_in, (g + 1) * channels_in),
            )
            product = weight[rows, :, tap[0], tap[1], tap[2]] @ values[columns].reshape(channels_in, -1)
            acc[(rows, *where)] += product.reshape(channels_out, *size)
    keep = tuple(slice(op.pad_before[a], op.pad_before[a] + out[a]) for a in range(3))
    return acc[(slice(None), *keep)]


def convolution_accumulator(op: Conv, x: Array, grid: Grid | None) -> Array:
    """The accumulator of a convolution: an exact integer, or float32 where a float takes part.

    ``x`` is (C, D, H, W), codes (``grid`` given) or float32 (``grid`` None). Codes enter a float32
    convolution as integers; ``gain`` carries their scale either way.
    """
    apply = _convolve_transposed if op.transposed else _convolve
    if grid is None or op.weight_kind == "float32":
        return apply(op, x.astype(np.float32), op.weight.astype(np.float32))
    bound = accumulator_bound(op.weight, grid)
    if bound > INT32_LIMIT:
        raise UnsupportedError(
            f"layer {op.name}: accumulators may reach {bound}, int32 ends at {INT32_LIMIT}; use fewer bits."
        )
    exact = np.float32 if bound < FLOAT32_EXACT else np.float64
    return apply(op, x, op.weight.astype(exact)).astype(np.int32)


def instance_norm_affine(acc: Array, gain: F32, norm: InstanceNorm) -> tuple[F32, F32]:
    """Per-channel gain and offset that normalise the accumulator ``acc`` (C, …) of one image.

    Integer accumulators: sums are exact (the squares in two 32-bit halves), the rest is float64, each
    operation rounded, in this order, so that every executor gets the same two float32 numbers.
    """
    flat = acc.reshape(acc.shape[0], -1)
    count = np.float64(flat.shape[1])
    if np.issubdtype(flat.dtype, np.integer):
        wide = flat.astype(np.int64)
        total = wide.sum(axis=1)
        squares = wide * wide
        high, low = (squares >> 32).sum(axis=1), (squares & 0xFFFFFFFF).sum(axis=1)
        mean = total.astype(np.float64) / count
        mean_square = (high.astype(np.float64) * 4294967296.0 + low.astype(np.float64)) / count
    else:
        real = flat.astype(np.float64)
        mean, mean_square = real.sum(axis=1) / count, (real * real).sum(axis=1) / count
    variance = np.maximum(mean_square - mean * mean, 0.0)
    scale = gain.astype(np.float64)
    root = 1.0 / np.sqrt((variance * scale) * scale + np.float64(norm.eps))
    a = (scale * root) * norm.weight.astype(np.float64)
    b = norm.bias.astype(np.float64) - mean * a
    return a.astype(np.float32), b.astype(np.float32)


def _column(values: F32) -> F32:
    return values.reshape(-1, 1, 1, 1)


def apply_epilogue(acc: Array, epilogue: Epilogue, grid: Grid | None) -> Array:
    """Accumulator (C, D, H, W) to output codes (int16), or float32 where ``grid`` is None."""
    gain, offset = epilogue.gain, epilogue.offset
    if epilogue.instance_norm is not None:
        gain, offset = instance_norm_affine(acc, gain, epilogue.instance_norm)
    y = acc.astype(np.float32) * _column(gain)
    y = y + _column(offset)
    if epilogue.slope is not None:
        y = np.where(y > 0, y, y * _column(epilogue.slope))
    if epilogue.gain2 is not None and epilogue.offset2 is not None:
        y = y * _column(epilogue.gain2)
        y = y + _column(epilogue.offset2)
    return y if grid is None else quantize(y, grid)


def _double_axis(x: Array, axis: int) -> Array:
    n = x.shape[axis]
    before = np.take(x, np.maximum(np.arange(n) - 1, 0), axis=axis)
    after = np.take(x, np.minimum(np.arange(n) + 1, n - 1), axis=axis)
    pairs = np.stack([3 * x + before, 3 * x + after], axis=axis + 1)
    return pairs.reshape(*x.shape[:axis], 2 * n, *x.shape[axis + 1 :])


def upsample_accumulator(op: Upsample, x: Array) -> Array:
    """Linear upsampling's accumulator: integers 4 times too large for every doubled axis."""
    acc = x.astype(np.int32 if np.issubdtype(x.dtype, np.integer) else np.float32)
    for a in range(3):
        if op.factor[a] == 2:
            acc = _double_axis(acc, a + 1)
    return acc


def _max_pool(op: MaxPool, x: Array) -> Array:
    lowest = np.iinfo(x.dtype).min if np.issubdtype(x.dtype, np.integer) else -np.inf
    padded = np.pad(x, [(0, 0), *((p, p) for p in op.padding)], constant_values=lowest)
    out = pool_output_size(op, (x.shape[1], x.shape[2], x.shape[3]))
    result = np.full((x.shape[0], *out), lowest, dtype=x.dtype)
    for tap in np.ndindex(*op.kernel):
        where = tuple(_tap_slice(tap[a], op.stride[a], out[a]) for a in range(3))
        np.maximum(result, padded[(slice(None), *where)], out=result)
    return result


def _execute(op: Op, inputs: list[Array], program: Program) -> Array:
    grid = program.tensors[op.output].grid
    first = inputs[0]
    if isinstance(op, Quantize):
        assert grid is not None
        return quantize(first, grid)
    if isinstance(op, Conv):
        joined = first if len(inputs) == 1 else np.concatenate(inputs)
        acc = convolution_accumulator(op, joined, program.tensors[op.inputs[0]].grid)
        return apply_epilogue(acc, op.epilogue, grid)
    if isinstance(op, Upsample):
        if op.mode == "nearest":
            for a in range(3):
                first = np.repeat(first, op.factor[a], axis=a + 1)
            return first
        assert op.epilogue is not None
        return apply_epilogue(upsample_accumulator(op, first), op.epilogue, grid)
    if isinstance(op, MaxPool):
        return _max_pool(op, first)
    if isinstance(op, Add):
        left = first.astype(np.float32) * np.float32(op.input_gain[0])
        right = inputs[1].astype(np.float32) * np.float32(op.input_gain[1])
        return apply_epilogue(left + right, op.epilogue, grid)
    if isinstance(op, Pointwise):
        acc = first.astype(np.int32) if np.issubdtype(first.dtype, np.integer) else first
        return apply_epilogue(acc, op.epilogue, grid)
    if isinstance(op, Concat):
        return np.concatenate(inputs)
    widths = [(0, 0), *zip(op.before, op.after, strict=True)]
    return np.pad(first, widths, mode="edge") if op.mode == "replicate" else np.pad(first, widths)


def check_input(program: Program, shape: tuple[int, ...]) -> None:
    """Raise DataError unless ``shape`` (N, C, H, W) or (N, C, D, H, W) is one the program accepts."""
    if len(shape) != program.spatial_rank + 2 or shape[1] != program.tensors[program.input].channels:
        expected = f"(N, {program.tensors[program.input].channels}, {'D, ' * (program.spatial_rank - 2)}H, W)"
        raise DataError(f"input of shape {shape}: this program takes {expected}; add or move axes.")
    size = (1, *shape[2:]) if program.spatial_rank == 2 else shape[2:]
    if program.fixed_size is not None:
        if tuple(size) != program.fixed_size:
            raise DataError(
                f"input size {size}: this program was traced for {program.fixed_size} only; "
                "lower the network again for that size."
            )
    elif any(n < 1 or n % m for n, m in zip(size, program.input_multiple, strict=True)):
        raise DataError(f"input size {size}: each axis must be a multiple of {program.input_multiple}; pad the image.")


def _path_to_output(program: Program) -> list[Op]:
    """Operations from the input to the output, by first operands."""
    made_by = {op.output: op for op in program.ops}
    path: list[Op] = []
    tensor = program.output
    while tensor in made_by:
        path.append(made_by[tensor])
        tensor = path[-1].inputs[0]
    return path[::-1]


def run(program: Program, x: Array, trace: dict[str, Array] | None = None) -> F32:
    """Execute ``program`` on a batch; see ``Program.run``.

    Raises:
        DataError: a shape the program does not accept, or NaN or infinity in the input.
    """
    check_input(program, x.shape)
    values = np.ascontiguousarray(x, dtype=np.float32)
    if not np.isfinite(values).all():
        raise DataError("the input holds NaN or infinity; a program takes finite numbers only. Clean the image first.")
    if program.spatial_rank == 2:
        values = values[:, :, None]
    outputs: list[Array] = []
    traces: dict[str, list[Array]] = {}
    last_use = {t: i for i, op in enumerate(program.ops) for t in op.inputs}
    for image in values:
        tensors: dict[int, Array] = {program.input: image}
        for i, op in enumerate(program.ops):
            tensors[op.output] = _execute(op, [tensors[t] for t in op.inputs], program)
            if trace is not None:
                traces.setdefault(program.tensors[op.output].name, []).append(tensors[op.output])
            for t in set(op.inputs):
                if last_use[t] == i and t != program.output:
                    del tensors[t]
        outputs.append(tensors[program.output])
    if trace is not None:
        trace.update({name: np.stack(parts) for name, parts in traces.items()})
    if outputs:
        result = np.stack(outputs)
    else:  # an empty batch has a shape, too
        size: Triple = (values.shape[2], values.shape[3], values.shape[4])
        for op in _path_to_output(program):
            size = output_size(op, size)
        result = np.zeros((0, program.tensors[program.output].channels, *size), np.float32)
    return result[:, :, 0] if program.spatial_rank == 2 else result


def macs(op: Conv, size: Triple) -> int:
    """Multiply–accumulates of a convolution for an input of ``size``; borders count in full."""
    positions = prod(size) if op.transposed else prod(conv_output_size(op, size))
    return positions * int(op.weight.size)
