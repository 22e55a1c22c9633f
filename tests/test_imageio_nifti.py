"""NIfTI volumes in, masks out in the same geometry; every kind of damage is an error, never a shorter image."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from picture_files import RNG, masks_for, save_nifti

from unetq.errors import DataError
from unetq.imageio import read_image, write_mask

RealData = Callable[[str], Path]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("shape", [(7, 9, 4), (7, 9), (7, 9, 1), (7, 9, 4, 1)])
@pytest.mark.parametrize(
    "codes", [{"sform": 1, "qform": 2}, {"sform": 0, "qform": 1}, {"sform": 3, "qform": 0}, {"sform": 0, "qform": 0}]
)
def test_nifti_geometry_is_kept(tmp_path: Path, suffix: str, shape: tuple[int, ...], codes: dict[str, int]) -> None:
    voxels = RNG.integers(-500, 500, shape).astype(np.int16)
    save_nifti(tmp_path / f"a{suffix}", voxels, **codes)
    image = read_image(tmp_path / f"a{suffix}")
    slices = np.moveaxis(voxels.reshape((*shape[:3], 1)[:3]), 2, 0)
    assert (image.data == slices).all()
    mask = masks_for(image.data.shape)
    write_mask(tmp_path / f"m{suffix}", mask, image)
    before, after = nibabel.load(tmp_path / f"a{suffix}"), nibabel.load(tmp_path / f"m{suffix}")
    assert after.shape == shape and after.get_data_dtype() == np.uint8
    assert (np.asarray(after.dataobj) == np.moveaxis(mask, 0, 2).reshape(shape)).all()
    assert (after.affine == before.affine).all()
    fields = (
        "sform_code",
        "qform_code",
        "srow_x",
        "srow_y",
        "srow_z",
        "quatern_b",
        "quatern_c",
        "quatern_d",
        "qoffset_x",
        "pixdim",
        "xyzt_units",
    )
    for name in fields:
        assert (before.header[name] == after.header[name]).all(), name


def _set_scaling(path: Path, slope: float, intercept: float) -> None:
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([slope, intercept], "<f4").tobytes()
    path.write_bytes(content)


def test_stored_scaling_is_applied_and_slope_0_means_none(tmp_path: Path) -> None:
    voxels = RNG.integers(0, 50, (5, 6, 3)).astype(np.int16)
    for slope, intercept, expected in [(2.0, -3.0, voxels * 2.0 - 3.0), (0.0, 7.0, voxels), (1.0, 0.0, voxels)]:
        path = tmp_path / f"s{slope}.nii"
        save_nifti(path, voxels)
        _set_scaling(path, slope, intercept)
        image = read_image(path)
        assert (np.moveaxis(image.data, 0, 2) == expected).all()
        mask = masks_for(image.data.shape)
        write_mask(tmp_path / "m.nii", mask, image)  # the image's scaling must not leak into the mask
        assert (np.asarray(nibabel.load(tmp_path / "m.nii").dataobj) == np.moveaxis(mask, 0, 2)).all()


def test_big_endian_and_second_kind_nifti(tmp_path: Path) -> None:
    voxels = RNG.integers(0, 500, (5, 6, 3)).astype(">i2")
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4), nibabel.Nifti1Header(endianness=">")), tmp_path / "b.nii")
    nibabel.save(nibabel.Nifti2Image(voxels, np.diag([1, 2, 3, 1])), tmp_path / "two.nii.gz")
    for name in ("b.nii", "two.nii.gz"):
        image = read_image(tmp_path / name)
        assert (np.moveaxis(image.data, 0, 2) == voxels).all()
        write_mask(tmp_path / f"m-{name}", masks_for(image.data.shape), image)
        before, after = nibabel.load(tmp_path / name), nibabel.load(tmp_path / f"m-{name}")
        assert type(before) is type(after) and (before.affine == after.affine).all()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_nifti_cut_anywhere_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    save_nifti(path, RNG.integers(0, 500, (20, 20, 5)).astype(np.int16))
    whole = path.read_bytes()
    for length in [*range(1, len(whole) - 1, 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"a\.nii"):
            read_image(path)


def test_a_flipped_bit_in_a_compressed_nifti_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    save_nifti(path, RNG.integers(0, 500, (20, 20, 5)).astype(np.int16))
    whole = path.read_bytes()
    for position in range(12, len(whole), 61):  # behind gzip's own header, whose time and name carry no data
        damaged = bytearray(whole)
        damaged[position] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(DataError):
            read_image(path)


def test_series_and_colour_volumes_are_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), np.eye(4)), tmp_path / "series.nii")
    with pytest.raises(DataError, match=r"\(4, 4, 4, 2\).*one 2-D or 3-D volume"):
        read_image(tmp_path / "series.nii")
    colour = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(colour, np.eye(4)), tmp_path / "rgb.nii")
    with pytest.raises(DataError, match="grey"):
        read_image(tmp_path / "rgb.nii")


def test_real_masks_with_slope_0_are_not_empty(tmp_path: Path, real_data: RealData) -> None:
    for path in sorted(real_data("gm-challenge-protocol").glob("*.nii.gz")):
        image = read_image(path)
        assert image.data.max() > 0, path.name
        write_mask(tmp_path / path.name, (image.data > image.data.mean()).astype(np.uint8), image)
        before, after = nibabel.load(path), nibabel.load(tmp_path / path.name)
        assert (before.affine == after.affine).all() and before.shape == after.shape


def test_real_volumes_with_odd_headers_keep_their_codes(tmp_path: Path, real_data: RealData) -> None:
    path = next(real_data("gm").glob("sub-9604/anat/*.nii.gz"))
    write_mask(tmp_path / "m.nii.gz", np.zeros((20, 288, 288), np.uint8), read_image(path))
    before, after = nibabel.load(path).header, nibabel.load(tmp_path / "m.nii.gz").header
    assert (
        (int(after["sform_code"]), int(after["qform_code"]))
        == (int(before["sform_code"]), int(before["qform_code"]))
        == (0, 1)
    )
