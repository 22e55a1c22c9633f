"""Weight codes to a dense stream of bits and back; the canonical order is fixed here.

One row an output channel, its codes in the order (kd, kh, kw, input channel) with the input channel
innermost. A code is the low ``bits`` bits of its two's complement; the first code fills the lowest bits of
the first byte (little-endian bit order), and each row is filled up to a whole byte with zeros. Binary
weights take one bit: 0 is -1, 1 is +1. Codebook weights are indices into the layer's levels, unsigned.
Shifted weights are their codes before the shift, in two's complement; the shifts stand apart.
Float32 weights are stored as they are, in the same order.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UnsupportedError
from .program import WeightKind

FLOAT_BITS = 32
CODEBOOK_BITS = 4  # of an index, at most
LEVELS = 1 << CODEBOOK_BITS  # places of a codebook: one table look-up of a vector
WEIGHT_WIDTHS: dict[WeightKind, tuple[int, int]] = {
    "twos_complement": (1, 8), "binary": (1, 1), "float32": (FLOAT_BITS, FLOAT_BITS), "codebook": (1, CODEBOOK_BITS),
    "shifted": (2, 8),
}  # fmt: skip


def code_range(bits: int, kind: WeightKind) -> tuple[int, int]:
    """Smallest and largest weight code of a kind at a width (of a codebook: any int8 is a level)."""
    width = 8 if kind == "codebook" else bits
    return (-1, 1) if kind == "binary" else (-(1 << (width - 1)), (1 << (width - 1)) - 1)


def codebook(weight: NDArray[Any], bits: int) -> NDArray[np.int8]:
    """The levels of a codebook weight: LEVELS int8, rising; what is left of 2**bits repeats the last, the rest is 0.

    Raises:
        UnsupportedError: more than 2**bits different values, or one that is no int8.
    """
    levels, most = np.unique(weight), 1 << bits
    if levels.size > most:
        raise UnsupportedError(
            f"{levels.size} different weights: a codebook of {bits} bit has at most {most} levels; quantise again."
        )
    if levels[0] < -128 or levels[-1] > 127:
        raise UnsupportedError(f"weight levels {levels[0]} to {levels[-1]}: they must lie within -128 to 127; rescale.")
    book = np.zeros(LEVELS, np.int8)
    book[:most] = levels[-1]
    book[: levels.size] = levels
    return book


def shift_groups(inputs: int, group_size: int) -> int:
    """Groups of input channels that share a shift; the last may be smaller."""
    return -(-inputs // group_size)


def shift_of_each(shifts: NDArray[Any], inputs: int, group_size: int) -> NDArray[np.int64]:
    """The shift of each weight's group, (O, inputs, 1, 1, 1), from ``shifts`` (O, shift_groups(inputs, group_size))."""
    return shifts.astype(np.int64)[:, np.arange(inputs) // group_size, None, None, None]


def unshifted(weight: NDArray[Any], shifts: NDArray[Any], group_size: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """The codes behind shifted weights (O, I, kd, kh, kw), rounded down, and each one's power of two (O, I, 1, 1, 1).

    ``shifts`` is (O, shift_groups(I, group_size)), 0 to 7. The weights are ``codes * steps`` where they are whole.
    """
    each = shift_of_each(shifts, weight.shape[1], group_size)
    return weight.astype(np.int64) >> each, 1 << each


def row_bytes(codes_a_row: int, bits: int) -> int:
    """Bytes one output channel's row takes."""
    return (codes_a_row * bits + 7) // 8


def pack_weights(weight: NDArray[Any], bits: int, kind: WeightKind) -> bytes:
    """(O, I / groups, kd, kh, kw) codes (or float32 values) to packed rows; of shifted weights the codes before it.

    Raises:
        UnsupportedError: a code that does not fit into ``bits`` bits, a binary code that is not -1 or +1, or more
            different codes than a codebook has.
    """
    rows = np.ascontiguousarray(weight.transpose(0, 2, 3, 4, 1)).reshape(weight.shape[0], -1)
    if kind == "float32":
        return rows.astype("<f4").tobytes()
    if kind == "codebook":
        return _pack_fields(np.searchsorted(codebook(rows, bits)[: 1 << bits], rows).astype(np.uint8), bits)
    low, high = code_range(bits, kind)
    smallest, largest = int(rows.min()), int(rows.max())
    if smallest < low or largest > high or (kind == "binary" and bool((rows == 0).any())):
        allowed = "-1 and +1" if kind == "binary" else f"{low} to {high}"
        raise UnsupportedError(
            f"weight codes {smallest} to {largest}: {kind} at {bits} bit allows {allowed}; quantise again."
        )
    fields = (rows > 0).astype(np.uint8) if kind == "binary" else rows.astype(np.int8).view(np.uint8)
    return _pack_fields(fields, bits)


def _pack_fields(fields: NDArray[np.uint8], bits: int) -> bytes:
    flags = (fields[:, :, None] >> np.arange(bits, dtype=np.uint8)) & np.uint8(1)
    return np.packbits(flags.reshape(fields.shape[0], -1), axis=1, bitorder="little").tobytes()


def unpack_weights(
    data: bytes | memoryview,
    shape: tuple[int, int, int, int, int],
    bits: int,
    kind: WeightKind,
    levels: NDArray[np.int8] | None = None,
) -> NDArray[Any]:
    """Packed rows to (O, I / groups, kd, kh, kw) int8 codes or float32 values; the inverse of ``pack_weights``.

    ``data`` holds exactly the rows; its length is the caller's to check. ``levels`` is the codebook of that kind.
    """
    outputs, inputs, *kernel = shape
    count = inputs * kernel[0] * kernel[1] * kernel[2]
    if kind == "float32":
        rows: NDArray[Any] = np.frombuffer(data, dtype="<f4").astype(np.float32).reshape(outputs, count)
    else:
        stream = np.frombuffer(data, dtype=np.uint8).reshape(outputs, row_bytes(count, bits))
        flags = np.unpackbits(stream, axis=1, count=count * bits, bitorder="little").reshape(outputs, count, bits)
        fields = (flags << np.arange(bits, dtype=np.uint8)).sum(axis=2, dtype=np.uint8)
        if kind == "codebook":
            assert levels is not None
            rows = levels[fields]
        elif kind == "binary":
            rows = fields.astype(np.int8) * np.int8(2) - np.int8(1)
        else:
            spare = np.uint8(8 - bits)
            rows = (fields << spare).view(np.int8) >> np.int8(8 - bits)
    return np.ascontiguousarray(rows.reshape(outputs, *kernel, inputs).transpose(0, 4, 1, 2, 3))
