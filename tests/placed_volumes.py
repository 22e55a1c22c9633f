"""Volumes with a place in space, and models whose preprocessing knows space, for tests of the device program."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from device_program import call, picture, write_model
from numpy.typing import NDArray

from unetq.errors import UnetqError
from unetq.export.program import ModelMeta, Preprocessing
from unetq.imageio import read_image
from unetq.predict import predict

Affine = NDArray[np.float64]
STACK = picture(9, 30, 26)
USAGE, IMAGE, UNSUPPORTED = 2, 3, 5  # exit codes


def turned(code: str, spacing: Sequence[float] = (0.8, 1.1, 2.5), tilt: float = 0.0, seed: int = 0) -> Affine:
    """An affine whose axes have this code, of ``spacing`` (i, j, k) mm, turned by about ``tilt`` radians."""
    directions = np.zeros((3, 3))
    for axis, letter in enumerate(code):
        row = next(number for number, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
        directions[row, axis] = 1 if letter in "RAS" else -1
    rng = np.random.default_rng(seed)
    x, y, z = tilt * rng.uniform(0.6, 1.0, 3) * rng.choice([-1, 1], 3)
    rotation = np.eye(3)
    for a, b, angle in ((1, 2, x), (0, 2, y), (0, 1, z)):
        plane = np.eye(3)
        plane[a, a] = plane[b, b] = np.cos(angle)
        plane[a, b], plane[b, a] = -np.sin(angle), np.sin(angle)
        rotation = plane @ rotation
    affine = np.eye(4)
    affine[:3, :3] = rotation @ directions * spacing
    affine[:3, 3] = rng.uniform(-90, 90, 3)
    return affine


def save_volume(
    path: Path, stack: NDArray[Any], affine: Affine, form: str = "both", kind: Any = nibabel.Nifti1Image
) -> Path:
    """A NIfTI file of (slices, rows, columns) whose place is in one form or in both, or which has sizes alone."""
    voxels = np.moveaxis(stack, 0, 2)
    image = kind(voxels, affine if form != "pixdim" else None, dtype=voxels.dtype)
    image.header.set_zooms([float(length) for length in np.linalg.norm(affine[:3, :3], axis=0)])
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 2 if form in ("both", "sform") else 0)
    if form in ("both", "qform"):
        image.set_qform(affine, 1)
    path.write_bytes(image.to_bytes())
    return path


def model_of(folder: Path, rule: Preprocessing, rank: int = 2, classes: int = 1) -> Path:
    names, values = ("a", "b", "c")[: max(classes, 2)], (3, 77, 200)[: max(classes, 2)]
    step = 4 if rank == 3 else 8
    meta = ModelMeta("placed", names, values, rule)
    return write_model(folder / "m.uqm", meta, rank=rank, classes=classes, channels=2 * rule.context + 1, multiple=step)


RULES: dict[str, tuple[int, Preprocessing]] = {
    "turned": (2, Preprocessing("zscore", orientation="RAS")),
    "slices turned": (2, Preprocessing("zscore", orientation="SPL")),
    "finer": (2, Preprocessing("zscore", spacing=(0.61, 0.47))),
    "coarser": (2, Preprocessing("zscore", spacing=(1.3, 0.0))),
    "turned, resampled": (2, Preprocessing("zscore", orientation="ALS", spacing=(1.0, 1.0))),
    "windows": (2, Preprocessing("zscore", window=(16, 8), overlap=0.5)),
    "neighbours": (2, Preprocessing("zscore", context=1)),
    "more neighbours than slices": (2, Preprocessing("zscore", context=9)),
    "volume": (2, Preprocessing("zscore", over="volume")),
    "all of it": (2, Preprocessing("zscore", 0, 1, "volume", "IPR", (1.2, 0.9), context=1, window=(16, 16))),
    "3-D": (3, Preprocessing("zscore")),
    "3-D turned": (3, Preprocessing("zscore", orientation="PSR")),
    "3-D resampled": (3, Preprocessing("zscore", spacing=(1.3, 1.0, 0.9))),
    "3-D of one spacing": (3, Preprocessing("none", spacing=(0.0, 1.6, 0.0))),
    "3-D windows": (3, Preprocessing("zscore", window=(4, 16, 12), overlap=0.4)),
    "3-D all of it": (3, Preprocessing("zscore", 0, 1, "volume", "LIA", (1.0, 1.1, 1.2), 0, (8, 12, 8), overlap=0.0)),
}  # fmt: skip


def same_bytes(
    device: Path, model: Path, image: Path, axes: str = "", spacing: tuple[float, ...] = (), options: Sequence[str] = ()
) -> NDArray[np.uint8]:
    """Both programs' masks: the same bytes, and more than one class; gives the mask (slices, rows, columns)."""
    ours, theirs = image.with_name(f"ours{image.suffix}"), image.with_name(f"theirs{image.suffix}")
    predict(model, image, theirs, axes=axes, spacing=spacing, allow_small="--allow-small" in options)
    told = [*(["--axes", axes] if axes else []), *(["--spacing", ",".join(map(str, spacing))] if spacing else [])]
    done = call(device, model, image, "-o", ours, *told, *options)
    assert done.returncode == 0, done.stderr
    mask = read_image(ours).data
    np.testing.assert_array_equal(mask, read_image(theirs).data)
    if image.suffix == ".nii":
        assert ours.read_bytes() == theirs.read_bytes()
    assert np.bincount(mask.reshape(-1)).max() < 0.97 * mask.size, "the mask is nearly constant"
    return mask


def both_refuse(device: Path, model: Path, image: Path, code: int, words: str, **told: Any) -> None:
    """Both programs leave with this code, ours with these words."""
    options = [
        part
        for name, value in told.items()
        for part in (f"--{name}", value if isinstance(value, str) else ",".join(map(str, value)))
    ]
    output = image.with_name(f"refused{image.suffix}")
    done = call(device, model, image, "-o", output, *options)
    assert done.returncode == code and words in done.stderr and done.stderr.count("\n") == 1, (
        done.returncode,
        done.stderr,
    )
    with pytest.raises(UnetqError) as error:
        predict(model, image, output, **told)
    assert error.value.exit_code == code, error.value
    assert not output.exists()
