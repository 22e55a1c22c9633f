"""Data described by a list: the Medical Segmentation Decathlon's ``dataset.json``, MONAI's ``datalist.json``.

The file names images and labels by path, relative to its own folder or absolute::

    {"labels": {"0": "background", "1": "pancreas"},
     "training": [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz", "fold": 0}, …],
     "validation": […],  "test": ["imagesTs/b.nii.gz", …]}

An image may be a list of files, one a channel, or a NIfTI file with a fourth axis of channels. Validation is the list
"validation" where there is one, else the training entries whose "fold" is the option ``fold``, else a fraction of the
training entries' subjects. A decathlon's own test images have no labels; ``fractions`` can set training cases aside
for the test instead. Antonelli et al. 2022, Nat Commun 13:4128.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unetq.cases import Cases, Skipped
from unetq.data import SPLITS, DatasetSpec
from unetq.errors import ConfigError, DataError, EmptySplitError
from unetq.export.program import Preprocessing

from ._pairs import Pair, Stored, checked_classes, checked_geometry, read_pairs
from ._patterns import named
from ._shares import checked_fractions, share

LAYOUT = "A folder holds dataset.json (or another datalist) and the images and labels it names."
LISTS = {"train": ("training", "train"), "validation": ("validation", "val"), "test": ("test", "testing")}
NO_LISTS: dict[str, Sequence[Any]] = {}
NOTHING = ("background", "bg", "0")  # names of value 0 that say the same
DEFAULTS: dict[str, Any] = {
    "datalist": "dataset.json",
    "classes": ["background", "foreground"],
    "label_values": [],  # the stored value of each class; 0, 1, … without
    "fold": 0,  # of the "fold" keys in a datalist: the one that validates
    "fractions": [0.8, 0.2, 0.0],  # of the subjects, where the list has no validation, no folds, or no labelled test
    "seed": 0,
    "subject": "",  # regular expression on the image's path, with a group for the person; "" is the case itself
    "site": "",
}


def _configure(spec: DatasetSpec, options: Mapping[str, Any]) -> DatasetSpec:
    names, values = checked_classes(options["classes"], options["label_values"])
    return replace(spec, labels=names, label_values=values)


def _load(root: Path | None, split: str, options: Mapping[str, Any]) -> Cases:
    assert root is not None  # the contract asks for one
    names, values = checked_classes(options["classes"], options["label_values"])
    place = root / options["datalist"]
    content = _read(place)
    _check_labels(place, content, names, values)
    entries = {name: _entries(place, content, keys, options) for name, keys in LISTS.items()}
    _refuse_twice(place, entries)
    wanted = _divide(place, content, entries, options)[split]
    if not wanted:
        raise EmptySplitError(
            f"{place}: no case with a label belongs to {split}; add such a list, or set the option fractions."
        )
    skipped = tuple(Skipped(pair.id, f"{place}: {pair.id} has no label.") for pair in wanted if not pair.labels)
    found = read_pairs([pair for pair in wanted if pair.labels], Stored(values, *checked_geometry([], "")))
    return Cases(found.cases, skipped + found.skipped)


def _read(place: Path) -> dict[str, Any]:
    try:
        content = json.loads(place.read_bytes())
    except OSError as error:
        raise DataError(
            f"{place} cannot be read ({error.strerror}): the list of images and labels is expected there; "
            "check the folder and the option datalist."
        ) from error
    except ValueError as error:
        raise DataError(f"{place} is no JSON ({error}); copy it again, or correct it.") from error
    if not isinstance(content, dict):
        raise DataError(f"{place} holds {type(content).__name__}: an object with the list 'training' is expected.")
    return content


def _check_labels(place: Path, content: Mapping[str, Any], names: Sequence[str], values: Sequence[int]) -> None:
    """The list's own classes have to be those of the options, which a run keeps."""
    labels = content.get("labels")
    if not isinstance(labels, dict) or not labels:
        return
    pairs = [(key, value) if str(key).isdigit() else (value, key) for key, value in labels.items()]  # nnU-Net turns it
    try:
        own = {int(number): str(name) for number, name in pairs}
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{place} has the labels {labels}: a value and a name each are expected; correct them."
        ) from error
    order = sorted(own)
    listed = json.dumps([own[number] for number in order], ensure_ascii=False)
    remedy = f"set data.options.classes to {listed}"
    if order != list(range(len(order))):
        remedy += f" and data.options.label_values to {order}"
    if order != sorted(values):
        raise ConfigError(
            f"{place} names {len(own)} classes of the values {', '.join(map(str, order))} and the options have "
            f"{len(names)} ({', '.join(names)}): {remedy}."
        )
    for name, value in zip(names, values, strict=True):
        if not _same_name(name, own[value], value):
            raise ConfigError(
                f"{place} calls the value {value} {own[value]!r} and the options call it {name!r}: a class has one "
                f"name, or classes are mixed up; {remedy}, or correct the list."
            )


def _same_name(one: str, other: str, value: int) -> bool:
    first, second = one.strip().casefold(), other.strip().casefold()
    return first == second or (value == 0 and first in NOTHING and second in NOTHING)


def _entries(
    place: Path, content: Mapping[str, Any], keys: Sequence[str], options: Mapping[str, Any]
) -> list[tuple[Pair, int | None]]:
    """Each entry of a list as a pair, with its fold."""
    found: list[tuple[Pair, int | None]] = []
    for key in keys:
        entries = content.get(key, [])
        if not isinstance(entries, list):
            raise DataError(f"{place}: {key!r} is no list; image and label each are expected in one.")
        for number, entry in enumerate(entries):
            item = entry if isinstance(entry, dict) else {"image": entry}
            images, labels = (_paths(place, item.get(name), f"{key}[{number}]") for name in ("image", "label"))
            if not images or len(labels) > 1:
                raise DataError(f"{place}: {key}[{number}] is {entry!r}: an image and one label are expected.")
            path = images[0].as_posix()
            person = str(item.get("subject", "")) or (
                named(options["subject"], path, "subject") if options["subject"] else ""
            )
            site = named(options["site"], path, "site") if options["site"] else str(item.get("site", ""))
            name = _name(images[0])
            fold = item.get("fold")
            found.append((Pair(name, images, labels, person or name, site), fold if type(fold) is int else None))
    return found


def _paths(place: Path, value: Any, where: str) -> tuple[Path, ...]:
    if value is None:
        return ()
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) and item for item in values):
        raise DataError(f"{place}: {where} has the path {value!r}; a file's name is expected.")
    return tuple(place.parent / item for item in values)


def _name(path: Path) -> str:
    return re.sub(r"(\.nii)?\.(gz|nii|npy|tiff?|png|dcm)$", "", path.name, flags=re.IGNORECASE)


def _refuse_twice(place: Path, entries: Mapping[str, Sequence[tuple[Pair, int | None]]]) -> None:
    files: dict[Path, str] = {}
    names: dict[str, Path] = {}
    for split, pairs in entries.items():
        for pair, _ in pairs:
            path = pair.images[0].resolve()
            if path in files:
                also = f"in {files[path]} and in {split}" if files[path] != split else f"twice in {split}"
                raise DataError(f"{place}: case {pair.id} is {also}: no case may be listed twice; remove one.")
            files[path] = split
            if names.setdefault(pair.id, path) != path:
                raise DataError(
                    f"{place}: {names[pair.id]} and {path} have one name; ids tell cases apart; rename one."
                )


def _divide(
    place: Path,
    content: Mapping[str, Any],
    entries: Mapping[str, Sequence[tuple[Pair, int | None]]],
    options: Mapping[str, Any],
) -> dict[str, list[Pair]]:
    """The pairs of each split; see the module for the rule."""
    parts = {name: [pair for pair, _ in pairs] for name, pairs in entries.items()}
    if not any(pair.labels for pair in parts["test"]):
        parts["test"] = []  # images to be predicted, not to be measured on
    folds = {fold for _, fold in entries["train"] if fold is not None}
    if folds and not parts["validation"]:
        if options["fold"] not in folds:
            raise ConfigError(
                f"option fold = {options['fold']}: {place} has the folds {sorted(folds)}; choose one of them."
            )
        parts["train"] = [pair for pair, fold in entries["train"] if fold != options["fold"]]
        parts["validation"] = [pair for pair, fold in entries["train"] if fold == options["fold"]]
    lacking = [name for name in ("validation", "test") if not parts[name]]
    if parts["train"] and lacking:
        wanted = dict(zip(SPLITS, checked_fractions(options["fractions"]), strict=True))
        kept = [wanted[name] if name in lacking else 0.0 for name in ("validation", "test")]
        kept.insert(0, 1.0 - sum(kept))
        sides = share({pair.id: pair.subject for pair in parts["train"]}, NO_LISTS, kept, options["seed"])
        for name in lacking:
            parts[name] = [pair for pair in parts["train"] if sides[pair.id] == name]
        parts["train"] = [pair for pair in parts["train"] if sides[pair.id] == "train"]
    owner: dict[str, str] = {}
    for name, pairs in parts.items():
        for pair in pairs:
            if owner.setdefault(pair.subject, name) != name:
                raise DataError(
                    f"{place}: subject {pair.subject} is in {owner[pair.subject]} and in {name}: no person may be on "
                    "two sides of a split; correct the list."
                )
    return parts


DATASET = DatasetSpec(
    name="msd",
    labels=("background", "foreground"),
    label_values=(0, 1),
    preprocessing=Preprocessing("zscore"),
    loader=_load,
    defaults=DEFAULTS,
    configure=_configure,
    layout=LAYOUT,
    citation="For the decathlon: Antonelli et al. 2022, Nat Commun 13:4128, CC BY-SA 4.0.",
)
