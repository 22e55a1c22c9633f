"""Synthetic axial cross-sections of the spinal cord: a grey-matter butterfly in white matter."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._shapes import Mask, Plane, blur, ellipse, grid, smooth_noise

LABELS = ("background", "grey matter", "white matter")


def cord(rng: np.random.Generator, size: tuple[int, int]) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """One slice: image int16 (H, W) and its exact classes uint8 (H, W), 0 outside, 1 grey, 2 white matter."""
    rows, columns = grid(size)
    scale = min(size) / 256.0
    # Everything is drawn in the cord's own frame (u to the back, v to the right), warped a little.
    centre = np.array(size) / 2 + rng.uniform(-0.09, 0.09, 2) * size
    angle = float(rng.normal(0, 0.12))
    bend = 1.6 * scale
    y = rows - centre[0] + bend * smooth_noise(rng, size, 24 * scale)
    x = columns - centre[1] + bend * smooth_noise(rng, size, 24 * scale)
    u, v = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
    radius = float(rng.uniform(34, 46)) * scale
    u, v = np.asarray(u / radius, np.float32), np.asarray(v / radius, np.float32)
    flat = float(rng.uniform(0.66, 0.84))

    white = ellipse(u, v, (0, 0), (flat, 1.0)) < 1
    canal = ellipse(u, v, (rng.normal(0, 0.06), rng.normal(0, 0.05)), (flat * 1.5, rng.uniform(1.3, 1.6))) < 1
    grey = _butterfly(rng, u, v, flat) & white
    image: NDArray[Any] = _surroundings(rng, size, u, v)
    brightness = float(rng.uniform(0.85, 1.15))
    image = np.where(canal, 520 + 25 * smooth_noise(rng, size, 9 * scale), image)
    image = np.where(white, 300 + 12 * smooth_noise(rng, size, 6 * scale), image)
    contrast = float(rng.uniform(50, 95))  # T2*-weighted: grey matter is a little brighter than white
    image = np.where(grey, 300 + contrast + 10 * smooth_noise(rng, size, 6 * scale), image)
    image = blur(image, 1.0 * max(scale, 0.5)) * (1 + 0.12 * smooth_noise(rng, size, max(size) / 2)) * brightness
    noise = float(rng.uniform(14, 26))
    image = np.hypot(image + rng.normal(0, noise, size), rng.normal(0, noise, size))  # magnitude images: Rician
    classes = np.where(grey, 1, np.where(white, 2, 0)).astype(np.uint8)
    return np.rint(np.clip(image, 0, 4095)).astype(np.int16), classes


def _butterfly(rng: np.random.Generator, u: Plane, v: Plane, flat: float) -> Mask:
    """Two thick ventral and two slender dorsal horns, joined across the middle."""
    side: NDArray[Any] = np.abs(v) + float(rng.normal(0, 0.01)) * np.sign(v)
    thick = float(rng.uniform(0.85, 1.15))
    ventral = ellipse(u, side, (-0.30 * flat, 0.26), (0.30 * flat * thick, 0.20 * thick), 0.4) < 1
    dorsal = ellipse(u, side, (0.38 * flat, 0.27), (0.44 * flat, 0.085 * thick), 0.35) < 1
    column = ellipse(u, side, (0.02, 0.20), (0.34 * flat, 0.09 * thick), 0.0) < 1
    bridge = (np.abs(u - 0.02) < 0.085 * thick) & (side < 0.24)
    return np.asarray(ventral | dorsal | column | bridge, dtype=np.bool_)


def _surroundings(rng: np.random.Generator, size: tuple[int, int], u: Plane, v: Plane) -> Plane:
    """Vertebral body and arch, muscle and air: as bright as the cord in places, never labelled."""
    image: NDArray[Any] = 150 + 55 * smooth_noise(rng, size, 16)
    body = ellipse(u, v, (-2.6, 0), (1.35, 1.7)) < 1
    image = np.where(body, 330 + 40 * smooth_noise(rng, size, 8), image)
    arch = np.abs(ellipse(u, v, (0.3, 0), (2.0, 2.1)) - 1) < 0.28
    image = np.where(arch & (u > -0.8), 60.0, image)
    for side in (-1, 1):  # nerve roots and vessels
        image = np.where(ellipse(u, v, (rng.normal(0, 0.1), side * 1.75), (0.16, 0.22)) < 1, 400.0, image)
    muscle = ellipse(u, v, (2.6, rng.normal(0, 0.2)), (1.2, 2.4)) < 1
    return np.asarray(np.where(muscle & ~arch, 260 + 60 * smooth_noise(rng, size, 5), image), dtype=np.float32)
