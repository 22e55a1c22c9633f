"""The fixed records of a model file, field by field; deploy/runtime/FORMAT.md is the same in words.

Little-endian, no implicit padding: the C++ reader has the same structs and asserts the same sizes.
"""

import struct
from dataclasses import dataclass
from typing import Literal

from ..fixedpoint import Rounding
from .program import WeightKind

Normalize = Literal["none", "zscore", "window"]
Over = Literal["image", "volume"]

MAGIC = b"\x89UQM\r\n\x1a\n"
VERSION = 4  # the newest that is read and written
CODEBOOK_VERSION = 2  # the first that has codebooks
METHODS_VERSION = 3  # and zero-points, narrow and dynamic grids, tables, products, group norm, shifted weights
GEOMETRY_VERSION = 4  # and orientation, spacing, context, window, overlap, statistics of the volume
ALIGNMENT = 64
MAX_CHANNELS = 1 << 16
MAX_EXTENT = 1 << 16  # kernels, strides, paddings, factors, multiples
MAX_COUNT = 1 << 12  # tensors, operations, operands of one operation, labels
MAX_NAME = 1 << 12  # bytes of one name
MAX_REACH = 1 << 30  # dilation x (kernel - 1) of one axis
MAX_PHASES = 1 << 9  # product of a transposed convolution's strides
MAX_SHIFT = 7  # of a group of weights
TABLE_BYTES = 256  # a code each
MAX_SPACING = 1000.0  # mm
MAX_OVERLAP = 0.9  # of a window

SECTIONS = ("program", "tensors", "ops", "operands", "labels", "strings", "data", "provenance")


@dataclass(frozen=True)
class Record:
    """A named fixed layout: ``fields`` are (name, struct code, count), count 1 meaning a plain value."""

    fields: tuple[tuple[str, str, int], ...]

    @property
    def layout(self) -> struct.Struct:
        """The layout as a ``struct.Struct``; reserved fields are zero bytes that are checked."""
        return struct.Struct("<" + "".join(f"{count}{code}" for _, code, count in self.fields))

    @property
    def size(self) -> int:
        """Bytes of one record."""
        return self.layout.size

    def pack(self, values: dict[str, object]) -> bytes:
        """One record from its values; a field not given is zero."""
        flat: list[object] = []
        for name, code, count in self.fields:
            if code == "s":
                flat.append(values.get(name, b""))
                continue
            value = values.get(name, 0 if count == 1 else (0,) * count)
            flat.extend(value if isinstance(value, tuple) else (value,))
        return self.layout.pack(*flat)

    def unpack(self, data: bytes | memoryview, offset: int = 0) -> dict[str, object]:
        """The values of one record; a field with a count becomes a tuple."""
        flat = list(self.layout.unpack_from(data, offset))
        values: dict[str, object] = {}
        for name, code, count in self.fields:
            taken = 1 if code == "s" else count
            part, flat = flat[:taken], flat[taken:]
            values[name] = part[0] if taken == 1 else tuple(part)
        return values


HEADER = Record(
    (
        ("magic", "s", 8),
        ("version", "I", 1),
        ("checksum", "I", 1),
        ("file_bytes", "Q", 1),
        ("section_count", "I", 1),
        ("section_record_bytes", "I", 1),
        ("reserved", "s", 32),
    )
)
SECTION = Record(
    (
        ("kind", "I", 1),
        ("record_bytes", "I", 1),
        ("offset", "Q", 1),
        ("bytes", "Q", 1),
        ("count", "I", 1),
        ("reserved", "I", 1),
    )
)
PROGRAM = Record(
    (
        ("spatial_rank", "I", 1),
        ("input", "I", 1),
        ("output", "I", 1),
        ("has_fixed_size", "I", 1),
        ("input_multiple", "I", 3),
        ("fixed_size", "I", 3),
        ("normalize", "I", 1),
        ("reserved_a", "I", 1),
        ("low", "d", 1),
        ("high", "d", 1),
        ("name_offset", "I", 1),
        ("name_bytes", "I", 1),
        ("orientation", "s", 4),
        ("context", "I", 1),
        ("spacing", "d", 3),
        ("window", "I", 3),
        ("over", "I", 1),
        ("overlap", "d", 1),
    )
)
TENSOR = Record(
    (
        ("name_offset", "I", 1),
        ("name_bytes", "I", 1),
        ("channels", "I", 1),
        ("type", "B", 1),
        ("bits", "B", 1),
        ("signed", "B", 1),
        ("rounding", "B", 1),
        ("scale", "f", 1),
        ("zero_point", "i", 1),
        ("narrow", "B", 1),
        ("dynamic", "B", 1),
        ("reserved", "s", 6),
    )
)
OP = Record(
    (
        ("kind", "I", 1),
        ("name_offset", "I", 1),
        ("name_bytes", "I", 1),
        ("first_operand", "I", 1),
        ("operand_count", "I", 1),
        ("output", "I", 1),
        ("kernel", "I", 3),
        ("stride", "I", 3),
        ("before", "I", 3),
        ("after", "i", 3),
        ("dilation", "I", 3),
        ("output_padding", "I", 3),
        ("groups", "I", 1),
        ("mode", "I", 1),
        ("weight_bits", "I", 1),
        ("weight_kind", "I", 1),
        ("row_bytes", "I", 1),
        ("weight_scale_count", "I", 1),
        ("weight", "Q", 1),
        ("weight_scale", "Q", 1),
        ("flags", "I", 1),
        ("norm_groups", "I", 1),
        ("input_gain", "f", 2),
        ("eps", "d", 1),
        ("gain", "Q", 1),
        ("offset", "Q", 1),
        ("slope", "Q", 1),
        ("gain2", "Q", 1),
        ("offset2", "Q", 1),
        ("norm_weight", "Q", 1),
        ("norm_bias", "Q", 1),
        ("codebook", "Q", 1),  # or shifts, or a table
        ("group_size", "I", 1),
        ("reserved", "s", 28),
    )
)
LABEL = Record((("name_offset", "I", 1), ("name_bytes", "I", 1), ("value", "i", 1), ("reserved", "I", 1)))

RECORD_BYTES = {
    "program": PROGRAM.size,
    "tensors": TENSOR.size,
    "ops": OP.size,
    "operands": 4,
    "labels": LABEL.size,
    "strings": 1,
    "data": 1,
    "provenance": 1,
}

# Numbered from 1.
OP_KINDS = ("quantize", "conv", "upsample", "max_pool", "add", "pointwise", "concat", "pad", "table", "mul")
WEIGHT_KINDS: tuple[WeightKind, ...] = ("twos_complement", "binary", "float32", "codebook", "shifted")
NORMALIZE: tuple[Normalize, ...] = ("none", "zscore", "window")  # numbered from 0
OVER: tuple[Over, ...] = ("image", "volume")  # numbered from 0
ROUNDINGS: tuple[Rounding, ...] = ("half_even", "toward_zero")  # numbered from 0
EPILOGUE, SLOPE, SECOND, INSTANCE_NORM = 1, 2, 4, 8  # flags


def padded(size: int) -> int:
    """``size`` rounded up to the alignment."""
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
