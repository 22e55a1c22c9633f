"""Planes to a volume: sorted along their normal, checked for gaps, copies, tilt and mixtures.

The mapping of a pixel to space is DICOM PS3.3 C.7.6.2.1.1: position + column index x spacing between
columns x first direction + row index x spacing between rows x second direction, in LPS millimetres.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from .dicom_headers import Frame
from .errors import DataError

F64 = NDArray[np.float64]
SAME = 0.01  # of a millimetre: two planes at one place


def check_alike(frames: Sequence[Frame], where: str) -> None:
    """Refuse planes that cannot be one volume.

    Raises:
        DataError: several patients, sizes, orientations, pixel spacings or frames of reference, or planes without
            a position, naming the values and how often each occurs.
    """
    _one_value(frames, lambda frame: frame.patient or "(none)", "patient ids", where, "put each patient in a folder")
    for name in ("position", "orientation", "spacing"):
        lacking = [frame for frame in frames if getattr(frame, name) is None]
        if lacking:
            raise DataError(
                f"{where}: {lacking[0].name} has no {name} in space ({len(lacking)} of {len(frames)} images): a volume "
                "is put together by the positions of its slices; export the original series."
            )
    remedy = "choose one series or move the others out"
    _one_value(frames, lambda frame: f"{frame.rows} x {frame.columns}", "image sizes (rows x columns)", where, remedy)
    _one_value(frames, lambda frame: _rounded(frame.orientation, 3), "orientations", where, remedy)
    _one_value(frames, lambda frame: _rounded(frame.spacing, 4), "pixel spacings (mm)", where, remedy)
    _one_value(frames, lambda frame: frame.reference or "(none)", "frames of reference", where, remedy)
    if min(_known(frames[0].spacing)) <= 0:
        raise DataError(
            f"{where}: pixels are {_rounded(frames[0].spacing, 4)} mm apart: both distances are above 0; "
            "correct PixelSpacing."
        )


def normal_of(frame: Frame) -> F64:
    """The unit vector along which slices follow each other, LPS.

    Raises:
        DataError: directions that are not of length 1 and at right angles (within 0.001).
    """
    along, down = np.array(_known(frame.orientation)).reshape(2, 3)
    errors = (abs(along @ along - 1), abs(down @ down - 1), abs(along @ down))
    if max(errors) > 2e-3 or not np.isfinite(errors).all():
        raise DataError(
            f"{frame.file}: ImageOrientationPatient is {_rounded(frame.orientation, 4)}: it holds two directions of "
            "length 1 at right angles; export the file again."
        )
    normal = np.cross(along, down)
    return np.asarray(normal / np.linalg.norm(normal), dtype=np.float64)


def sort_along(frames: Sequence[Frame], normal: F64) -> list[list[Frame]]:
    """The planes in ascending order along ``normal``; planes at one place are together."""
    ordered = sorted(frames, key=lambda frame: (_height(frame, normal), frame.instance or 0, frame.name))
    places: list[list[Frame]] = []
    for frame in ordered:
        if places and _height(frame, normal) - _height(places[-1][0], normal) <= SAME:
            places[-1].append(frame)
        else:
            places.append([frame])
    return places


def check_positions(frames: Sequence[Frame], normal: F64, where: str) -> float | None:
    """The distance of neighbouring slices in mm, for planes sorted along ``normal``; None for a single one.

    Raises:
        DataError: a tilted stack, a missing slice (between which), or slices at unequal distances.
    """
    if len(frames) < 2:
        return None
    positions = np.array([_known(frame.position) for frame in frames])
    heights = positions @ normal
    aside = np.linalg.norm(positions - positions[0] - np.outer(heights - heights[0], normal), axis=1)
    worst = int(aside.argmax())
    if aside[worst] > max(0.1, 0.25 * min(_known(frames[0].spacing))):
        angle = np.degrees(np.arctan2(aside[worst], abs(heights[worst] - heights[0])))
        raise DataError(
            f"{where}: the slices are shifted sideways against each other, by {aside[worst]:.2f} mm from "
            f"{frames[0].name} to {frames[worst].name} ({angle:.1f} degrees, as with a tilted gantry): slices must "
            "follow each other at right angles to their planes; correct the tilt first (dcm2niix does)."
        )
    steps = np.diff(heights)
    usual = float(np.median(steps))
    even = np.linspace(heights[0], heights[-1], len(frames))
    if np.abs(heights - even).max() > _tolerance(usual):
        _refuse_steps(frames, steps, int(np.abs(steps - usual).argmax()), where)
    return float((heights[-1] - heights[0]) / (len(frames) - 1))


def affine_of(first: Frame, normal: F64, distance: float) -> F64:
    """Voxel (i = column, j = row, k = slice) to RAS millimetres, 4 x 4, for slices ``distance`` mm apart."""
    along, down = np.array(_known(first.orientation)).reshape(2, 3)
    between_rows, between_columns = _known(first.spacing)
    affine = np.eye(4)
    affine[:3, 0] = along * between_columns
    affine[:3, 1] = down * between_rows
    affine[:3, 2] = normal * distance
    affine[:3, 3] = _known(first.position)
    return np.asarray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)


def _refuse_steps(frames: Sequence[Frame], steps: F64, odd: int, where: str) -> None:
    usual = float(np.median(steps))
    for unit in (usual, float(steps.min())):  # with every other slice gone, the smallest step is the true one
        gaps = np.rint(steps / unit).astype(int)
        if gaps.min() >= 1 and gaps.max() > 1 and (np.abs(steps - gaps * unit) <= 2 * _tolerance(unit)).all():
            places = np.flatnonzero(gaps > 1)
            at, count = int(places[0]), int(gaps[places[0]]) - 1
            more = f", and {len(places) - 1} more gaps follow" if len(places) > 1 else ""
            raise DataError(
                f"{where}: {count} {'slice is' if count == 1 else 'slices are'} missing between {_place(frames[at])} "
                f"and {_place(frames[at + 1])}: these are {steps[at]:.2f} mm apart and slices {unit:.2f} mm{more}; "
                "a series must be whole; copy or download it again."
            )
    raise DataError(
        f"{where}: slices are {steps.min():.2f} to {steps.max():.2f} mm apart (usually {usual:.2f} mm, but "
        f"{steps[odd]:.2f} mm between {_place(frames[odd])} and {_place(frames[odd + 1])}): a volume needs slices at "
        "equal distances; use another reconstruction, or resample it first."
    )


def _tolerance(distance: float) -> float:
    """How far a slice may lie from its place in mm: a twentieth, or what rounding to tenths of a millimetre makes."""
    return max(0.05 * distance, min(0.1, 0.2 * distance))


def _place(frame: Frame) -> str:
    number = f"instance {frame.instance}, " if frame.instance is not None else ""
    return f"{frame.name} ({number}position {_rounded(frame.position, 2)})"


def _one_value(frames: Sequence[Frame], value: Callable[[Frame], Hashable], what: str, where: str, remedy: str) -> None:
    counts = Counter(map(value, frames))
    if len(counts) > 1:
        shown = ", ".join(f"{key} in {count} images" for key, count in counts.most_common(3))
        more = ", …" if len(counts) > 3 else ""
        raise DataError(f"{where}: {len(counts)} {what} ({shown}{more}): a volume has one; {remedy}.")


def _height(frame: Frame, normal: F64) -> float:
    return float(np.array(_known(frame.position)) @ normal)


def _rounded(values: Sequence[float] | None, digits: int) -> str:
    return "(" + ", ".join(f"{round(value, digits) + 0.0:g}" for value in values or ()) + ")"


def _known(values: tuple[float, ...] | None) -> tuple[float, ...]:
    if values is None:
        raise DataError("an image without position, orientation or spacing cannot be placed; export it again.")
    return values
