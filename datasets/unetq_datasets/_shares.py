"""Which case belongs to which split: by lists of names, or by fractions of the subjects."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from unetq.data import SPLITS
from unetq.errors import ConfigError, DataError


def share(
    subjects: Mapping[str, str], lists: Mapping[str, Sequence[Any]], fractions: Sequence[Any], seed: int
) -> dict[str, str]:
    """The split of each case.

    Args:
        subjects: the subject of each case id.
        lists: for each split ids or subjects, or shell patterns of them; an empty one for training means all that the
            others leave. All empty: ``fractions`` decide.
        fractions: of the subjects, for training, validation and test.
        seed: of the shuffled order of subjects.

    Raises:
        ConfigError: entries that are no names, or that fit nothing; fractions that cannot be.
        DataError: a case in two splits, or a subject on two sides.
    """
    found = _by_lists(subjects, lists) if any(lists.values()) else _by_fractions(subjects, fractions, seed)
    owner: dict[str, tuple[str, str]] = {}
    for name, split in found.items():
        other, other_name = owner.setdefault(subjects[name], (split, name))
        if other != split:
            raise DataError(
                f"subject {subjects[name]} is in {other} (case {other_name}) and in {split} (case {name}): no person "
                "may be on two sides of a split; list all of its cases on one."
            )
    return found


def checked_fractions(fractions: Sequence[Any]) -> tuple[float, float, float]:
    """The option ``fractions``.

    Raises:
        ConfigError: not three numbers of 0 to 1 with the sum 1.
    """
    real = len(fractions) == len(SPLITS) and all(type(part) in (int, float) and 0 <= part <= 1 for part in fractions)
    if not real or not 0.999 <= sum(fractions) <= 1.001:
        raise ConfigError(
            f"option fractions = {list(fractions)!r}: three numbers of 0 to 1 with the sum 1 are expected, for "
            "training, validation and test."
        )
    train, validation, test = map(float, fractions)
    return train, validation, test


def checked_names(values: Sequence[Any], what: str) -> tuple[str, ...]:
    """A list option whose entries are names; numbers are taken as written.

    Raises:
        ConfigError: an entry that is neither.
    """
    for value in values:
        if not isinstance(value, str) and type(value) is not int:
            raise ConfigError(f"option {what} has the entry {value!r}: names are expected; write them in quotes.")
    return tuple(map(str, values))


def _by_lists(subjects: Mapping[str, str], lists: Mapping[str, Sequence[Any]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for split in SPLITS:
        for entry in checked_names(lists.get(split, ()), split):
            fitting = [
                name for name, person in subjects.items() if fnmatchcase(name, entry) or fnmatchcase(person, entry)
            ]
            if not fitting:
                known = ", ".join(list(subjects)[:5]) + (", …" if len(subjects) > 5 else "")
                raise ConfigError(
                    f"option {split} lists {entry!r}, which is no case and no subject here ({known}); write numbers "
                    "such as '007' in quotes."
                )
            for name in fitting:
                other = found.setdefault(name, split)
                if other != split:
                    raise DataError(f"case {name} is in two splits, {other} and {split}: take it out of one list.")
    if not lists.get("train"):
        found |= {name: "train" for name in subjects if name not in found}
    return found


def _by_fractions(subjects: Mapping[str, str], fractions: Sequence[Any], seed: int) -> dict[str, str]:
    fractions = checked_fractions(fractions)
    people = sorted(set(subjects.values()))
    people = [people[i] for i in np.random.default_rng(seed).permutation(len(people))]
    counts = [max(1, round(part * len(people))) if part else 0 for part in fractions[1:]]
    if sum(counts) >= len(people) and fractions[0]:
        raise DataError(
            f"{len(people)} subjects cannot be divided by the fractions {list(fractions)}: each side needs one; "
            "add subjects, or list the splits by name."
        )
    sides = ["validation"] * counts[0] + ["test"] * counts[1]
    side = dict(zip(people, sides + ["train"] * max(len(people) - len(sides), 0), strict=False))
    return {name: side[person] for name, person in subjects.items()}
