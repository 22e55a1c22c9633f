"""TIFF stacks: read whole, checked for truncation first; masks written page for page.

Reading libraries take a truncated stack for a shorter one. Here the chain of pages and every strip is
checked against the file's size before anything is decoded, so that a cut file is an error.
"""

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from .errors import DataError
from .files import atomic_path

MAX_PAGES = 1_000_000


@dataclass(frozen=True)
class TiffTags:
    """What a mask takes over from its image: resolution, and ImageJ's spacing and unit."""

    resolution: tuple[float, float] | None = None
    resolution_unit: int | None = None
    imagej: dict[str, Any] | None = field(default=None)


def read_tiff(path: Path) -> tuple[NDArray[Any], TiffTags]:
    """All pages as (pages, H, W), stored values as they are (8-bit for two-level pages: 0 and 255).

    Raises:
        DataError: not a TIFF, truncated, damaged, in colour, or pages that differ in size.
    """
    try:
        with open(path, "rb") as handle:
            pages = _count_pages(handle, path.stat().st_size)
        with tifffile.TiffFile(path) as tiff:
            if len(tiff.pages) != pages:
                raise DataError(f"only {len(tiff.pages)} of its {pages} pages can be read")
            _check_pages(tiff, path.stat().st_size)
            return _stack(tiff, path), _tags(tiff)
    except DataError as error:
        raise DataError(f"{path} is not a usable TIFF: {error}; copy or export the stack again.") from error
    except Exception as error:  # the decoder meets arbitrary bytes; whatever it raises means "damaged"
        raise DataError(
            f"{path} cannot be decoded ({error}): a TIFF must be whole and use a known compression; "
            "export it again, uncompressed."
        ) from error


def write_tiff(path: Path, masks: NDArray[np.uint8], tags: TiffTags) -> None:
    """Write (pages, H, W) uint8, one page each, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    options: dict[str, Any] = {"photometric": "minisblack"}
    if tags.resolution is not None:
        options |= {"resolution": tags.resolution, "resolutionunit": tags.resolution_unit or 1}
    if tags.imagej is not None:
        options |= {"imagej": True, "metadata": {**tags.imagej, "axes": "ZYX"}}
    else:
        options |= {"metadata": None, "compression": "zlib"}
    with atomic_path(path) as temporary, tifffile.TiffWriter(temporary, imagej=options.pop("imagej", False)) as writer:
        if tags.imagej is not None:
            writer.write(masks, contiguous=True, **options)
        else:
            for page in masks:
                writer.write(page, contiguous=False, **options)


def _count_pages(handle: BinaryIO, size: int) -> int:
    """Follow the chain of page directories; a link or directory beyond the end means truncation."""
    header = handle.read(16)
    order = {b"II": "<", b"MM": ">"}.get(header[:2])
    version = struct.unpack(f"{order}H", header[2:4])[0] if order and len(header) >= 8 else 0
    if version not in (42, 43):
        raise DataError("it does not start like one")
    count_format, entry_bytes, link_format = ("H", 12, "I") if version == 42 else ("Q", 20, "Q")
    start = 4 if version == 42 else 8
    link_bytes, count_bytes = struct.calcsize(link_format), struct.calcsize(f"<{count_format}")
    if len(header) < start + link_bytes:
        raise DataError(f"it ends after {size} bytes, inside its header")
    (offset,) = struct.unpack(f"{order}{link_format}", header[start : start + link_bytes])
    seen: set[int] = set()
    while offset:
        if offset in seen or len(seen) > MAX_PAGES:
            raise DataError("its chain of pages runs in a circle")
        seen.add(offset)
        where = f"page {len(seen)} lies at byte {offset}, the file ends at {size} (truncated)"
        if offset + count_bytes > size:
            raise DataError(where)
        handle.seek(offset)
        (count,) = struct.unpack(f"{order}{count_format}", handle.read(count_bytes))
        offset += count_bytes + count * entry_bytes
        if offset + link_bytes > size:
            raise DataError(where)
        handle.seek(offset)
        (offset,) = struct.unpack(f"{order}{link_format}", handle.read(link_bytes))
    if not seen:
        raise DataError("it has no page")
    return len(seen)


def _check_pages(tiff: Any, size: int) -> None:
    for number, page in enumerate(tiff.pages, start=1):
        page = page.aspage() if hasattr(page, "aspage") else page
        if page.samplesperpixel != 1 or page.photometric not in (0, 1):
            kind = f"{page.samplesperpixel} values a pixel" if page.samplesperpixel != 1 else "a colour table"
            raise DataError(f"page {number} has {kind} (colour) and grey is expected: convert it to grey first")
        if not page.dataoffsets or len(page.dataoffsets) != len(page.databytecounts):
            raise DataError(f"page {number} does not say where its pixels are")
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            if count < 1 or offset + count > size:
                raise DataError(
                    f"page {number} needs the bytes {offset} to {offset + count}, the file ends at {size} (truncated)"
                )
    series = tiff.series
    if len(series) != 1:
        raise DataError(f"its {len(tiff.pages)} pages differ in size or type and a stack is expected")
    if series[0].dataoffset is not None and series[0].dataoffset + series[0].nbytes > size:
        raise DataError(f"it announces {series[0].nbytes} bytes of pixels, the file ends at {size} (truncated)")


def _stack(tiff: Any, path: Path) -> NDArray[Any]:
    try:
        data = np.asarray(tiff.series[0].asarray())
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        data = _pillow_pages(path)  # LZW and the like, which tifffile leaves to a package that may be absent
    if data.ndim == 2:
        data = data[None]
    if data.ndim != 3:
        raise DataError(f"it has the axes {tiff.series[0].axes} {data.shape} and (pages, height, width) are expected")
    return np.where(data, np.uint8(255), np.uint8(0)) if data.dtype == bool else data


def _pillow_pages(path: Path) -> NDArray[Any]:
    with Image.open(path) as image:
        pages = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            pages.append(np.asarray(image))
    return np.stack(pages)


def _tags(tiff: Any) -> TiffTags:
    page = tiff.pages[0]
    x, y, unit = (page.tags.get(name) for name in ("XResolution", "YResolution", "ResolutionUnit"))
    resolution = None
    if x is not None and y is not None and 0 not in (*x.value, *y.value):
        resolution = (x.value[0] / x.value[1], y.value[0] / y.value[1])
    imagej = None
    if tiff.is_imagej:
        stored = tiff.imagej_metadata or {}
        imagej = {key: stored[key] for key in ("spacing", "unit") if key in stored}
    return TiffTags(resolution, int(unit.value) if unit is not None else None, imagej)
