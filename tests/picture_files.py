"""Pixels, masks and volumes that the tests of image files write."""

from pathlib import Path

import nibabel
import numpy as np

RNG = np.random.default_rng(3)
STACK = RNG.integers(0, 255, (5, 21, 34), dtype=np.uint8)


def masks_for(shape: tuple[int, ...]) -> np.ndarray:
    """A mask of three classes in turn."""
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
