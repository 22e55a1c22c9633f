"""NIfTI volumes: read with their place in space, masks written into the same place.

Which affine holds is what the standard (nifti1.h, "methods" 1 to 3) and nibabel say: the sform where its code is
positive, else the qform where its code is, else the voxel sizes alone, which tell no direction.
"""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .files import write_bytes
from .geometry import axes_of, check_affine, largest_distance, spacing_of

METRES, MICROMETRES = 1, 3  # xyzt_units of the standard; 2 is mm, 0 says nothing and is taken as mm, too


@dataclass(frozen=True)
class Form:
    """What a mask takes over of a nibabel image, without the image's voxels and bytes.

    Attributes:
        kind: nibabel's class. header: its header. affine: as stored, in the file's unit. shape: as stored.
    """

    kind: Any
    header: Any
    affine: NDArray[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """Where a NIfTI grid lies.

    Attributes:
        affine: RAS mm of the voxel (i, j, k), float64 (4, 4).
        axes: the axes code of (rows, columns, slices), "" where the file tells sizes only.
        spacing: mm (slices, rows, columns).
        warnings: what a reader should know, in sentences.
    """

    affine: NDArray[np.float64]
    axes: str
    spacing: tuple[float, float, float]
    warnings: tuple[str, ...] = ()


def read_nifti(path: Path, channels: bool = False) -> tuple[NDArray[Any], Form, Place]:
    """The voxels as (slices, first axis, second axis), slices along the last axis, their form, their place.

    A stored slope and intercept are applied (a slope of 0 or NaN means none); the grid is never turned or
    resampled. A compressed file is unpacked to its end, so that its own checksum is checked.

    Args:
        path: a .nii or .nii.gz file.
        channels: allow a fourth axis of several channels; the voxels are (channels, slices, first, second) then.

    Raises:
        DataError: damaged or truncated, colour or complex voxels, not one 2-D or 3-D volume, or an affine that
            maps no grid onto space.
    """
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path} has 0 bytes: the file is empty; copy it again.")
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
    more = [length for length in voxels.shape[3:] if length != 1]
    if voxels.ndim < 2 or len(more) > int(channels) or 0 in voxels.shape:
        raise DataError(
            f"{path} has shape {voxels.shape}: one 2-D or 3-D volume is expected; split a series into volumes."
        )
    grid = (*voxels.shape[:3], 1)[:3]
    volume = np.moveaxis(voxels.reshape((*grid, *more)), 2, 0)
    _check_sizes(path, image, content, grid)
    form = Form(kind, image.header, image.affine, image.shape)
    return (np.moveaxis(volume, 3, 0) if more else volume), form, place_of(path, image, volume.shape[:3])


def place_of(path: Path, image: Any, shape: tuple[int, ...]) -> Place:
    """Where the grid (slices, rows, columns) of a nibabel image lies; see the module for the rule.

    Raises:
        DataError: a degenerate affine.
    """
    header = image.header
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    unit = {METRES: 1000.0, MICROMETRES: 0.001}.get(int(header["xyzt_units"]) & 7, 1.0)
    to_mm = np.diag([unit, unit, unit, 1.0])
    with np.errstate(invalid="ignore"):  # what is not finite is refused below
        affine = to_mm @ np.asarray(image.affine, dtype=np.float64)
    source = "sform" if sform_code > 0 else "qform" if qform_code > 0 else "pixdim"
    try:
        check_affine(affine)
    except DataError as error:
        raise DataError(f"{path}: its {source} cannot be used: {error}") from error
    if source == "pixdim":
        warning = (
            f"{path} tells the sizes of its voxels and not how they lie (sform_code and qform_code are 0); "
            "what depends on directions has to be told."
        )
        return Place(affine, "", spacing_of(affine), (warning,))
    warnings = _disagreement(path, header, to_mm, shape) if sform_code > 0 and qform_code > 0 else ()
    return Place(affine, axes_of(affine), spacing_of(affine), warnings)


def write_nifti(path: Path, masks: NDArray[np.uint8], like: Form) -> None:
    """Write (slices, first axis, second axis) as uint8 voxels with the grid, affine and codes of ``like``.

    Raises:
        OutputError: the file cannot be written.
    """
    header = like.header.copy()
    header.set_data_dtype(np.uint8)
    header["cal_min"] = header["cal_max"] = 0  # the display range of the image means nothing for a mask
    voxels = np.moveaxis(masks, 0, 2)
    shape = like.shape if voxels.size == np.prod(like.shape) else like.shape[:3]  # one mask for all channels
    _write(path, like.kind(voxels.reshape(shape), like.affine, header))


def write_nifti_in(path: Path, masks: NDArray[np.uint8], affine: NDArray[Any]) -> None:
    """Write (slices, first axis, second axis) as uint8 voxels at a scanner's RAS mm ``affine``.

    Both forms carry it; a sheared grid (a tilted gantry), which a qform cannot express, goes into the sform alone.

    Raises:
        OutputError: the file cannot be written.
    """
    kind: Any = nibabel.Nifti1Image  # not typed
    image = kind(np.moveaxis(masks, 0, 2), affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 1)
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    square = np.allclose(directions.T @ directions, np.eye(3), atol=1e-4)
    image.set_qform(affine if square else None, 1 if square else 0)
    _write(path, image)


def _write(path: Path, image: Any) -> None:
    content = image.to_bytes()
    write_bytes(path, gzip.compress(content, mtime=0) if path.suffix.lower() == ".gz" else content)


def _disagreement(path: Path, header: Any, to_mm: NDArray[Any], shape: tuple[int, ...]) -> tuple[str, ...]:
    """A warning where sform and qform, both said to hold, put a corner more than a tenth of a voxel apart."""
    sform = to_mm @ header.get_sform()
    try:
        qform = to_mm @ header.get_qform()
        distance = largest_distance(shape, sform, qform)
        told = f"put a corner of the grid {distance:.3g} mm apart"
    except Exception as error:  # a quaternion that is none; the sform does not need it
        distance, told = np.inf, f"disagree: the qform cannot be used ({str(error).rstrip('.')})"
    if distance <= min(spacing_of(sform)) / 10:
        return ()
    return (f"{path}: sform and qform, both with a positive code, {told}; the sform is used.",)


def _check_sizes(path: Path, image: Any, content: bytes, grid: tuple[int, ...]) -> None:
    """nibabel takes a size of 0 for 1 mm, silently; where sizes are needed, that is a guess about a patient."""
    if int(image.header["sform_code"]) > 0:
        return
    kind = type(image.header)
    sizes = kind(content[: kind.template_dtype.itemsize], check=False)["pixdim"][1:4]
    if any(length > 1 and size == 0 for length, size in zip(grid, sizes, strict=True)):
        raise DataError(
            f"{path}: its voxels are {' x '.join(f'{size:g}' for size in sizes)} mm (pixdim): sizes are above 0; "
            "repair the header."
        )


def _is_first_kind(content: bytes) -> bool:
    return len(content) < 4 or 540 not in (int.from_bytes(content[:4], "little"), int.from_bytes(content[:4], "big"))
