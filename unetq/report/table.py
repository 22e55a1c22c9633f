"""Rows and groups: which runs may be compared, and what each lost against float."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .runs import Run
from .schema import Evaluation
from .units import bytes_text, percent, points, ratio


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

    def dice(self, label: str) -> float | None:
        """Volume Dice of ``label``, 0…1."""
        return self.evaluation.volume_dice.get(label)

    def drop(self, label: str) -> float | None:
        """What was lost against the float reference, 0…1; negative where something was gained."""
        mine = self.dice(label)
        theirs = self.reference.volume_dice.get(label) if self.reference else None
        return None if mine is None or theirs is None else theirs - mine

    def change(self, label: str) -> float | None:
        """The same with the sign a reader expects: negative is a loss."""
        drop = self.drop(label)
        return None if drop is None else -drop

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
    def sentence(self) -> str:
        """What the run amounts to, in one sentence."""
        metrics, cost = self.run.metrics, self.run.metrics.cost
        scores = []
        for label in metrics.labels:
            change = self.change(label)
            against = f" ({points(change)} points against float)" if change is not None else ""
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
    """Rows whose Dice may be compared: same data set, same split, same classes, the very same slices."""

    dataset: str
    data_note: str
    split: str
    labels: tuple[str, ...]
    slice_ids: tuple[str, ...]
    rows: tuple[Row, ...]

    def row_label(self, row: Row) -> str:
        """``W4A6`` where that names one row of the group, else the run's name."""
        short = row.run.metrics.bits.short
        alone = sum(other.run.metrics.bits.short == short for other in self.rows) == 1
        return short if alone else row.run.name


def groups_of(runs: Iterable[Run]) -> list[Group]:
    """Sort the evaluations of ``runs`` into comparable groups and find each one's float reference."""
    keyed: dict[tuple[Any, ...], list[Row]] = {}
    for run in runs:
        for split, evaluations in run.metrics.splits.items():
            quoted = evaluations.quoted
            if quoted is None:
                continue
            ids = tuple(sorted(score.id for score in quoted.slices))
            own = evaluations.float_reference
            row = Row(run, split, quoted, own, "the float network it was tuned from" if own else "")
            keyed.setdefault((run.metrics.dataset, split, run.metrics.labels, ids), []).append(row)
    return [
        Group(
            dataset=dataset,
            data_note=next((row.run.metrics.data_note for row in rows if row.run.metrics.data_note), ""),
            split=split,
            labels=labels,
            slice_ids=ids,
            rows=tuple(_with_reference(row, rows) for row in rows),
        )
        for (dataset, split, labels, ids), rows in keyed.items()
    ]


def _with_reference(row: Row, rows: list[Row]) -> Row:
    if row.reference is not None or row.run.metrics.bits.is_float:
        return row
    network = row.run.metrics.network
    twins = [other for other in rows if other.run.metrics.bits.is_float and other.run.metrics.network == network]
    twins.sort(key=lambda other: other.run.metrics.seed != row.run.metrics.seed)  # the same seed first; stable
    if not twins:
        return row
    return Row(row.run, row.split, row.evaluation, twins[0].evaluation, f"the run {twins[0].run.name}")


def records(groups: Iterable[Group]) -> list[dict[str, Any]]:
    """One flat record a row, for CSV and JSON: Dice 0…1, drops in points (positive = lost), sizes in bytes."""
    result = []
    for group in groups:
        for row in group.rows:
            metrics = row.run.metrics
            bits, cost = metrics.bits, metrics.cost
            record: dict[str, Any] = {
                "run": row.run.name,
                "dataset": group.dataset,
                "split": group.split,
                "slices": len(group.slice_ids),
                "network": metrics.network.name,
                "parameters": metrics.network.parameters,
                "weight_bits": bits.weight,
                "act_bits": bits.act,
                "first_bits": bits.first,
                "last_bits": bits.last,
                "method": bits.method,
                "per_channel": bits.per_channel,
                "seed": metrics.seed,
                "arithmetic": row.evaluation.arithmetic,
                "float_reference": row.reference_source or None,
            }
            for label in group.labels:
                drop = row.drop(label)
                record[f"dice_{label}"] = row.dice(label)
                record[f"drop_points_{label}"] = None if drop is None else round(100 * drop, 4)
                record[f"mean_slice_dice_{label}"] = row.evaluation.mean_slice_dice.get(label)
                record[f"empty_slices_{label}"] = row.evaluation.empty_slices.get(label)
            record |= {
                "weight_bytes": cost.weight_bytes,
                "float_weight_bytes": cost.float_weight_bytes,
                "peak_activation_bytes": cost.peak_activation_bytes,
                "float_peak_activation_bytes": cost.float_peak_activation_bytes,
                "model_file_bytes": cost.model_file_bytes,
                "arena_bytes": cost.arena_bytes,
                "macs": cost.macs,
                "bit_operations": cost.bit_operations,
                "input_size": "x".join(str(size) for size in cost.input_size) or None,
            }
            result.append(record)
    return result


def csv_text(rows: list[dict[str, Any]]) -> str:
    """Records as CSV; the columns are the union of the records' keys, in order of appearance."""
    columns = list(dict.fromkeys(key for record in rows for key in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in record.items()} for record in rows)
    return text.getvalue()


def memory_note(row: Row) -> str:
    """Weights and peak activations in words, for a tooltip."""
    cost = row.run.metrics.cost
    return f"weights {bytes_text(cost.weight_bytes)} + peak activations {bytes_text(cost.peak_activation_bytes)}"
