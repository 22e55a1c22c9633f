"""The records of a model file with checked access to what they refer to: names, arrays, weights' levels and shifts."""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..fixedpoint import F32, Grid
from . import records
from .container import fail, require
from .packing import LEVELS, shift_groups
from .program import Epilogue, InstanceNorm
from .records import MAX_CHANNELS, MAX_NAME, METHODS_VERSION


class Fields:
    """The sections with checked access to names, blobs and operands."""

    def __init__(self, sections: dict[str, memoryview], version: int) -> None:
        self.sections = sections
        self.version = version

    def rows(self, name: str, record: records.Record) -> list[dict[str, Any]]:
        """All records of a section; reserved bytes must be zero."""
        data = self.sections[name]
        values = [record.unpack(data, at) for at in range(0, len(data), record.size)]
        for i, row in enumerate(values):
            clean = not any(any(v) if isinstance(v, bytes) else v for k, v in row.items() if k.startswith("reserved"))
            require(clean, f"section {name}, record {i}: its reserved bytes are not zero")
        return values

    def name(self, row: dict[str, Any]) -> str:
        """The text of a record's name."""
        offset, size, strings = row["name_offset"], row["name_bytes"], self.sections["strings"]
        inside = size <= MAX_NAME and offset + size < len(strings) and strings[offset + size] == 0
        require(inside, f"a name at {offset} with {size} bytes does not fit into the names")
        try:
            return bytes(strings[offset : offset + size]).decode()
        except UnicodeDecodeError:
            fail(f"the name at {offset} is not UTF-8")

    def blob(self, offset: int, size: int) -> memoryview:
        """Bytes of the data section, inside it and aligned."""
        data = self.sections["data"]
        inside = offset % records.ALIGNMENT == 0 and offset + size <= len(data)
        require(
            inside, f"data at {offset} with {size} bytes: it must start at a multiple of 64 and lie in the data section"
        )
        return data[offset : offset + size]

    def floats(self, offset: int, count: int) -> F32:
        """A float32 array of the data section."""
        return np.frombuffer(self.blob(offset, 4 * count), dtype="<f4").astype(np.float32)

    def needs(self, version: int, what: str) -> None:
        """What came with a version is refused in a file of an older one."""
        require(self.version >= version, f"{what} in version {self.version} of the format: they need {version}")

    def levels(self, row: dict[str, Any]) -> NDArray[np.int8] | None:
        """The codebook of a convolution; None where its weights are of another kind."""
        kind = records.WEIGHT_KINDS[row["weight_kind"] - 1]
        if kind != "codebook":
            require(row["codebook"] == 0 or kind == "shifted", f"weights that are {kind} have no codebook")
            return None
        self.needs(records.CODEBOOK_VERSION, "codebook weights")
        levels = np.frombuffer(self.blob(row["codebook"], LEVELS), dtype=np.int8)
        used = 1 << row["weight_bits"]
        tidy = bool((levels[1:used] >= levels[: used - 1]).all()) and not levels[used:].any()
        require(tidy, f"codebook {levels.tolist()}: its {used} levels must not fall, what follows must be 0")
        return levels

    def shifts(self, row: dict[str, Any], shape: tuple[int, int]) -> NDArray[np.uint8] | None:
        """The shifts of a convolution (outputs, groups) for ``shape`` (outputs, inputs); None of other kinds."""
        kind, size = records.WEIGHT_KINDS[row["weight_kind"] - 1], row["group_size"]
        if kind != "shifted":
            require(size == 0, f"weights that are {kind} have no groups of {size} channels")
            return None
        self.needs(METHODS_VERSION, "shifted weights")
        require(1 <= size <= MAX_CHANNELS, f"shifted weights in groups of {size} channels: 1 to {MAX_CHANNELS}")
        groups = shift_groups(shape[1], size)
        data = self.blob(row["codebook"], shape[0] * groups)
        return np.frombuffer(data, dtype=np.uint8).reshape(shape[0], groups).copy()

    def table(self, row: dict[str, Any], source: Grid | None, target: Grid | None) -> NDArray[np.int16]:
        """The entries of a table from ``source`` to ``target``, as the target's codes."""
        require(source is not None and target is not None, "a table is between codes, a tensor is float32")
        data = np.frombuffer(self.blob(row["codebook"], records.TABLE_BYTES), dtype=np.uint8)
        return data.view(np.int8).astype(np.int16) if target is not None and target.signed else data.astype(np.int16)

    def inputs(self, row: dict[str, Any]) -> tuple[int, ...]:
        """The tensor numbers that an operation reads."""
        first, count, operands = row["first_operand"], row["operand_count"], self.sections["operands"]
        require(4 * (first + count) <= len(operands), f"operands {first} to {first + count} do not exist")
        return struct.unpack_from(f"<{count}I", operands, 4 * first)

    def epilogue(self, row: dict[str, Any], channels: int) -> Epilogue:
        """The epilogue of an operation with ``channels`` output channels."""
        flags, norm = row["flags"], None
        if flags & records.INSTANCE_NORM:
            weight, bias = self.floats(row["norm_weight"], channels), self.floats(row["norm_bias"], channels)
            norm = InstanceNorm(row["eps"], weight, bias, row["norm_groups"])
        return Epilogue(
            gain=self.floats(row["gain"], channels),
            offset=self.floats(row["offset"], channels),
            slope=self.floats(row["slope"], channels) if flags & records.SLOPE else None,
            gain2=self.floats(row["gain2"], channels) if flags & records.SECOND else None,
            offset2=self.floats(row["offset2"], channels) if flags & records.SECOND else None,
            instance_norm=norm,
        )
