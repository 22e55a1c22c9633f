"""What a data set is: a specification, its splits, and where its files are found.

Each module of ``unetq_datasets`` exposes one ``DATASET``, a ``DatasetSpec``. Batches are made from its samples by
``unetq.batches`` (which needs torch; this module does not).
"""

import difflib
import importlib
import os
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .cases import Cases, Skipped, reasons, samples_of
from .errors import ConfigError, DataError, EmptySplitError
from .export.program import Preprocessing
from .folds import Fold
from .samples import Sample, Samples, check_no_leak, check_samples, check_size

SPLITS = ("train", "validation", "test")


Loader = Callable[[Path | None, str, Mapping[str, Any]], list[Sample] | Cases]


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
        test_apart: the loader itself keeps cases of the test split out of the others, so that training need not read
            the test split to see that.
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
    test_apart: bool = False
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
        dimensions: int = 2,
        fold: Fold | None = None,
        min_size: int | Sequence[int] = 1,
    ) -> Samples:
        """Read one split; all samples are checked.

        Args:
            root: the data set's folder (see ``find_root``); None where it needs none.
            split: one of ``splits``.
            options: as in the configuration; missing ones take their defaults.
            dimensions: 2 for slices, 3 for volumes; a data set of single slices has no volumes.
            fold: divides what the training and validation splits hold together anew; the test split stays.
            min_size: the network's stride, one number or one an axis: smaller images are refused.

        Raises:
            ConfigError: an unknown split or option, 3 dimensions of a data set of slices, an impossible fold.
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
        if fold is None or split == "test":
            return self._read(root, split, options, dimensions, min_size)
        parts: dict[str, Samples] = {}
        empty: dict[str, EmptySplitError] = {}
        for name in ("train", "validation"):
            try:
                parts[name] = self._read(root, name, options, dimensions, min_size)
            except EmptySplitError as error:
                empty[name] = error
        without = [Skipped(case, _without_root(why, root)) for error in empty.values() for case, why in error.reasons]
        if not parts:
            raise EmptySplitError(" ".join(str(error) for error in empty.values()), reasons(without))
        check_no_leak(parts)
        divided = fold.split([sample for part in parts.values() for sample in part])
        skipped = dict.fromkeys([*without, *(item for part in parts.values() for item in part.skipped)])
        return Samples(divided[0 if split == "train" else 1], tuple(skipped))

    def _read(
        self,
        root: Path | None,
        split: str,
        options: Mapping[str, Any] | None,
        dimensions: int,
        min_size: int | Sequence[int],
    ) -> Samples:
        found = self.loader(root, split, self.complete_options(options))
        where = f" in {root}" if root else ""
        if isinstance(found, Cases):
            skipped = [replace(item, reason=_without_root(item.reason, root)) for item in found.skipped]
            samples = Samples(samples_of(found, self.preprocessing, dimensions), skipped)
            if not samples and skipped:
                first = "; ".join(f"{item.case}: {item.reason}" for item in skipped[:3])
                raise EmptySplitError(
                    f"no case{where} of split {split!r} can be used ({len(skipped)} skipped). {first}", reasons(skipped)
                )
        elif dimensions == 3:
            raise ConfigError(
                f"data.dimensions = 3: data set {self.name!r} holds single slices, no volumes; set it to 2."
            )
        else:
            samples = Samples(found)
            self._refuse_of_slices()
        check_samples(samples, len(self.labels), where=where, slices_of_volumes=isinstance(found, Cases))
        check_size(samples, self.preprocessing, min_size, where)
        return samples

    def _refuse_of_slices(self) -> None:
        """What only volumes have must not be asked of single slices: prediction would do it, training could not."""
        for key, default in (("context", 0), ("orientation", ""), ("over", "image")):
            value = getattr(self.preprocessing, key)
            if value != default:
                raise ConfigError(
                    f"data.preprocessing.{key} = {value}: data set {self.name!r} holds single slices, which have no "
                    f"neighbours, no volume and no place in space; leave it at {default!r}."
                )


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


def _without_root(text: str, root: Path | None) -> str:
    """``text`` with files below ``root`` named from there: where data lie is nothing for a result that is passed on."""
    for place in {} if root is None else {str(root): None, str(root.resolve()): None}:
        if len(place) > 1:  # neither "." nor "/"
            text = re.sub(rf"(?<![\w./-]){re.escape(place)}/", "", text)
            text = re.sub(rf"(?<![\w./-]){re.escape(place)}(?![\w/-])", Path(place).name, text)
    return text


def _what_to_do(spec: DatasetSpec) -> str:
    layout = f" {spec.layout}" if spec.layout else ""
    return f"give it with --data DIR, or see `unetq download {spec.name}`.{layout}"


def _nearest(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.4)
    listed = ", ".join(names) or "none"
    return f"; did you mean {close[0]!r}? Known: {listed}." if close else f"; known: {listed}."


def _kind(value: Any) -> str:
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}
    return {**words, list: "a list", dict: "a mapping"}.get(type(value), "a value")
