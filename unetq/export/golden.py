"""A model's self-test: a small seeded input, and the logits that every processor must give. NumPy only."""

from dataclasses import dataclass

import numpy as np

from ..fixedpoint import F32
from .integer import Array
from .program import Add, Conv, Program, Quantize

SEED = 20261121
SMALLEST = {2: 32, 3: 16}  # pixels an axis at least: every kernel has whole tiles and rests
BEYOND = 1.25  # how far values reach past what the input's grid can hold, so that saturation is tested


@dataclass(frozen=True)
class Golden:
    """``input`` is preprocessed, (channels, [depth,] height, width) float32; ``logits`` likewise."""

    input: F32
    logits: F32


def is_exact(program: Program) -> bool:
    """Whether logits are equal to the last bit everywhere: no sum of floats, whose order kernels may choose."""
    for op in program.ops:
        coded = all(program.tensors[t].grid is not None for t in op.inputs)
        if isinstance(op, Conv) and (op.weight_kind == "float32" or not coded):
            return False
        epilogue = getattr(op, "epilogue", None)
        if epilogue is not None and epilogue.instance_norm is not None and (isinstance(op, Add) or not coded):
            return False
    return True


def size_for(program: Program) -> tuple[int, ...]:
    """The smallest sensible size the program takes: sides differ where they may, so that swapped axes are noticed."""
    skip = 3 - program.spatial_rank
    if program.fixed_size is not None:
        return program.fixed_size[skip:]
    least = SMALLEST[program.spatial_rank]
    sides = [-(-least // multiple) * multiple for multiple in program.input_multiple[skip:]]
    sides[-1] += program.input_multiple[2]
    return tuple(sides)


def _input_range(program: Program) -> tuple[float, float]:
    for op in program.ops:
        grid = program.tensors[op.output].grid
        if isinstance(op, Quantize) and op.inputs[0] == program.input and grid is not None:
            if grid.dynamic:
                break
            return (grid.low - grid.zero_point) * grid.scale, (grid.high - grid.zero_point) * grid.scale
    return -3.0, 3.0  # a float first layer, or a dynamic grid: normalised intensities


def make(program: Program) -> Golden:
    """Noise over the whole range of the input and beyond, and the NumPy executor's logits for it.

    Raises:
        UnsupportedError: accumulators beyond int32.
    """
    channels = program.tensors[program.input].channels
    low, high = _input_range(program)
    values: Array = np.random.default_rng(SEED).uniform(low * BEYOND, high * BEYOND, (1, channels, *size_for(program)))
    image = values.astype(np.float32)
    return Golden(image[0], program.run(image)[0])
