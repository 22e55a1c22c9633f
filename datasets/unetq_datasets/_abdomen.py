"""Synthetic axial CT of the abdomen: a small, lobed pancreas among larger organs of similar density."""

import numpy as np
from numpy.typing import NDArray

from ._shapes import Mask, Plane, blur, ellipse, grid, smooth_noise

LABELS = ("background", "pancreas")
AIR, FAT, MUSCLE, BONE, FLUID = -1000.0, -95.0, 55.0, 420.0, 12.0


def abdomen(rng: np.random.Generator, size: tuple[int, int]) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """One slice: image int16 (H, W) in Hounsfield units and classes uint8 (H, W), 1 where pancreas."""
    rows, columns = grid(size)
    half = min(size) / 2.0
    # Body coordinates: u from front (-1) to back (1), v from image left (the liver) to right, both warped.
    scale = half * float(rng.uniform(0.86, 0.96))
    wave = half / 5
    shift = rng.uniform(-0.03, 0.03, 2)
    u = ((rows - (size[0] - 1) / 2) / scale + 0.035 * smooth_noise(rng, size, wave) + shift[0]).astype(np.float32)
    v = ((columns - (size[1] - 1) / 2) / scale + 0.035 * smooth_noise(rng, size, wave) + shift[1]).astype(np.float32)

    body = ellipse(u, v, (0, 0), (0.74, 1.0)) < 1
    cavity = ellipse(u, v, (-0.04, 0), (0.60, 0.85)) < 1
    image = np.full(size, AIR, dtype=np.float32)
    image = np.where(body, FAT + 8 * smooth_noise(rng, size, half / 12), image)
    wall = (ellipse(u, v, (0, 0), (0.68, 0.93)) < 1) & ~cavity
    image = np.where(wall, MUSCLE + 10 * smooth_noise(rng, size, half / 20), image)
    image = _organs(rng, size, u, v, image, cavity)
    pancreas = _pancreas(rng, size, u, v) & cavity
    tone = float(rng.normal(88, 10))
    image = np.where(pancreas, tone + 9 * smooth_noise(rng, size, half / 40), image)
    image = blur(image, 0.7) + blur(rng.standard_normal(size), 0.6) * float(rng.uniform(22, 38))
    return np.rint(np.clip(image, -1024, 3071)).astype(np.int16), pancreas.astype(np.uint8)


def _organs(rng: np.random.Generator, size: tuple[int, int], u: Plane, v: Plane, image: Plane, cavity: Mask) -> Plane:
    def put(image: Plane, shape: Mask, tone: float, grain: float = 8.0) -> Plane:
        texture = grain * smooth_noise(rng, size, min(size) / 60)
        return np.asarray(np.where(shape & cavity, tone + texture, image), dtype=np.float32)

    def near(value: float, spread: float) -> float:
        return float(rng.normal(value, spread))

    for _ in range(int(rng.integers(7, 12))):  # bowel loops: pancreas-like density, some with gas
        centre = (rng.uniform(-0.45, 0.2), rng.uniform(-0.5, 0.65))
        radii = rng.uniform(0.06, 0.13, 2)
        level = ellipse(u, v, centre, radii, float(rng.uniform(0, np.pi)))
        image = put(image, level < 1, near(70, 18))
        if rng.random() < 0.35:
            image = put(image, level < 0.3, -700.0)
    image = put(image, ellipse(u, v, (-0.12, -0.50), (0.44, 0.36), near(0.3, 0.1)) < 1, near(105, 8))  # liver
    image = put(image, ellipse(u, v, (-0.28, 0.32), (0.20, 0.32), near(-0.3, 0.15)) < 1, near(45, 12))  # stomach
    image = put(image, ellipse(u, v, (0.16, 0.66), (0.24, 0.14), near(0.2, 0.15)) < 1, near(112, 8))  # spleen
    for side in (-1, 1):
        level = ellipse(u, v, (near(0.27, 0.02), side * near(0.43, 0.02)), (0.16, 0.11), side * near(0.4, 0.1))
        image = put(image, level < 1, near(165, 12))  # kidney and its pelvis
        image = put(image, level < 0.18, FLUID)
    image = put(image, ellipse(u, v, (0.20, near(0.07, 0.02)), (0.065, 0.065)) < 1, near(150, 15))  # aorta
    image = put(image, ellipse(u, v, (0.17, near(-0.12, 0.02)), (0.06, 0.08)) < 1, near(125, 15))  # vena cava
    spine = ellipse(u, v, (0.40, 0.0), (0.15, 0.19)) < 1
    return np.asarray(np.where(spine, BONE + 90 * smooth_noise(rng, size, min(size) / 50), image), dtype=np.float32)


def _pancreas(rng: np.random.Generator, size: tuple[int, int], u: Plane, v: Plane) -> Mask:
    """Head, body and tail: discs of varying radius along an arched line, with a lobed outline."""
    along = np.linspace(0, 1, 24)
    start = np.array([rng.normal(0.10, 0.02), rng.normal(-0.22, 0.02)])
    end = np.array([rng.normal(0.02, 0.03), rng.normal(0.50, 0.04)])
    arch = float(rng.uniform(0.10, 0.20))
    line_u = start[0] + (end[0] - start[0]) * along - arch * np.sin(np.pi * along)
    line_v = start[1] + (end[1] - start[1]) * along
    radius = 0.085 - 0.075 * along + 0.055 * along**2 + 0.012 * np.sin(7 * along + rng.uniform(0, 6))
    radius = np.maximum(radius, 0.03) * float(rng.uniform(0.85, 1.15))
    level = np.full(size, np.inf, dtype=np.float32)
    for centre_u, centre_v, reach in zip(line_u, line_v, radius, strict=True):
        distance = ((u - np.float32(centre_u)) ** 2 + (v - np.float32(centre_v)) ** 2) / np.float32(reach**2)
        np.minimum(level, distance, out=level)
    return np.asarray(level < 1 + 0.30 * smooth_noise(rng, size, min(size) / 45), dtype=np.bool_)
