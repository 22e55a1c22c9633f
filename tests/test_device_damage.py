"""Hostile files: every format cut, flipped and made up. ``unetq-run`` says a sentence or gives the right mask."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from device_program import call, nifti, picture, save_nifti, save_pillow_tiff, save_tiff_pages
from PIL import Image

from unetq.errors import UnetqError
from unetq.imageio import read_image
from unetq.predict import predict

STACK = picture(2, 24, 31)
SEED = 20261121


def make(folder: Path, kind: str) -> Path:
    path = folder / f"a.{kind.split()[0]}"
    if kind == "tif plain":
        save_tiff_pages(path, STACK)
    elif kind == "tif zlib":
        save_tiff_pages(path, STACK, compression="zlib", rowsperstrip=5, predictor=2)
    elif kind == "tif tiles":
        tifffile.imwrite(path, STACK, photometric="minisblack", compression="zlib", tile=(16, 16), bigtiff=True)
    elif kind == "tif lzw":
        save_pillow_tiff(path, STACK, "tiff_lzw")
    elif kind == "tif packbits":
        save_pillow_tiff(path, STACK // 30 * 30, "packbits")
    elif kind == "tif imagej":
        tifffile.imwrite(path, STACK, imagej=True, metadata={"spacing": 2.0, "unit": "nm"})
    elif kind == "png":
        Image.fromarray(STACK[0]).save(path)
    elif kind == "nii second":
        path.write_bytes(nifti(np.moveaxis(STACK, 0, 2), nifti2()).to_bytes())
    elif kind.startswith("nii"):
        save_nifti(path, np.moveaxis(STACK, 0, 2).astype(np.float32), (1.5, 2.0))
    else:
        np.save(path, STACK.astype(np.float32))
    return path


def nifti2() -> object:
    import nibabel

    return nibabel.Nifti2Image


KINDS = ["tif plain", "tif zlib", "tif tiles", "tif lzw", "tif packbits", "tif imagej"]
KINDS += ["png", "nii", "nii second", "nii.gz", "npy"]


def judged(device: Path, model: Path, image: Path, what: str) -> bool:
    """A sentence and code 3, or the mask of ``predict`` where that takes the file, too; True for a mask."""
    suffix = "".join(image.suffixes)
    ours, theirs = image.with_name(f"ours{suffix}"), image.with_name(f"theirs{suffix}")
    ours.unlink(missing_ok=True)
    done = call(device, model, image, "-o", ours)
    assert done.returncode in (0, 2, 3, 7), f"{what}: left with {done.returncode}\n{done.stderr[-3000:]}"
    if done.returncode:
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, f"{what}: {done.stderr}"
        assert not ours.exists()
        return False
    try:
        predict(model, image, theirs)
    except UnetqError:
        return True
    np.testing.assert_array_equal(read_image(ours).data, read_image(theirs).data, err_msg=what)
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_cut_files(device: Path, model: Path, tmp_path: Path, kind: str) -> None:
    image = make(tmp_path, kind)
    whole = image.read_bytes()
    assert judged(device, model, image, "whole")
    for length in [1, 3, 4, 7, 8, 9, 16, *np.linspace(17, len(whole) - 1, 16).astype(int), len(whole) - 1]:
        image.write_bytes(whole[:length])
        took = judged(device, model, image, f"{kind} cut at {length} of {len(whole)}")
        # Only what nothing refers to may be missing.
        assert not took or (kind.startswith("tif") and length > len(whole) - 8), f"{kind} cut at {length} was taken"


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bytes(device: Path, model: Path, tmp_path: Path, kind: str) -> None:
    image = make(tmp_path, kind)
    whole = image.read_bytes()
    rng = np.random.default_rng([SEED, KINDS.index(kind)])
    took = 0
    for trial in range(45):
        damaged = bytearray(whole)
        # Headers and directories lie at the start or the end of these files: half of the damage goes there.
        reach = len(whole) if trial % 2 else 400
        for position in rng.integers(0, reach, int(rng.integers(1, 5))):
            at = int(position) if trial % 4 else len(whole) - 1 - int(position)
            damaged[at] = int(rng.integers(256)) if trial % 3 else damaged[at] ^ 1 << int(rng.integers(8))
        image.write_bytes(damaged)
        took += judged(device, model, image, f"seed {SEED}, {kind}, trial {trial}")
    assert kind != "png" or took == 0, "a PNG's every byte is under a checksum"


def tiff(*entries: tuple[int, int, int, int], behind: bytes = b"") -> bytes:
    """A little-endian TIFF of one page with these tags: number, type, count, value."""
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x08\0\0\0" + directory + bytes(4) + behind


GREY = [(256, 4, 1, 16), (257, 4, 1, 16), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
BEHIND = bytes(range(256))


def npy(shape: str, descr: str = "<f4") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + bytes(64)


def png(width: int, height: int, bits: int, data: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def header_of(dims: list[int], offset: float = 352, datatype: int = 2) -> bytes:
    raw = bytearray(nifti(np.moveaxis(STACK, 0, 2)).to_bytes())
    struct.pack_into("<8h", raw, 40, *(dims + [1] * 8)[:8])
    struct.pack_into("<h", raw, 70, datatype)
    struct.pack_into("<f", raw, 108, offset)
    return bytes(raw)


MADE_UP: dict[str, bytes] = {
    "circle.tif": b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 256, 4, 1, 16) + b"\x08\0\0\0",
    "strips elsewhere.tif": tiff(*GREY, (273, 4, 1, 4000000000), (279, 4, 1, 256), behind=BEHIND),
    "strips too long.tif": tiff(*GREY, (273, 4, 1, 8), (279, 4, 1, 4294967295), behind=BEHIND),
    "no strips.tif": tiff(*GREY, behind=BEHIND),
    "billions of strips.tif": tiff(*GREY, (273, 4, 4294967295, 8), (279, 4, 4294967295, 8), behind=BEHIND),
    "huge page.tif": tiff((256, 4, 1, 16777216), (257, 4, 1, 16777216), *GREY[2:], (273, 4, 1, 8), (279, 4, 1, 99)),
    "no width.tif": tiff((256, 4, 1, 0), *GREY[1:], (273, 4, 1, 8), (279, 4, 1, 99), behind=BEHIND),
    "wide tiles.tif": tiff(*GREY, (322, 4, 1, 16777216), (323, 4, 1, 16777216), (324, 4, 1, 8), (325, 4, 1, 90)),
    "tiles of nothing.tif": tiff(*GREY, (322, 4, 1, 0), (323, 4, 1, 0), (324, 4, 1, 8), (325, 4, 1, 90), behind=BEHIND),
    "unknown packing.tif": tiff(*GREY[:3], (259, 3, 1, 7), GREY[4], (273, 4, 1, 8), (279, 4, 1, 99), behind=BEHIND),
    "text for width.tif": tiff((256, 2, 1, 16), *GREY[1:], (273, 4, 1, 8), (279, 4, 1, 99), behind=BEHIND),
    "many tags.tif": b"II*\0\x08\0\0\0\xff\xff" + BEHIND,
    "lzw of nothing.tif": tiff(*GREY[:3], (259, 3, 1, 5), GREY[4], (273, 4, 1, 9), (279, 4, 1, 5), behind=BEHIND),
    "big offsets.tif": b"II+\0\x04\0\0\0" + BEHIND,
    "negative.npy": npy("(-3, 4)"),
    "overflow.npy": npy("(4611686018427387904, 4)"),
    "overflow of three.npy": npy("(4294967296, 4294967296, 4294967296)"),
    "endless number.npy": npy("(99999999999999999999999999, 4)"),
    "no tuple.npy": npy("3"),
    "many axes.npy": npy("(1, 1, 1, 1, 1, 16)"),
    "odd type.npy": npy("(4, 4)", "<f3"),
    "long type.npy": npy("(4, 4)", "<U99999999999999999999"),
    "open header.npy": b"\x93NUMPY\x01\0\x40\0{'descr': '<f4" + bytes(100),
    "long header.npy": b"\x93NUMPY\x02\0\xff\xff\xff\xff" + bytes(100),
    "wrong version.npy": b"\x93NUMPY\x09\0\x10\0" + bytes(100),
    "bomb.png": png(16777215, 16777215, 16, zlib.compress(bytes(1 << 20))),
    "few pixels.png": png(16, 16, 8, zlib.compress(bytes(100))),
    "no stream.png": png(16, 16, 8, b""),
    "odd filter.png": png(16, 16, 8, zlib.compress(b"\x07" + bytes(16) * 17)),
    "odd depth.png": png(16, 16, 3, zlib.compress(bytes(1000))),
    "no size.png": png(0, 16, 8, zlib.compress(bytes(1000))),
    "long chunk.png": b"\x89PNG\r\n\x1a\n\xff\xff\xff\xffIHDR" + bytes(40),
    "huge.nii": header_of([3, 32767, 32767, 32767]),
    "no axes.nii": header_of([0]),
    "eight axes.nii": header_of([8, 1, 1, 1]),
    "negative.nii": header_of([3, 4, -4, 4]),
    "far.nii": header_of([3, 4, 4, 2], 3e14),
    "before.nii": header_of([3, 4, 4, 2], 0),
    "between.nii": header_of([3, 4, 4, 2], 352.5),
    "nowhere.nii": header_of([3, 4, 4, 2], float("nan")),
    "complex.nii": header_of([3, 4, 4, 2], 352, 32),
    "huge.nii.gz": gzip.compress(header_of([3, 32767, 32767, 32767])),
    "far.nii.gz": gzip.compress(header_of([3, 4, 4, 2], 1e9)),
    "not packed.nii.gz": header_of([3, 4, 4, 2]),
    "more behind.nii.gz": gzip.compress(header_of([3, 24, 31, 2])) + b"no gzip",
    "wrong sum.nii.gz": gzip.compress(header_of([3, 24, 31, 2]))[:-8] + bytes(8),
    "bad block.nii.gz": b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x07" + bytes(50),
    "bad codes.nii.gz": b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + bytes([5] + [255] * 50),
    "no history.nii.gz": b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + bytes([0x4B, 0x04, 0x8F, 0x00]) * 9,
}


def test_made_up_files(device: Path, model: Path, tmp_path: Path) -> None:
    for name, content in MADE_UP.items():
        image = tmp_path / name
        image.write_bytes(content)
        assert not judged(device, model, image, name), f"{name} was taken"


def test_noise_after_each_magic(device: Path, model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(SEED)
    for trial in range(40):
        noise = rng.integers(0, 256, 700, np.uint8).tobytes()
        starts = {
            "a.tif": b"II*\0\x08\0\0\0", "b.tif": b"MM\0*\0\0\0\x08", "c.tif": b"II+\0\x08\0\0\0\x10" + bytes(7),
            "a.nii.gz": b"\x1f\x8b\x08\0\0\0\0\0\0\xff", "a.npy": b"\x93NUMPY\x01\0\x80\0{'descr': ",
        }  # fmt: skip
        for name, start in starts.items():
            (tmp_path / name).write_bytes(start + noise)
            judged(device, model, tmp_path / name, f"seed {SEED}, {name}, trial {trial}")
