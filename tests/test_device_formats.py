"""``unetq-run`` gives the mask of ``unetq predict``, value for value and in the same geometry, on every format."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from device_program import (
    Array,
    nifti,
    picture,
    png,
    same_mask,
    save_nifti,
    save_pillow_tiff,
    save_tiff_pages,
)
from PIL import Image

from unetq.imageio import read_image

STACK = picture()
PAGE = STACK[0]
WIDE = STACK.astype(np.int32) * 257 - 9000


def tiff(data: Array, **options: Any) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, data, photometric="minisblack", **options)


TIFFS: dict[str, Callable[[Path], None]] = {
    "8 bits": tiff(STACK),
    "16 bits": tiff(STACK.astype(np.uint16) * 200),
    "32 bits": tiff(WIDE),
    "64 bits": tiff(WIDE.astype(np.int64) * 70001),
    "float16": tiff(STACK.astype(np.float16) / 16 - 3),
    "float32": tiff(STACK.astype(np.float32) / 7 - 3),
    "float64": tiff(STACK.astype(np.float64) / 7 - 3),
    "signed, big-endian": tiff(STACK.astype(">i2") - 120, byteorder=">"),
    "one page": tiff(PAGE),
    "zlib": tiff(STACK, compression="zlib"),
    "zlib, predictor": tiff(STACK.astype(np.uint16) * 201, compression="zlib", predictor=2),
    "zlib, big-endian": tiff(STACK.astype(">u2") * 201, compression="zlib", byteorder=">"),
    "strips": tiff(STACK, compression="zlib", rowsperstrip=7),
    "tiles": tiff(STACK.astype(np.uint16) * 9, tile=(16, 32)),
    "tiles, zlib": tiff(STACK, tile=(16, 16), compression="zlib"),
    "BigTIFF": tiff(STACK, bigtiff=True, byteorder=">"),
    "ImageJ": tiff(
        STACK, imagej=True, resolution=(250.0, 125.0), metadata={"spacing": 50.0, "unit": "nm", "axes": "ZYX"}
    ),
    "pages": lambda path: save_tiff_pages(path, STACK, compression="zlib"),
    "two levels": tiff(STACK > 110),
    "LZW": lambda path: save_pillow_tiff(path, STACK, "tiff_lzw"),
    "LZW, predictor": lambda path: save_pillow_tiff(path, STACK, "tiff_lzw", tiffinfo={317: 2}),
    "LZW, 16 bits": lambda path: save_pillow_tiff(path, STACK.astype(np.uint16) * 99, "tiff_lzw", tiffinfo={317: 2}),
    "LZW of noise": lambda path: save_pillow_tiff(
        path, np.random.default_rng(0).integers(0, 256, (2, 150, 90), np.uint8), "tiff_lzw"
    ),
    "float, predictor": lambda path: save_pillow_tiff(
        path, STACK.astype(np.float32) / 7, "tiff_adobe_deflate", tiffinfo={317: 3}
    ),
    "PackBits": lambda path: save_pillow_tiff(path, STACK // 40 * 40, "packbits"),
    "white is zero": lambda path: save_pillow_tiff(path, STACK, "tiff_lzw", tiffinfo={262: 0}),
    "two levels, LZW": lambda path: save_pillow_tiff(path, STACK > 110, "tiff_lzw"),
    "resolution": tiff(PAGE, resolution=(300.5, 300.25), resolutionunit="INCH"),
}


@pytest.mark.parametrize("kind", TIFFS)
def test_tiff(device: Path, model: Path, tmp_path: Path, kind: str) -> None:
    TIFFS[kind](tmp_path / "a.tif")
    ours, theirs = same_mask(device, model, tmp_path / "a.tif")
    with tifffile.TiffFile(ours) as a, tifffile.TiffFile(theirs) as b:
        assert len(a.pages) == len(b.pages)
        for tag in ("XResolution", "YResolution"):
            resolution = [t.pages[0].tags[tag].value if tag in t.pages[0].tags else (1, 1) for t in (a, b)]
            assert resolution[0][0] / resolution[0][1] == pytest.approx(resolution[1][0] / resolution[1][1])
        if kind == "resolution":
            assert a.pages[0].tags["ResolutionUnit"].value == 2
        if kind == "ImageJ":
            assert a.imagej_metadata["spacing"] == 50 and a.imagej_metadata["unit"] == "nm"


def test_an_imagej_stack_with_one_directory(device: Path, model: Path, tmp_path: Path) -> None:
    description = "ImageJ=1.53\nimages=3\nslices=3\nunit=nm\nspacing=4.5\n"
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PAGE, photometric="minisblack", description=description, metadata=None)
    path.write_bytes(path.read_bytes() + STACK[1:].tobytes())
    ours, _ = same_mask(device, model, path)
    assert len(read_image(ours).data) == 3


@pytest.mark.parametrize("bits", [2, 4])
def test_few_bits_in_tiff(device: Path, model: Path, tmp_path: Path, bits: int) -> None:
    stored = PAGE >> (8 - bits)
    padded = np.pad(stored, ((0, 0), (0, -stored.shape[1] % (8 // bits)))).reshape(stored.shape[0], -1, 8 // bits)
    packed = sum(padded[..., k] << (8 - bits * (k + 1)) for k in range(8 // bits)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", packed, photometric="minisblack", metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as written:
        written.pages[0].tags["ImageWidth"].overwrite(stored.shape[1])
        written.pages[0].tags["BitsPerSample"].overwrite(bits)
    same_mask(device, model, tmp_path / "a.tif")


@pytest.mark.parametrize("kind", ["8 bits", "16 bits", "1 bit", "2 bits", "4 bits"])
@pytest.mark.parametrize("interlaced", [False, True])
def test_png(device: Path, model: Path, tmp_path: Path, kind: str, interlaced: bool) -> None:
    picture = PAGE.astype(np.uint16) * 211 if kind == "16 bits" else PAGE
    if kind in ("8 bits", "16 bits") and not interlaced:
        Image.fromarray(picture).save(tmp_path / "a.png")  # filters of all kinds
    else:
        (tmp_path / "a.png").write_bytes(png(picture, int(kind.split()[0]), interlaced))
    for suffix in (".png", ".tif", ".npy"):
        same_mask(device, model, tmp_path / "a.png", suffix)


VOXELS = np.moveaxis(STACK, 0, 2)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_nifti_types(device: Path, model: Path, tmp_path: Path, suffix: str, dtype: str) -> None:
    voxels = (VOXELS // 2).astype(dtype)
    save_nifti(tmp_path / f"a{suffix}", voxels)
    ours, theirs = same_mask(device, model, tmp_path / f"a{suffix}")
    assert plain(ours) == plain(theirs)


def plain(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


@pytest.mark.parametrize("scaling", [(2.5, -30.0), (0.0, 7.0), (float("nan"), 1.0), (1.0, 0.0), (-0.37, 1e4)])
@pytest.mark.parametrize("dtype", ["i2", "f4"])
def test_nifti_scaling(device: Path, model: Path, tmp_path: Path, scaling: tuple[float, float], dtype: str) -> None:
    save_nifti(tmp_path / "a.nii", VOXELS.astype(dtype), scaling)
    ours, theirs = same_mask(device, model, tmp_path / "a.nii")
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("codes", [{"sform": 0, "qform": 1}, {"sform": 3, "qform": 0}, {"sform": 0, "qform": 0}])
@pytest.mark.parametrize("shape", [(34, 47), (34, 47, 1), (34, 47, 3, 1, 1)])
@pytest.mark.parametrize("kind", ["first", "second", "big-endian", "extended"])
def test_nifti_geometry(
    device: Path, model: Path, tmp_path: Path, codes: dict[str, int], shape: tuple[int, ...], kind: str
) -> None:
    voxels = (
        VOXELS[:, :, : shape[2] if len(shape) > 2 else 1]
        .reshape(shape)
        .astype(">i2" if kind == "big-endian" else "<i2")
    )
    made = nifti(
        voxels, nibabel.Nifti2Image if kind == "second" else nibabel.Nifti1Image, kind == "big-endian", **codes
    )
    if kind == "extended":
        made.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"a note for the reader"))
    (tmp_path / "a.nii").write_bytes(made.to_bytes())
    ours, theirs = same_mask(device, model, tmp_path / "a.nii")
    assert ours.read_bytes() == theirs.read_bytes()  # header, extension and all
    before, after = nibabel.load(tmp_path / "a.nii"), nibabel.load(ours)
    assert (before.affine == after.affine).all() and after.shape == shape
    ours_gz, _ = same_mask(device, model, tmp_path / "a.nii", ".nii.gz")
    assert plain(ours_gz) == ours.read_bytes()


def test_gzip_of_several_members(device: Path, model: Path, tmp_path: Path) -> None:
    content = nifti(VOXELS).to_bytes()
    packed = gzip.compress(content[:1000]) + gzip.compress(content[1000:], 1) + bytes(512)
    (tmp_path / "a.nii.gz").write_bytes(packed)
    same_mask(device, model, tmp_path / "a.nii.gz")
    stored = gzip.compress(content, 0)
    (tmp_path / "a.nii.gz").write_bytes(stored)
    same_mask(device, model, tmp_path / "a.nii.gz")


NPYS = {
    "flat": PAGE,
    "one": STACK[:1],
    "stack": STACK,
    "int16": STACK.astype(np.int16) - 100,
    "uint64, big-endian": STACK.astype(">u8") << 40,
    "float16": STACK.astype(np.float16) / 3,
    "float32": STACK.astype(np.float32) / 3,
    "float64, big-endian": STACK.astype(">f8") / 3,
    "Fortran's order": np.asfortranarray(STACK.astype(np.float32)),
    "flat, Fortran's order": np.asfortranarray(PAGE),
    "one row a slice": STACK.reshape(3, -1, 17),
}


@pytest.mark.parametrize("kind", NPYS)
def test_npy(device: Path, model: Path, tmp_path: Path, kind: str) -> None:
    np.save(tmp_path / "a.npy", NPYS[kind])
    ours, theirs = same_mask(device, model, tmp_path / "a.npy")
    assert np.load(ours).shape == np.load(theirs).shape
    same_mask(device, model, tmp_path / "a.npy", ".tif")
