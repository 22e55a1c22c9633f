"""What each traced operation means: one handler an aten operation, all with the same face.

A handler gets the tracer, the traced call and its arguments by name, and returns the kind of node, the
call's tensor operands, parameters by role, and attributes. "alias", "copy" and "constant" make no node;
"pending" is a view that only a pattern around it can make sense of.
"""

from . import elementwise, layers, shapes
from .arguments import Arguments, Handler

__all__ = ["HANDLERS", "REMEDIES", "Arguments"]

HANDLERS: dict[str, Handler] = {**layers.HANDLERS, **elementwise.HANDLERS, **shapes.HANDLERS}

_ATTENTION = "attention between positions has no integer form here; use convolutions, or gates (a sigmoid times a map)."
_RESAMPLE = "use nearest upsampling, linear by 2 with align_corners=False, or a transposed convolution."

REMEDIES = {
    **dict.fromkeys(("scaled_dot_product_attention", "matmul", "bmm", "einsum"), _ATTENTION),
    **dict.fromkeys(("upsample_bicubic2d", "grid_sampler", "grid_sampler_2d", "grid_sampler_3d"), _RESAMPLE),
    **dict.fromkeys(("split", "chunk", "split_with_sizes"), "take the channels by slices, such as x[:, :8]."),
    **dict.fromkeys(("roll", "flip", "transpose"), "keep values where they are; axes cannot be moved."),
    **dict.fromkeys(("sum", "amax", "max"), "use average or max-pooling over the whole image."),
    "alpha_dropout": "it shifts what it keeps; use Dropout.",
    "log": "it is infinite at 0; use a sigmoid, or softplus.",
    "sqrt": "it has no slope at 0; use a sigmoid, or softplus.",
    "conv1d": "use Conv2d or Conv3d; for a gate over channels a Linear.",
}
