"""Your own data: images and labels found by path patterns, and told in one YAML file.

NIfTI, TIFF stacks, PNG, .npy and DICOM series in any mixture. With the defaults below, this layout needs no option
but the names of the classes::

    root/images/a.nii.gz …    root/labels/a.nii.gz …

Plain arrays know no geometry; ``axes`` and ``spacing`` tell it. Two patients as ten files of single slices,
``img_000.npy`` … and ``mask_000.npy`` …, stored upside down, are two volumes by::

    data:
      name: folder
      options:
        images: "img_{id}.npy"
        labels: "mask_{id}.npy"
        subjects: {"0001": ["00[0-4]"], "0002": ["00[5-9]"]}
        volume: subject
        axes: ALS
        train: ["0001"]
        validation: ["0002"]
      preprocessing: {orientation: PLS}

See docs/DATA.md for every option.
"""

from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from unetq.cases import Cases, Skipped
from unetq.data import SPLITS, DatasetSpec
from unetq.errors import ConfigError, DataError, EmptySplitError
from unetq.export.program import Preprocessing

from ._pairs import Pair, Stored, checked_classes, checked_geometry, read_pairs
from ._patterns import find_images, find_label, named
from ._shares import checked_names, share

LAYOUT = "A folder holds images and labels that the options images and labels find, by default images/ and labels/."
DEFAULTS: dict[str, Any] = {
    "images": "images/*.nii.gz",  # {id} or the only * is the id of a case; ** are folders; a folder is a DICOM series
    "labels": "labels/{id}.nii.gz",  # "" for images without truth
    "classes": ["background", "foreground"],
    "label_values": [],  # the stored value of each class; 0, 1, … without
    "spacing": [],  # mm of slices, rows and columns of files that do not tell it
    "axes": "",  # where rows, columns and slices of such files increase to, such as LAS
    "subject": "",  # regular expression on the path, with a group for the person; "" is the case itself
    "subjects": {},  # or by name: {person: [ids or patterns of ids]}
    "site": "",  # regular expression on the path
    "volume": "",  # regular expression on the path, or "subject": files of single slices that are one volume
    "train": [],  # ids or subjects or patterns of them; [] means what validation and test leave
    "validation": [],
    "test": [],
    "fractions": [0.7, 0.15, 0.15],  # of the subjects, where no split is listed
    "seed": 0,
}


def _configure(spec: DatasetSpec, options: Mapping[str, Any]) -> DatasetSpec:
    names, values = checked_classes(options["classes"], options["label_values"])
    return replace(spec, labels=names, label_values=values)


def _load(root: Path | None, split: str, options: Mapping[str, Any]) -> Cases:
    assert root is not None  # the contract asks for one
    _, values = checked_classes(options["classes"], options["label_values"])
    stored = Stored(values, *checked_geometry(options["spacing"], options["axes"]))
    pairs, skipped = find_pairs(root, options)
    sides = share(
        {pair.id: pair.subject for pair in pairs},
        {name: options[name] for name in SPLITS},
        options["fractions"],
        options["seed"],
    )
    wanted = [pair for pair in pairs if sides.get(pair.id) == split]
    if not wanted:
        raise EmptySplitError(
            f"{root}: no case belongs to {split}; list some in the option {split}, or raise its fraction."
        )
    found = read_pairs([pair for pair in wanted if pair.id not in skipped], stored)
    lacking = tuple(Skipped(pair.id, skipped[pair.id]) for pair in wanted if pair.id in skipped)
    return Cases(found.cases, lacking + found.skipped)


def find_pairs(root: Path, options: Mapping[str, Any]) -> tuple[list[Pair], dict[str, str]]:
    """All cases, and the ids of those that lack a label with the reason.

    Raises:
        ConfigError: an option that cannot be. DataError: no image, or slices of one volume that belong to two persons.
    """
    if options["volume"] == "subject" and not (options["subject"] or options["subjects"]):
        raise ConfigError("option volume = 'subject' without subjects; set the option subject or subjects.")
    groups: dict[str, list[tuple[str, Path, str, str]]] = {}
    for name, path in find_images(root, options["images"]).items():
        relative = path.relative_to(root).as_posix()
        person = _person(name, relative, options)
        site = named(options["site"], relative, "site") if options["site"] else ""
        volume = options["volume"]
        case = name if not volume else person if volume == "subject" else named(volume, relative, "volume")
        groups.setdefault(case, []).append((name, path, person or case, site))
    pairs: list[Pair] = []
    skipped: dict[str, str] = {}
    for case, members in groups.items():
        people = sorted({(person, site) for _, _, person, site in members})
        if len(people) > 1:
            raise DataError(
                f"volume {case} has slices of {people[0]} and of {people[1]} (subject, site): it is of one."
            )
        labels: list[Path] = []
        if options["labels"]:
            try:
                labels = [find_label(root, options["labels"], name) for name, _, _, _ in members]
            except DataError as error:
                skipped[case] = str(error)
        files = tuple(path for _, path, _, _ in members)
        pairs.append(Pair(case, files, tuple(labels), *people[0], slices=bool(options["volume"])))
    return pairs, skipped


def _person(name: str, path: str, options: Mapping[str, Any]) -> str:
    """The person of an image; "" where its case stands for it, too."""
    if not options["subjects"]:
        return named(options["subject"], path, "subject") if options["subject"] else ""
    fitting = []
    for person, entries in options["subjects"].items():
        if not isinstance(entries, list):
            raise ConfigError(f"option subjects: {person!r} has {entries!r}; a list of ids is expected.")
        if any(fnmatchcase(name, entry) for entry in checked_names(entries, f"subjects, {person},")):
            fitting.append(str(person))
    if len(fitting) != 1:
        raise ConfigError(
            f"case {name} belongs to {len(fitting)} of the subjects{' ' + ', '.join(fitting) if fitting else ''}: "
            "each to one; correct the option subjects."
        )
    return fitting[0]


DATASET = DatasetSpec(
    name="folder",
    labels=("background", "foreground"),
    label_values=(0, 1),
    preprocessing=Preprocessing("zscore"),
    loader=_load,
    defaults=DEFAULTS,
    configure=_configure,
    layout=LAYOUT,
    citation="Images of your own; cite where they come from.",
)
