"""Uniform fake quantisation, forward and backward, each in one pass over memory where possible.

The one definition that every quantiser with a step (fixed point, LSQ, LSQ+, PACT, DoReFa …) stands on:

    scaled = float32(x) * inverse,  inverse = float32(1) / step
    code   = round(clip(scaled, low, high)), ties to even
    y      = code * step, rounded to the dtype of x

Backward, straight through the rounding (Bengio et al. 2013, arXiv 1308.3432), with g the gradient of y:

    grad_x = g inside, 0 outside                       (inside: low <= scaled <= high)
    Sums.inside = sum of g * (code - scaled) inside,  Sums.below = sum of g where scaled < low,  Sums.above likewise

from which each method makes its own: LSQ's step (arXiv 1902.08153, eq. 3) is ``inside + low*below + high*above``,
PACT's clipping value ``above``, an offset (LSQ+) ``below + above``. A grid with a zero-point z is that of
``low - z … high - z``.

On the CPU the kernels of ``deploy/runtime/training`` do it; elsewhere, and where they are missing, torch does.
Both give the same forward and the same ``grad_x``; the sums differ in rounding. Activations keep their memory format.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .training_library import training_library

DTYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class Sums:
    """What step sizes' gradients are made of: float32, shaped as the step."""

    inside: Tensor
    below: Tensor
    above: Tensor

    def lsq(self, low: int, high: int) -> Tensor:
        """``sum(g * dy/dstep)`` of LSQ's eq. 3, without its gradient scale."""
        return self.inside + low * self.below + high * self.above


def quantize_forward(x: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    """``y`` of the module, dtype and memory format of ``x``.

    Args:
        x: any shape, float32 or bfloat16. NaN stays NaN.
        step: positive, float32, shape () or broadcastable to ``x``.
        low, high: limits of the codes, at most 2**21 from 0.
    """
    step = step.detach().float()
    inverse = step.reciprocal()
    rows = _rows(x, step)
    if rows is None:
        return (x.float() * inverse).clamp_(low, high).round_().mul_(step).to(x.dtype)
    library = training_library()
    assert library is not None
    y = torch.empty_like(x)
    step, inverse = step.reshape(-1).contiguous(), inverse.reshape(-1).contiguous()
    library.uqt_forward(
        x.data_ptr(), y.data_ptr(), x.dtype == torch.float32, rows, x.numel() // rows, step.data_ptr(),
        inverse.data_ptr(), low, high, torch.get_num_threads(),
    )  # fmt: skip
    return y


def quantize_backward(
    grad: Tensor, x: Tensor, step: Tensor, low: int, high: int, *, want_x: bool = True, want_sums: bool = True
) -> tuple[Tensor | None, Sums | None]:
    """``grad_x`` and the sums of the module; None for what is not wanted. Arguments as in ``quantize_forward``."""
    step = step.detach().float()
    inverse = step.reciprocal()
    rows = _rows(x, step)
    if rows is None:
        return _torch_backward(grad, x, inverse, low, high, want_x, want_sums)
    library = training_library()
    assert library is not None
    if grad.dtype != x.dtype or grad.stride() != x.stride():
        grad = torch.empty_like(x).copy_(grad)
    grad_x = torch.empty_like(x) if want_x else None
    sums = torch.empty((rows, 3)) if want_sums else None
    flat = inverse.reshape(-1).contiguous()
    failed = library.uqt_backward(
        grad.data_ptr(), x.data_ptr(), _pointer(grad_x), _pointer(sums), x.dtype == torch.float32, rows,
        x.numel() // rows, flat.data_ptr(), low, high, torch.get_num_threads(),
    )  # fmt: skip
    if failed:
        raise MemoryError("no memory for the sums of a quantiser's gradient")
    if sums is None:
        return grad_x, None
    return grad_x, Sums(*(sums[:, i].reshape(step.shape) for i in range(3)))


def _torch_backward(
    grad: Tensor, x: Tensor, inverse: Tensor, low: int, high: int, want_x: bool, want_sums: bool
) -> tuple[Tensor | None, Sums | None]:
    scaled = x.float() * inverse
    inside = (scaled >= low) & (scaled <= high)
    grad_x = torch.where(inside, grad, 0).to(x.dtype) if want_x else None
    if not want_sums:
        return grad_x, None
    grad = grad.float()
    parts = (
        torch.where(inside, grad * (scaled.round() - scaled), 0),
        torch.where(scaled < low, grad, 0),
        torch.where(scaled > high, grad, 0),
    )
    return grad_x, Sums(*(part.sum_to_size(inverse.shape) for part in parts))


def _rows(x: Tensor, step: Tensor) -> int | None:
    """In how many equal stretches of memory ``step`` divides ``x``; None where the kernels do not apply."""
    if x.device.type != "cpu" or x.dtype not in DTYPES or x.numel() == 0 or training_library() is None:
        return None
    # Dense, whatever the order of the axes: empty_like then repeats the strides.
    strides = x.stride()
    order = sorted((a for a in range(x.ndim) if x.shape[a] > 1), key=strides.__getitem__, reverse=True)
    expected = x.numel()
    for axis in order:
        expected //= x.shape[axis]
        if strides[axis] != expected:
            return None
    if step.numel() == 1:
        return 1
    own = [x.ndim - step.ndim + a for a in range(step.ndim) if step.shape[a] > 1]
    return step.numel() if own == order[:1] and step.numel() == x.shape[own[0]] else None


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


class _LearnedStep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: int, high: int, scale: float) -> Tensor:
        ctx.save_for_backward(x, step)
        ctx.limits = (low, high, scale)
        return quantize_forward(x, step, low, high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        x, step = ctx.saved_tensors
        low, high, scale = ctx.limits
        want_x, want_step = ctx.needs_input_grad[:2]
        grad_x, sums = quantize_backward(grads[0], x, step, low, high, want_x=want_x, want_sums=want_step)
        return grad_x, None if sums is None else (sums.lsq(low, high) * scale).to(step.dtype), None, None, None


def learned_step(x: Tensor, step: Tensor, low: int, high: int, gradient_scale: float = 1.0) -> Tensor:
    """LSQ's quantiser, differentiable in ``x`` and ``step`` (the module's formulas, times ``gradient_scale``).

    Args:
        x: any shape, float32 or bfloat16. step: positive, shape () or broadcastable to ``x``.
        low, high: limits of the codes. gradient_scale: LSQ's is ``1 / sqrt(values a step * high)``.
    """
    result: Tensor = _LearnedStep.apply(x, step, low, high, gradient_scale)  # type: ignore[no-untyped-call]
    return result
