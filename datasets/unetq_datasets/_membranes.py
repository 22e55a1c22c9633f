"""Synthetic electron microscopy: cells parted by dark, uneven membranes, with misleading organelles."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ._shapes import Mask, Plane, blur, ellipse, grid, smooth_noise

CELL = 34.0  # typical distance of neighbouring cell centres, in pixels
LABELS = ("membrane", "cell")


def membranes(rng: np.random.Generator, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One slice: image uint8 (H, W) and its exact classes uint8 (H, W), 0 membrane and 1 cell."""
    membrane, cell_of = _cells(rng, size)
    image = _cytoplasm(rng, size, cell_of)
    _organelles(rng, image, membrane)
    # A membrane cut obliquely is pale: darkness varies along it, down to almost nothing.
    darkness = np.clip(78 + 34 * smooth_noise(rng, size, 14), 12, 125)
    edge = blur(membrane.astype(np.float32), 0.8)
    image = image * (1 - edge) + (image - darkness) * edge
    image = blur(image, float(rng.uniform(0.7, 1.1)))
    shading = 1 + 0.10 * smooth_noise(rng, size, max(size) / 2.5)
    noise = rng.standard_normal(size) * 9 + blur(rng.standard_normal(size), 0.8) * 16
    image = np.clip(image * shading + noise, 0, 255)
    return np.rint(image).astype(np.uint8), np.where(membrane, 0, 1).astype(np.uint8)


def _cells(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Mask, NDArray[np.int64]]:
    """Voronoi cells of jittered centres in a warped plane: membrane mask and cell number a pixel."""
    reach = 2 * CELL
    rows, columns = (np.arange(-reach, length + reach, CELL) for length in size)
    centres = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
    centres = centres + rng.uniform(-0.48, 0.48, centres.shape) * CELL
    centres = centres[rng.random(len(centres)) > 0.18]  # dropped centres make large, irregular cells
    y, x = grid(size)
    stretch = float(rng.uniform(0.75, 1.0))
    warped = np.stack(
        [y + 7 * smooth_noise(rng, size, 26), (x + 7 * smooth_noise(rng, size, 26)) * stretch], axis=-1
    ).reshape(-1, 2)
    distance, nearest = cKDTree(centres * [1.0, stretch]).query(warped, k=2)
    between = np.linalg.norm((centres[nearest[:, 0]] - centres[nearest[:, 1]]) * [1.0, stretch], axis=1)
    to_border = (distance[:, 1] ** 2 - distance[:, 0] ** 2) / (2 * np.maximum(between, 1e-3))
    thickness = np.clip(1.9 + 0.7 * smooth_noise(rng, size, 20), 1.0, 3.6)
    return to_border.reshape(size) < thickness, nearest[:, 0].reshape(size)


def _cytoplasm(rng: np.random.Generator, size: tuple[int, int], cell_of: NDArray[np.int64]) -> Plane:
    tone = rng.normal(168, 16, int(cell_of.max()) + 1)
    texture = 9 * smooth_noise(rng, size, 5) + 7 * smooth_noise(rng, size, 2.5)
    return np.asarray(tone[cell_of] + texture, dtype=np.float32)


def _organelles(rng: np.random.Generator, image: Plane, membrane: Mask) -> None:
    """Mitochondria (dark, striped, dark rim) and vesicles (small rings): as dark as membranes, but cell."""
    height, width = image.shape
    area = height * width
    for _ in range(max(1, round(area / 2600))):
        _stamp(rng, image, membrane, radii=rng.uniform(4.0, 9.0, 2), depth=float(rng.uniform(40, 85)), striped=True)
    for _ in range(max(1, round(area / 650))):
        radius = float(rng.uniform(1.6, 3.2))
        _stamp(rng, image, membrane, radii=np.array([radius, radius]), depth=float(rng.uniform(30, 90)), striped=False)


def _stamp(
    rng: np.random.Generator, image: Plane, membrane: Mask, *, radii: NDArray[np.float64], depth: float, striped: bool
) -> None:
    centre = rng.uniform(0, image.shape)
    angle, phase = float(rng.uniform(0, np.pi)), float(rng.uniform(0, 6))
    reach = int(np.ceil(radii.max())) + 2
    low = np.maximum(centre.astype(int) - reach, 0)
    high = np.minimum(centre.astype(int) + reach + 1, image.shape)
    window = (slice(low[0], high[0]), slice(low[1], high[1]))
    rows, columns = grid((int(high[0] - low[0]), int(high[1] - low[1])))
    rows, columns = rows + low[0], columns + low[1]
    level = np.sqrt(ellipse(rows, columns, centre, radii, angle))
    inside = (level < 1) & ~membrane[window]
    rim = level > 1 - 1.6 / radii.min()
    fill = 0.45 + 0.25 * np.sin(1.6 * (rows * np.sin(angle) + columns * np.cos(angle)) + phase) if striped else 0.1
    image[window] -= np.where(inside, depth * np.where(rim, 1.0, fill), 0.0).astype(np.float32)
