"""The outer layer of a model file: it is whole, of this version, and its sections lie where they must."""

import zlib
from typing import Any, NoReturn

from ..errors import ModelFileError
from . import records
from .records import RECORD_BYTES, SECTIONS, padded

REMEDY = "copy the file again from its source or export the model again"


def fail(text: str) -> NoReturn:
    """Raise ``ModelFileError`` with ``text`` and the remedy."""
    raise ModelFileError(f"{text}; {REMEDY}.")


def require(condition: bool, text: str) -> None:
    """Raise ``ModelFileError`` with ``text`` unless ``condition`` holds."""
    if not condition:
        fail(text)


def check_whole(data: memoryview) -> int:
    """Magic, version, size and checksum, in the order that gives the most telling message; returns the version."""
    require(len(data) >= records.HEADER.size, f"{len(data)} bytes: a model file has at least {records.HEADER.size}")
    header = records.HEADER.unpack(data)
    require(
        header["magic"] == records.MAGIC,
        f"it starts with {bytes(data[:8])!r}: a model file starts with {records.MAGIC!r}",
    )
    version: int = header["version"]  # type: ignore[assignment]
    require(1 <= version <= records.VERSION, f"version {version}: this unetq reads versions 1 to {records.VERSION}")
    size = header["file_bytes"]
    require(size == len(data), f"{len(data)} bytes: the file says it has {size}; it was cut or extended")
    found = zlib.crc32(data[16:], zlib.crc32(bytes(data[:12]) + bytes(4)))
    said = header["checksum"]
    require(found == said, f"checksum {found:#010x}: the file says {said:#010x}; at least one bit was changed")
    plain = header["section_count"] == len(SECTIONS) and header["section_record_bytes"] == records.SECTION.size
    require(
        plain and not any(bytes(data[32:64])), "the header's section count, record size or reserved bytes are wrong"
    )
    return version


def find_sections(data: memoryview) -> dict[str, memoryview]:
    """The sections by name; they must follow each other exactly as the writer lays them out."""
    table_end = records.HEADER.size + len(SECTIONS) * records.SECTION.size
    require(len(data) >= padded(table_end), f"{len(data)} bytes: the table of sections ends at {table_end}")
    found: dict[str, memoryview] = {}
    expected = padded(table_end)
    for i, name in enumerate(SECTIONS):
        entry: dict[str, Any] = records.SECTION.unpack(data, records.HEADER.size + i * records.SECTION.size)
        offset, size = entry["offset"], entry["bytes"]
        shape = entry["kind"] == i + 1 and entry["record_bytes"] == RECORD_BYTES[name] and entry["reserved"] == 0
        require(
            shape and size == entry["count"] * RECORD_BYTES[name], f"section {name}: its entry in the table is wrong"
        )
        require(
            offset == expected and offset + size <= len(data),
            f"section {name} at {offset} with {size} bytes does not fit",
        )
        found[name] = data[offset : offset + size]
        expected = padded(offset + size)
    require(expected == len(data), f"the sections end at {expected}: the file at {len(data)}")
    return found
