"""The integer program executed in torch: what a quantised network computes in evaluation mode.

Codes are carried as float32 integers. A convolution whose accumulators are bounded below 2**24 by its
own weights is exact in float32 in any order of summation; others, and all on devices whose libraries
may use Winograd, FFT or TF32, are convolved in float64. Every other operation is one rounded float32
operation at a time, in the order of ``unetq.export.integer``.
"""

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError
from ..export.integer import FLOAT32_EXACT, accumulator_bound, check_input
from ..export.program import Add, Concat, Conv, Epilogue, InstanceNorm, MaxPool, Op, Pad, Program, Quantize, Upsample
from ..fixedpoint import F32, Grid
from .simulate import _pad, _spatial, convolve, max_pool


def _column(values: F32, like: Tensor) -> Tensor:
    shaped = torch.from_numpy(values).to(like.device)
    return shaped.reshape(1, -1, *([1] * (like.ndim - 2)))


def quantize(y: Tensor, grid: Grid) -> Tensor:
    """Float32 values to codes (as float32 integers), as ``unetq.fixedpoint.quantize`` does."""
    low, high = float(grid.low - grid.zero_point), float(grid.high - grid.zero_point)
    scaled = (y * float(grid.inverse_scale)).nan_to_num_(nan=low, posinf=high, neginf=low).clamp_(low, high)
    rounded = scaled.round_() if grid.rounding == "half_even" else scaled.trunc_()
    return rounded.add_(float(grid.zero_point)) if grid.zero_point else rounded


def _instance_norm_affine(acc: Tensor, gain: F32, norm: InstanceNorm, integer: bool) -> tuple[Tensor, Tensor]:
    """``unetq.export.integer.instance_norm_affine`` for a batch: (N, C) gains and offsets."""
    flat = acc.flatten(2)
    count = float(flat.shape[2])
    if integer:
        wide = flat.to(torch.int64)
        squares = wide * wide
        total = wide.sum(2).double()
        mean_square = ((squares >> 32).sum(2).double() * 4294967296.0 + (squares & 0xFFFFFFFF).sum(2).double()) / count
    else:
        total, mean_square = flat.double().sum(2), flat.double().square().sum(2) / count
    mean = total / count
    variance = (mean_square - mean * mean).clamp_min(0.0)
    scale = torch.from_numpy(gain).to(acc.device).double()
    root = 1.0 / torch.sqrt((variance * scale) * scale + norm.eps)
    a = (scale * root) * torch.from_numpy(norm.weight).to(acc.device).double()
    b = torch.from_numpy(norm.bias).to(acc.device).double() - mean * a
    return a.float(), b.float()


def _epilogue(acc: Tensor, epilogue: Epilogue, grid: Grid | None, integer: bool) -> Tensor:
    # The first product makes a tensor of our own; what follows works in place, one rounding an operation as always.
    if epilogue.instance_norm is not None:
        gain, offset = _instance_norm_affine(acc, epilogue.gain, epilogue.instance_norm, integer)
        tail = [1] * (acc.ndim - 2)
        y = (acc.float() * gain.reshape(*gain.shape, *tail)).add_(offset.reshape(*offset.shape, *tail))
    else:
        y = (acc.float() * _column(epilogue.gain, acc)).add_(_column(epilogue.offset, acc))
    if epilogue.slope is not None:
        y = torch.where(y > 0, y, y * _column(epilogue.slope, y)) if epilogue.slope.any() else y.relu_()
    if epilogue.gain2 is not None and epilogue.offset2 is not None:
        y = y.mul_(_column(epilogue.gain2, y)).add_(_column(epilogue.offset2, y))
    return y if grid is None else quantize(y, grid)


def _float32_is_exact(x: Tensor) -> bool:
    # Without oneDNN torch may take NNPACK, whose Winograd is not exact on integers.
    onednn = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled  # type: ignore[no-untyped-call]
    return x.device.type == "cpu" and bool(onednn) and torch.get_float32_matmul_precision() == "highest"


def _torch_weight(op: Conv, dtype: torch.dtype, rank: int, device: torch.device) -> Tensor:
    weight = op.weight[:, :, 0] if rank == 2 else op.weight
    if op.transposed:
        parts = weight.reshape(op.groups, weight.shape[0] // op.groups, *weight.shape[1:]).swapaxes(1, 2)
        weight = parts.reshape(-1, *parts.shape[2:])
    return torch.from_numpy(np.ascontiguousarray(weight)).to(device=device, dtype=dtype)


def _convolve(op: Conv, x: Tensor, grid: Grid | None, rank: int) -> tuple[Tensor, bool]:
    integer = grid is not None and op.weight_kind != "float32"
    dtype = torch.float32
    if integer:
        assert grid is not None
        exact = _float32_is_exact(x) and accumulator_bound(op.weight, grid) < FLOAT32_EXACT
        dtype = torch.float32 if exact else torch.float64
    attributes = {
        "stride": op.stride, "dilation": op.dilation, "pad_before": op.pad_before, "pad_after": op.pad_after,
        "groups": op.groups, "transposed": op.transposed, "output_padding": op.output_padding,
    }  # fmt: skip
    return convolve(x.to(dtype), _torch_weight(op, dtype, rank, x.device), None, attributes, rank), integer


def _double_axis(x: Tensor, axis: int) -> Tensor:
    n = x.shape[axis]
    index = torch.arange(n, device=x.device)
    before = x.index_select(axis, (index - 1).clamp_min(0))
    after = x.index_select(axis, (index + 1).clamp_max(n - 1))
    return torch.stack([3 * x + before, 3 * x + after], dim=axis + 1).flatten(axis, axis + 1)


def _upsample(op: Upsample, x: Tensor, rank: int) -> Tensor:
    for axis, factor in enumerate(_spatial(op.factor, rank), start=2):
        if op.mode == "nearest":
            x = x.repeat_interleave(factor, dim=axis)
        elif factor == 2:
            x = _double_axis(x, axis)
    return x


def _step(op: Op, inputs: list[Tensor], program: Program) -> Tensor:
    rank = program.spatial_rank
    grid, source = program.tensors[op.output].grid, program.tensors[op.inputs[0]].grid
    x = inputs[0]
    if isinstance(op, Quantize):
        assert grid is not None
        return quantize(x, grid)
    if isinstance(op, Conv):
        joined = x if len(inputs) == 1 else torch.cat(inputs, dim=1)
        acc, integer = _convolve(op, joined, source, rank)
        return _epilogue(acc, op.epilogue, grid, integer)
    if isinstance(op, Upsample):
        moved = _upsample(op, x, rank)
        return moved if op.epilogue is None else _epilogue(moved, op.epilogue, grid, source is not None)
    if isinstance(op, MaxPool):
        return max_pool(x, {"kernel": op.kernel, "stride": op.stride, "padding": op.padding}, rank)
    if isinstance(op, Add):
        total = x * float(op.input_gain[0]) + inputs[1] * float(op.input_gain[1])
        return _epilogue(total, op.epilogue, grid, integer=False)
    if isinstance(op, Concat):
        return torch.cat(inputs, dim=1)
    if isinstance(op, Pad):
        return _pad(x, _spatial(op.before, rank), _spatial(op.after, rank), op.mode)
    return _epilogue(x, op.epilogue, grid, source is not None)


def execute(program: Program, x: Tensor, trace: dict[str, Tensor] | None = None) -> Tensor:
    """Run ``program`` on (N, C, H, W) or (N, C, D, H, W) floats; returns float32 logits.

    ``trace`` collects every tensor by name: codes as float32 integers, shape (N, C, …).

    Raises:
        DataError: a shape the program does not accept, or NaN or infinity in the input.
    """
    check_input(program, tuple(x.shape))
    x = x.float()
    if not torch.isfinite(x).all():
        raise DataError("the input holds NaN or infinity; a program takes finite numbers only. Clean the image first.")
    last_use = {t: i for i, op in enumerate(program.ops) for t in op.inputs}
    tensors = {program.input: x}
    for i, op in enumerate(program.ops):
        result = _step(op, [tensors[t] for t in op.inputs], program)
        tensors[op.output] = result
        if trace is not None:
            trace[program.tensors[op.output].name] = result
        for t in set(op.inputs):
            if last_use[t] == i and t != program.output:
                del tensors[t]
    return tensors[program.output]
