"""Who trains, who validates, who is kept for the test: always whole persons."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unetq.errors import ConfigError, DataError, EmptySplitError

from ._gm_layout import Scan, natural, person

CHALLENGE_TRAINING, CHALLENGE_LABELLED = 8, 10
EVERY = 5


def scans_of(scans: Sequence[Scan], split: str, options: Mapping[str, Any], root: Path) -> list[Scan]:
    """The scans of one split.

    ``options["validation"]`` and ``options["test"]`` name persons ("sub-10062", "10062", "site1-sc09", or "sc09" for
    those of all sites); all others train. Where ``validation`` is empty, the layout decides among those that are not in
    ``test``. Challenge: sc01 to sc08 of each site train, sc09 and sc10 validate, later numbers (which have no public
    masks) are the test. BIDS: every fifth person validates, in the order of their numbers, the last one of fewer than
    five; there is no test split.

    Raises:
        ConfigError: a name that is nobody's, or no name.
        DataError: a person on two sides, or a split that nobody is in.
    """
    subjects = sorted({scan.subject for scan in scans}, key=natural)
    lists = {name: _persons(options[name], name, subjects, scans) for name in ("validation", "test")}
    if both := sorted(lists["validation"] & lists["test"], key=natural):
        raise DataError(
            f"{', '.join(both)} in {root} would be in validation and in test: no person may be on two sides, "
            "in whatever session; remove one entry of data.options.validation or data.options.test."
        )
    test = lists["test"]
    others = [subject for subject in subjects if subject not in test]
    validation = lists["validation"]
    if not validation:
        validation, late = _default(others, scans)
        test = test | late
    sides = {"validation": validation, "test": test, "train": set(subjects) - validation - test}
    chosen = [scan for scan in scans if scan.subject in sides[split]]
    if not chosen:
        raise EmptySplitError(
            f"{root} has no {split} split: its {len(subjects)} subjects are {_told(sides)}. "
            f"Name some in data.options.{'test' if split == 'test' else 'validation'}, or use another split."
        )
    return chosen


def _default(subjects: Sequence[str], scans: Sequence[Scan]) -> tuple[set[str], set[str]]:
    """Validation and test by the layout's own rule."""
    numbers = {scan.subject: scan.number for scan in scans if not scan.is_bids}
    if numbers:
        validation = {s for s in subjects if CHALLENGE_TRAINING < numbers[s] <= CHALLENGE_LABELLED}
        return validation, {s for s in subjects if numbers[s] > CHALLENGE_LABELLED}
    if len(subjects) < 2:
        return set(), set()
    return set(subjects[EVERY - 1 :: EVERY] or subjects[-1:]), set()


def _persons(entries: Sequence[Any], option: str, subjects: Sequence[str], scans: Sequence[Scan]) -> set[str]:
    named = {scan.image.name.partition("_")[0]: scan.subject for scan in scans if scan.is_bids}
    known = {**named, **{subject: subject for subject in subjects}}
    found: set[str] = set()
    for entry in entries:
        if isinstance(entry, bool) or not isinstance(entry, str | int) or entry == "":
            raise ConfigError(
                f"option {option} has the entry {entry!r}: it lists subjects, such as {subjects[0]}; correct it."
            )
        name = str(entry)
        hits = {known[key] for key in (name, f"sub-{name}", person(name)) if key in known}
        hits |= {subject for subject in subjects if subject.startswith("site") and subject.endswith(f"-{name}")}
        if not hits:
            close = difflib.get_close_matches(name, subjects, n=1, cutoff=0.4)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ConfigError(f"option {option} = {name!r} is no subject here; {hint}There are {_some(subjects)}.")
        found |= hits
    return found


def _told(sides: Mapping[str, set[str]]) -> str:
    told = [f"{_some(sorted(names, key=natural))} in {side}" for side, names in sides.items() if names]
    return "; ".join(told)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
