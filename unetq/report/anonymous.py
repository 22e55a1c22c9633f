"""A report without names: cases, volumes and subjects by number, the same number in all runs of a report."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import yaml

from .left_out import trained_without
from .runs import Run
from .schema import CaseScore, Evaluation, Metrics, Skipped, SliceScore

HIDDEN = "…"
_FILES = re.compile(
    r"(?<!\w)'[^']*'(?!\w)|\"[^\"]*\"|[^\s'\",;()]*[/\\][^\s'\",;()]+"
    r"|[^\s'\",;()/\\]+\.(?:nii|gz|dcm|ima|png|tiff?|jpe?g|bmp|np[yz]|nrrd|mh[ad]|img|hdr|csv|txt|ya?ml|json)\b"
)


def anonymous(runs: list[Run]) -> list[Run]:
    """``runs`` with ``case-001`` … for cases and volumes, ``subject-001`` … for subjects that are none of these.

    Numbers follow the names' order. A slice is its volume's number and its own (``case-001-007``). Sites, runs and
    data sets keep their names; what else could tell one (quoted words and file names in sentences, the data folder
    and the options of the data set in the configuration, the command) is hidden.
    """
    names = _Names(runs)
    return [_renamed(run, names) for run in runs]


def without_names(config: str) -> str:
    """``config.yaml`` less its data folder and what its data options say in words, which may be persons."""
    try:
        values = yaml.safe_load(config)
    except (yaml.YAMLError, RecursionError):
        return ""
    if not isinstance(values, dict):
        return ""
    data = values.get("data")
    if isinstance(data, dict):
        values["data"] = data | {key: _hidden(data[key]) for key in ("root", "options") if key in data}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _hidden(value: Any) -> Any:
    """``value`` with every text in it hidden; keys of options stay, keys below them (persons) do not."""
    if isinstance(value, dict):
        return {key: HIDDEN if isinstance(item, dict) and item else _hidden(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_hidden(item) for item in value]
    return HIDDEN if isinstance(value, str) and value else value


class _Names:
    """Every id of the runs and what stands for it."""

    def __init__(self, runs: list[Run]) -> None:
        cases: set[str] = set()
        subjects: set[str] = set()
        members: dict[str, set[str]] = {}  # of a volume: its slices, and its parts that are scored alone
        for run in runs:
            for evaluation in _evaluations(run.metrics):
                pairs = [(item.volume, item.id) for item in evaluation.slices]
                for volume, item in pairs + [(case.volume, case.id) for case in evaluation.cases]:
                    cases.add(volume or item)
                    if item != (volume or item):
                        members.setdefault(volume, set()).add(item)
                subjects |= {case.subject for case in evaluation.cases if case.subject}
            cases |= {entry.case for entries in run.metrics.skipped.values() for entry in entries}
            cases |= {case for _, case, _ in trained_without(run.facts)}
        self._names = _numbered("case", cases) | _numbered("subject", subjects - cases)
        self._members = {
            (volume, item): name
            for volume, items in members.items()
            for item, name in _members(volume, items, self._names[volume]).items()
        }
        known = {**{item: name for (_, item), name in self._members.items()}, **self._names}
        self._known = {name: new for name, new in known.items() if len(name) > 2 or not name.isalnum()}
        longest = sorted(self._known, key=lambda name: (-len(name), name))
        self._pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest))})(?!\w)") if longest else None

    def of(self, name: str) -> str:
        """What stands for a case, a volume or a subject."""
        return self._names.get(name, HIDDEN) if name else name

    def member(self, volume: str, item: str) -> str:
        """What stands for a slice or a part of a volume, or for the volume."""
        return self._members.get((volume, item)) or self.of(item)

    def sentence(self, text: str) -> str:
        """A sentence with known names replaced, and file names and quoted words hidden."""
        text = _FILES.sub(lambda found: self._known.get(found.group(), HIDDEN), text)
        return self._pattern.sub(lambda found: self._known[found.group()], text) if self._pattern else text

    def stored(self) -> dict[str, str]:
        """What stands for a name -> the name, as the files of a run folder are called."""
        return {new: old for (_, old), new in self._members.items()} | {new: old for old, new in self._names.items()}


def _numbered(kind: str, names: Iterable[str]) -> dict[str, str]:
    ordered = sorted(name for name in names if name)
    digits = max(3, len(str(len(ordered))))
    return {name: f"{kind}-{number:0{digits}d}" for number, name in enumerate(ordered, 1)}


def _members(volume: str, items: set[str], name: str) -> dict[str, str]:
    """The slices of a volume: its number and their own where all are so called, else in their order."""
    ordered = sorted(items)
    own = [re.fullmatch(rf"{re.escape(volume)}-(\d{{1,5}})", item) for item in ordered]
    if all(own):
        return {item: f"{name}-{found.group(1)}" for item, found in zip(ordered, own, strict=True) if found}
    return {item: f"{name}-{number:03d}" for number, item in enumerate(ordered, 1)}


def _evaluations(metrics: Metrics) -> list[Evaluation]:
    found = [item for split in metrics.splits.values() for item in (split.integer, split.float, split.float_reference)]
    return [item for item in found if item is not None]


def _renamed(run: Run, names: _Names) -> Run:
    metrics = run.metrics
    splits = {}
    for split, parts in metrics.splits.items():
        new = {
            key: _evaluation(getattr(parts, key), names)
            for key in ("integer", "float", "float_reference")
            if getattr(parts, key) is not None
        }
        splits[split] = parts.model_copy(update=new)
    skipped = {
        split: tuple(Skipped(case=names.of(item.case), reason=names.sentence(item.reason)) for item in items)
        for split, items in metrics.skipped.items()
    }
    facts: dict[str, Any] = {key: value for key, value in run.facts.items() if key not in ("skipped", "command")}
    facts["skipped"] = {}
    for split, case, reason in trained_without(run.facts):
        entry = {"case": names.of(case), "reason": names.sentence(reason)}
        facts["skipped"].setdefault(split, []).append(entry)
    update = {
        "splits": splits,
        "skipped": skipped,
        "data_note": names.sentence(metrics.data_note),
        "notes": {split: names.sentence(note) for split, note in metrics.notes.items()},
    }
    return replace(run, metrics=metrics.model_copy(update=update), facts=facts, names=names.stored())


def _evaluation(evaluation: Evaluation, names: _Names) -> Evaluation:
    slices = tuple(
        SliceScore(id=names.member(item.volume or item.id, item.id), volume=names.of(item.volume), dice=item.dice)
        for item in evaluation.slices
    )
    cases: tuple[CaseScore, ...] = tuple(
        case.model_copy(
            update={
                "id": names.member(case.volume or case.id, case.id),
                "volume": names.of(case.volume),
                "subject": names.of(case.subject),
            }
        )
        for case in evaluation.cases
    )
    return evaluation.model_copy(update={"slices": slices, "cases": cases})
