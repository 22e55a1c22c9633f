"""The table as data: one flat record a row, for CSV and JSON."""

import csv
import io
from collections.abc import Iterable
from typing import Any

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
    return record | {
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
