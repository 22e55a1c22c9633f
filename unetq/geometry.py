"""Where an array lies in a patient: spacing, axes code, turning to another orientation and back. No torch.

An array is (slices, rows, columns). Its affine is nibabel's: RAS millimetres of the voxel (i, j, k), where rows
run along i, columns along j and slices along k. An axes code has three letters, of rows, columns and slices in
this order (that of ``nibabel.aff2axcodes``): where each axis increases to, Left or Right, Anterior or Posterior,
Superior or Inferior. Turning permutes and flips axes and nothing else; an oblique grid takes the closest axes.
"""

from collections.abc import Sequence
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from .errors import DataError

OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "S": "I", "I": "S"}
SMALLEST_SINE = 1e-3  # of the volume of a unit cell: below it two axes are one


def spacing_of(affine: NDArray[Any]) -> tuple[float, float, float]:
    """Millimetres from voxel centre to voxel centre: (slices, rows, columns).

    Raises:
        DataError: an affine that no image can have; see ``check_affine``.
    """
    check_affine(affine)
    rows, columns, slices = (float(length) for length in np.linalg.norm(affine[:3, :3], axis=0))
    return slices, rows, columns


def axes_of(affine: NDArray[Any]) -> str:
    """The axes code, such as "LAS", of rows, columns and slices: for oblique grids the closest.

    Raises:
        DataError: an affine that no image can have; see ``check_affine``.
    """
    check_affine(affine)
    closest: Any = nibabel.aff2axcodes  # not typed
    return "".join(closest(affine))


def check_affine(affine: NDArray[Any]) -> None:
    """Refuse what maps no grid onto space.

    Raises:
        DataError: not 4 x 4, NaN or infinite, an axis of length 0, or axes that lie in one plane.
    """
    matrix = np.asarray(affine, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise DataError(f"an affine {matrix.tolist()}: 4 x 4 finite numbers are expected; repair the header.")
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if not (lengths > 0).all():
        raise DataError(
            f"the affine gives voxels of {_times(lengths)} mm: an axis of length 0 spans no space; repair the header."
        )
    volume = abs(float(np.linalg.det(matrix[:3, :3] / lengths)))
    if volume < SMALLEST_SINE:
        raise DataError(
            f"the affine {matrix[:3, :3].tolist()} is degenerate: its three axes lie in one plane; repair the header."
        )


def check_axes(axes: str, what: str = "axes") -> None:
    """Refuse what is no axes code.

    Raises:
        DataError: not one letter of each of L/R, A/P and S/I, in capitals.
    """
    if not (len(axes) == 3 and {frozenset((letter, OPPOSITE.get(letter, ""))) for letter in axes} == _PAIRS):
        raise DataError(
            f"{what} {axes!r}: three letters say where rows, columns and slices increase to, one of L or R, "
            "one of A or P and one of S or I, such as 'RAS' or 'LPS'."
        )


def orient(array: NDArray[Any], axes: str, orientation: str) -> NDArray[Any]:
    """Turn an array by permuting and flipping its last three axes (slices, rows, columns); a view.

    Args:
        array: (…, slices, rows, columns).
        axes: its axes code.
        orientation: the axes code wanted; "" leaves the array as it is.

    Raises:
        DataError: a wrong code, or ``axes`` unknown ("") where an orientation is wanted.
    """
    if not orientation:
        return array
    order, flips = _turn(axes, orientation)
    first = array.ndim - 3
    if first < 0:
        raise DataError(f"an array of shape {array.shape} has no slices, rows and columns to turn; give a volume.")
    turned = array.transpose(*range(first), *(first + axis for axis in order))
    where: tuple[Any, ...] = (..., *(slice(None, None, -1 if flip else 1) for flip in flips))
    return np.asarray(turned[where])


def unorient(array: NDArray[Any], axes: str, orientation: str) -> NDArray[Any]:
    """Undo ``orient``: from ``orientation`` back to ``axes``, the same arguments; a view."""
    return orient(array, orientation, axes) if orientation else array


VIEWS = {"S": "PL", "I": "PL", "A": "IL", "P": "IL", "L": "IP", "R": "IP"}
"""Where rows and columns of a picture increase to by convention, by the letter of its slices' axis."""


def upright(planes: NDArray[Any], axes: str) -> NDArray[Any]:
    """Slices (…, rows, columns) as radiologists hang them: anterior or superior up, the patient's left on the right.

    ``axes`` is the axes code of the volume; "" (not known) leaves them as they are. A view.

    Raises:
        DataError: a wrong code.
    """
    if not axes:
        return planes
    check_axes(axes)
    wanted, have = VIEWS[axes[2]], axes[:2]
    if have[0] not in (wanted[0], OPPOSITE[wanted[0]]):
        planes, have = np.swapaxes(planes, -1, -2), have[::-1]
    return np.asarray(np.flip(planes, tuple(place - 2 for place in (0, 1) if have[place] != wanted[place])))


def oriented_spacing(spacing: Sequence[float], axes: str, orientation: str) -> tuple[float, ...]:
    """Millimetres (slices, rows, columns) after ``orient``; an unknown spacing () stays unknown."""
    if not orientation or not spacing:
        return tuple(spacing)
    order, _ = _turn(axes, orientation)
    return tuple(spacing[axis] for axis in order)


def oriented_affine(affine: NDArray[Any], shape: Sequence[int], axes: str, orientation: str) -> NDArray[np.float64]:
    """The affine of an array (slices, rows, columns) of ``shape`` after ``orient``; both codes known."""
    order, flips = _turn(axes, orientation)
    place = (2, 0, 1)  # of (slices, rows, columns) among (i, j, k)
    change = np.zeros((4, 4))
    change[3, 3] = 1
    for axis, (source, flip) in enumerate(zip(order, flips, strict=True)):
        change[place[source], place[axis]] = -1 if flip else 1
        change[place[source], 3] = shape[source] - 1 if flip else 0
    return np.asarray(np.asarray(affine, dtype=np.float64) @ change)


def grid_difference(
    shape_a: Sequence[int],
    affine_a: NDArray[Any] | None,
    shape_b: Sequence[int],
    affine_b: NDArray[Any] | None,
    tolerance_mm: float | None = None,
) -> str:
    """What tells two grids apart, in words; "" where every voxel of one lies on that of the other.

    Args:
        shape_a, shape_b: (slices, rows, columns).
        affine_a, affine_b: RAS mm of (i, j, k); None is unknown and differs from nothing.
        tolerance_mm: how far apart a corner may lie; by default a tenth of the smallest side of a voxel.
    """
    if tuple(shape_a) != tuple(shape_b):
        return f"{_whole(shape_a)} and {_whole(shape_b)} voxels (slices x rows x columns)"
    if affine_a is None or affine_b is None:
        return ""
    a, b = (np.asarray(affine, dtype=np.float64) for affine in (affine_a, affine_b))
    limit = min(spacing_of(a)) / 10 if tolerance_mm is None else tolerance_mm
    distance = largest_distance(shape_a, a, b)
    if distance <= limit:
        return ""
    told = [f"a corner lies {distance:.3g} mm apart, {limit:.3g} mm are allowed"]
    if axes_of(a) != axes_of(b):
        told.append(f"axes {axes_of(a)} and {axes_of(b)}")
    if not np.allclose(spacing_of(a), spacing_of(b), rtol=1e-3):
        told.append(f"voxels of {_times(spacing_of(a))} and {_times(spacing_of(b))} mm")
    if np.abs(a[:3, 3] - b[:3, 3]).max() > limit:
        told.append(f"origins ({_list(a[:3, 3])}) and ({_list(b[:3, 3])}) mm")
    return "; ".join(told)


def largest_distance(shape: Sequence[int], affine_a: NDArray[Any], affine_b: NDArray[Any]) -> float:
    """Millimetres between two affines' places of one voxel, the largest over a grid (slices, rows, columns).

    The difference of two affine maps is affine, so that its length is largest at a corner.
    """
    slices, rows, columns = (length - 1 for length in shape)
    corners = np.array([(i, j, k, 1) for i in (0, rows) for j in (0, columns) for k in (0, slices)], dtype=np.float64)
    difference = corners @ (np.asarray(affine_a, np.float64) - np.asarray(affine_b, np.float64)).T
    return float(np.linalg.norm(difference[:, :3], axis=1).max())


def _turn(axes: str, orientation: str) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """For each axis of the result (slices, rows, columns): the source's axis, and whether it is flipped."""
    check_axes(axes)
    check_axes(orientation, "orientation")
    source, wanted = axes[2] + axes[:2], orientation[2] + orientation[:2]
    order = tuple(max(source.find(letter), source.find(OPPOSITE[letter])) for letter in wanted)
    return order, tuple(source[axis] != letter for axis, letter in zip(order, wanted, strict=True))


def _times(lengths: Sequence[float] | NDArray[Any]) -> str:
    return " x ".join(f"{length:.4g}" for length in lengths)


def _whole(lengths: Sequence[int]) -> str:
    return " x ".join(str(length) for length in lengths)


def _list(numbers: Sequence[float] | NDArray[Any]) -> str:
    return ", ".join(f"{number:.4g}" for number in numbers)


_PAIRS = {frozenset("LR"), frozenset("AP"), frozenset("SI")}
