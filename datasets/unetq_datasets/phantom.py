"""Synthetic images with exact masks, for tests and for trying things where no real data is at hand.

``kind=membranes`` resembles electron microscopy, ``cord`` axial MRI of the spinal cord, ``abdomen``
axial CT. Each slice is a function of (kind, seed, index, size); no file is read or written. The
membranes are one volume split by slice, as EM is; each cord or abdomen slice is a subject of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetq.data import DatasetSpec
from unetq.errors import ConfigError
from unetq.export.program import Preprocessing
from unetq.samples import Sample

from . import _abdomen, _cord, _membranes

Maker = Callable[[np.random.Generator, tuple[int, int]], tuple[NDArray[Any], NDArray[np.uint8]]]
_MAKERS: dict[str, Maker] = {"membranes": _membranes.membranes, "cord": _cord.cord, "abdomen": _abdomen.abdomen}
KINDS = tuple(_MAKERS)
SMALLEST = 16
DEFAULTS: dict[str, Any] = {"kind": "membranes", "size": 256, "seed": 0, "train": 20, "validation": 4, "test": 6}


def make(kind: str, seed: int, index: int, size: int | tuple[int, int]) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Slice ``index`` of the series ``seed``: raw image (H, W) and class indices uint8 (H, W).

    Raises:
        ConfigError: an unknown kind, a negative seed or index, or a side below 16 pixels.
    """
    if kind not in _MAKERS:
        raise ConfigError(f"kind = {kind!r}: the phantom has {', '.join(KINDS)}; choose one of them.")
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < SMALLEST:
        raise ConfigError(f"size = {height} x {width}: a phantom has sides of at least {SMALLEST} pixels; enlarge it.")
    if seed < 0 or index < 0:
        raise ConfigError(f"seed = {seed}, index = {index}: both are 0 or above; choose others.")
    rng = np.random.default_rng([KINDS.index(kind), seed, index])
    return _MAKERS[kind](rng, (height, width))


def _load(root: Path | None, split: str, options: Mapping[str, Any]) -> list[Sample]:
    counts = {name: options[name] for name in ("train", "validation", "test")}
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"{name} = {count}: each split of the phantom has at least 1 slice; choose 1 or more.")
    names = list(counts)
    first = sum(counts[name] for name in names[: names.index(split)])
    return [_sample(options, index) for index in range(first, first + counts[split])]


def _sample(options: Mapping[str, Any], index: int) -> Sample:
    kind = options["kind"]
    image, label = make(kind, options["seed"], index, options["size"])
    volume = f"phantom-{kind}" if kind == "membranes" else f"phantom-{kind}-{index:03d}"
    return Sample(id=f"phantom-{kind}-{index:03d}", volume=volume, image=image[None], label=label, index=index)


def _configure(spec: DatasetSpec, options: Mapping[str, Any]) -> DatasetSpec:
    kind = options["kind"]
    if kind == "membranes":
        return replace(spec, labels=_membranes.LABELS, label_values=(0, 255), preprocessing=Preprocessing("zscore"))
    if kind == "cord":
        return replace(spec, labels=_cord.LABELS, label_values=(0, 1, 2), preprocessing=Preprocessing("zscore"))
    if kind == "abdomen":
        window = Preprocessing("window", low=-160.0, high=240.0)
        return replace(spec, labels=_abdomen.LABELS, label_values=(0, 1), preprocessing=window)
    raise ConfigError(f"kind = {kind!r}: the phantom has {', '.join(KINDS)}; choose one of them.")


DATASET = DatasetSpec(
    name="phantom",
    labels=_membranes.LABELS,
    label_values=(0, 255),
    preprocessing=Preprocessing("zscore"),
    loader=_load,
    defaults=DEFAULTS,
    configure=_configure,
    needs_root=False,
    test_apart=True,
    layout="Nothing: the images are computed.",
    citation="Synthetic images made by unetq; nothing to cite.",
)
