"""Handlers of traced operations that move or join values: pooling, upsampling, padding, concatenation, views."""

from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node as FxNode

from . import fixed
from .arguments import Arguments, Handler, Result, Triple, alias, copy, shape_of, triple

if TYPE_CHECKING:
    from .capture import Tracer

NO_VIEW = "only views that keep channels and space where they are, and pixel shuffles, are supported."


def _max_pool(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    if a["ceil_mode"] or any(d != 1 for d in triple(a["dilation"], c.rank, 1)):
        raise c.refuse(node, "max-pooling with ceil_mode or dilation is not supported; use plain pooling.")
    kernel = triple(a["kernel_size"], c.rank, 1)
    stride = triple(a["stride"], c.rank, 1) if a["stride"] else kernel
    attributes = {"kernel": kernel, "stride": stride, "padding": triple(a["padding"], c.rank, 0)}
    return "max_pool", [a["self"]], {}, attributes


def _average_pool(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    padding = triple(a["padding"], c.rank, 0)
    if a["ceil_mode"] or (any(padding) and not a["count_include_pad"]):
        raise c.refuse(
            node,
            "average pooling with ceil_mode, or with padding that does not count, divides by another number at the "
            "border; use count_include_pad=True and ceil_mode=False.",
        )
    kernel = triple(a["kernel_size"], c.rank, 1)
    stride = triple(a["stride"], c.rank, 1) if a["stride"] else kernel
    return "fixed", [a["self"]], {}, fixed.average(kernel, stride, padding, a["divisor_override"])


def _windows(c: "Tracer", node: FxNode) -> Triple:
    """The window of an adaptive pooling whose windows are all alike."""
    source = node.args[0]
    before, after = shape_of(source)[2:], shape_of(node)[2:]
    if any(n % m for n, m in zip(before, after, strict=True)):
        raise c.refuse(node, f"from {list(before)} to {list(after)} its windows differ in size; use whole factors.")
    return triple([n // m for n, m in zip(before, after, strict=True)], c.rank, 1)


def _adaptive_average(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    window = _windows(c, node)
    return "fixed", [a["self"]], {}, fixed.average(window, window, (0, 0, 0))


def _adaptive_max(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    window = _windows(c, node)
    return "max_pool", [a["self"]], {}, {"kernel": window, "stride": window, "padding": (0, 0, 0)}


def _mean(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    shape = shape_of(a["self"])
    axes = sorted(d % len(shape) for d in (a["dim"] or range(len(shape))))
    if len(shape) != c.rank + 2 or axes != list(range(2, len(shape))):
        raise c.refuse(node, f"a mean over the axes {axes} of {shape} is not supported; over all of space it is.")
    window = triple(shape[2:], c.rank, 1)
    return "fixed", [a["self"]], {}, fixed.average(window, window, (0, 0, 0))


def _upsample(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    source = node.args[0]
    before, after = shape_of(source)[2:], shape_of(node)[2:]
    factors = [o // i for i, o in zip(before, after, strict=True)]
    linear = "linear" in str(node.target)
    if any(i * f != o for i, o, f in zip(before, after, factors, strict=True)) or (
        linear and any(f not in (1, 2) for f in factors)
    ):
        raise c.refuse(
            node, f"it goes from {list(before)} to {list(after)}; linear upsampling is by 2, nearest by whole factors."
        )
    given = a["scale_factors"]
    if given is not None and [float(f) for f in given] != [float(f) for f in factors]:
        raise c.refuse(node, f"its scale is {list(given)}; linear upsampling is by 2, nearest by whole factors.")
    if linear and a["align_corners"] and any(f != 1 for f in factors):
        raise c.refuse(
            node,
            "linear upsampling with align_corners=True has no exact integer form, its weights depend on the size; use "
            'align_corners=False (in MONAI: upsample="deconv", or an nn.Upsample of your own).',
        )
    return "upsample", [source], {}, {"mode": "linear" if linear else "nearest", "factor": triple(factors, c.rank, 1)}


def _is_zero(c: "Tracer", value: Any) -> bool:
    if not isinstance(value, FxNode) or value.name not in c.constants:
        return False
    return not bool(c.constants[value.name].any())


def _cat(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    tensors = list(a["tensors"])
    if a["dim"] not in (1, 1 - len(shape_of(node))):
        raise c.refuse(
            node, f"concatenation along axis {a['dim']} is not supported; only channels (axis 1) are joined."
        )
    maps = [t for t in tensors if c.is_map(t)]
    if len(maps) == 1 and all(t is maps[0] or _is_zero(c, t) for t in tensors):
        start = sum(shape_of(t)[1] for t in tensors[: tensors.index(maps[0])])
        return "fixed", maps, {}, fixed.channels(shape_of(node)[1], -start)
    if len(maps) != len(tensors):
        raise c.refuse(node, "a constant joined to feature maps is not supported; only zeros beside a single map are.")
    return "cat", tensors, {}, {}


def _repeat(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    repeats = [int(n) for n in a["repeats"]]
    if len(repeats) != len(shape_of(node.args[0])) or any(n != 1 for i, n in enumerate(repeats) if i != 1):
        raise c.refuse(node, f"repeats {repeats}: only channels can be repeated; use upsampling for space.")
    return "cat", [node.args[0]] * repeats[1], {}, {}


def _pad(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    pads = [int(p) for p in a["pad"]]
    if not any(pads):
        return copy(c, node, a)
    mode = a["mode"] or "constant"
    zero = mode == "constant" and not a["value"]
    crops = max(pads) <= 0 and mode == "constant"
    if len(pads) > 2 * c.rank or not (crops or (min(pads) >= 0 and (zero or mode == "replicate"))):
        raise c.refuse(
            node, f"padding {pads} in mode {mode!r} is not supported; use replicate or zero padding of spatial axes."
        )
    before, after = [0, 0, 0], [0, 0, 0]
    for i in range(len(pads) // 2):
        before[2 - i], after[2 - i] = pads[2 * i], pads[2 * i + 1]
    if crops:
        margins = [triple([-n for n in side], 3, 0) for side in (before, after)]
        return "fixed", [node.args[0]], {}, fixed.crop(*margins)
    spec = {"mode": "zero" if mode == "constant" else mode, "before": tuple(before), "after": tuple(after)}
    return "pad", [node.args[0]], {}, spec


def _slice(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    shape, axis = shape_of(node.args[0]), int(a["dim"]) % len(shape_of(node.args[0]))
    size = shape[axis]
    start = min(max((a["start"] or 0) + (size if (a["start"] or 0) < 0 else 0), 0), size)
    kept = shape_of(node)[axis]
    if (start, kept) == (0, size):
        return alias(c, node, a)
    if axis == 0 or a["step"] != 1 or len(shape) != c.rank + 2:
        raise c.refuse(node, "only slices of channels or space with step 1 are supported; stride with a convolution.")
    if axis == 1:
        return "fixed", [node.args[0]], {}, fixed.channels(kept, start)
    before, after = [0, 0, 0], [0, 0, 0]
    place = axis - 2 + 3 - c.rank
    before[place], after[place] = start, size - start - kept
    return "fixed", [node.args[0]], {}, fixed.crop(triple(before, 3, 0), triple(after, 3, 0))


def _filled(value: float | None) -> Handler:
    """A new tensor of one value: ``value``, or the call's own."""

    def handle(c: "Tracer", node: FxNode, a: Arguments) -> Result:
        found = a["fill_value"] if value is None else value
        c.constants[node.name] = torch.full(shape_of(node), float(found), dtype=torch.float64)
        return "constant", [], {}, {}

    return handle


def _same_but_ones(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """True where a view only adds or drops axes of 1 that are no batch, channel or image axis of another extent."""
    if after == (1, *before) or before == (1, *after):
        return True
    flat = all(n == 1 for n in (*before[2:], *after[2:]))
    return before == after or (min(len(before), len(after)) >= 2 and before[:2] == after[:2] and flat)


def _shuffled(c: "Tracer", last: FxNode) -> tuple[FxNode, Triple] | None:
    """The source and factor of reshape, permute, reshape that together move channels into space."""
    permute = last.args[0]
    first = permute.args[0] if isinstance(permute, FxNode) and "permute" in str(permute.target) else None
    source = first.args[0] if isinstance(first, FxNode) and first.name in c.pending else None
    if not isinstance(permute, FxNode) or not isinstance(first, FxNode) or not isinstance(source, FxNode):
        return None
    before, after = shape_of(source), shape_of(last)
    if len(before) != c.rank + 2 or len(after) != c.rank + 2:
        return None
    if any(m % n for n, m in zip(before[2:], after[2:], strict=True)):
        return None
    factor = [m // n for n, m in zip(before[2:], after[2:], strict=True)]
    if prod(factor) * after[1] != before[1]:
        return None
    order: list[int] = list(permute.args[1])  # type: ignore[arg-type]
    probe = torch.arange(prod(before)).reshape(before)
    found = probe.reshape(shape_of(first)).permute(order).reshape(after)
    space = [axis for i in range(c.rank) for axis in (2 + c.rank + i, 2 + i)]
    usual = probe.reshape(before[0], after[1], *factor, *before[2:]).permute(0, 1, *space).reshape(after)
    return (source, triple(factor, c.rank, 1)) if torch.equal(found, usual) else None


def _view(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    source = node.args[0]
    if isinstance(source, FxNode) and not c.is_map(source):
        return alias(c, node, a)
    if isinstance(source, FxNode) and source.name not in c.pending and _same_but_ones(shape_of(source), shape_of(node)):
        return "alias", [source], {}, {}
    shuffled = _shuffled(c, node)
    if shuffled is not None:
        return "fixed", [shuffled[0]], {}, fixed.pixel_shuffle(shuffled[1], shape_of(node)[1])
    return "pending", [], {}, {"remedy": NO_VIEW}


def _pixel_shuffle(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    factor = triple(int(a["upscale_factor"]), c.rank, 1)
    return "fixed", [a["self"]], {}, fixed.pixel_shuffle(factor, shape_of(node)[1])


def _cast(c: "Tracer", node: FxNode, a: Arguments) -> Result:
    if not node.meta["val"].dtype.is_floating_point:
        raise c.refuse(node, "numbers are float32 or codes here; leave the cast out.")
    return alias(c, node, a)


HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("contiguous", "alias", "detach", "lift_fresh_copy"), alias),
    "clone": copy,
    **dict.fromkeys(("to", "_to_copy", "type_as"), _cast),
    **dict.fromkeys(("view", "reshape", "flatten", "squeeze", "unsqueeze", "permute", "_unsafe_view"), _view),
    **dict.fromkeys(("zeros", "zeros_like", "new_zeros"), _filled(0.0)),
    **dict.fromkeys(("ones", "ones_like", "new_ones"), _filled(1.0)),
    **dict.fromkeys(("full", "full_like", "new_full"), _filled(None)),
    **dict.fromkeys(("max_pool2d", "max_pool3d"), _max_pool),
    **dict.fromkeys(("avg_pool2d", "avg_pool3d"), _average_pool),
    **dict.fromkeys(("adaptive_avg_pool2d", "adaptive_avg_pool3d"), _adaptive_average),
    **dict.fromkeys(("adaptive_max_pool2d", "adaptive_max_pool3d"), _adaptive_max),
    "mean": _mean,
    **dict.fromkeys(
        ("upsample_bilinear2d", "upsample_trilinear3d", "upsample_nearest2d", "upsample_nearest3d"), _upsample
    ),
    "cat": _cat,
    "repeat": _repeat,
    "pad": _pad,
    "slice": _slice,
    "pixel_shuffle": _pixel_shuffle,
}
