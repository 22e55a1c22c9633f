"""NIfTI volumes: read with their geometry, masks written into the same geometry."""

import gzip
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .files import write_bytes


def read_nifti(path: Path) -> tuple[NDArray[Any], Any]:
    """The voxels as (slices, first axis, second axis), slices along the last axis, and the nibabel image.

    A stored slope and intercept are applied (a slope of 0 means none); the grid is never turned or
    resampled. A compressed file is unpacked to its end, so that its own checksum is checked.

    Raises:
        DataError: damaged or truncated, colour or complex voxels, or not one 2-D or 3-D volume.
    """
    try:
        content = path.read_bytes()
        if path.suffix.lower() == ".gz":
            content = gzip.decompress(content)
        kind = nibabel.Nifti1Image if _is_first_kind(content) else nibabel.Nifti2Image
        image = kind.from_bytes(content)
        voxels = np.asanyarray(image.dataobj)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is truncated or damaged ({error}): it cannot be unpacked; copy it again.") from error
    except Exception as error:  # the parser meets arbitrary bytes; whatever it raises means "damaged"
        raise DataError(
            f"{path} cannot be read as NIfTI ({str(error).rstrip('.')}): it must be whole; copy or convert it again."
        ) from error
    if voxels.dtype.kind not in "uif":
        raise DataError(f"{path} has voxels of type {voxels.dtype}: grey values are expected; convert it to grey.")
    if voxels.ndim < 2 or any(length != 1 for length in voxels.shape[3:]) or 0 in voxels.shape:
        raise DataError(
            f"{path} has shape {voxels.shape}: one 2-D or 3-D volume is expected; split a series into volumes."
        )
    volume = voxels.reshape((*voxels.shape[:3], 1)[:3])
    return np.moveaxis(volume, 2, 0), image


def write_nifti(path: Path, masks: NDArray[np.uint8], like: Any) -> None:
    """Write (slices, first axis, second axis) as uint8 voxels with the shape, affine and codes of ``like``.

    Raises:
        OutputError: the file cannot be written.
    """
    header = like.header.copy()
    header.set_data_dtype(np.uint8)
    header["cal_min"] = header["cal_max"] = 0  # the display range of the image means nothing for a mask
    voxels = np.moveaxis(masks, 0, 2).reshape(like.shape)
    content = type(like)(voxels, like.affine, header).to_bytes()
    write_bytes(path, gzip.compress(content, mtime=0) if path.suffix.lower() == ".gz" else content)


def _is_first_kind(content: bytes) -> bool:
    return len(content) < 4 or 540 not in (int.from_bytes(content[:4], "little"), int.from_bytes(content[:4], "big"))
