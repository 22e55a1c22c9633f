"""The integer program: what a trained low-bit network *is*, independent of torch.

A program is a list of operations over numbered tensors. Every tensor is either codes on one grid
or float32. Spatial attributes always have three entries (depth, height, width); a 2-D network has
depth 1 and neutral values there. Batch is handled outside: operations see (C, D, H, W).

Every operation but ``Quantize``, ``MaxPool``, ``Concat``, ``Pad``, ``Table`` and nearest ``Upsample`` makes
an *accumulator* (an exact integer, or float32 where a float tensor or weight takes part) and ends in
the same epilogue; see ``unetq.export.integer`` for the arithmetic and DESIGN for the contract.

Accumulators are of *raw* codes: what a grid's zero-point adds to a sum is a constant of each output channel,
which lowering takes off in ``offset``. Padding is with the code of the value 0, the zero-point.

A tensor on a ``dynamic`` grid brings its run-time scale along. Who reads it multiplies what stands for that
operand's scale by it, one float32 rounding: ``gain[c]`` of Conv, linear Upsample, Pointwise and Mul (there by
the first operand's scale, then by the second's), ``input_gain[i]`` of Add. Grid-keeping operations pass the
scale on. Concat, Table and a Conv with several inputs take no dynamic tensors.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..fixedpoint import F32, Grid

Triple = tuple[int, int, int]
WeightKind = Literal["twos_complement", "binary", "float32", "codebook", "shifted"]


@dataclass(frozen=True)
class TensorSpec:
    """One tensor: ``grid`` is None for float32."""

    name: str
    channels: int
    grid: Grid | None


@dataclass(frozen=True)
class InstanceNorm:
    """Normalisation per image by exact sums; ``weight`` and ``bias`` are float32 (C,).

    ``groups`` 0: each channel by itself. G >= 1, a divisor of the channels: group norm (Wu & He 2018,
    arXiv 1803.08494), statistics over the channels of a group together; 1 is layer norm over channels and space.
    """

    eps: float
    weight: F32
    bias: F32
    groups: int = 0


@dataclass(frozen=True)
class Epilogue:
    """From accumulator to output, in this order, each float32 operation rounded, nothing fused.

    ``y = float32(acc) * gain[c]``; ``y = y + offset[c]``; activation: with ``slope`` None nothing,
    else ``y if y > 0 else y * slope[c]`` (slope 0 is ReLU); ``y = y * gain2[c]``; ``y = y + offset2[c]``
    where given; then saturate and round onto the output tensor's grid (or stay float32).
    With ``instance_norm``, ``gain`` is the accumulator's scale and the gain and offset that are
    applied are computed per image (``unetq.export.norms``); ``offset`` is 0, but for group norm, whose
    statistics are of ``acc * gain[c] + offset[c]``: there it is what the channel adds (bias, zero-points).
    All arrays are float32 (C,) and finite.
    """

    gain: F32
    offset: F32
    slope: F32 | None = None
    gain2: F32 | None = None
    offset2: F32 | None = None
    instance_norm: InstanceNorm | None = None


@dataclass(frozen=True)
class Quantize:
    """A float32 tensor onto the output's grid."""

    name: str
    inputs: tuple[int]
    output: int


@dataclass(frozen=True)
class Conv:
    """Convolution or transposed convolution over the channel-wise concatenation of ``inputs``.

    ``weight`` is (O, I / groups, kd, kh, kw), output channel first for both kinds: int8 codes, or
    float32 when ``weight_kind`` is "float32" (``weight_bits`` 32). "binary" codes are -1 and +1. A
    "codebook" weight of 1 to 4 bits has at most ``2 ** weight_bits`` different int8 values, its levels; they
    are what ``weight`` holds and what is summed, and the file keeps them once and an index for each weight.
    A "shifted" weight of 2 to 8 bits has shared powers of two: ``weight`` holds ``code << shift`` (int8), where the
    input channels ``k * group_size`` to ``(k + 1) * group_size - 1`` (of the convolution's group) of output channel o
    share ``weight_shift[o, k]``, uint8 (O, ceil((I / groups) / group_size)), 0 to 7. With 32 it is the shared scale
    of the OCP Microscaling (MX) formats; a group's scale is the channel's step times ``2 ** shift``.
    With more than one input, all share one grid; their channels follow each other in order.
    Padding is with the value 0, the code ``zero_point``. Transposed convolution follows torch's definition: input
    pixel i and kernel tap k add to output ``i * stride - pad_before + k * dilation``; it reads grids with
    zero-point 0 only, as not every tap meets a pixel everywhere; ``output_padding`` extends
    the end. ``weight_scale`` (1,) or (O,) float32 is information: ``gain`` already contains it.
    """

    name: str
    inputs: tuple[int, ...]
    output: int
    weight: NDArray[Any]
    weight_bits: int
    weight_kind: WeightKind
    weight_scale: F32
    epilogue: Epilogue
    stride: Triple = (1, 1, 1)
    pad_before: Triple = (0, 0, 0)
    pad_after: Triple = (0, 0, 0)
    dilation: Triple = (1, 1, 1)
    groups: int = 1
    transposed: bool = False
    output_padding: Triple = (0, 0, 0)
    group_size: int = 0
    weight_shift: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Upsample:
    """By an integer ``factor`` an axis: "nearest" keeps codes and grid (no epilogue).

    "linear" (half-pixel centres, torch's align_corners=False) has factor 1 or 2 an axis; an axis with
    factor 2 makes ``out[2i] = 3*x[i] + x[max(i-1, 0)]`` and ``out[2i+1] = 3*x[i] + x[min(i+1, n-1)]``,
    exact integers four times too large an axis, which ``gain`` undoes.
    """

    name: str
    inputs: tuple[int]
    output: int
    mode: Literal["nearest", "linear"]
    factor: Triple
    epilogue: Epilogue | None = None


@dataclass(frozen=True)
class MaxPool:
    """Maximum over windows; padded positions never win. Keeps the grid."""

    name: str
    inputs: tuple[int]
    output: int
    kernel: Triple
    stride: Triple
    padding: Triple = (0, 0, 0)


@dataclass(frozen=True)
class Add:
    """Residual sum: the float32 accumulator is ``float32(a) * input_gain[0] + float32(b) * input_gain[1]``.

    Three roundings (two products, one sum). Codes enter as integers, float tensors as they are.
    """

    name: str
    inputs: tuple[int, int]
    output: int
    input_gain: tuple[float, float]
    epilogue: Epilogue


@dataclass(frozen=True)
class Pointwise:
    """The epilogue alone, on codes (the accumulator is the code) or on a float32 tensor."""

    name: str
    inputs: tuple[int]
    output: int
    epilogue: Epilogue


@dataclass(frozen=True)
class Concat:
    """Channel-wise concatenation of tensors on one grid; kept only where no convolution can absorb it."""

    name: str
    inputs: tuple[int, ...]
    output: int


@dataclass(frozen=True)
class Pad:
    """Extend by ``before``/``after``: "replicate" the border or the value 0 ("zero"). Keeps the grid."""

    name: str
    inputs: tuple[int]
    output: int
    mode: Literal["replicate", "zero"]
    before: Triple
    after: Triple


@dataclass(frozen=True)
class Table:
    """Code to code, element by element: the output's code is ``table[code & 0xFF]``.

    ``table`` is int16 (256,); entries of codes that the input's grid cannot take are 0. For sigmoid, tanh, ELU,
    SiLU, GELU and whatever else maps one value to one. Both tensors lie on grids, neither dynamic.
    """

    name: str
    inputs: tuple[int]
    output: int
    table: NDArray[np.int16]


@dataclass(frozen=True)
class Mul:
    """Product of ``a`` and ``b``: int32 of the two codes (zero-points 0), float32 where either tensor is float32.

    ``a`` has the output's channels and size; ``b`` has them too, or 1 channel, or depth, height and width 1, or
    both, and is then the same for all (attention gates, squeeze and excitation). A code enters a float32
    product as its number.
    """

    name: str
    inputs: tuple[int, int]
    output: int
    epilogue: Epilogue


Op = Quantize | Conv | Upsample | MaxPool | Add | Pointwise | Concat | Pad | Table | Mul


@dataclass(frozen=True)
class Preprocessing:
    """How a stored image becomes the network's input, and its logits a mask of the stored image; in this order.

    1. ``orientation``: axes are permuted and flipped until (rows, columns, slices) increase towards these three
       letters of the RAS code, "RAS" for example; "" leaves them as stored.
    2. ``spacing``: linear resampling to these mm, (rows, columns) of a 2-D network or (slices, rows, columns) of a
       3-D one; () and entries of 0 leave an axis as it is. See ``unetq.resample``.
    3. ``context``: a 2-D network sees that many neighbour slices on each side as channels; ends repeat themselves.
    4. ``normalize``, channel by channel. ``zscore``: ``(x - mean) / max(std, 1e-6)``, float64 statistics, result
       float32; ``over`` the "image" that the network sees (a slice in 2-D) or the whole "volume". ``window``:
       ``(clip(x, low, high) - low) / (high - low)`` in float64, result float32. ``none``: as is.
    5. The image is extended at its end to the program's ``input_multiple`` by reflection (replicating where it is too
       small to reflect). With ``window``, network pixels an entry for each spatial axis, a longer axis is cut into
       windows that share ``overlap`` of their length, and their logits are blended; see ``unetq.tiling``.
    6. The logits are cropped, resampled back to the oriented image, decided, and the mask is turned back.

    Intensities enter step 2 as float32.
    """

    normalize: Literal["none", "zscore", "window"] = "none"
    low: float = 0.0
    high: float = 1.0
    over: Literal["image", "volume"] = "image"
    orientation: str = ""
    spacing: tuple[float, ...] = ()
    context: int = 0
    window: tuple[int, ...] = ()
    overlap: float = 0.25


@dataclass(frozen=True)
class ModelMeta:
    """What a model file knows beside its arithmetic.

    ``labels`` and ``label_values`` have one entry a class; a one-channel network decides class 1 where
    its logit is above 0, one with K channels takes the first largest. ``provenance`` is free JSON.
    """

    name: str = "model"
    labels: tuple[str, ...] = ("background", "foreground")
    label_values: tuple[int, ...] = (0, 1)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    provenance: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """Tensors, operations in execution order, and the sizes it accepts.

    ``input`` and ``output`` are tensor numbers; both are float32. A spatial size is accepted when it is
    a positive multiple of ``input_multiple`` an axis, or equals ``fixed_size`` where that is set (a
    network whose padding depends on the size was traced).
    """

    tensors: tuple[TensorSpec, ...]
    ops: tuple[Op, ...]
    input: int
    output: int
    spatial_rank: Literal[2, 3]
    input_multiple: Triple
    fixed_size: Triple | None = None

    def run(self, x: NDArray[Any], trace: dict[str, NDArray[Any]] | None = None) -> F32:
        """Execute in NumPy. ``x`` is float (N, C, H, W) or (N, C, D, H, W); returns float32 logits.

        With ``trace`` a dict, every tensor is stored in it by name as (N, C, D, H, W) codes (int16) or float32.
        """
        from .integer import run

        return run(self, np.asarray(x), trace)

    def save(self, path: str | Path, meta: ModelMeta | None = None) -> None:
        """Write the packed model file, whole or not at all (see deploy/runtime/FORMAT.md)."""
        from .modelfile import save

        save(self, path, meta or ModelMeta())
