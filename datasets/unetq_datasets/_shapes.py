"""Building blocks of the synthetic images: smooth random fields and soft-edged shapes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Plane = NDArray[np.float32]
Mask = NDArray[np.bool_]
Point = Sequence[float] | NDArray[np.float64]


def smooth_noise(rng: np.random.Generator, size: tuple[int, int], scale: float) -> Plane:
    """A random field with mean 0, deviation about 1 and structures of about ``scale`` pixels.

    Made on a coarse grid and enlarged by cubic splines, which costs the same for every scale.
    """
    coarse = [int(np.ceil(length / scale)) + 3 for length in size]
    nodes = rng.standard_normal(coarse)
    first, weights = _spline(size[0], scale)
    nodes = np.sum([weights[:, tap, None] * nodes[first + tap] for tap in range(4)], axis=0)
    first, weights = _spline(size[1], scale)
    field = np.sum([nodes[:, first + tap] * weights[:, tap] for tap in range(4)], axis=0)
    return np.asarray(field * 1.5, dtype=np.float32)


def grid(size: tuple[int, int]) -> tuple[Plane, Plane]:
    """Row and column coordinates, each (H, W) float32."""
    rows, columns = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
    return rows, columns


def ellipse(rows: NDArray[Any], columns: NDArray[Any], centre: Point, radii: Point, angle: float = 0.0) -> Plane:
    """A signed level: below 1 inside the ellipse, 1 on its edge; ``angle`` in radians turns it."""
    y, x = rows - centre[0], columns - centre[1]
    cosine, sine = np.cos(angle), np.sin(angle)
    level = ((y * cosine + x * sine) / radii[0]) ** 2 + ((x * cosine - y * sine) / radii[1]) ** 2
    return np.asarray(level, dtype=np.float32)


def blur(image: NDArray[np.floating], sigma: float) -> Plane:
    """Gaussian blur, mirrored at the border."""
    return np.asarray(ndimage.gaussian_filter(image, sigma, mode="mirror", truncate=3.0), dtype=np.float32)


def _spline(length: int, scale: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each pixel of an axis, the first of the four nodes around it and their cubic B-spline weights."""
    position = np.arange(length) / scale
    first = position.astype(np.int64)
    t = position - first
    weights = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    return first, np.stack(weights, axis=1) / 6
