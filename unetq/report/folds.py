"""A cross-validation gathered: the folds of one configuration, each scored on cases of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from statistics import stdev

from ..statistics import FEWEST, describe_mean, paired
from .schema import Interval
from .settings import configuration_key, fold_of
from .table import Group, Row
from .units import percent, points

SAMPLES, SEED = 2000, 0  # of the bootstrap


@dataclass(frozen=True)
class Scored:
    """A case: whose it is, its Dice, and the float reference's."""

    person: str
    mine: float | None
    other: float | None


Pair = tuple[float | None, float | None]  # mean Dice, and mean change against float


@dataclass(frozen=True)
class Fold:
    """One fold: its run, how many cases, of which sites (or volumes), class -> (mean Dice, mean change from float)."""

    run: str
    number: int
    cases: int
    where: str
    scores: dict[str, Pair]


@dataclass(frozen=True)
class Pooled:
    """One class over the cases of all folds, 0…1.

    Attributes:
        mean, deviation: of the Dice; deviation (n - 1) None for one case.
        reference: the float networks' mean over the same cases, None where not all have one.
        change: the mean change against float over the cases that both scored; negative is a loss.
        persons: mean and 95 % interval of the Dice over persons, each with the mean of all cases of theirs.
        persons_change: the same of the change against float.
    """

    mean: float
    deviation: float | None
    reference: float | None
    change: float | None
    persons: Interval
    persons_change: Interval

    @property
    def dice_text(self) -> str:
        """The interval of the Dice in words."""
        return _interval_text(self.persons, percent, "–")

    @property
    def change_text(self) -> str:
        """The interval of the change in words; empty where there is no change."""
        return _interval_text(self.persons_change, points, " to ")


@dataclass(frozen=True)
class Validation:
    """The folds of one configuration and seed, by number; ``name`` is ``W4A6`` and the seed."""

    dataset: str
    split: str
    name: str
    folds: tuple[Fold, ...]
    labels: tuple[str, ...]
    pooled: dict[str, Pooled]

    @property
    def cases(self) -> int:
        """How many cases all folds have together."""
        return sum(fold.cases for fold in self.folds)


def validations(groups: list[Group]) -> list[Validation]:
    """Every configuration that was scored in more than one fold."""
    keyed: dict[tuple[str, ...], list[tuple[int, Group, Row]]] = {}
    for group in groups:
        for row in group.rows:
            fold = fold_of(row.run)
            if fold is not None:
                key = (group.dataset, group.split, *group.labels, configuration_key(row.run, without_fold=True))
                keyed.setdefault((*key, str(row.run.metrics.seed), str(row.is_float)), []).append((fold, group, row))
    found = []
    for members in keyed.values():
        members.sort(key=lambda member: member[0])
        folds = [fold for fold, *_ in members]
        if len(set(folds)) == len(folds) > 1:
            found.append(_gather(members))
    return found


def _gather(members: list[tuple[int, Group, Row]]) -> Validation:
    group, metrics = members[0][1], members[0][2].run.metrics
    scores = {label: [_cases(row, label) for *_, row in members] for label in group.shown}
    folds = [
        Fold(
            row.run.name,
            fold,
            len(_cases(row, group.labels[0])),
            _where(row),
            {label: _means(scores[label][i]) for label in scores},
        )
        for i, (fold, _, row) in enumerate(members)
    ]
    pooled = {
        label: found
        for label in group.shown
        if (found := _pooled(list(chain.from_iterable(scores[label])))) is not None
    }
    seed = f", seed {metrics.seed}" if metrics.seed is not None else ""
    return Validation(group.dataset, group.split, metrics.bits.short + seed, tuple(folds), group.shown, pooled)


def _cases(row: Row, label: str) -> list[Scored]:
    """Dice of each case; where a split is one volume, scored slice by slice, that volume is the case."""
    if row.evaluation.unit_name == "case":
        return [
            Scored(case.subject or case.volume or case.id, case.value(label), other.value(label) if other else None)
            for case, other in row.units
        ]
    persons = sorted({case.subject or case.volume or case.id for case in row.evaluation.units})
    theirs = row.reference.volume_dice.get(label) if row.reference else None
    return [Scored(", ".join(persons), row.dice(label), theirs)]


def _means(cases: list[Scored]) -> Pair:
    return _mean([case.mine for case in cases]), _mean([mine - other for _, mine, other in _matched(cases)])


def _pooled(cases: list[Scored]) -> Pooled | None:
    values = [case.mine for case in cases if case.mine is not None]
    if not values:
        return None
    references = [case.other for case in cases if case.other is not None]
    scored = _by_person([(case.person, case.mine) for case in cases if case.mine is not None])
    mine = _by_person([(person, own) for person, own, _ in _matched(cases)])
    theirs = _by_person([(person, other) for person, _, other in _matched(cases)])
    change = paired(list(mine.values()), list(theirs.values()), SAMPLES, SEED)
    return Pooled(
        sum(values) / len(values),
        stdev(values) if len(values) > 1 else None,
        _mean(references) if len(references) == len(values) else None,
        _means(cases)[1],
        Interval.model_validate(describe_mean(list(scored.values()), SAMPLES, SEED)),
        Interval(mean=change["difference"], low=change["low"], high=change["high"], cases=change["n"]),
    )


def _matched(cases: list[Scored]) -> list[tuple[str, float, float]]:
    """(person, Dice, the float reference's) of the cases that both scored."""
    return [(case.person, case.mine, case.other) for case in cases if case.mine is not None and case.other is not None]


def _by_person(values: list[tuple[str, float]]) -> dict[str, float]:
    """The mean of each person: several cases of one count once. In order of appearance."""
    found: dict[str, list[float]] = {}
    for person, value in values:
        found.setdefault(person, []).append(value)
    return {person: sum(members) / len(members) for person, members in found.items()}


def _interval_text(interval: Interval, show: Callable[[float | None], str], between: str) -> str:
    if not interval.cases:
        return ""
    count = f"{interval.cases} person{'' if interval.cases == 1 else 's'}"
    if interval.low is None or interval.high is None:
        return f"{count}: fewer than {FEWEST}, no interval" if interval.cases < FEWEST else f"{count}: no interval"
    return f"{show(interval.mean)} over {count}, 95 % {show(interval.low)}{between}{show(interval.high)}"


def _mean(values: list[float | None] | list[float]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _where(row: Row) -> str:
    """The sites of a fold's cases, else their volumes."""
    cases = row.evaluation.units
    return ", ".join(sorted({case.site for case in cases if case.site} or {case.volume or case.id for case in cases}))
