"""Stored DICOM pixels to real values: decoding, padding, polarity, rescale (PS3.3 C.7.6.3, C.11.1)."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from .dicom_headers import Frame, open_file, quiet
from .errors import DataError

Array = NDArray[Any]


def read_planes(frames: Sequence[Frame], tell: Callable[[str], None]) -> list[Array]:
    """The planes (rows, columns) in real values: the modality's own unit, Hounsfield units for CT.

    All have one type: int16 or int32 where every value is whole, else float32. A padding value that lies outside
    the range of the real pixels is replaced by their lowest value. MONOCHROME1 says how to display, so a rescaled
    image keeps its values; one without rescale is inverted, so that bright is high as elsewhere.

    Args:
        frames: planes in any order; each file is opened once.
        tell: is called with a sentence for what was changed.

    Raises:
        DataError: truncated or undecodable pixels, a compression without a decoder here, values that are not finite.
    """
    decoded: dict[Path, tuple[FileDataset, Array]] = {}
    last = {frame.file: index for index, frame in enumerate(frames)}
    planes: list[Array] = []
    padding: list[NDArray[np.bool_] | None] = []
    inverted = 0
    for index, frame in enumerate(frames):
        if frame.file not in decoded:
            decoded[frame.file] = _decode(frame)
        data, stored = decoded[frame.file]
        plane = stored[frame.number]
        padding.append(_padding(data, plane))
        if str(data.get("PhotometricInterpretation", "")).strip() == "MONOCHROME1" and frame.slope is None:
            plane = _invert(data, plane)
            inverted += 1
        planes.append(_rescale(frame, plane))
        if last[frame.file] == index:
            del decoded[frame.file]
    if inverted:
        tell(f"{inverted} images are MONOCHROME1 (low is bright) without a rescale: they were inverted.")
    return _one_type(_without_padding(planes, padding))


@quiet()
def _decode(frame: Frame) -> tuple[FileDataset, Array]:
    """The file and its stored values, (frames, rows, columns)."""
    path = frame.file
    data = open_file(path)
    if "ModalityLUTSequence" in data:
        raise DataError(
            f"{path} maps its pixels by a table (ModalityLUTSequence) and a slope and an intercept are expected; "
            "convert the series with its vendor's software first."
        )
    if "PixelData" not in data:
        raise DataError(f"{path} has no pixel data: the file is cut short or a header only; copy or download it again.")
    syntax, codecs = _decoders(data, path)
    try:
        stored = _decoded(data, codecs)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # decoders meet arbitrary bytes and may even panic, which is no Exception
        raise DataError(
            f"{path}: its pixels cannot be decoded from {syntax.name} ({_first_line(error)}): "
            "the file is cut short or damaged; copy or download it again."
        ) from error
    shape = (frame.frames, frame.rows, frame.columns)
    if stored.size != int(np.prod(shape)) or stored.shape[-2:] != shape[1:]:
        raise DataError(
            f"{path} holds pixels of shape {stored.shape} and its header states {frame.frames} frames of "
            f"{frame.rows} x {frame.columns}: both must agree; copy or download it again."
        )
    return data, stored.reshape(shape)


def _decoded(data: FileDataset, codecs: Sequence[str]) -> Array:
    """The pixels by the first codec that can; the last one's error where none can."""
    for codec in codecs[:-1]:
        try:
            data.pixel_array_options(decoding_plugin=codec)
            return np.asarray(data.pixel_array)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # the next may know this kind of it, such as 12 bits
            continue
    data.pixel_array_options(decoding_plugin=codecs[-1])
    return np.asarray(data.pixel_array)


def _decoders(data: FileDataset, path: Path) -> tuple[UID, list[str]]:
    """The transfer syntax and its codecs ([""]: it needs none); GDCM last, since a damaged file could crash it."""
    meta = data.file_meta
    if "TransferSyntaxUID" not in meta:
        implicit = data.original_encoding[0]
        meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    syntax = UID(meta.TransferSyntaxUID)
    if not syntax.is_transfer_syntax or syntax.is_private:
        raise DataError(f"{path}: the transfer syntax {syntax} is not known to DICOM; convert the file first.")
    if not syntax.is_encapsulated:
        return syntax, [""]
    remedy = "install the codecs with `pip install 'unetq[dicom]'`, or decompress the series first (gdcmconv --raw)."
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise DataError(
            f"{path} is compressed as {syntax.name} ({syntax}), which no codec reads; decompress it first."
        ) from None
    if not decoder.is_available:
        raise DataError(f"{path} is compressed as {syntax.name} ({syntax}) and no codec for it is installed; {remedy}")
    return syntax, sorted(decoder.available_plugins, key=lambda name: name == "gdcm")


@quiet()
def _padding(data: FileDataset, plane: Array) -> NDArray[np.bool_] | None:
    """Where the stored plane is padding, or None."""
    value = data.get("PixelPaddingValue")
    if value is None or value == "":
        return None
    bits = int(data.BitsAllocated)
    low, high = (_signed(int(edge), data, bits) for edge in (value, data.get("PixelPaddingRangeLimit") or value))
    low, high = min(low, high), max(low, high)
    found: NDArray[np.bool_] = (plane >= low) & (plane <= high)
    return found if found.any() else None


def _signed(value: int, data: FileDataset, bits: int) -> int:
    """A padding value in the pixels' own sign: files often store it as unsigned."""
    if int(data.PixelRepresentation) == 1 and value >= 1 << (bits - 1):
        return value - (1 << bits)
    if int(data.PixelRepresentation) == 0 and value < 0:
        return value + (1 << bits)
    return value


def _invert(data: FileDataset, plane: Array) -> Array:
    bits = int(data.BitsStored)
    top = -1 if int(data.PixelRepresentation) == 1 else (1 << bits) - 1  # lowest + highest stored value
    return np.asarray(top - plane.astype(np.int64))


def _rescale(frame: Frame, plane: Array) -> Array:
    slope = 1.0 if frame.slope is None else frame.slope
    intercept = 0.0 if frame.intercept is None else frame.intercept
    if slope == 0 or not np.isfinite([slope, intercept]).all():
        raise DataError(
            f"{frame.file}: RescaleSlope {slope:g} and RescaleIntercept {intercept:g}: a slope is finite and not 0; "
            "export the file again."
        )
    if plane.dtype.kind in "ui" and slope.is_integer() and intercept.is_integer():
        values = plane.astype(np.int64) * int(slope) + int(intercept)
        for kind in (np.int16, np.int32):
            if np.iinfo(kind).min <= int(values.min()) and int(values.max()) <= np.iinfo(kind).max:
                return values.astype(kind)
        return np.asarray(values, dtype=np.float32)
    result = (plane.astype(np.float64) * slope + intercept).astype(np.float32)
    if not np.isfinite(result).all():
        raise DataError(f"{frame.file} has pixels that are not finite: intensities are real numbers; export it again.")
    return result


def _without_padding(planes: list[Array], padding: list[NDArray[np.bool_] | None]) -> list[Array]:
    """Padding outside the range of all real pixels becomes their lowest value; other padding is left as it is."""
    if not any(mask is not None for mask in padding):
        return planes
    real = [plane if mask is None else plane[~mask] for plane, mask in zip(planes, padding, strict=True)]
    ends = [(values.min(), values.max()) for values in real if values.size]
    if not ends:
        return planes
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    return [
        plane if mask is None else np.where(mask & ((plane < low) | (plane > high)), low, plane).astype(plane.dtype)
        for plane, mask in zip(planes, padding, strict=True)
    ]


def _one_type(planes: list[Array]) -> list[Array]:
    kinds = {plane.dtype.type for plane in planes}
    kind = next(kind for kind in (np.float32, np.int32, np.int16) if kind in kinds)
    return [plane.astype(kind, copy=False) for plane in planes]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".:")
