"""``unetq-run`` for tests: built once a session, small networks for it, and pictures in every format it reads."""

import gzip
import os
import shutil
import struct
import subprocess
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from native_library import SOURCES, lacking
from PIL import Image
from shared_builds import built_once

from unetq.export.modelfile import save
from unetq.export.program import (
    Concat,
    Conv,
    Epilogue,
    MaxPool,
    ModelMeta,
    Op,
    Preprocessing,
    Program,
    Quantize,
    TensorSpec,
    Upsample,
)
from unetq.fixedpoint import fixed_point_grid
from unetq.imageio import read_image
from unetq.predict import predict

Array = np.ndarray
META = ModelMeta("small", ("dark", "bright"), (10, 200), Preprocessing("zscore"))


def program(factory: pytest.TempPathFactory, compiler: str = "", flags: str = "-O2") -> Path:
    """The program, compiled once a session with ``compiler`` (by default this machine's).

    UNETQ_RUN names another one for this machine instead, such as a build with sanitizers.
    """
    if not compiler and os.environ.get("UNETQ_RUN"):
        return Path(os.environ["UNETQ_RUN"])
    for tool in ("make", compiler):
        if tool and not shutil.which(tool):
            lacking(f"{tool} is not installed")

    def build(place: Path) -> None:
        command = ["make", "-s", "-j2", "-C", str(SOURCES), "run", f"OUT_RUN={place}", f"BUILD={place}.build"]
        command += [f"CXXFLAGS={flags}", *([f"CXX={compiler}"] if compiler else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.fail(f"the program does not compile:\n{done.stderr[-3000:]}")

    return built_once(factory, f"unetq-run-{compiler or 'native'}", build)


def call(*command: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run to the end; text captured. A program that does not end within minutes fails the test."""
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, **options)


def network(rank: int = 2, classes: int = 1, channels: int = 1, multiple: int = 8, fixed: Any = None) -> Program:
    """Two levels, joined: what every U-Net has."""
    rng = np.random.default_rng(5)
    tensors = [TensorSpec("image", channels, None)]
    ops: list[Op] = []
    deep = 1 if rank == 3 else 0
    grid = fixed_point_grid(6, 2, False)

    def tensor(width: int, its_grid: Any) -> int:
        tensors.append(TensorSpec(f"t{len(tensors)}", width, its_grid))
        return len(tensors) - 1

    def conv(inputs: tuple[int, ...], width: int, bits: int, last: bool = False) -> int:
        total = sum(tensors[t].channels for t in inputs)
        reach = 1 << (bits - 1)
        shape = (width, total, 3 if rank == 3 else 1, 3, 3)
        weight = np.clip(np.rint(rng.standard_normal(shape) * reach / 2), -reach, reach - 1).astype(np.int8)
        ones = np.ones(width, np.float32)
        gain = ones * np.float32(2.0**-7 if len(inputs) > 1 or len(ops) > 1 else 2.0**-8)
        offset = np.zeros(width, np.float32) if last else ones * np.float32(0.5)
        out = tensor(width, None if last else grid)
        epilogue = Epilogue(gain, offset, None if last else np.zeros(width, np.float32))
        pad = (deep, 1, 1)
        ops.append(
            Conv(
                f"c{len(ops)}",
                inputs,
                out,
                weight,
                bits,
                "twos_complement",
                ones,
                epilogue,
                pad_before=pad,
                pad_after=pad,
            )
        )
        return out

    step = (2 if rank == 3 else 1, 2, 2)
    codes = tensor(channels, fixed_point_grid(8, 5, True))
    ops.append(Quantize("in", (0,), codes))
    skip = conv((codes,), 8, 4)
    pooled = tensor(8, grid)
    ops.append(MaxPool("pool", (skip,), pooled, step, step))
    low = conv((pooled,), 8, 3)
    up = tensor(8, grid)
    ops.append(Upsample("up", (low,), up, "nearest", step, None))
    joined = tensor(16, grid)
    ops.append(Concat("join", (skip, up), joined))
    conv((joined,), classes, 4, last=True)
    sides = (multiple if rank == 3 else 1, multiple, multiple)
    return Program(tuple(tensors), tuple(ops), 0, len(tensors) - 1, rank, sides, fixed)  # type: ignore[arg-type]


def write_model(path: Path, meta: ModelMeta = META, **options: Any) -> Path:
    """A model file of ``network(**options)``."""
    save(network(**options), path, meta)
    return path


def picture(slices: int = 3, height: int = 34, width: int = 47, seed: int = 2) -> Array:
    """Smooth blobs with noise, uint8: masks of them have both classes, and borders of every direction."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(y / rng.uniform(2, 6) + s) * np.cos(x / rng.uniform(2, 7)) for s in range(slices)]
    return np.clip(110 + 80 * np.stack(waves) + rng.normal(0, 18, (slices, height, width)), 0, 255).astype(np.uint8)


def save_tiff_pages(path: Path, stack: Array, **options: Any) -> None:
    """One page a slice, with directories between the pixels."""
    with tifffile.TiffWriter(path, bigtiff=options.pop("bigtiff", False)) as writer:
        for page in stack:
            writer.write(page, contiguous=False, metadata=None, photometric="minisblack", **options)


def save_pillow_tiff(path: Path, stack: Array, compression: str, **tags: Any) -> None:
    """Written by libtiff: LZW, PackBits, predictors."""
    pages = [Image.fromarray(page) for page in stack]
    pages[0].save(path, save_all=True, append_images=pages[1:], compression=compression, **tags)


def nifti(voxels: Array, kind: Any = nibabel.Nifti1Image, big_endian: bool = False, **codes: int) -> Any:
    """An oblique image of (first axis, second axis, slices) with different sform and qform."""
    affine = np.array([[0.5, 0.02, 0, -31], [-0.02, 0.5, 0.1, 12], [0, -0.1, 5, 7], [0, 0, 0, 1]])
    header = kind.header_class(endianness=">" if big_endian else "<")
    header.set_data_dtype(voxels.dtype)
    image = kind(voxels, affine, header)
    image.set_sform(affine, codes.get("sform", 1))
    image.set_qform(affine, codes.get("qform", 2))
    image.header.set_xyzt_units("mm", "sec")
    image.header["cal_max"] = 200
    image.header["descrip"] = b"made for a test"
    return image


def save_nifti(path: Path, voxels: Array, scaling: Sequence[float] | None = None, **options: Any) -> None:
    """As ``nifti``; ``scaling`` is written as it is, without touching the voxels."""
    content = bytearray(nifti(voxels, **options).to_bytes())
    if scaling is not None:
        content[112:120] = np.array(scaling, "<f4").tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def png(page: Array, bits: int, interlaced: bool) -> bytes:
    """A PNG without filters, whose pixels are cut into chunks of 100 bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def rows(part: Array) -> bytes:
        if bits == 16:
            return b"".join(b"\0" + row.astype(">u2").tobytes() for row in part)
        per = 8 // bits
        padded = np.pad(part >> (8 - bits), ((0, 0), (0, -part.shape[1] % per))).reshape(part.shape[0], -1, per)
        packed = sum(padded[..., k].astype(int) << (8 - bits * (k + 1)) for k in range(per))
        return b"".join(b"\0" + np.asarray(row, np.uint8).tobytes() for row in packed)

    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    parts = [page[y::dy, x::dx] for x, y, dx, dy in passes] if interlaced else [page]
    data = zlib.compress(b"".join(rows(part) for part in parts if part.size))
    head = struct.pack(">IIBBBBB", page.shape[1], page.shape[0], bits, 0, 0, 0, interlaced)
    pieces = [chunk(b"IDAT", data[i : i + 100]) for i in range(0, len(data), 100)]
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"tEXt", b"a\0b") + b"".join(pieces) + chunk(b"IEND", b"")
    )


def same_mask(device: Path, model: Path, image: Path, suffix: str = "", *options: str) -> tuple[Path, Path]:
    """Both programs' masks of one image; their values and axes are the same, and they are no trivial ones."""
    suffix = suffix or "".join(image.suffixes)
    ours, theirs = image.with_name(f"ours{suffix}"), image.with_name(f"theirs{suffix}")
    predict(model, image, theirs, allow_small="--allow-small" in options)
    done = call(device, model, image, "-o", ours, *options)
    assert done.returncode == 0, done.stderr
    masks = [read_image(path) for path in (ours, theirs)]
    assert masks[0].data.dtype == np.uint8 and masks[0].flat == masks[1].flat
    np.testing.assert_array_equal(masks[0].data, masks[1].data)
    shares = np.bincount(masks[0].data.reshape(-1)) / masks[0].data.size
    assert shares.size <= 256 and (shares.max() < 0.97 or masks[0].data.size < 200), "the mask is nearly constant"
    return ours, theirs
