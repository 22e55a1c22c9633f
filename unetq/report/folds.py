"""A cross-validation gathered: the folds of one configuration, each scored on cases of its own."""

from dataclasses import dataclass
from itertools import chain
from statistics import stdev

from .settings import configuration_key, fold_of
from .table import Group, Row

Pair = tuple[float | None, float | None]  # Dice of a case, and the float reference's


@dataclass(frozen=True)
class Fold:
    """One fold: how many cases, of which sites (or volumes), and class -> (mean Dice, mean change against float)."""

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
    """

    mean: float
    deviation: float | None
    reference: float | None
    change: float | None


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
            fold, len(_cases(row, group.labels[0])), _where(row), {label: _means(scores[label][i]) for label in scores}
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


def _cases(row: Row, label: str) -> list[Pair]:
    """Dice of each case; where a split is one volume, scored slice by slice, that volume is the case."""
    if row.evaluation.unit_name == "case":
        return [(case.value(label), other.value(label) if other else None) for case, other in row.units]
    return [(row.dice(label), row.reference.volume_dice.get(label) if row.reference else None)]


def _means(pairs: list[Pair]) -> Pair:
    return _mean([mine for mine, _ in pairs]), _mean(_changes(pairs))


def _pooled(pairs: list[Pair]) -> Pooled | None:
    values = [mine for mine, _ in pairs if mine is not None]
    if not values:
        return None
    references = [other for _, other in pairs if other is not None]
    return Pooled(
        sum(values) / len(values),
        stdev(values) if len(values) > 1 else None,
        _mean(references) if len(references) == len(values) else None,
        _mean(_changes(pairs)),
    )


def _changes(pairs: list[Pair]) -> list[float]:
    return [mine - other for mine, other in pairs if mine is not None and other is not None]


def _mean(values: list[float | None] | list[float]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _where(row: Row) -> str:
    """The sites of a fold's cases, else their volumes."""
    cases = row.evaluation.units
    return ", ".join(sorted({case.site for case in cases if case.site} or {case.volume or case.id for case in cases}))
