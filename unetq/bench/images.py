"""Seeded images for calibration and timing: smooth blobs with noise, zero mean and unit deviation."""

import numpy as np

from ..fixedpoint import F32


def images(count: int, channels: int, size: tuple[int, ...], seed: int) -> F32:
    """(count, channels, *size) float32; each plane low-pass noise plus a fifth of white noise, standardised."""
    random = np.random.default_rng(seed)
    frequencies = np.meshgrid(*(np.fft.fftfreq(n) for n in size), indexing="ij")
    radius = np.sqrt(sum(f * f for f in frequencies))
    envelope = 1.0 / (1.0 + (radius * 24.0) ** 2)
    axes = tuple(range(2, 2 + len(size)))
    white = random.standard_normal((count, channels, *size))
    smooth = np.fft.ifftn(np.fft.fftn(white, axes=axes) * envelope, axes=axes).real
    smooth /= smooth.std(axis=axes, keepdims=True)
    mixed = smooth + 0.2 * random.standard_normal(smooth.shape)
    mixed -= mixed.mean(axis=axes, keepdims=True)
    return np.ascontiguousarray(mixed / mixed.std(axis=axes, keepdims=True), dtype=np.float32)
