"""The table as data: one flat record a row, for CSV and JSON."""

import csv
import io
from collections.abc import Iterable
from typing import Any

from .folds import validations
from .seeds import configurations_of
from .settings import fold_of
from .spread import Spread
from .table import Group, Row


def records(groups: Iterable[Group]) -> list[dict[str, Any]]:
    """One flat record a row: Dice 0…1, drops and spreads in points (a positive drop is a loss), sizes in bytes."""
    return [_record(group, row) for group in groups for row in group.rows]


def _record(group: Group, row: Row) -> dict[str, Any]:
    metrics = row.run.metrics
    bits, cost = metrics.bits, metrics.cost
    record: dict[str, Any] = {
        "run": row.run.name,
        "dataset": group.dataset,
        "split": group.split,
        "slices": len(group.slice_ids),
        "unit": row.evaluation.unit_name,
        "units": len(row.evaluation.units),
        "digest": group.digest,
        "network": metrics.network.name,
        "parameters": metrics.network.parameters,
        "weight_bits": bits.weight,
        "act_bits": bits.act,
        "first_bits": bits.first,
        "last_bits": bits.last,
        "method": bits.method,
        "per_channel": bits.per_channel,
        "seed": metrics.seed,
        "fold": fold_of(row.run),
        "arithmetic": row.evaluation.arithmetic,
        "float_reference": row.reference_source or None,
    }
    for label in group.labels:
        drop, own, change = row.drop(label), row.spread(label), row.change_spread(label)
        record[f"dice_{label}"] = row.dice(label)
        record[f"drop_points_{label}"] = None if drop is None else round(100 * drop, 4)
        record[f"drop_sd_points_{label}"] = _deviation(change)
        record[f"mean_slice_dice_{label}"] = row.evaluation.mean_slice_dice.get(label)
        record[f"slice_dice_min_{label}"] = own.low if own else None
        record[f"slice_dice_max_{label}"] = own.high if own else None
        record[f"slice_sd_points_{label}"] = _deviation(own)
        record[f"empty_slices_{label}"] = row.evaluation.empty_slices.get(label)
        record |= _intervals(row, label)
    return record | {
        "weight_bytes": cost.weight_bytes,
        "float_weight_bytes": cost.float_weight_bytes,
        "peak_activation_bytes": cost.peak_activation_bytes,
        "float_peak_activation_bytes": cost.float_peak_activation_bytes,
        "model_file_bytes": cost.model_file_bytes,
        "arena_bytes": cost.arena_bytes,
        "process_peak_bytes": cost.process_peak_bytes,
        "process_base_bytes": cost.process_base_bytes,
        "float_model_file_bytes": cost.float_model_file_bytes,
        "float_arena_bytes": cost.float_arena_bytes,
        "float_process_peak_bytes": cost.float_process_peak_bytes,
        "latency_seconds": row.latency,
        "float_latency_seconds": row.float_latency,
        "latency_threads": cost.latency.threads if cost.latency else None,
        "latency_isa": cost.latency.isa if cost.latency else None,
        "macs": cost.macs,
        "bit_operations": cost.bit_operations,
        "input_size": "x".join(str(size) for size in cost.input_size) or None,
    }


def _intervals(row: Row, label: str) -> dict[str, Any]:
    """The mean over units with its interval (0…1), the paired change with its own (points); empty if not recorded."""
    interval, paired = row.interval(label), row.paired(label)
    found: dict[str, Any] = {}
    if interval is not None:
        found[f"mean_{label}"] = interval.mean
        found[f"mean_low_{label}"], found[f"mean_high_{label}"] = interval.low, interval.high
    if paired is not None:
        for name in ("difference", "low", "high"):
            value = getattr(paired, name)
            found[f"paired_{name}_points_{label}"] = None if value is None else round(100 * value, 4)
        found[f"paired_p_{label}"], found[f"paired_test_{label}"] = paired.p, paired.test or None
        found[f"paired_n_{label}"] = paired.n
    return found


def configuration_records(groups: Iterable[Group]) -> list[dict[str, Any]]:
    """One record a configuration and class: its runs, seeds, and mean, lowest and highest Dice and change (0…1)."""
    found = []
    for group in groups:
        for item in configurations_of(group):
            for label in group.labels:
                dice, change = item.dice(label), item.change(label)
                found.append(
                    {
                        "dataset": group.dataset,
                        "split": group.split,
                        "digest": group.digest,
                        "name": item.name,
                        "runs": [row.run.name for row in item.rows],
                        "seeds": list(item.seeds),
                        "class": label,
                        "dice": None if dice is None else [dice.mean, dice.low, dice.high],
                        "change": None if change is None else [change.mean, change.low, change.high],
                    }
                )
    return found


def fold_records(groups: Iterable[Group]) -> list[dict[str, Any]]:
    """One record a cross-validation: its folds with their runs, and each class pooled over all cases (Dice 0…1).

    Intervals are over persons, 95 %; a change is against float, negative for a loss; null where there is none.
    """
    return [
        {
            "dataset": found.dataset,
            "split": found.split,
            "name": found.name,
            "cases": found.cases,
            "folds": [
                {
                    "run": fold.run,
                    "fold": fold.number,
                    "cases": fold.cases,
                    "dice": {label: dice for label, (dice, _) in fold.scores.items()},
                    "change": {label: change for label, (_, change) in fold.scores.items()},
                }
                for fold in found.folds
            ],
            "pooled": {
                label: {
                    "dice": pooled.mean,
                    "deviation": pooled.deviation,
                    "float_dice": pooled.reference,
                    "change": pooled.change,
                    "persons": pooled.persons.model_dump(),
                    "persons_change": pooled.persons_change.model_dump(),
                }
                for label, pooled in found.pooled.items()
            },
        }
        for found in validations(list(groups))
    ]


def case_records(groups: Iterable[Group]) -> list[dict[str, Any]]:
    """One record a run, case (or slice) and class: metrics as stored, the float reference's Dice, their difference."""
    found: list[dict[str, Any]] = []
    for group in groups:
        for row in group.rows:
            for case, other in row.units:
                for label in group.labels:
                    mine, theirs = case.value(label), other.value(label) if other else None
                    record: dict[str, Any] = {
                        "dataset": group.dataset,
                        "split": group.split,
                        "run": row.run.name,
                        "bits": row.run.metrics.bits.short,
                        "seed": row.run.metrics.seed,
                        "unit": row.evaluation.unit_name,
                        "case": case.id,
                        "volume": case.volume,
                        "subject": case.subject,
                        "site": case.site,
                        "slices": case.slices,
                        "class": label,
                        "dice": mine,
                        "float_dice": theirs,
                        "change": None if mine is None or theirs is None else mine - theirs,
                    }
                    found.append(
                        record | {key: value for key, value in case.classes.get(label, {}).items() if key != "dice"}
                    )
    return found


def _deviation(spread: Spread | None) -> float | None:
    return None if spread is None or spread.deviation is None else round(100 * spread.deviation, 4)


def csv_text(rows: list[dict[str, Any]]) -> str:
    """Records as CSV; the columns are the union of the records' keys, in order of appearance."""
    columns = list(dict.fromkeys(key for record in rows for key in record))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in record.items()} for record in rows)
    return text.getvalue()
