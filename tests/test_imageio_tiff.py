"""TIFF stacks in, masks out in the same geometry; every kind of damage is an error, never a shorter image."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from picture_files import STACK, masks_for
from PIL import Image

from unetq.errors import DataError
from unetq.imageio import read_image, write_mask


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
