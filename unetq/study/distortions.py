"""Distorted images, to see what a network that was trained on clean ones still makes of them.

Each distortion has three severities and acts on the raw image, before it is resampled and normalised, so that it goes
the way a bad image would. Values are not rounded or clipped to the stored type; ``window`` normalisation clips itself.

    blur        Gaussian, of so many pixels standard deviation
    noise       Gaussian, of so much of the image's own standard deviation
    contrast    the image's range to the power of gamma; zscore undoes a linear change, this one it does not
    motion      the mean along a straight line of so many pixels, in a direction drawn once an image
    bias_field  the image over its lowest value times exp(p), p a polynomial of degree 3 over the image with
                coefficients drawn up to so much (Van Leemput et al. 1999, as MONAI's RandBiasField has it)

Noise, contrast and bias field are MONAI's transforms. Blur is SciPy's: MONAI's GaussianSmooth takes what lies beyond
the border for 0, which frames an image that is not 0 there; here it is the image mirrored.
"""

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import torch
from monai.transforms.intensity.array import AdjustContrast, RandBiasField, RandGaussianNoise
from numpy.typing import NDArray
from scipy import ndimage

from ..errors import ConfigError
from ..export.program import Preprocessing
from ..fixedpoint import F32
from ..moments import Moments
from ..preprocess import volume_moments
from ..samples import Sample, Samples

DISTORTIONS: dict[str, tuple[float, ...]] = {
    "blur": (1.0, 2.0, 3.0),
    "noise": (0.25, 0.5, 1.0),
    "contrast": (1.5, 2.0, 3.0),
    "motion": (5.0, 9.0, 15.0),
    "bias_field": (0.2, 0.4, 0.8),
}
"""What a severity means: the first number is that of severity 1."""


def distort(image: NDArray[np.generic], name: str, severity: int, seed: int) -> F32:
    """``image`` distorted; the same for the same arguments.

    Args:
        image: (C, H, W) or (C, D, H, W) raw intensities of any real type; all channels are distorted alike, but for
            noise.
        name: of ``DISTORTIONS``. severity: 1, 2 or 3.
        seed: 0 or above, of what is drawn: noise, direction, field.

    Returns:
        float32 of the image's shape.

    Raises:
        ConfigError: an unknown name, or a severity that it does not have.
    """
    known = DISTORTIONS.get(name)
    if known is None:
        raise ConfigError(f"distortion {name!r} is not known; choose among {', '.join(DISTORTIONS)}.")
    if not 1 <= severity <= len(known):
        raise ConfigError(f"severity {severity} of {name}: it has 1 to {len(known)}; choose one of them.")
    values = np.ascontiguousarray(image, dtype=np.float32)
    result = _APPLY[name](values, known[severity - 1], int(np.random.SeedSequence(seed).generate_state(1)[0]))
    return np.ascontiguousarray(result, dtype=np.float32)


def distort_samples(
    samples: Iterable[Sample], name: str, severity: int, seed: int = 0, preprocessing: Preprocessing | None = None
) -> Samples:
    """``samples`` with distorted images; ids, labels and all else stay.

    What is drawn for a sample comes from (seed, name, its id), so it does not depend on the others; severities of one
    sample share their draws.

    Args:
        samples, name, severity, seed: as of ``distort``.
        preprocessing: where it normalises slices by their whole volume, that is measured anew on the distorted slices,
            which then must be all of each volume; None leaves the moments of the clean one.

    Raises:
        ConfigError: as ``distort``.
    """
    found = [
        replace(s, image=distort(s.image, name, severity, _seed_of(seed, name, s.id)).astype(np.float32))
        for s in samples
    ]
    if preprocessing is None or all(s.moments is None for s in found):
        return Samples(found)
    moments = _moments(found, preprocessing)
    return Samples(s if s.moments is None else replace(s, moments=moments[s.volume]) for s in found)


def _seed_of(seed: int, name: str, identity: str) -> int:
    words = [seed, zlib.crc32(name.encode()), zlib.crc32(identity.encode())]
    return int(np.random.SeedSequence(words).generate_state(1)[0])


def _moments(samples: list[Sample], preprocessing: Preprocessing) -> dict[str, Moments | None]:
    volumes: dict[str, list[Sample]] = defaultdict(list)
    for sample in sorted(samples, key=lambda s: s.index):
        volumes[sample.volume].append(sample)
    return {
        name: volume_moments(
            np.stack([s.image[len(s.image) // 2] for s in slices])[None],  # the middle channel is the slice itself
            slices[0].spacing,
            preprocessing,
        )
        for name, slices in volumes.items()
    }


def _blur(image: F32, sigma: float, seed: int) -> F32:
    return np.stack([ndimage.gaussian_filter(channel, sigma, mode="reflect") for channel in image])


def _noise(image: F32, share: float, seed: int) -> F32:
    transform = RandGaussianNoise(prob=1.0, mean=0.0, std=share * float(image.std()), sample_std=False)
    transform.set_random_state(seed=seed)
    return _numpy(transform(torch.from_numpy(image)))


def _contrast(image: F32, gamma: float, seed: int) -> F32:
    return _numpy(AdjustContrast(gamma)(torch.from_numpy(image)))


def _motion(image: F32, length: float, seed: int) -> F32:
    kernel = line_kernel(int(length), float(np.random.default_rng(seed).uniform(0.0, np.pi)))
    kernel = kernel.reshape([1] * (image.ndim - 2) + list(kernel.shape))  # in the plane of each slice
    moved: F32 = ndimage.convolve(image, kernel, mode="reflect")
    return moved


def _bias_field(image: F32, reach: float, seed: int) -> F32:
    transform = RandBiasField(degree=3, coeff_range=(-reach, reach), prob=1.0)
    transform.set_random_state(seed=seed)
    lowest = image.min()
    field: F32 = _numpy(transform(torch.from_numpy(image - lowest))) + lowest
    return field


def _numpy(values: object) -> F32:
    return np.asarray(values, dtype=np.float32)


def line_kernel(length: int, angle: float) -> F32:
    """A line of ``length`` pixels (odd, 1 or more) through the middle, ``angle`` radians from the rows; sums to 1.

    Drawn as ``length`` points one pixel apart, each shared by the four pixels around it; (length, length) float32.
    """
    half = length // 2
    kernel = np.zeros((length + 2, length + 2))
    for along in range(-half, half + 1):
        y, x = half + 1 + along * np.sin(angle), half + 1 + along * np.cos(angle)
        row, column = int(np.floor(y)), int(np.floor(x))
        for i, part in ((row, row + 1 - y), (row + 1, y - row)):
            for j, share in ((column, column + 1 - x), (column + 1, x - column)):
                if part * share > 0:
                    kernel[i, j] += part * share
    kernel = kernel[1:-1, 1:-1]
    line: F32 = (kernel / kernel.sum()).astype(np.float32)
    return line


_APPLY: dict[str, Callable[[F32, float, int], F32]] = {
    "blur": _blur,
    "noise": _noise,
    "contrast": _contrast,
    "motion": _motion,
    "bias_field": _bias_field,
}
