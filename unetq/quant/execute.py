"""The integer program executed in torch: what a quantised network computes in evaluation mode.

Codes are carried as float32 integers. A convolution whose accumulators are bounded below 2**24 by its
own weights is exact in float32 in any order of summation; others, and all on devices whose libraries
may use Winograd, FFT or TF32, are convolved in float64. Every other operation is one rounded float32
operation at a time, in the order of ``unetq.export.integer``.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import DataError
from ..export.convolution import FLOAT32_EXACT, accumulator_bound, fitting_output
from ..export.integer import check_input, check_product
from ..export.program import (
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
    Upsample,
)
from ..fixedpoint import Grid
from .execute_norms import as_tensor, norm_affine
from .simulate import _pad, _spatial, convolve, max_pool

NOTHING = (0, 0, 0)
Scale = Tensor | None  # (N,) float32: of a tensor on a dynamic grid, one for each image


def _per_image(scale: Tensor, like: Tensor) -> Tensor:
    return scale.reshape(-1, *([1] * (like.ndim - 1)))


def _column(values: Tensor, like: Tensor) -> Tensor:
    """(C,) for all images, or (N, C), against (N, C, …)."""
    return values.reshape(-1, like.shape[1], *([1] * (like.ndim - 2)))


def _round(y: Tensor, inverse: Tensor | float, grid: Grid) -> Tensor:
    low, high = float(grid.low - grid.zero_point), float(grid.high - grid.zero_point)
    scaled = (y * inverse).nan_to_num_(nan=low, posinf=high, neginf=low).clamp_(low, high)
    rounded = scaled.round_() if grid.rounding == "half_even" else scaled.trunc_()
    return rounded.add_(float(grid.zero_point)) if grid.zero_point else rounded


def quantize(y: Tensor, grid: Grid) -> Tensor:
    """Float32 values to codes (as float32 integers), as ``unetq.fixedpoint.quantize`` does."""
    return _round(y, float(grid.inverse_scale), grid)


def dynamic_scale(y: Tensor, grid: Grid) -> Tensor:
    """``unetq.fixedpoint.dynamic_scale`` of each image of a batch (N, …), as (N,) float32."""
    largest = y.abs().flatten(1).nan_to_num(nan=0.0, posinf=torch.inf).amax(1)
    # Tensor by tensor: devices may turn a division by a number into a product.
    scale = largest / torch.full_like(largest, float(grid.high))
    return torch.where((scale >= 2.0**-126) & (scale <= 2.0**126), scale, torch.ones_like(scale))


def quantize_dynamic(y: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Codes (as float32 integers) of a batch on a dynamic grid, and the scale of each image."""
    scale = dynamic_scale(y, grid)
    return _round(y, _per_image(torch.ones_like(scale) / scale, y), grid), scale


def _land(y: Tensor, grid: Grid | None) -> tuple[Tensor, Scale]:
    if grid is None:
        return y, None
    return quantize_dynamic(y, grid) if grid.dynamic else (quantize(y, grid), None)


def _epilogue(
    acc: Tensor, epilogue: Epilogue, grid: Grid | None, integer: bool, scales: tuple[Scale, ...] = ()
) -> tuple[Tensor, Scale]:
    gain, offset, norm = as_tensor(epilogue.gain, acc), as_tensor(epilogue.offset, acc), epilogue.instance_norm
    for scale in scales:
        gain = gain if scale is None else gain * scale[:, None]
    if norm is not None:
        gain, offset = norm_affine(acc, gain, offset, norm, integer)
    # The first product makes a tensor of our own; what follows works in place, one rounding an operation as always.
    y = (acc.float() * _column(gain, acc)).add_(_column(offset, acc))
    if epilogue.slope is not None:
        slope = _column(as_tensor(epilogue.slope, y), y)
        y = torch.where(y > 0, y, y * slope) if epilogue.slope.any() else y.relu_()
    if epilogue.gain2 is not None and epilogue.offset2 is not None:
        y = y.mul_(_column(as_tensor(epilogue.gain2, y), y)).add_(_column(as_tensor(epilogue.offset2, y), y))
    return _land(y, grid)


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


def _pad_code(x: Tensor, before: tuple[int, ...], after: tuple[int, ...], grid: Grid) -> Tensor:
    """Extend by the code of the value 0 (a negative extension crops)."""
    pads = [p for b, a in zip(reversed(before), reversed(after), strict=True) for p in (b, a)]
    return F.pad(x, pads, value=float(grid.zero_point))


def _is_torchs(op: Conv) -> bool:
    """Whether torch's transposed convolution takes these numbers; else its whole result is made and cropped."""
    reach = (d * (k - 1) for d, k in zip(op.dilation, op.weight.shape[2:], strict=True))
    within = all(p <= r for p, r in zip(op.pad_before, reach, strict=True))
    steps = zip(op.output_padding, op.stride, op.dilation, strict=True)
    return op.pad_before == op.pad_after and within and all(p == 0 or p < max(s, d) for p, s, d in steps)


def _convolve(op: Conv, x: Tensor, grid: Grid | None, rank: int) -> tuple[Tensor, bool]:
    fitting_output(op, (x.shape[2] if rank == 3 else 1, x.shape[-2], x.shape[-1]))
    integer = grid is not None and op.weight_kind != "float32"
    dtype = torch.float32
    if integer:
        assert grid is not None
        exact = _float32_is_exact(x) and accumulator_bound(op.weight, grid) < FLOAT32_EXACT
        dtype = torch.float32 if exact else torch.float64
    pads = op.pad_before, op.pad_after
    if grid is not None and grid.zero_point:
        x, pads = _pad_code(x, _spatial(op.pad_before, rank), _spatial(op.pad_after, rank), grid), (NOTHING, NOTHING)
    cropped = op.transposed and not _is_torchs(op)
    if cropped:
        pads = NOTHING, NOTHING
    attributes = {
        "stride": op.stride, "dilation": op.dilation, "pad_before": pads[0], "pad_after": pads[1], "groups": op.groups,
        "transposed": op.transposed, "output_padding": NOTHING if cropped else op.output_padding,
    }  # fmt: skip
    acc = convolve(x.to(dtype), _torch_weight(op, dtype, rank, x.device), None, attributes, rank)
    if cropped:
        before, after, extra = (_spatial(v, rank) for v in (op.pad_before, op.pad_after, op.output_padding))
        ends = [e - a for e, a in zip(extra, after, strict=True)]
        acc = _pad(acc, (0,) * rank, tuple(max(e, 0) for e in ends), "zero")
        acc = _pad(acc, tuple(-b for b in before), tuple(min(e, 0) for e in ends), "zero")
    return acc, integer


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


def _table(op: Table, x: Tensor) -> Tensor:
    return torch.from_numpy(op.table.astype(np.float32)).to(x.device)[x.to(torch.int64) & 0xFF]


def _sum(op: Add, inputs: list[Tensor], scales: tuple[Scale, ...]) -> Tensor:
    parts = []
    for x, gain, scale in zip(inputs, op.input_gain, scales, strict=True):
        parts.append(x * float(gain) if scale is None else x * _per_image(scale * float(gain), x))
    return parts[0] + parts[1]


def _product(op: Mul, a: Tensor, b: Tensor) -> Tensor:
    depth = (1,) * (5 - a.ndim)  # of a 2-D network
    shapes = [(x.shape[1], *depth, *x.shape[2:]) for x in (a, b)]
    check_product(op, shapes[0], shapes[1])
    return a * b


def _move(op: Op, inputs: list[Tensor], rank: int, grid: Grid | None) -> Tensor:
    """The operations that keep codes and grid."""
    x = inputs[0]
    if isinstance(op, Upsample):
        return _upsample(op, x, rank)
    if isinstance(op, MaxPool):
        return max_pool(x, {"kernel": op.kernel, "stride": op.stride, "padding": op.padding}, rank)
    if isinstance(op, Pad):
        before, after = _spatial(op.before, rank), _spatial(op.after, rank)
        if op.mode == "zero" and grid is not None:
            return _pad_code(x, before, after, grid)
        return _pad(x, before, after, op.mode)
    return torch.cat(inputs, dim=1)


def _step(op: Op, inputs: list[Tensor], scales: tuple[Scale, ...], program: Program) -> tuple[Tensor, Scale]:
    rank = program.spatial_rank
    grid, coded = program.tensors[op.output].grid, [program.tensors[t].grid is not None for t in op.inputs]
    x = inputs[0]
    if isinstance(op, Quantize):
        return _land(x, grid)
    if isinstance(op, Conv):
        joined = x if len(inputs) == 1 else torch.cat(inputs, dim=1)
        acc, integer = _convolve(op, joined, program.tensors[op.inputs[0]].grid, rank)
        return _epilogue(acc, op.epilogue, grid, integer, scales[:1])
    if isinstance(op, Upsample) and op.epilogue is not None:
        return _epilogue(_upsample(op, x, rank), op.epilogue, grid, coded[0], scales)
    if isinstance(op, Add):
        return _epilogue(_sum(op, inputs, scales), op.epilogue, grid, integer=False)
    if isinstance(op, Mul):
        return _epilogue(_product(op, x, inputs[1]), op.epilogue, grid, all(coded), scales)
    if isinstance(op, Table):
        return _table(op, x), None
    if isinstance(op, Pointwise):
        return _epilogue(x, op.epilogue, grid, coded[0], scales)
    return _move(op, inputs, rank, grid), scales[0]


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
    scales: dict[int, Scale] = {program.input: None}
    for i, op in enumerate(program.ops):
        operands, factors = [tensors[t] for t in op.inputs], tuple(scales[t] for t in op.inputs)
        result, scales[op.output] = _step(op, operands, factors, program)
        tensors[op.output] = result
        if trace is not None:
            trace[program.tensors[op.output].name] = result
        for t in set(op.inputs):
            if last_use[t] == i and t != program.output:
                del tensors[t]
    return tensors[program.output]
