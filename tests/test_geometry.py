"""Turning arrays and telling grids apart, checked against nibabel's own orientation functions."""

from itertools import permutations, product

import nibabel
import numpy as np
import pytest
from nibabel import orientations as oracle

from unetq.errors import DataError
from unetq.geometry import (
    OPPOSITE,
    axes_of,
    check_affine,
    grid_difference,
    orient,
    oriented_affine,
    oriented_spacing,
    spacing_of,
    unorient,
    upright,
)

CODES = ["".join(letters) for pairs in permutations(("LR", "AP", "SI")) for letters in product(*pairs)]
ARRAY = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)  # slices, rows, columns: voxels (3, 4, 2)


def affine_for(axes: str, sizes: tuple[float, float, float] = (0.5, 0.7, 3.0), tilt: float = 0.0) -> np.ndarray:
    """Voxels (i, j, k) of those mm with that axes code, tilted about two axes by degrees."""
    affine = np.zeros((4, 4))
    for axis, letter in enumerate(axes):
        row = next(i for i, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
        affine[row, axis] = sizes[axis] * (1 if letter in "RAS" else -1)
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = (11.0, -7.0, 5.0)
    affine[3, 3] = 1
    return affine


def test_all_48_codes_are_there() -> None:
    assert len(set(CODES)) == 48


@pytest.mark.parametrize("axes", CODES)
@pytest.mark.parametrize("tilt", [0.0, 20.0])
def test_code_and_spacing_of_an_affine(axes: str, tilt: float) -> None:
    affine = affine_for(axes, tilt=tilt)
    assert axes_of(affine) == axes
    np.testing.assert_allclose(spacing_of(affine), (3.0, 0.5, 0.7))


@pytest.mark.parametrize("wanted", CODES)
@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAS", "PIR", "SAL"])
def test_turning_is_what_nibabel_does(axes: str, wanted: str) -> None:
    voxels, affine = np.moveaxis(ARRAY, 0, 2), affine_for(axes)
    change = oracle.ornt_transform(oracle.axcodes2ornt(axes), oracle.axcodes2ornt(wanted))
    expected = nibabel.Nifti1Image(voxels, affine).as_reoriented(change)
    turned = orient(ARRAY, axes, wanted)
    np.testing.assert_array_equal(turned, np.moveaxis(np.asarray(expected.dataobj), 2, 0))
    np.testing.assert_array_equal(unorient(turned, axes, wanted), ARRAY)
    np.testing.assert_allclose(oriented_affine(affine, ARRAY.shape, axes, wanted), expected.affine, atol=1e-12)
    np.testing.assert_allclose(oriented_spacing(spacing_of(affine), axes, wanted), spacing_of(expected.affine))
    assert axes_of(expected.affine) == wanted


def test_channels_stay_and_what_is_written_into_a_turned_array_lies_in_the_stored_one() -> None:
    stored = np.zeros((5, 2, 3, 4), np.uint8)
    turned = orient(stored, "LAS", "PIR")
    assert turned.shape == (5, 4, 3, 2)[:1] + orient(ARRAY, "LAS", "PIR").shape
    turned[...] = orient(np.broadcast_to(ARRAY, stored.shape), "LAS", "PIR")
    assert (stored == ARRAY).all()


def test_nothing_wanted_is_nothing_done() -> None:
    assert orient(ARRAY, "", "") is ARRAY and unorient(ARRAY, "", "") is ARRAY
    assert oriented_spacing((3, 1, 2), "", "") == (3, 1, 2) and oriented_spacing((), "LAS", "RAS") == ()


@pytest.mark.parametrize("code", ["", "LA", "LASX", "LRS", "las", "LAX", "XYZ", "AAS"])
def test_wrong_codes(code: str) -> None:
    with pytest.raises(DataError, match=r"axes '.*three letters"):
        orient(ARRAY, code, "RAS")
    if code:
        with pytest.raises(DataError, match=r"orientation '.*three letters"):
            orient(ARRAY, "RAS", code)


def test_an_array_without_slices() -> None:
    with pytest.raises(DataError, match=r"shape .3, 4."):
        orient(ARRAY[0], "LAS", "RAS")


def test_grids_that_are_one() -> None:
    affine = affine_for("LAS")
    near = affine.copy()
    near[:3, 3] += 0.02  # a tenth of 0.5 mm is allowed
    assert grid_difference((9, 8, 7), affine, (9, 8, 7), near) == ""
    assert grid_difference((9, 8, 7), None, (9, 8, 7), affine) == ""
    assert "mm apart" in grid_difference((9, 8, 7), affine, (9, 8, 7), near, tolerance_mm=0.01)


def test_what_differs_is_told() -> None:
    affine, shape = affine_for("LAS"), (9, 8, 7)
    assert "9 x 8 x 7 and 9 x 8 x 6 voxels" in grid_difference(shape, affine, (9, 8, 6), affine)
    assert "axes LAS and RAS" in grid_difference(shape, affine, shape, affine_for("RAS"))
    assert "voxels of 3 x 0.5 x 0.7 and 4 x 0.5 x 0.7 mm" in grid_difference(
        shape, affine, shape, affine_for("LAS", (0.5, 0.7, 4.0))
    )
    moved = affine.copy()
    moved[0, 3] += 2
    told = grid_difference(shape, affine, shape, moved)
    assert "2 mm apart" in told and "origins (11, -7, 5) and (13, -7, 5)" in told
    tilted = grid_difference(shape, affine, shape, affine_for("LAS", tilt=5))
    assert "mm apart" in tilted and "axes" not in tilted


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.__setitem__((0, 3), np.nan), "finite"),
        (lambda a: a.__setitem__((slice(None), 1), 0.0), "length 0"),
        (lambda a: a.__setitem__((slice(None), 1), a[:, 0]), "one plane"),
    ],
)
def test_affines_that_span_no_space(change: object, words: str) -> None:
    affine = affine_for("LAS")
    change(affine)  # type: ignore[operator]
    with pytest.raises(DataError, match=words):
        check_affine(affine)
    with pytest.raises(DataError):
        axes_of(affine)
    with pytest.raises(DataError, match="4 x 4"):
        spacing_of(np.eye(3))


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PLS", "ARI", "SRA", "RIP", "ASL", "PIR"])
def test_pictures_hang_as_radiologists_read_them(axes: str) -> None:
    """Marks at the ends of both axes come to the side where they belong."""
    rows, columns = {"S": "PL", "I": "PL", "A": "IL", "P": "IL", "L": "IP", "R": "IP"}[axes[2]]
    plane = np.zeros((1, 5, 7), np.uint8)
    plane[0, -1, 3] = ord(axes[0])  # where rows increase to
    plane[0, 2, -1] = ord(axes[1])
    shown = upright(plane, axes)[0]
    seen = {chr(shown[place]): place for place in map(tuple, np.argwhere(shown))}
    height, width = shown.shape
    for letter, place in seen.items():
        if letter in (rows, OPPOSITE[rows]):
            assert place[0] == (height - 1 if letter == rows else 0)
        else:
            assert place[1] == (width - 1 if letter == columns else 0)
    assert upright(plane, "") is plane
