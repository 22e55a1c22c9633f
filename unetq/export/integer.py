"""The NumPy executor: the reference that torch evaluation and the C++ runtime equal to the last bit.

Operation by operation on one image (C, D, H, W); a batch is a loop. Convolutions are in
``unetq.export.convolution``, instance and group norm in ``unetq.export.norms``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from ..fixedpoint import F32, Grid, quantize, quantize_dynamic
from .convolution import (
    FLOAT32_EXACT,
    INT32_LIMIT,
    accumulator_bound,
    conv_output_size,
    convolution_accumulator,
    macs,
    tap_slice,
)
from .norms import instance_norm_affine, norm_affine
from .program import (
    Add,
    Conv,
    Epilogue,
    MaxPool,
    Mul,
    Op,
    Pad,
    Pointwise,
    Program,
    Quantize,
    Table,
    Triple,
    Upsample,
)

__all__ = [
    "FLOAT32_EXACT", "INT32_LIMIT", "accumulator_bound", "apply_epilogue", "check_input", "check_product",
    "conv_output_size", "convolution_accumulator", "instance_norm_affine", "macs", "norm_affine", "output_size",
    "pool_output_size", "product_accumulator", "run", "scaled_gain", "upsample_accumulator",
]  # fmt: skip

Array = NDArray[Any]
Scale = np.float32 | None  # of a tensor on a dynamic grid, for one image


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


def _column(values: F32) -> F32:
    return values.reshape(-1, 1, 1, 1)


def scaled_gain(gain: F32, scales: tuple[Scale, ...]) -> F32:
    """``gain`` (C,) times the run-time scales of dynamic operands, one after the other, each rounded to float32."""
    for scale in scales:
        if scale is not None:
            gain = gain * scale
    return gain


def _land(y: F32, grid: Grid | None) -> tuple[Array, Scale]:
    """Real values onto a tensor's grid, with the scale that a dynamic one gets; float32 stays what it is."""
    if grid is None:
        return y, None
    return quantize_dynamic(y, grid) if grid.dynamic else (quantize(y, grid), None)


def apply_epilogue(
    acc: Array, epilogue: Epilogue, grid: Grid | None, scales: tuple[Scale, ...] = ()
) -> tuple[Array, Scale]:
    """Accumulator (C, D, H, W) of one image to output codes (int16), or float32 where ``grid`` is None.

    ``scales`` are those of the operands that ``gain`` stands for; the second result is a dynamic grid's own.
    """
    gain, offset = scaled_gain(epilogue.gain, scales), epilogue.offset
    if epilogue.instance_norm is not None:
        gain, offset = norm_affine(acc, gain, offset, epilogue.instance_norm)
    y = acc.astype(np.float32) * _column(gain)
    y = y + _column(offset)
    if epilogue.slope is not None:
        y = np.where(y > 0, y, y * _column(epilogue.slope))
    if epilogue.gain2 is not None and epilogue.offset2 is not None:
        y = y * _column(epilogue.gain2)
        y = y + _column(epilogue.offset2)
    return _land(y, grid)


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
        where = tuple(tap_slice(tap[a], op.stride[a], out[a]) for a in range(3))
        np.maximum(result, padded[(slice(None), *where)], out=result)
    return result


def check_product(op: Mul, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    """Raise DataError unless the second operand's shape (C, D, H, W) fits the first's; see ``Mul``."""
    channels = second[0] in (1, first[0])
    if not (channels and (second[1:] == first[1:] or set(second[1:]) == {1})):
        raise DataError(
            f"layer {op.name}: a product of {first} and {second}; the second needs the first's channels or 1, "
            "and its size or 1 on every axis."
        )


def product_accumulator(op: Mul, a: Array, b: Array) -> Array:
    """``a`` (C, D, H, W) times ``b``: int32 of two codes, float32 where either is; DataError where they do not fit."""
    check_product(op, a.shape, b.shape)
    coded = np.issubdtype(a.dtype, np.integer) and np.issubdtype(b.dtype, np.integer)
    kind = np.int32 if coded else np.float32
    product: Array = a.astype(kind) * b.astype(kind)
    return product


def _sum(op: Add, a: Array, b: Array, scales: tuple[Scale, ...]) -> F32:
    if a.shape != b.shape:
        raise DataError(f"layer {op.name}: a sum of {a.shape} and {b.shape}; both must have one shape.")
    gains = [scaled_gain(np.array([g], np.float32), (s,)) for g, s in zip(op.input_gain, scales, strict=True)]
    total: F32 = a.astype(np.float32) * gains[0] + b.astype(np.float32) * gains[1]
    return total


def _move(op: Op, inputs: list[Array], grid: Grid | None) -> Array:
    """The operations that keep codes and grid."""
    first = inputs[0]
    if isinstance(op, Upsample):
        for a in range(3):
            first = np.repeat(first, op.factor[a], axis=a + 1)
        return first
    if isinstance(op, MaxPool):
        return _max_pool(op, first)
    if isinstance(op, Pad):
        widths = [(0, 0), *zip(op.before, op.after, strict=True)]
        if op.mode == "replicate":
            return np.pad(first, widths, mode="edge")
        return np.pad(first, widths, constant_values=0 if grid is None else grid.zero_point)
    return np.concatenate(inputs)


def _execute(op: Op, inputs: list[Array], scales: tuple[Scale, ...], program: Program) -> tuple[Array, Scale]:
    grid, source = program.tensors[op.output].grid, program.tensors[op.inputs[0]].grid
    first = inputs[0]
    if isinstance(op, Quantize):
        return _land(first, grid)
    if isinstance(op, Table):
        return op.table[first & 0xFF], None
    if isinstance(op, Add):
        return apply_epilogue(_sum(op, first, inputs[1], scales), op.epilogue, grid)
    if isinstance(op, Mul):
        return apply_epilogue(product_accumulator(op, first, inputs[1]), op.epilogue, grid, scales)
    if isinstance(op, Conv):
        joined = first if len(inputs) == 1 else np.concatenate(inputs)
        return apply_epilogue(convolution_accumulator(op, joined, source), op.epilogue, grid, scales[:1])
    if isinstance(op, Upsample) and op.epilogue is not None:
        return apply_epilogue(upsample_accumulator(op, first), op.epilogue, grid, scales)
    if isinstance(op, Pointwise):
        acc = first.astype(np.int32) if np.issubdtype(first.dtype, np.integer) else first
        return apply_epilogue(acc, op.epilogue, grid, scales)
    return _move(op, inputs, grid), scales[0]


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
        scales: dict[int, Scale] = {program.input: None}
        for i, op in enumerate(program.ops):
            operands, factors = [tensors[t] for t in op.inputs], tuple(scales[t] for t in op.inputs)
            tensors[op.output], scales[op.output] = _execute(op, operands, factors, program)
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
