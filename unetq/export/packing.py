"""Weight codes to a dense stream of bits and back; the canonical order is fixed here.

One row an output channel, its codes in the order (kd, kh, kw, input channel) with the input channel
innermost. A code is the low ``bits`` bits of its two's complement; the first code fills the lowest bits of
the first byte (little-endian bit order), and each row is filled up to a whole byte with zeros. Binary
weights take one bit: 0 is -1, 1 is +1. Float32 weights are stored as they are, in the same order.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UnsupportedError
from .program import WeightKind

FLOAT_BITS = 32


def code_range(bits: int, kind: WeightKind) -> tuple[int, int]:
    """Smallest and largest weight code of a kind at a width."""
    return (-1, 1) if kind == "binary" else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def row_bytes(codes_a_row: int, bits: int) -> int:
    """Bytes one output channel's row takes."""
    return (codes_a_row * bits + 7) // 8


def pack_weights(weight: NDArray[Any], bits: int, kind: WeightKind) -> bytes:
    """(O, I / groups, kd, kh, kw) codes (or float32 values) to packed rows.

    Raises:
        UnsupportedError: a code that does not fit into ``bits`` bits, or a binary code that is not -1 or +1.
    """
    rows = np.ascontiguousarray(weight.transpose(0, 2, 3, 4, 1)).reshape(weight.shape[0], -1)
    if kind == "float32":
        return rows.astype("<f4").tobytes()
    low, high = code_range(bits, kind)
    smallest, largest = int(rows.min()), int(rows.max())
    if smallest < low or largest > high or (kind == "binary" and bool((rows == 0).any())):
        allowed = "-1 and +1" if kind == "binary" else f"{low} to {high}"
        raise UnsupportedError(
            f"weight codes {smallest} to {largest}: {kind} at {bits} bit allows {allowed}; quantise again."
        )
    fields = (rows > 0).astype(np.uint8) if kind == "binary" else rows.astype(np.int8).view(np.uint8)
    flags = (fields[:, :, None] >> np.arange(bits, dtype=np.uint8)) & np.uint8(1)
    return np.packbits(flags.reshape(rows.shape[0], -1), axis=1, bitorder="little").tobytes()


def unpack_weights(
    data: bytes | memoryview, shape: tuple[int, int, int, int, int], bits: int, kind: WeightKind
) -> NDArray[Any]:
    """Packed rows to (O, I / groups, kd, kh, kw) int8 codes or float32 values; the inverse of ``pack_weights``.

    ``data`` holds exactly the rows; its length is the caller's to check.
    """
    outputs, inputs, *kernel = shape
    count = inputs * kernel[0] * kernel[1] * kernel[2]
    if kind == "float32":
        rows: NDArray[Any] = np.frombuffer(data, dtype="<f4").astype(np.float32).reshape(outputs, count)
    else:
        stream = np.frombuffer(data, dtype=np.uint8).reshape(outputs, row_bytes(count, bits))
        flags = np.unpackbits(stream, axis=1, count=count * bits, bitorder="little").reshape(outputs, count, bits)
        fields = (flags << np.arange(bits, dtype=np.uint8)).sum(axis=2, dtype=np.uint8)
        if kind == "binary":
            rows = fields.astype(np.int8) * np.int8(2) - np.int8(1)
        else:
            spare = np.uint8(8 - bits)
            rows = (fields << spare).view(np.int8) >> np.int8(8 - bits)
    return np.ascontiguousarray(rows.reshape(outputs, *kernel, inputs).transpose(0, 4, 1, 2, 3))
