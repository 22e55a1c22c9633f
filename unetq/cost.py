"""What an integer program costs: bytes at rest, peak activations, multiply-accumulates, bit-operations. No torch.

Formulas (``b_w`` bits of a weight, ``b_a`` bits of the codes that enter; 32 for float32):

- weight bytes of a convolution: its rows (one an output channel) packed at ``b_w`` bits, each row padded to a
  whole byte; plus 16 bytes of a codebook's levels, and 4 for every float32 number of its epilogue (gains,
  offsets, slopes, norm).
- activation bytes of a tensor: ``ceil(voxels * channels * bits / 8)``; float32 has 32 bits. A tensor is
  live from the operation that makes it to the last one that reads it; the peak is the largest sum over
  operations of what is live. The input is live from the start. A concatenation folded into a convolution has
  no tensor of its own.
- MACs: output positions x weights of the layer (input positions for a transposed convolution); border
  positions count in full.
- bit-operations: ``MACs * b_w * b_a``.
- the float columns price the same program with 32 bits everywhere: 4 bytes a weight and an activation. The
  float network's weight bytes are 4 a learnable parameter where their number is given; else the gains and
  offsets stand for bias and normalisation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from .errors import DataError
from .export.integer import macs, output_size
from .export.packing import LEVELS
from .export.program import Conv, Epilogue, Op, Program, Table, Triple
from .export.records import TABLE_BYTES

FLOAT_BITS = 32


@dataclass(frozen=True)
class LayerCost:
    """One operation: sizes are (D, H, W); bytes and bits as in the module's formulas."""

    name: str
    kind: str
    input_size: Triple
    output_size: Triple
    channels: int
    weight_bits: int
    input_bits: int
    output_bits: int
    weight_bytes: int
    float_weight_bytes: int
    output_bytes: int
    live_bytes: int
    macs: int
    bit_operations: int


@dataclass(frozen=True)
class Cost:
    """A program at one input size; ``layers`` in execution order."""

    input_size: tuple[int, ...]
    weight_bytes: int
    float_weight_bytes: int
    peak_activation_bytes: int
    float_peak_activation_bytes: int
    macs: int
    bit_operations: int
    layers: tuple[LayerCost, ...]

    def summary(self) -> dict[str, Any]:
        """Everything but the layers, as JSON takes it."""
        values = asdict(self)
        del values["layers"]
        return {**values, "input_size": list(self.input_size)}


def _epilogue_numbers(epilogue: Epilogue | None) -> int:
    if epilogue is None:
        return 0
    arrays = [epilogue.gain, epilogue.offset, epilogue.slope, epilogue.gain2, epilogue.offset2]
    if epilogue.instance_norm is not None:
        arrays += [epilogue.instance_norm.weight, epilogue.instance_norm.bias]
    return sum(int(a.size) for a in arrays if a is not None)


def _weight_bytes(op: Op, float_twin: bool) -> int:
    total = 4 * _epilogue_numbers(getattr(op, "epilogue", None))
    if isinstance(op, Conv):
        rows, bits = op.weight.shape[0], FLOAT_BITS if float_twin else op.weight_bits
        total += rows * ((op.weight[0].size * bits + 7) // 8) if rows else 0
        if not float_twin:
            total += LEVELS if op.weight_kind == "codebook" else 0
            total += op.weight_shift.size if op.weight_shift is not None else 0
    elif isinstance(op, Table):
        total += 0 if float_twin else TABLE_BYTES
    return total


def tensor_sizes(program: Program, size: Triple) -> dict[int, Triple]:
    """Spatial size (D, H, W) of every tensor for an input of ``size``."""
    sizes: dict[int, Triple] = {program.input: size}
    for op in program.ops:
        sizes[op.output] = output_size(op, sizes[op.inputs[0]])
        if min(sizes[op.output]) < 1:
            raise DataError(f"layer {op.name}: an input of {size} leaves {sizes[op.output]}; use a larger size.")
    return sizes


def _live_bytes(program: Program, volume: Mapping[int, int], bits: Mapping[int, int]) -> list[int]:
    """Bytes live during each operation: its inputs, its output, and what later operations still read."""
    last = {tensor: step for step, op in enumerate(program.ops) for tensor in op.inputs}
    last[program.output] = len(program.ops)
    first = {program.input: 0, **{op.output: step for step, op in enumerate(program.ops)}}
    size = {t: (volume[t] * bits[t] + 7) // 8 for t in volume}
    return [
        sum(size[t] for t in volume if first[t] <= step <= last.get(t, first[t])) for step in range(len(program.ops))
    ]


def cost(program: Program, spatial: Sequence[int], parameters: int | None = None) -> Cost:
    """Price ``program`` for one image of ``spatial`` size, (H, W) or (D, H, W).

    ``parameters`` is the number of learnable values of the float network, for ``float_weight_bytes``.

    Raises:
        DataError: a size the program does not accept.
    """
    size: Triple = (1, *spatial) if len(spatial) == 2 else tuple(spatial)  # type: ignore[assignment]  # checked below
    if len(size) != 3 or any(n < 1 or n % m for n, m in zip(size, program.input_multiple, strict=True)):
        raise DataError(
            f"input size {tuple(spatial)}: each axis must be a multiple of {program.input_multiple}; pad the image."
        )
    if program.fixed_size is not None and size != program.fixed_size:
        raise DataError(
            f"input size {tuple(spatial)}: this program was traced for {program.fixed_size} only; use that size."
        )
    sizes = tensor_sizes(program, size)
    tensors = program.tensors
    bits = {t: FLOAT_BITS if (grid := tensors[t].grid) is None else grid.bits for t in sizes}
    volume = {t: prod(sizes[t]) * tensors[t].channels for t in sizes}
    live = _live_bytes(program, volume, bits)
    float_live = _live_bytes(program, volume, dict.fromkeys(bits, FLOAT_BITS))
    layers: list[LayerCost] = []
    for step, op in enumerate(program.ops):
        source = op.inputs[0]
        work = macs(op, sizes[source]) if isinstance(op, Conv) else 0
        weight_bits = op.weight_bits if isinstance(op, Conv) else 0
        layers.append(
            LayerCost(
                name=op.name,
                kind=type(op).__name__,
                input_size=sizes[source],
                output_size=sizes[op.output],
                channels=tensors[op.output].channels,
                weight_bits=weight_bits,
                input_bits=bits[source],
                output_bits=bits[op.output],
                weight_bytes=_weight_bytes(op, float_twin=False),
                float_weight_bytes=_weight_bytes(op, float_twin=True),
                output_bytes=(volume[op.output] * bits[op.output] + 7) // 8,
                live_bytes=live[step],
                macs=work,
                bit_operations=work * weight_bits * bits[source],
            )
        )
    return Cost(
        input_size=(tensors[program.input].channels, *spatial),
        weight_bytes=sum(layer.weight_bytes for layer in layers),
        float_weight_bytes=sum(layer.float_weight_bytes for layer in layers) if parameters is None else 4 * parameters,
        peak_activation_bytes=max(live, default=0),
        float_peak_activation_bytes=max(float_live, default=0),
        macs=sum(layer.macs for layer in layers),
        bit_operations=sum(layer.bit_operations for layer in layers),
        layers=tuple(layers),
    )
