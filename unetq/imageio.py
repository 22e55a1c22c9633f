"""Images in, masks out in the same geometry: TIFF, PNG, NIfTI and NumPy files, and DICOM series.

Stored values are kept as they are; nothing is resampled, turned or stretched. A mask goes to a file of
the image's own kind. TIFF, PNG and NumPy images know only a grid of pixels, so a mask may also move
between these three (PNG: one slice only); NIfTI geometry fits in NIfTI alone. A folder is a DICOM series; its
mask goes to NIfTI, in the place of the series, or to a DICOM segmentation (.dcm).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import ConfigError, DataError
from .files import atomic_path, write_with
from .fixedpoint import F32
from .nifti import read_nifti, write_nifti, write_nifti_in
from .tiff import TiffTags, read_tiff, write_tiff

Kind = Literal["tiff", "png", "nifti", "npy", "dicom"]
SUFFIXES: dict[str, Kind] = {
    ".tif": "tiff",
    ".tiff": "tiff",
    ".png": "png",
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".npy": "npy",
}
DICOM_SUFFIX = ".dcm"
GREY_MODES = ("L", "1", "I", "I;16", "I;16B", "I;16L", "F")


@dataclass(frozen=True, eq=False)
class Volume:
    """An image as a stack of slices, with what is needed to write a mask beside it.

    Attributes:
        path: where it was read.
        kind: its file format.
        data: (slices, H, W) as stored (slope and intercept applied), or (channels, slices, H, W) of a NIfTI file
            with several channels, where these were allowed.
        flat: True for an .npy array of two axes, whose mask has two as well.
        geometry: the format's own record: ``unetq.nifti.Form``, ``TiffTags``, ``unetq.dicom.Series`` or None.
        axes: the axes code of (H, W, slices), such as "LAS" (see ``unetq.geometry``); None where not known.
        spacing: mm (slices, H, W); None where not known.
        affine: RAS mm of the voxel (index in H, index in W, slice), (4, 4); None where not known.
        warnings: what the reader noticed, in sentences.
    """

    path: Path
    kind: Kind
    data: NDArray[Any]
    flat: bool = False
    geometry: Any = None
    axes: str | None = None
    spacing: tuple[float, ...] | None = None
    affine: NDArray[np.float64] | None = None
    warnings: tuple[str, ...] = ()

    def slice(self, index: int) -> F32:
        """Slice ``index`` of an image of one channel as float32 (1, H, W), on the stored grid."""
        return np.ascontiguousarray(self.data[index], dtype=np.float32)[None]

    @property
    def grid(self) -> tuple[int, ...]:
        """(slices, H, W)."""
        return self.data.shape[-3:]

    @property
    def channels(self) -> NDArray[Any]:
        """``data`` as (channels, slices, H, W), a view."""
        return self.data if self.data.ndim == 4 else self.data[None]


def kind_of(path: Path) -> Kind:
    """The file format a name stands for.

    Raises:
        DataError: an extension that is none of ``SUFFIXES``.
    """
    name = path.name.lower()
    if name.endswith(DICOM_SUFFIX):
        return "dicom"
    for suffix, kind in SUFFIXES.items():
        if name.endswith(suffix):
            return kind
    raise DataError(f"{path}: the extension {path.suffix or '(none)'} is not known; use {', '.join(SUFFIXES)}.")


def read_image(path: str | Path, channels: bool = False) -> Volume:
    """Read a grey image or stack and check that it can be used; a folder is read as a DICOM series.

    Args:
        path: a file of a known extension, or the folder of one DICOM series.
        channels: allow NIfTI files with several channels.

    Raises:
        DataError: missing, empty, truncated or damaged; unknown extension; in colour; NaN or infinite
            pixels; values beyond float32. The message names the file, the rule and the remedy.
        ConfigError: DICOM, and the package that reads it is not installed.
    """
    path = Path(path)
    if path.is_dir() and not any(path.name.lower().endswith(suffix) for suffix in SUFFIXES):
        return _checked(_read_dicom(path))
    kind = kind_of(path)
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise DataError(f"image {path} {what}; check the path.")
    try:
        size = path.stat().st_size
        with open(path, "rb"):
            pass
    except OSError as error:
        raise DataError(f"image {path} cannot be opened ({error.strerror}); check its permissions.") from error
    if size == 0:
        raise DataError(f"image {path} has 0 bytes: the file is empty; copy it again.")
    return _checked(_read_nifti(path, channels) if kind == "nifti" else _READERS[kind](path))


def check_output(output: str | Path, like: Volume) -> Kind:
    """The format of a mask file, if it can carry the geometry of ``like``; asked before any computing.

    Raises:
        ConfigError: the output is the image itself, an existing folder, in a folder that does not exist, or
            of a format that would lose geometry or slices.
    """
    output = Path(output)
    try:
        kind = kind_of(output)
    except DataError as error:
        raise ConfigError(f"output {error}") from error
    if output.is_dir():
        raise ConfigError(f"output {output} is a folder; name a file in it.")
    if not output.parent.is_dir():
        raise ConfigError(f"output {output}: the folder {output.parent} does not exist; create it first.")
    if output.exists() and output.samefile(like.path):
        raise ConfigError(f"output {output} is the input image; images are never overwritten; choose another name.")
    if like.kind == "dicom":
        _check_dicom_output(output, kind, like)
    elif (kind == "dicom" or "nifti" in (kind, like.kind)) and kind != like.kind:
        raise ConfigError(
            f"output {output}: a mask of {like.path.name} ({like.kind}) would lose or lack its position in space as "
            f"{kind}; use one of {', '.join(_suffixes_for(like))}."
        )
    if kind == "png" and like.grid[0] > 1:
        raise ConfigError(
            f"output {output}: a PNG holds 1 slice and {like.path.name} has {like.grid[0]}; "
            f"use one of {', '.join(_suffixes_for(like))}."
        )
    return kind


def write_mask(
    output: str | Path, masks: NDArray[np.uint8], like: Volume, labels: Sequence[tuple[str, int]] = ()
) -> None:
    """Write ``masks`` (slices, H, W) in the geometry of ``like``, whole or not at all.

    TIFF: the same pages and resolution; PNG: 8 bit grey; NIfTI: uint8 with the same shape, affine and
    sform/qform codes; .npy: uint8 with the image's axes; DICOM: a segmentation that refers to the series.

    Args:
        output: the file.
        masks: uint8 label values.
        like: the image.
        labels: name and value of each class, for the segments of a DICOM file.

    Raises:
        ConfigError: as ``check_output``. DataError: masks of another shape. OutputError: cannot be written.
    """
    output = Path(output)
    kind = check_output(output, like)
    if masks.dtype != np.uint8 or masks.shape != like.grid:
        raise DataError(
            f"a mask of {masks.dtype} {masks.shape} for an image of {like.grid}: it must be uint8 and as large."
        )
    if kind == "dicom":
        from .dicom_segmentation import write_segmentation

        write_segmentation(output, masks, like.geometry, labels)
    elif kind == "nifti" and like.kind == "dicom":
        write_nifti_in(output, masks, like.geometry.affine)
    elif kind == "nifti":
        write_nifti(output, masks, like.geometry)
    elif kind == "tiff":
        write_tiff(output, masks, like.geometry if like.kind == "tiff" else TiffTags())
    elif kind == "png":
        with atomic_path(output) as temporary:
            Image.fromarray(masks[0]).save(temporary, format="PNG")
    else:
        plain = masks[0] if len(masks) == 1 and (like.flat or like.kind != "npy") else masks
        write_with(output, lambda handle: np.save(handle, plain, allow_pickle=False))


def _read_tiff(path: Path) -> Volume:
    data, tags = read_tiff(path)
    return Volume(path, "tiff", data, geometry=tags)


def _read_nifti(path: Path, channels: bool) -> Volume:
    data, form, place = read_nifti(path, channels)
    return Volume(path, "nifti", data, False, form, place.axes or None, place.spacing, place.affine, place.warnings)


def _read_dicom(path: Path) -> Volume:
    try:
        from .dicom import read_series
    except ImportError as error:
        raise ConfigError(
            f"{path}: DICOM is read with pydicom, which is not installed; `pip install 'unetq[dicom]'`."
        ) from error
    series = read_series(path)
    return Volume(
        path, "dicom", series.data, False, series, series.axes, series.spacing, series.affine, series.warnings
    )


def _read_png(path: Path) -> Volume:
    try:
        with Image.open(path, formats=["PNG"]) as image:
            mode = image.mode
            pixels = np.asarray(image)
    except Exception as error:  # the decoder meets arbitrary bytes; whatever it raises means "damaged"
        raise DataError(
            f"{path} cannot be decoded as PNG ({error}): the file must be whole; export it again."
        ) from error
    if mode not in GREY_MODES:
        kind = "a colour table" if mode == "P" else f"{len(mode)} channels ({mode})"
        raise DataError(f"{path} has {kind} and grey is expected; convert it to a grey PNG first.")
    if pixels.dtype == bool:
        pixels = np.where(pixels, np.uint8(255), np.uint8(0))
    return Volume(path, "png", pixels[None])


def _read_npy(path: Path) -> Volume:
    try:
        data = np.load(path, allow_pickle=False)
    except Exception as error:
        raise DataError(
            f"{path} cannot be read as a NumPy array ({error}): it must be a whole .npy file without pickled objects; "
            "save it again with numpy.save."
        ) from error
    if not isinstance(data, np.ndarray) or data.ndim not in (2, 3):
        raise DataError(f"{path} is no array of 2 or 3 axes: (H, W) or (slices, H, W) is expected; reshape it.")
    return Volume(path, "npy", data if data.ndim == 3 else data[None], flat=data.ndim == 2)


def _checked(volume: Volume) -> Volume:
    data, path = volume.data, volume.path
    if 0 in data.shape:
        raise DataError(f"image {path} has shape {data.shape}: each axis needs 1 pixel or more; export it anew.")
    if data.dtype.kind not in "uif":
        raise DataError(f"image {path} has pixels of type {data.dtype}: real numbers are expected; convert it.")
    if data.dtype.kind != "f":
        return volume
    for index, plane in enumerate(data.reshape(-1, *data.shape[-2:])):
        usable = np.abs(plane) <= np.finfo(np.float32).max  # False for NaN, too
        if not usable.all():
            row, column = np.argwhere(~usable)[0]
            raise DataError(
                f"image {path} has {int((~usable).sum())} pixels in slice {index} that are NaN, infinite or beyond "
                f"float32 (first at row {row}, column {column}): intensities must be finite; replace them first."
            )
    return volume


def _check_dicom_output(output: Path, kind: Kind, like: Volume) -> None:
    if kind == "dicom":
        from .dicom_segmentation import check_series

        check_series(output, like.geometry)
    elif kind != "nifti":
        raise ConfigError(
            f"output {output}: a mask of {like.path.name} (a DICOM series) would lose its position in space as {kind}; "
            f"use one of {', '.join(_suffixes_for(like))}."
        )


def _suffixes_for(like: Volume) -> list[str]:
    if like.kind in ("nifti", "dicom"):
        more = [DICOM_SUFFIX] if like.kind == "dicom" else []
        return [suffix for suffix, kind in SUFFIXES.items() if kind == "nifti"] + more
    single = like.grid[0] == 1
    return [suffix for suffix, kind in SUFFIXES.items() if kind in ("tiff", "npy") or (kind == "png" and single)]


_READERS: dict[Kind, Callable[[Path], Volume]] = {
    "tiff": _read_tiff,
    "png": _read_png,
    "npy": _read_npy,
    "dicom": _read_dicom,
}
