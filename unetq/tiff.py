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
# Bytes of one value, by the number of its type in the TIFF specification.
VALUE_BYTES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


@dataclass(frozen=True)
class TiffTags:
    """What a mask takes over from its image: resolution, and ImageJ's spacing and unit."""

    resolution: tuple[float, float] | None = None
    resolution_unit: int | None = None
    imagej: dict[str, Any] | None = field(default=None)


def read_tiff(path: Path) -> tuple[NDArray[Any], TiffTags]:
    """All pages as (pages, H, W), stored values as they are (8-bit for two-level pages: 0 and 255).

    Whether 0 is shown black or white (PhotometricInterpretation) changes nothing: a picture saved in both
    ways stores complementary values, and those are what is returned, under every compression.

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
    """Follow the chain of page directories; what lies beyond the end means truncation."""
    header = handle.read(16)
    order = {b"II": "<", b"MM": ">"}.get(header[:2])
    version = struct.unpack(f"{order}H", header[2:4])[0] if order and len(header) >= 8 else 0
    if order is None or version not in (42, 43):
        raise DataError("it does not start like one")
    count_format, link_format = (f"{order}H", f"{order}I") if version == 42 else (f"{order}Q", f"{order}Q")
    inline = struct.calcsize(link_format)
    entry = struct.Struct(f"{order}HH{link_format[1]}{inline}s")
    start = 4 if version == 42 else 8

    def read(offset: int, count: int) -> bytes:
        if offset + count > size:
            raise DataError(
                f"page {len(seen)} needs the bytes up to {offset + count}, the file ends at {size} (truncated)"
            )
        handle.seek(offset)
        return handle.read(count)

    seen: set[int] = set()
    (offset,) = struct.unpack(link_format, read(start, inline))
    while offset:
        if offset in seen or len(seen) > MAX_PAGES:
            raise DataError("its chain of pages runs in a circle")
        seen.add(offset)
        (count,) = struct.unpack(count_format, read(offset, struct.calcsize(count_format)))
        offset += struct.calcsize(count_format)
        for _, kind, values, place in entry.iter_unpack(read(offset, count * entry.size)):
            length = values * VALUE_BYTES.get(kind, 1)
            if length > inline:
                read(struct.unpack(link_format, place)[0] + length - 1, 1)
        (offset,) = struct.unpack(link_format, read(offset + count * entry.size, inline))
    if not seen:
        raise DataError("it has no page")
    return len(seen)


def _check_pages(tiff: Any, size: int) -> None:
    for number, page in enumerate(tiff.pages, start=1):
        page = page.aspage() if hasattr(page, "aspage") else page
        if page.samplesperpixel != 1 or page.photometric not in (0, 1):
            kind = f"{page.samplesperpixel} values a pixel" if page.samplesperpixel != 1 else "a colour table"
            hint = ", or a stack whose slices were saved as colour planes" if page.planarconfig == 2 else ""
            raise DataError(f"page {number} has {kind} (colour{hint}) and grey is expected: convert it to grey first")
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
    except (ValueError, NotImplementedError) as error:
        if "imagecodecs" not in str(error):
            raise
        data = _pillow_pages(tiff, path)  # LZW, 4 bits and the like, for which tifffile wants a further package
    if data.ndim == 2:
        data = data[None]
    if data.ndim != 3:
        raise DataError(f"it has the axes {tiff.series[0].axes} {data.shape} and (pages, height, width) are expected")
    return np.where(data, np.uint8(255), np.uint8(0)) if data.dtype == bool else data


def _pillow_pages(tiff: Any, path: Path) -> NDArray[Any]:
    with Image.open(path) as image:
        pages = []
        for number, page in enumerate(tiff.pages):
            image.seek(number)
            page = page.aspage() if hasattr(page, "aspage") else page
            pages.append(_stored_values(np.asarray(image), page))
    return np.stack(pages)


def _stored_values(shown: NDArray[Any], page: Any) -> NDArray[Any]:
    """Undo what Pillow does to show a page: up to 8 bits it inverts WhiteIsZero and stretches 2 and 4 bits to 8."""
    if shown.dtype.newbyteorder("=") != np.dtype(page.dtype):
        raise DataError(
            f"its pixels are {np.dtype(page.dtype)} under a compression that is read as {shown.dtype} here; "
            "save it uncompressed"
        )
    if page.bitspersample > 8:
        return shown
    if page.photometric == 0:
        shown = ~shown  # logical for 1 bit, 255 - value for 8 bits
    return shown // np.uint8(255 // (2**page.bitspersample - 1)) if page.bitspersample in (2, 4) else shown


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
