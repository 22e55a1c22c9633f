"""Images in, masks out: PNG, NumPy and what all formats share."""

import errno
import gzip
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from picture_files import STACK, masks_for, save_nifti
from PIL import Image

from unetq.errors import ConfigError, DataError, OutputError
from unetq.imageio import check_output, kind_of, read_image, write_mask


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
