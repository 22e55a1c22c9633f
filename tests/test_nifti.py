"""What a NIfTI header says of place and values: headers changed byte by byte, SimpleITK as a second reader."""

import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from test_geometry import affine_for

from unetq.errors import DataError
from unetq.imageio import read_image, write_mask
from unetq.nifti import write_nifti_in

STACK = np.random.default_rng(4).integers(-50, 200, (4, 6, 5)).astype(np.int16)
QFORM_CODE, SFORM_CODE, SCL_SLOPE, PIXDIM, XYZT_UNITS, SROW = 252, 254, 112, 76, 123, 280  # bytes, nifti1.h


def written(path: Path, sform: Any = None, qform: Any = None, **fields: tuple[int, str, tuple[float, ...]]) -> Path:
    """A file with these forms (None: code 0), then with fields of (byte, struct format, values) overwritten."""
    image = nibabel.Nifti1Image(np.moveaxis(STACK, 0, 2), np.eye(4))
    image.header.set_zooms((0.5, 0.7, 3.0))
    image.set_sform(sform, 0 if sform is None else 2)
    image.set_qform(qform, 0 if qform is None else 1)
    content = bytearray(image.to_bytes())
    for place, form, values in fields.values():
        struct.pack_into("<" + form, content, place, *values)
    path.write_bytes(content)
    return path


def test_the_sform_comes_first_then_the_qform(tmp_path: Path) -> None:
    one, two = affine_for("RAS"), affine_for("LPI")
    both = read_image(written(tmp_path / "both.nii", one, one))
    assert (both.axes, both.warnings) == ("RAS", ()) and np.allclose(both.affine, one)
    q = read_image(written(tmp_path / "q.nii", None, two))
    assert (q.axes, q.warnings) == ("LPI", ()) and np.allclose(q.affine, two, atol=1e-5)
    s = read_image(written(tmp_path / "s.nii", one, None))
    assert s.axes == "RAS" and s.spacing == pytest.approx((3.0, 0.5, 0.7))


def test_a_stale_sform_of_code_0_is_not_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.nii", affine_for("RAS"), affine_for("LPS"), code=(SFORM_CODE, "h", (0,)))
    assert read_image(path).axes == "LPS"


def test_forms_that_disagree(tmp_path: Path) -> None:
    moved = affine_for("RAS")
    moved[0, 3] += 4
    image = read_image(written(tmp_path / "a.nii", affine_for("RAS"), moved))
    assert np.allclose(image.affine, affine_for("RAS"))
    assert len(image.warnings) == 1 and "4 mm apart; the sform is used" in image.warnings[0]
    near = affine_for("RAS")
    near[0, 3] += 0.04
    assert read_image(written(tmp_path / "b.nii", affine_for("RAS"), near)).warnings == ()


def test_sizes_alone_tell_no_direction(tmp_path: Path) -> None:
    image = read_image(written(tmp_path / "a.nii"))
    assert image.axes is None and image.spacing == pytest.approx((3.0, 0.5, 0.7))
    assert "sform_code and qform_code are 0" in image.warnings[0]


@pytest.mark.parametrize(("code", "factor"), [(1, 1000.0), (2, 1.0), (3, 0.001), (0, 1.0)])
def test_units(tmp_path: Path, code: int, factor: float) -> None:
    image = read_image(written(tmp_path / "a.nii", affine_for("RAS"), units=(XYZT_UNITS, "B", (code,))))
    assert image.spacing == pytest.approx((3.0 * factor, 0.5 * factor, 0.7 * factor))


@pytest.mark.parametrize("slope", [0.0, float("nan")])
@pytest.mark.parametrize("intercept", [0.0, 7.0, float("nan")])
def test_no_slope_is_no_scaling(tmp_path: Path, slope: float, intercept: float) -> None:
    path = written(tmp_path / "a.nii", affine_for("RAS"), scale=(SCL_SLOPE, "ff", (slope, intercept)))
    assert struct.unpack_from("<f", path.read_bytes(), SCL_SLOPE)[0] in (0.0,) or np.isnan(slope)
    np.testing.assert_array_equal(read_image(path).data, STACK)


def test_a_slope_is_applied(tmp_path: Path) -> None:
    path = written(tmp_path / "a.nii", affine_for("RAS"), scale=(SCL_SLOPE, "ff", (0.5, -3.0)))
    np.testing.assert_array_equal(read_image(path).data, STACK * 0.5 - 3.0)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"row": (SROW, "4f", (0.0, 0.0, 0.0, 5.0))}, r"sform.*(length 0|one plane)"),
        ({"rows": (SROW, "12f", (1.0, 1.0, 0.0, 0.0) * 3)}, r"sform.*(length 0|one plane)"),
        ({"nan": (SROW, "f", (float("nan"),))}, r"sform.*finite"),
    ],
)
def test_affines_that_span_no_space_are_refused_by_name(tmp_path: Path, fields: Any, words: str) -> None:
    path = written(tmp_path / "flat.nii", affine_for("RAS"), **fields)
    with pytest.raises(DataError, match=rf"flat\.nii: its {words}"):
        read_image(path)


def test_a_qform_without_size_is_refused_by_name(tmp_path: Path) -> None:
    path = written(tmp_path / "flat.nii", None, affine_for("RAS"), size=(PIXDIM + 8, "f", (0.0,)))
    with pytest.raises(DataError, match=r"flat\.nii: its voxels are 0\.5 x 0 x 3 mm"):
        read_image(path)


def test_channels(tmp_path: Path) -> None:
    data = np.random.default_rng(1).normal(size=(6, 5, 4, 3)).astype(np.float32)  # i, j, k, channel
    for name, voxels in (("four.nii.gz", data), ("five.nii.gz", data[:, :, :, None])):
        nibabel.save(nibabel.Nifti1Image(voxels, affine_for("LAS")), tmp_path / name)
        with pytest.raises(DataError, match="one 2-D or 3-D volume"):
            read_image(tmp_path / name)
        image = read_image(tmp_path / name, channels=True)
        assert image.grid == (4, 6, 5) and image.axes == "LAS"
        np.testing.assert_array_equal(image.channels, data.transpose(3, 2, 0, 1))
        write_mask(tmp_path / "m.nii.gz", np.ones((4, 6, 5), np.uint8), image)
        mask = nibabel.load(tmp_path / "m.nii.gz")
        assert mask.shape == (6, 5, 4) and np.allclose(mask.affine, affine_for("LAS"))


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR"])
@pytest.mark.parametrize("form", ["sform", "qform"])
def test_a_second_reader_sees_the_same_place(tmp_path: Path, axes: str, form: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    affine = affine_for(axes, tilt=10)
    path = written(tmp_path / "a.nii", **{form: affine})
    image, other = read_image(path), sitk.ReadImage(str(path))
    for index in [(0, 0, 0), (5, 4, 3), (2, 0, 1)]:
        x, y, z = other.TransformIndexToPhysicalPoint(index)  # LPS
        assert image.affine is not None
        np.testing.assert_allclose((image.affine @ (*index, 1))[:3], (-x, -y, z), atol=1e-4)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(other).transpose(0, 2, 1), image.data)


@pytest.mark.parametrize("sheared", [False, True])
def test_a_mask_at_an_affine(tmp_path: Path, sheared: bool) -> None:
    affine = affine_for("LPS", tilt=10)
    if sheared:
        affine[:3, 2] += 0.3 * affine[:3, 1]
    masks = (STACK > 20).astype(np.uint8)
    write_nifti_in(tmp_path / "m.nii.gz", masks, affine)
    image = read_image(tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(image.data, masks)
    np.testing.assert_allclose(image.affine, affine, atol=1e-5)
    header = nibabel.load(tmp_path / "m.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0 if sheared else 1) and image.warnings == ()
