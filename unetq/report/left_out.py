"""The cases that a run could not use: what its evaluation says, and what its training said."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .places import shown_text
from .runs import Run


@dataclass(frozen=True)
class LeftOut:
    """A case, why it was left out (without places on a machine), and of which splits."""

    case: str
    reason: str
    splits: tuple[str, ...]


def left_out(runs: Iterable[Run], split: str) -> list[LeftOut]:
    """What ``runs`` left out of ``split`` and of their training, each case and reason once."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for run in runs:
        for item in run.metrics.skipped.get(split, ()):
            found.setdefault((item.case, shown_text(item.reason)), {})[split] = None
        for name, case, reason in trained_without(run.facts):
            if name in (split, "train"):
                found.setdefault((case, shown_text(reason)), {})[name] = None
    return [LeftOut(case, reason, tuple(splits)) for (case, reason), splits in found.items()]


def trained_without(facts: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(split, case, reason) of ``skipped`` in ``run.json``; what has another form is passed over."""
    skipped = facts.get("skipped")
    return [
        (split, str(item["case"]), str(item.get("reason", "")))
        for split, items in (skipped.items() if isinstance(skipped, dict) else ())
        if isinstance(items, list)
        for item in items
        if isinstance(item, dict) and "case" in item
    ]
