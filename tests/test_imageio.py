"""Images in, masks out in the same geometry; every kind of damage is an error, never a shorter image."""

import errno
import gzip
import os
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from unetq.errors import ConfigError, DataError, OutputError
from unetq.imageio import check_output, kind_of, read_image, write_mask

RealData = Callable[[str], Path]
RNG = np.random.default_rng(3)
STACK = RNG.integers(0, 255, (5, 21, 34), dtype=np.uint8)


def masks_for(shape: tuple[int, ...]) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) % 3).astype(np.uint8)


def save_nifti(path: Path, voxels: np.ndarray, **codes: int) -> nibabel.Nifti1Image:
    """An oblique volume with different sform and qform, written without nibabel's own defaults."""
    affine = np.array([[0.5, 0.02, 0, -31], [-0.02, 0.5, 0.1, 12], [0, -0.1, 5, 7], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(voxels, affine)
    image.set_sform(affine, codes.get("sform", 1))
    image.set_qform(affine, codes.get("qform", 2))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    return image


# ---------------------------------------------------------------------------------------------- TIFF


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("big", [False, True])
def test_tiff_stack_round_trip(tmp_path: Path, dtype: type, compression: str | None, big: bool) -> None:
    data = STACK.astype(dtype) * 3
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack", compression=compression, bigtiff=big)
    image = read_image(tmp_path / "a.tif")
    assert image.kind == "tiff" and image.data.dtype == dtype
    assert (image.data == data).all()
    assert image.slice(2).shape == (1, 21, 34) and image.slice(2).dtype == np.float32
    mask = masks_for(data.shape)
    write_mask(tmp_path / "m.tif", mask, image)
    with tifffile.TiffFile(tmp_path / "m.tif") as written:
        assert [page.shape for page in written.pages] == [(21, 34)] * 5
        assert written.pages[0].dtype == np.uint8
    assert (read_image(tmp_path / "m.tif").data == mask).all()


@pytest.mark.parametrize("shape", [(1, 8, 9), (3, 8, 3), (4, 3, 3), (3, 1, 1), (1, 1, 1)])
def test_tiff_pages_are_never_taken_for_colour(tmp_path: Path, shape: tuple[int, ...]) -> None:
    data = masks_for(shape) + np.uint8(1)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in data:
            writer.write(page, photometric="minisblack", contiguous=False, metadata=None)
    image = read_image(tmp_path / "a.tif")
    assert (image.data == data).all()
    write_mask(tmp_path / "m.tif", data, image)
    with tifffile.TiffFile(tmp_path / "m.tif") as written:
        assert len(written.pages) == shape[0]
    assert (read_image(tmp_path / "m.tif").data == data).all()


def test_tiff_keeps_resolution_and_imagej_spacing(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        STACK,
        imagej=True,
        resolution=(250.0, 125.0),
        metadata={"spacing": 50.0, "unit": "nm", "axes": "ZYX"},
    )
    tifffile.imwrite(tmp_path / "b.tif", STACK[0], resolution=(300.0, 300.0), resolutionunit="INCH")
    for name in ("a.tif", "b.tif"):
        image = read_image(tmp_path / name)
        write_mask(tmp_path / f"m-{name}", masks_for(image.data.shape), image)
        with tifffile.TiffFile(tmp_path / name) as before, tifffile.TiffFile(tmp_path / f"m-{name}") as after:
            assert len(before.pages) == len(after.pages)
            for tag in ("XResolution", "YResolution", "ResolutionUnit"):
                assert before.pages[0].tags[tag].value == after.pages[0].tags[tag].value
            if before.is_imagej:
                assert (after.imagej_metadata["spacing"], after.imagej_metadata["unit"]) == (50.0, "nm")


def test_two_level_tiff_is_0_and_255(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK > 100)
    assert (read_image(tmp_path / "a.tif").data == np.where(STACK > 100, 255, 0)).all()


def test_lzw_tiff_can_be_read(tmp_path: Path) -> None:
    pages = [Image.fromarray(page) for page in STACK]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    assert (read_image(tmp_path / "a.tif").data == STACK).all()


COMPRESSIONS = [None, "tiff_lzw", "packbits", "tiff_adobe_deflate"]


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("two_level", [False, True])
def test_white_is_zero_gives_the_stored_values(
    tmp_path: Path, photometric: int, compression: str | None, two_level: bool
) -> None:
    page = STACK[0] > 100 if two_level else STACK[0]
    picture = Image.fromarray(page)
    # Pillow stores the complement under 0, so that the picture looks the same in a viewer
    picture.save(tmp_path / "w.tif", tiffinfo={262: photometric}, compression=compression)
    with tifffile.TiffFile(tmp_path / "w.tif") as tiff:
        assert tiff.pages[0].photometric == photometric
    shown = page * np.uint8(255) if two_level else page
    stored = 255 - shown if photometric == 0 else shown
    data = read_image(tmp_path / "w.tif").data
    assert data.dtype == np.uint8 and (data[0] == stored).all()


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_white_is_zero_in_16_bits(tmp_path: Path, photometric: int, compression: str | None) -> None:
    page = STACK[0].astype(np.uint16) * 200  # Pillow leaves these alone, on the way out and on the way in
    Image.fromarray(page).save(tmp_path / "w.tif", tiffinfo={262: photometric}, compression=compression)
    data = read_image(tmp_path / "w.tif").data
    assert data.dtype == np.uint16 and (data[0] == page).all()


@pytest.mark.parametrize("photometric", ["miniswhite", "minisblack"])
@pytest.mark.parametrize("bits", [2, 4])
def test_few_bits_a_pixel_are_not_stretched(tmp_path: Path, photometric: str, bits: int) -> None:
    stored = STACK[0] % 2**bits
    per_byte = 8 // bits
    padded = np.pad(stored, ((0, 0), (0, -stored.shape[1] % per_byte)))
    parts = padded.reshape(stored.shape[0], -1, per_byte)
    packed = sum(parts[..., k].astype(np.uint8) << (8 - bits * (k + 1)) for k in range(per_byte)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", packed, photometric=photometric, metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as tiff:  # say how wide and how deep the bytes really are
        tiff.pages[0].tags["ImageWidth"].overwrite(stored.shape[1])
        tiff.pages[0].tags["BitsPerSample"].overwrite(bits)
    assert (read_image(tmp_path / "a.tif").data[0] == stored).all()


def test_compressed_pixels_that_would_change_type_are_refused(tmp_path: Path) -> None:
    Image.fromarray(STACK[0]).save(tmp_path / "a.tif", compression="tiff_lzw", tiffinfo={339: 1})
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as tiff:
        tiff.pages[0].tags["SampleFormat"].overwrite(2)  # signed
    with pytest.raises(DataError, match="int8"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["plain", "zlib", "imagej", "pages"])
def test_a_tiff_cut_anywhere_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.tif"
    if kind == "pages":  # directories between the pixels, as many programs write stacks
        with tifffile.TiffWriter(path) as writer:
            for page in STACK:
                writer.write(page, contiguous=False, metadata=None)
    else:
        options = {"plain": {}, "zlib": {"compression": "zlib"}, "imagej": {"imagej": True}}[kind]
        tifffile.imwrite(path, STACK, **options)
    whole = path.read_bytes()
    assert (read_image(path).data == STACK).all()
    for length in [*range(1, len(whole) - 2, 53), len(whole) - 3]:
        path.write_bytes(whole[:length])
        try:
            data = read_image(path).data
        except DataError:
            continue
        # Bytes that nothing refers to may be missing at the end, never a pixel.
        assert length > len(whole) - 8 and (data == STACK).all(), f"cut at {length} of {len(whole)}"


def test_damaged_tiff_bytes_never_crash(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, compression="zlib")
    whole = path.read_bytes()
    for trial in range(150):
        rng = np.random.default_rng(trial)
        damaged = bytearray(whole)
        for position in rng.integers(0, len(whole), 4):
            damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            read_image(path)
        except DataError as error:
            assert str(path) in str(error)


def test_colour_and_uneven_tiffs_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((8, 9, 3), np.uint8), photometric="rgb")
    with pytest.raises(DataError, match=r"rgb.tif.*3 values a pixel.*grey"):
        read_image(tmp_path / "rgb.tif")
    with tifffile.TiffWriter(tmp_path / "uneven.tif") as writer:
        writer.write(np.zeros((8, 9), np.uint8), metadata=None)
        writer.write(np.zeros((8, 10), np.uint8), metadata=None)
    with pytest.raises(DataError, match=r"uneven.tif.*differ in size"):
        read_image(tmp_path / "uneven.tif")
    tifffile.imwrite(tmp_path / "four.tif", np.zeros((2, 3, 8, 9), np.uint8), photometric="minisblack")
    with pytest.raises(DataError, match=r"four.tif.*axes"):
        read_image(tmp_path / "four.tif")


# ----------------------------------------------------------------------------------------------- PNG


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_round_trip(tmp_path: Path, dtype: type) -> None:
    data = STACK[0].astype(dtype) * (1 if dtype == np.uint8 else 200)
    Image.fromarray(data).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.data.shape == (1, 21, 34) and (image.data[0] == data).all()
    mask = masks_for(image.data.shape)
    write_mask(tmp_path / "m.png", mask, image)
    with Image.open(tmp_path / "m.png") as written:
        assert written.mode == "L" and (np.asarray(written) == mask[0]).all()


@pytest.mark.parametrize(
    ("mode", "words"), [("RGB", "3 channels"), ("RGBA", "4 channels"), ("LA", "2 channels"), ("P", "colour")]
)
def test_colour_png_is_refused(tmp_path: Path, mode: str, words: str) -> None:
    Image.new(mode, (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=rf"a.png.*{words}.*grey"):
        read_image(tmp_path / "a.png")


def test_a_png_cut_anywhere_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(STACK[0]).save(path)
    whole = path.read_bytes()
    for length in range(1, len(whole) - 16, 37):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="PNG"):
            read_image(path)


# --------------------------------------------------------------------------------------------- NIfTI


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


# --------------------------------------------------------------------------------- NumPy, all formats


def test_npy_round_trip_keeps_the_number_of_axes(tmp_path: Path) -> None:
    for name, data in (("flat", STACK[0]), ("stack", STACK), ("one", STACK[:1])):
        np.save(tmp_path / f"{name}.npy", data)
        image = read_image(tmp_path / f"{name}.npy")
        write_mask(tmp_path / "m.npy", masks_for(image.data.shape), image)
        assert np.load(tmp_path / "m.npy").shape == data.shape
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="pickled"):
        read_image(tmp_path / "pickled.npy")


@pytest.mark.parametrize("name", ["a.tif", "a.tiff", "a.png", "a.nii", "a.nii.gz", "a.npy"])
def test_missing_empty_and_nonsense_files(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(DataError, match=rf"{name} does not exist"):
        read_image(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=rf"{name} has 0 bytes"):
        read_image(path)
    for content in (b"x", b"hello world, this is no image" * 30, gzip.compress(b"neither is this")):
        path.write_bytes(content)
        with pytest.raises(DataError, match=name):
            read_image(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match="is not a file"):
        read_image(path)


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.gz", "a.TIF.zip"])
def test_unknown_extensions_name_the_known_ones(name: str) -> None:
    with pytest.raises(DataError, match=r"\.tif.*\.png.*\.nii"):
        kind_of(Path(name))
    assert kind_of(Path("A.TIF")) == "tiff" and kind_of(Path("x.y.NII.GZ")) == "nifti"
    assert kind_of(Path("a.dcm")) == "dicom"


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("name", ["a.tif", "a.nii.gz", "a.npy"])
def test_pixels_that_are_not_finite_are_refused(tmp_path: Path, value: float, name: str) -> None:
    data = np.ones((3, 8, 9))
    data[1, 4, 5] = value
    if name == "a.tif":
        tifffile.imwrite(tmp_path / name, data, photometric="minisblack")
    elif name == "a.npy":
        np.save(tmp_path / name, data)
    else:
        nibabel.save(nibabel.Nifti1Image(np.moveaxis(data, 0, 2), np.eye(4)), tmp_path / name)
    with pytest.raises(DataError, match=r"1 pixels in slice 1.*row 4, column 5"):
        read_image(tmp_path / name)


def test_where_a_mask_may_go(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "stack.tif", STACK)
    tifffile.imwrite(tmp_path / "one.tif", STACK[0])
    save_nifti(tmp_path / "v.nii.gz", np.moveaxis(STACK, 0, 2))
    stack, one, volume = (read_image(tmp_path / name) for name in ("stack.tif", "one.tif", "v.nii.gz"))
    for image, name in [(stack, "m.npy"), (one, "m.png"), (one, "m.npy"), (volume, "m.nii")]:
        mask = masks_for(image.data.shape)
        write_mask(tmp_path / name, mask, image)
        assert (read_image(tmp_path / name).data == mask).all()
    for image, name, words in [
        (stack, "m.png", r"1 slice.*has 5.*\.tif"),
        (stack, "m.nii", "position in space"),
        (one, "m.nii.gz", "position in space"),
        (volume, "m.tif", r"position in space.*\.nii"),
        (volume, "m.npy", "position in space"),
        (stack, "m.jpg", "not known"),
        (stack, "nowhere/m.tif", "does not exist"),
        (stack, "stack.tif", "is the input image"),
    ]:
        with pytest.raises(ConfigError, match=words):
            check_output(tmp_path / name, image)
    os.link(tmp_path / "stack.tif", tmp_path / "same.tif")
    (tmp_path / "link.tif").symlink_to("stack.tif")
    (tmp_path / "folder.tif").mkdir()
    for name in ("same.tif", "link.tif", "folder.tif"):
        with pytest.raises(ConfigError):
            write_mask(tmp_path / name, masks_for(STACK.shape), stack)
    assert (read_image(tmp_path / "stack.tif").data == STACK).all()


def test_masks_of_another_shape_or_type_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK)
    image = read_image(tmp_path / "a.tif")
    for mask in (masks_for((4, 21, 34)), masks_for(STACK.shape).astype(np.int16)):
        with pytest.raises(DataError, match="uint8"):
            write_mask(tmp_path / "m.tif", mask, image)
    assert not (tmp_path / "m.tif").exists()


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.nii.gz", "a.npy"])
def test_a_full_disk_leaves_the_old_mask(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = STACK[:1]
    if name == "a.tif":
        tifffile.imwrite(tmp_path / name, data[0])
    elif name == "a.png":
        Image.fromarray(data[0]).save(tmp_path / name)
    elif name == "a.npy":
        np.save(tmp_path / name, data)
    else:
        save_nifti(tmp_path / name, np.moveaxis(data, 0, 2))
    image = read_image(tmp_path / name)
    output = tmp_path / name.replace("a.", "mask.")
    output.write_bytes(b"an older mask")
    before = sorted(tmp_path.iterdir())

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_mask(output, masks_for(data.shape), image)
    assert output.read_bytes() == b"an older mask"
    assert sorted(tmp_path.iterdir()) == before


# ------------------------------------------------------------------------------------------ real data


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
