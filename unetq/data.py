"""What a data set is: samples, a specification, its splits, and where its files are found.

Each module of ``unetq_datasets`` exposes one ``DATASET``, a ``DatasetSpec``. Batches for training and
validation are made from its samples by ``unetq.batches`` (which needs torch; this module does not).
"""

import difflib
import hashlib
import importlib
import os
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, DataError
from .export.program import Preprocessing

if TYPE_CHECKING:
    from .batches import full_slices as full_slices
    from .batches import train_batches as train_batches

SPLITS = ("train", "validation", "test")


def __getattr__(name: str) -> Any:
    """Hand over ``unetq.batches``' two functions, so that only their users pay for importing torch."""
    if name in ("train_batches", "full_slices"):
        return getattr(importlib.import_module("unetq.batches"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@dataclass(frozen=True, eq=False)
class Sample:
    """One 2-D slice.

    Attributes:
        id: unique within the data set, stable between runs ("em-021").
        volume: the volume or patient it belongs to; volume Dice pools the slices of one.
        image: (C, H, W) raw intensities, any real type, finite.
        label: (H, W) uint8 class indices, or None where there is no truth.
    """

    id: str
    volume: str
    image: NDArray[Any]
    label: NDArray[np.uint8] | None


Loader = Callable[[Path | None, str, Mapping[str, Any]], list[Sample]]


@dataclass(frozen=True)
class DatasetSpec:
    """A data set: what its classes are and how its samples are read.

    Attributes:
        name: as in ``unetq train NAME``; also its folder below ``$UNETQ_DATA`` and ``./data``.
        labels: a name a class; ``label_values``: the mask value (0…255) of each, in predicted files.
        preprocessing: what the network sees of the raw intensities.
        loader: ``(root, split, options) -> samples``; options are complete and checked.
        splits: the splits that exist by definition; a given folder may not hold all of them.
        defaults: every option with its default value; others are refused.
        configure: for data sets whose classes depend on options: ``(spec, options) -> spec``.
        needs_root: False for data that is computed.
        layout: what a folder has to hold, in words, for error messages.
        citation: what to cite, and the terms of use.
    """

    name: str
    labels: tuple[str, ...]
    label_values: tuple[int, ...]
    preprocessing: Preprocessing
    loader: Loader
    splits: tuple[str, ...] = SPLITS
    defaults: Mapping[str, Any] = field(default_factory=dict)
    configure: "Callable[[DatasetSpec, Mapping[str, Any]], DatasetSpec] | None" = None
    needs_root: bool = True
    layout: str = ""
    citation: str = ""

    def with_options(self, options: Mapping[str, Any] | None) -> "DatasetSpec":
        """This data set under ``options``: its classes may depend on them."""
        complete = self.complete_options(options)
        return self.configure(self, complete) if self.configure else self

    def complete_options(self, options: Mapping[str, Any] | None) -> dict[str, Any]:
        """``defaults`` overlaid with ``options``.

        Raises:
            ConfigError: an option that does not exist, or a value of another type.
        """
        result = dict(self.defaults)
        for key, value in (options or {}).items():
            if key not in result:
                raise ConfigError(f"option {key!r} of data set {self.name!r} does not exist{_nearest(key, result)}")
            if type(value) is not type(result[key]):
                raise ConfigError(
                    f"option {key} = {value!r} of data set {self.name!r}: it takes "
                    f"{_kind(result[key])}, for example {result[key]!r}."
                )
            result[key] = value
        return result

    def load(
        self,
        root: Path | None,
        split: str,
        options: Mapping[str, Any] | None = None,
        *,
        min_size: int | Sequence[int] = 1,
    ) -> list[Sample]:
        """Read one split; all samples are checked.

        Args:
            root: the data set's folder (see ``find_root``); None where it needs none.
            split: one of ``splits``.
            options: as in the configuration; missing ones take their defaults.
            min_size: the network's stride, one number or (height, width): smaller images are refused.

        Raises:
            ConfigError: an unknown split or option.
            DataError: a file that is missing or damaged, data that contradict themselves, a split that
                this folder cannot give. The message names file or slice, rule and remedy.
        """
        if split not in self.splits:
            raise ConfigError(f"split {split!r} of data set {self.name!r} does not exist{_nearest(split, self.splits)}")
        if self.with_options(options).labels != self.labels:
            raise ConfigError(
                f"data set {self.name!r}: the options change its classes; "
                "call resolve_dataset(name, options) or with_options(options) first."
            )
        if self.needs_root and root is None:
            raise DataError(f"data set {self.name!r} needs a folder and none was given; {_what_to_do(self)}")
        samples = self.loader(root, split, self.complete_options(options))
        where = f" in {root}" if root else ""
        check_samples(samples, len(self.labels), min_size=min_size, where=where)
        return samples


def resolve_dataset(name: str, options: Mapping[str, Any] | None = None) -> DatasetSpec:
    """The data set called ``name``, under its options (which may decide the classes).

    Raises:
        ConfigError: no such data set (the message names the nearest), or an unknown option.
    """
    known = dataset_names()
    if name not in known:
        raise ConfigError(f"data set {name!r} does not exist{_nearest(name, known)}")
    spec = importlib.import_module(f"unetq_datasets.{name}").DATASET
    if not isinstance(spec, DatasetSpec):
        raise ConfigError(f"unetq_datasets.{name}: its DATASET is not a unetq.data.DatasetSpec; correct the module.")
    return spec.with_options(options)


def dataset_names() -> list[str]:
    """All modules of ``unetq_datasets`` that expose a ``DATASET``, sorted."""
    package = importlib.import_module("unetq_datasets")
    modules = [entry.name for entry in pkgutil.iter_modules(package.__path__) if not entry.name.startswith("_")]
    return sorted(name for name in modules if hasattr(importlib.import_module(f"unetq_datasets.{name}"), "DATASET"))


def find_root(spec: DatasetSpec, data: Path | None = None) -> Path | None:
    """The folder of a data set: ``data`` if given, else ``$UNETQ_DATA/<name>``, else ``./data/<name>``.

    Returns None for data that needs no folder.

    Raises:
        DataError: no such folder; the message lists where it was looked for and what to put there. A ``data``
            that does not exist is refused even where none is needed.
    """
    if data is not None and not data.is_dir():
        what = "is not a folder" if data.exists() else "does not exist"
        remedy = _what_to_do(spec) if spec.needs_root else f"{spec.name!r} is computed: leave --data and data.root out."
        raise DataError(f"data folder {data} {what}; {remedy}")
    if not spec.needs_root:
        return None
    if data is not None:
        return data
    base = os.environ.get("UNETQ_DATA")
    candidates = [Path(base) / spec.name] if base else []
    candidates.append(Path("data") / spec.name)
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    looked = " and ".join(str(candidate) for candidate in candidates)
    hint = "" if base else " ($UNETQ_DATA is not set)"
    raise DataError(f"no data for {spec.name!r}: looked for {looked}{hint}; {_what_to_do(spec)}")


def check_samples(
    samples: Sequence[Sample], classes: int, *, min_size: int | Sequence[int] = 1, where: str = ""
) -> None:
    """Refuse samples that no network should be trained or measured on.

    Raises:
        DataError: no samples, a repeated id, wrong shapes, NaN or infinite pixels, a constant image, a
            class index outside ``0 … classes - 1``, or an image smaller than ``min_size``.
    """
    if not samples:
        raise DataError(f"no samples{where}: a split has at least one; check the folder and the options.")
    sides = (min_size, min_size) if isinstance(min_size, int) else tuple(min_size)
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise DataError(f"slice {sample.id} comes twice{where}: ids are unique; remove the copy.")
        seen.add(sample.id)
        _check_image(sample, sides, where)
        _check_label(sample, classes, where)


def digest(sample: Sample) -> str:
    """``IMAGE-LABEL``: a hash of the pixels and one of the label, each with shape and type.

    Equal slices have equal digests in any folder, under any id and in either byte order; slices whose
    ``image_part`` is equal show a network the same pixels, whatever their labels.
    """
    return f"{_hash(sample.image)}-{'none' if sample.label is None else _hash(sample.label)}"


def image_part(slice_digest: str) -> str:
    """The part of a ``digest`` that stands for the pixels."""
    return slice_digest.partition("-")[0]


def digest_all(samples: Iterable[Sample]) -> str:
    """One digest of a split: its slices in their order."""
    return hashlib.blake2b("\n".join(map(digest, samples)).encode(), digest_size=16).hexdigest()


def _hash(values: NDArray[Any]) -> str:
    plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    head = f"{plain.dtype.str} {values.shape} ".encode()
    return hashlib.blake2b(head + plain.tobytes(), digest_size=16).hexdigest()


def check_no_leak(splits: Mapping[str, Iterable[Sample]]) -> None:
    """Refuse splits that share a slice: by its id, or by the same pixels under another id.

    Raises:
        DataError: naming both slices and both splits.
    """
    owner: dict[str, tuple[str, str]] = {}
    for split, samples in splits.items():
        for sample in samples:
            for key in (f"id {sample.id}", f"pixels {_hash(sample.image)}"):
                other, other_id = owner.setdefault(key, (split, sample.id))
                if other != split:
                    raise DataError(
                        f"slice {sample.id} of {split} is also in {other} (there {other_id}): "
                        "no slice may be on two sides of a split; remove one copy."
                    )


def _check_image(sample: Sample, sides: tuple[int, ...], where: str) -> None:
    image = sample.image
    if image.ndim != 3 or 0 in image.shape:
        raise DataError(f"slice {sample.id}{where} has shape {image.shape}: an image is (channels, height, width).")
    if image.dtype.kind not in "uif":
        raise DataError(f"slice {sample.id}{where} has type {image.dtype}: pixels are real numbers; convert it.")
    height, width = image.shape[1:]
    if height < sides[0] or width < sides[1]:
        raise DataError(
            f"slice {sample.id}{where} is {height} x {width} pixels, smaller than the network's stride "
            f"{sides[0]} x {sides[1]}: each side needs at least that; use larger images or a network with fewer levels."
        )
    if image.dtype.kind == "f":
        bad = int(image.size - np.count_nonzero(np.isfinite(image)))
        if bad:
            raise DataError(
                f"slice {sample.id}{where} has {bad} pixels that are NaN or infinite: "
                "intensities must be finite; repair or remove the slice."
            )
    if (image == image[:, :1, :1]).all():
        raise DataError(
            f"slice {sample.id}{where} is constant (every pixel is {image[0, 0, 0]}): "
            "an image must carry something to segment; replace or remove the slice."
        )


def _check_label(sample: Sample, classes: int, where: str) -> None:
    label = sample.label
    if label is None:
        return
    if label.shape != sample.image.shape[1:]:
        raise DataError(
            f"slice {sample.id}{where}: the label is {_size(label.shape)}, the image {_size(sample.image.shape[1:])} "
            "pixels: they must be equal; export both from the same stack."
        )
    if label.dtype != np.uint8 or int(label.max()) >= classes:
        raise DataError(
            f"slice {sample.id}{where}: labels are uint8 class indices 0 to {classes - 1}, "
            f"not {label.dtype} up to {label.max()}; map the stored values to classes first."
        )


def _what_to_do(spec: DatasetSpec) -> str:
    layout = f" {spec.layout}" if spec.layout else ""
    return f"give it with --data DIR, or see `unetq download {spec.name}`.{layout}"


def _nearest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.4)
    listed = ", ".join(names) or "none"
    return f"; did you mean {close[0]!r}? Known: {listed}." if close else f"; known: {listed}."


def _kind(value: Any) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}.get(type(value), "a value")


def _size(shape: Sequence[int]) -> str:
    return " x ".join(str(length) for length in shape)
