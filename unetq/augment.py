"""Random views of one training crop, made of MONAI transforms and decided by one seed.

Augmentation sees the normalised image (channels, height, width) and its label together: spatial
transforms move both by the same map, the label by nearest neighbour, so it stays a class index.
"""

from typing import Any

import numpy as np
import torch
from monai.transforms.compose import Compose
from monai.transforms.intensity.dictionary import RandGaussianSmoothd, RandScaleIntensityd, RandShiftIntensityd
from monai.transforms.spatial.dictionary import Rand2DElasticd, RandAffined, RandFlipd, RandRotate90d
from numpy.typing import NDArray

from .fixedpoint import F32
from .preprocess import SMALLEST_STD

MARGIN = 0.25  # of the crop on each side: what rotation, scaling and elastic moves may bring into view
TURN, ZOOM, SHEAR = float(np.deg2rad(15.0)), 0.1, 0.05
AFFINE_PROBABILITY, ELASTIC_PROBABILITY = 0.35, 0.35
_BOTH = ("image", "label")


class Augmentation:
    """Flips, quarter turns (of square crops, in the plane), a small move, and intensity changes.

    Moves are affine or, in 2-D, elastic; in 3-D volumes turn about the axis of their slices most.

    Takes a patch that is larger than the crop by ``margin`` pixels a side and returns its middle,
    so that a deformation brings in real surroundings, not padding. Keeps no state between calls:
    the view is a function of (patch, seed). Not for two threads at once.
    """

    def __init__(self, crop: tuple[int, ...]) -> None:
        self.crop = crop
        self.margin = tuple(round(side * MARGIN) for side in crop)
        flat = len(crop) == 2
        warp: dict[str, Any] = {
            "keys": _BOTH,
            "prob": 1.0,
            "spatial_size": crop,
            "mode": ("bilinear", "nearest"),
            "padding_mode": "reflection",
            "rotate_range": TURN if flat else (TURN, TURN / 3, TURN / 3),
            "shear_range": SHEAR,
            "scale_range": ZOOM,
        }
        self._affine = Compose([RandAffined(**warp)])
        elastic = Rand2DElasticd(spacing=(32, 32), magnitude_range=(1.0, 4.0), **warp) if flat else RandAffined(**warp)
        self._elastic = Compose([elastic])
        plane = (len(crop) - 2, len(crop) - 1)
        flips = [RandFlipd(_BOTH, prob=0.5, spatial_axis=axis) for axis in range(len(crop))]
        turns = [RandRotate90d(_BOTH, prob=0.75, spatial_axes=plane)] if crop[-2] == crop[-1] else []
        self._moves = Compose([*flips, *turns])
        self._intensity = Compose(
            [
                RandScaleIntensityd("image", factors=0.25, prob=0.5),
                RandShiftIntensityd("image", offsets=0.25, prob=0.5),
                RandGaussianSmoothd("image", sigma_x=(0.3, 1.0), sigma_y=(0.3, 1.0), sigma_z=(0.3, 1.0), prob=0.15),
            ]
        )

    def __call__(self, image: F32, label: NDArray[np.uint8], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """One random view.

        Args:
            image: float32 (C, h + 2 * margin, w + 2 * margin), normalised; with a depth before the height in 3-D.
            label: uint8 of its spatial size, class indices.
            seed: 0 … 2**32 - 1; equal seeds give equal views.

        Returns:
            float32 (C, *crop) and int64 crop, contiguous, sharing no memory with the patch.
        """
        views = {"image": torch.from_numpy(image), "label": torch.from_numpy(label.astype(np.float32)[None])}
        choice, *seeds = np.random.default_rng(seed).integers(0, 2**32, size=4, dtype=np.uint64)
        draw = int(choice) / 2**32
        if draw < AFFINE_PROBABILITY + ELASTIC_PROBABILITY:
            views = _apply(self._affine if draw < AFFINE_PROBABILITY else self._elastic, views, seeds[0])
        else:
            middle = [slice(edge, edge + side) for edge, side in zip(self.margin, self.crop, strict=True)]
            views = {key: view[(slice(None), *middle)] for key, view in views.items()}
        views = _apply(self._moves, views, seeds[1])
        truth = _plain(views["label"][0], torch.int64)
        return self._change_intensity(_plain(views["image"], torch.float32), seeds[2]), truth

    def _change_intensity(self, image: torch.Tensor, seed: Any) -> torch.Tensor:
        """Contrast, brightness and blur, relative to the view's own mean and spread.

        So they suit z-scores, windows and raw values alike. The two statistics are NumPy's: torch's
        sums depend on the number of threads in the last bit, and a view must depend on its seed only.
        """
        values = image.numpy()
        centre = float(values.mean(dtype=np.float64))
        spread = max(float(values.std(dtype=np.float64)), SMALLEST_STD)
        changed = _apply(self._intensity, {"image": (image - centre) / spread}, seed)
        return _plain(changed["image"], torch.float32) * spread + centre


def _apply(transform: Compose, views: dict[str, torch.Tensor], seed: Any) -> dict[str, torch.Tensor]:
    transform.set_random_state(seed=int(seed))
    result: dict[str, torch.Tensor] = transform(views)
    return result


def _plain(view: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.Tensor(view).as_subclass(torch.Tensor).to(dtype).contiguous().clone()
