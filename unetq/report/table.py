"""Rows and groups: which runs may be compared, and what each lost against float."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from .runs import Run
from .schema import CaseScore, Evaluation, Interval, Paired, shown_labels
from .settings import fold_of
from .spread import Spread, change_spread, slice_spread
from .units import percent, points, ratio

FEW = 5  # fewer cases than that are a description, no sample
ENOUGH = 10  # values that a bootstrap needs
UNSEEN = 5e-5  # a change that prints as 0.00 points


@dataclass(frozen=True)
class Row:
    """One run on one split.

    Attributes:
        evaluation: what the table quotes: the integer evaluation where there is one.
        reference: the float network's evaluation on the same slices, None where unknown.
        reference_source: where ``reference`` came from, in words.
    """

    run: Run
    split: str
    evaluation: Evaluation
    reference: Evaluation | None = None
    reference_source: str = ""

    @property
    def is_float(self) -> bool:
        """Whether the whole network ran in float32."""
        return self.evaluation.arithmetic == "float32"

    @property
    def is_unquantised(self) -> bool:
        """Whether a low-bit run was scored with its quantisers off only: no score of the low-bit network."""
        return self.is_float and not self.run.metrics.bits.is_float

    def dice(self, label: str) -> float | None:
        """Volume Dice of ``label``, 0…1."""
        return self.evaluation.volume_dice.get(label)

    def drop(self, label: str) -> float | None:
        """What was lost against the float reference, 0…1; negative where something was gained."""
        mine = self.dice(label)
        theirs = self.reference.volume_dice.get(label) if self.reference else None
        return None if mine is None or theirs is None else theirs - mine

    def change(self, label: str) -> float | None:
        """The same with the sign a reader expects: negative is a loss; the mean over matched units where recorded."""
        paired = self.paired(label)
        if paired is not None and paired.difference is not None:
            return paired.difference
        drop = self.drop(label)
        return None if drop is None else -drop

    def paired(self, label: str) -> Paired | None:
        """The paired comparison with the float network it was tuned from, None where the run has none."""
        split = self.run.metrics.splits[self.split]
        own = split.float_reference is not None and self.reference is split.float_reference
        return split.paired.get(label) if own else None

    def interval(self, label: str, metric: str = "dice") -> Interval | None:
        """Mean over units and its 95 % interval, None where the run did not record one."""
        found = self.evaluation.summary.get(label, {}).get(metric)
        return found if found is not None and found.mean is not None else None

    @property
    def units(self) -> list[tuple[CaseScore, CaseScore | None]]:
        """Cases (or slices) by id, each with the float reference's."""
        theirs = {case.id: case for case in self.reference.units} if self.reference else {}
        return [(case, theirs.get(case.id)) for case in sorted(self.evaluation.units, key=lambda case: case.id)]

    def spread(self, label: str) -> Spread | None:
        """The Dice of ``label`` over the slices."""
        return slice_spread(self.evaluation, label)

    def change_spread(self, label: str) -> Spread | None:
        """The change of ``label`` against float over the slices, slice by slice."""
        return change_spread(self.evaluation, self.reference, label) if self.reference else None

    def change_stands_out(self, label: str) -> bool:
        """Whether interval and test of the change exclude 0; without them, whether it exceeds its SD over slices.

        Never on a single slice.
        """
        paired = self.paired(label)
        if paired is not None and (paired.low is not None or paired.p is not None):
            return paired.stands_out
        change, spread = self.change(label), self.change_spread(label)
        if change is None or spread is None or spread.deviation is None:
            return False
        return abs(change) > max(spread.deviation, UNSEEN)

    @property
    def memory_bytes(self) -> int | None:
        """Weights at rest plus peak activations."""
        cost = self.run.metrics.cost
        if cost.weight_bytes is None or cost.peak_activation_bytes is None:
            return None
        return cost.weight_bytes + cost.peak_activation_bytes

    @property
    def float_memory_bytes(self) -> int | None:
        """The same network's weights and peak activations in float32."""
        cost = self.run.metrics.cost
        if cost.float_weight_bytes is None or cost.float_peak_activation_bytes is None:
            return None
        return cost.float_weight_bytes + cost.float_peak_activation_bytes

    @property
    def latency(self) -> float | None:
        """Median seconds of one input on the packed runtime."""
        found = self.run.metrics.cost.latency
        return found.seconds if found else None

    @property
    def float_latency(self) -> float | None:
        """The same of the float network, packed at 32 bits."""
        found = self.run.metrics.cost.float_latency
        return found.seconds if found else None

    @property
    def sentence(self) -> str:
        """What the run amounts to, in one sentence."""
        metrics, cost = self.run.metrics, self.run.metrics.cost
        scores = []
        for label in shown_labels(metrics.labels):
            change, paired = self.change(label), self.paired(label)
            against = f" ({points(change)} points against float" if change is not None else ""
            if paired is not None and paired.low is not None:
                against += f", 95 % {points(paired.low)} to {points(paired.high)})"
            elif against:
                against += ")" if self.change_stands_out(label) else ", within the spread over slices)"
            scores.append(f"{percent(self.dice(label))} % on {label}{against}")
        smaller = [
            f"{what} {factor} smaller"
            for what, factor in (
                ("weights", ratio(cost.float_weight_bytes, cost.weight_bytes)),
                ("peak activations", ratio(cost.float_peak_activation_bytes, cost.peak_activation_bytes)),
            )
            if factor
        ]
        return f"Dice {', '.join(scores)}" + (f"; {' and '.join(smaller)}." if smaller else ".")


@dataclass(frozen=True)
class Group:
    """Rows whose Dice may be compared: same data set, split and classes, the very same pixels.

    Attributes:
        notes: what the runs say about this split, or else about their data in general; each sentence once.
        digest: of the split's content; None where the runs do not say what they were scored on.
        tag: what tells it from another group of the same data set and split, empty where there is none.
        fold: of a cross-validation, where all rows are of one.
    """

    dataset: str
    notes: tuple[str, ...]
    split: str
    labels: tuple[str, ...]
    slice_ids: tuple[str, ...]
    digest: str | None
    rows: tuple[Row, ...]
    tag: str = ""
    fold: int | None = None

    @property
    def shown(self) -> tuple[str, ...]:
        """The classes worth a column."""
        return shown_labels(self.labels)

    @property
    def unit(self) -> str:
        """What scores and intervals are over: "case" or "slice"; of a mixed group the former."""
        return "case" if any(row.evaluation.unit_name == "case" for row in self.rows) else "slice"

    @property
    def count_text(self) -> str:
        """How many cases and slices: ``3 cases, 36 slices``."""
        slices = plural(len(self.slice_ids), "slice")
        cases = {len(row.evaluation.cases) for row in self.rows if row.evaluation.unit_name == "case"}
        return f"{plural(max(cases), 'case')}, {slices}" if cases else slices

    @property
    def few_text(self) -> str:
        """A warning where so few cases were scored that no figure carries over to others."""
        parts = []
        cases = min((len(row.evaluation.cases) for row in self.rows if row.evaluation.unit == "case"), default=FEW)
        if cases < FEW:
            parts.append(f"Only {plural(cases, 'case')}: these figures describe them and claim nothing about others.")
        volumes = {score.volume for row in self.rows for score in row.evaluation.slices}
        if self.unit == "slice" and len(volumes) == 1:
            parts.append(
                "All slices are of one volume: intervals and tests over them say nothing about another volume."
            )
        if any(row.evaluation.summary and len(row.evaluation.units) < ENOUGH for row in self.rows):
            parts.append(f"Bootstrap intervals of fewer than {ENOUGH} values are narrower than they should be.")
        return " ".join(parts)

    def row_label(self, row: Row) -> str:
        """``W4A6`` where that names one row of the group, else the run's name."""
        short = row.run.metrics.bits.short
        alone = sum(other.run.metrics.bits.short == short for other in self.rows) == 1
        return short if alone else row.run.name


def groups_of(runs: Iterable[Run]) -> list[Group]:
    """Sort the evaluations of ``runs`` into comparable groups and find each one's float reference."""
    keyed: dict[tuple[Any, ...], list[Row]] = {}
    for run in runs:
        metrics = run.metrics
        for split, evaluations in metrics.splits.items():
            quoted = evaluations.quoted
            if quoted is None:
                continue
            ids = tuple(sorted(score.id for score in quoted.slices))
            row = Row(run, split, quoted)
            own = evaluations.float_reference
            if own is not None and not row.is_unquantised:
                row = replace(row, reference=own, reference_source="the float network it was tuned from")
            key = (metrics.dataset, split, metrics.labels, ids, metrics.digests.get(split))
            keyed.setdefault(key, []).append(row)
    return _tagged(
        [
            Group(
                dataset=dataset,
                notes=_notes(rows, split),
                split=split,
                labels=labels,
                slice_ids=ids,
                digest=digest,
                rows=tuple(_with_reference(row, rows) for row in rows),
            )
            for (dataset, split, labels, ids, digest), rows in keyed.items()
        ]
    )


def _notes(rows: list[Row], split: str) -> tuple[str, ...]:
    found = [row.run.metrics.notes.get(split) or row.run.metrics.data_note for row in rows]
    return tuple(dict.fromkeys(note for note in found if note))


def _tagged(groups: list[Group]) -> list[Group]:
    """Number the groups that share data set and split: ``1 of 2``, or ``fold 1`` where each is another fold."""
    tagged = []
    for group in groups:
        alike = [other for other in groups if (other.dataset, other.split) == (group.dataset, group.split)]
        folds = [_fold(other) for other in alike]
        if len(alike) > 1 and None not in folds and len(set(folds)) == len(folds):
            tagged.append(replace(group, tag=f"fold {_fold(group)}", fold=_fold(group)))
            continue
        place = next(index for index, other in enumerate(alike, 1) if other is group)
        tagged.append(replace(group, tag=f"{place} of {len(alike)}") if len(alike) > 1 else group)
    return tagged


def _fold(group: Group) -> int | None:
    folds = {fold_of(row.run) for row in group.rows}
    return folds.pop() if len(folds) == 1 else None


def _with_reference(row: Row, rows: list[Row]) -> Row:
    if row.reference is not None or row.is_float:
        return row
    network = row.run.metrics.network
    twins = [other for other in rows if other.run.metrics.bits.is_float and other.run.metrics.network == network]
    twins.sort(key=lambda other: other.run.metrics.seed != row.run.metrics.seed)  # the same seed first; stable
    if not twins:
        return row
    return replace(row, reference=twins[0].evaluation, reference_source=f"the run {twins[0].run.name}")


def plural(count: int, noun: str) -> str:
    """``1 case``, ``2 cases``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
