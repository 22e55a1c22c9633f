"""``metrics.json`` in a few lines and a table for a terminal."""

from collections.abc import Sequence
from typing import Any

ORDER = ("integer", "float", "float_reference")
TITLES = {"integer": "integer (as shipped)", "float": "float32", "float_reference": "float32 reference"}
FLOAT_BITS = 32
SHOWN = 20
BACKGROUND = "background"


def _size(count: int | None) -> str:
    if count is None:
        return "not known"
    return f"{count / 1e6:.2f} MB" if count >= 100_000 else f"{count} bytes"


def float_layers(bits: dict[str, Any]) -> list[str]:
    """What a low-bit network keeps in float32, in words: patterns of layer names, or the places that have 32 bits."""
    if FLOAT_BITS in (bits["weight"], bits["act"]):
        kind = "weights" if bits["weight"] == FLOAT_BITS else "activations"
        return [f"every layer with 32-bit {kind}"]
    places = {"first": "the first layer", "last": "the last layer"}
    return [*bits.get("float_layers", ()), *(name for key, name in places.items() if bits.get(key) == FLOAT_BITS)]


def describe(metrics: dict[str, Any], split: str) -> str:
    """Dice a label in each arithmetic of ``split``, and the costs; plain text."""
    bits, cost = metrics["bits"], metrics["cost"]
    is_float = bits["weight"] == bits["act"] == FLOAT_BITS
    words = bits.get("words") or f"W{bits['weight']}A{bits['act']}"
    width = "float32" if is_float else f"{words}, {bits['method']}"
    lines = [f"{metrics['run']}: {metrics['network']['name']} ({width}) on {metrics['dataset']}, split {split}"]
    evaluations = metrics["splits"][split]
    kept = [] if is_float else float_layers(bits)
    for key in ORDER:
        if key in evaluations:
            found = evaluations[key]
            dice = ", ".join(f"{label} {_percent(value)}" for label, value in found["volume_dice"].items())
            name = "float32, quantisers off" if key == "float" and not is_float else TITLES[key]
            if key == "integer" and kept:
                name = "integer, in part (as shipped)"
            lines.append(f"  {name}: Dice {dice}  ({len(found['slices'])} slices, {found['seconds']:.1f} s)")
    lines += cases_table(evaluations)
    lines += [f"  {line}" for line in _skipped(metrics.get("skipped", {}).get(split, []))]
    if kept and "integer" in evaluations:
        lines.append(
            f"  float32 in it: {', '.join(kept)}; these run in float32 on the device too and agree with it "
            "within 1e-5 of the range, the integer layers to the bit"
        )
    lines.append(f"  weights {_size(cost['weight_bytes'])} (float {_size(cost['float_weight_bytes'])})")
    shape = " x ".join(str(n) for n in cost["input_size"])
    lines.append(
        f"  at {shape}: peak activations {_size(cost['peak_activation_bytes'])} "
        f"(float {_size(cost['float_peak_activation_bytes'])}), "
        f"{cost['macs'] / 1e9:.3f} GMAC, {cost['bit_operations'] / 1e9:.1f} Gbit-operations"
    )
    lines.append(f"  model file {_size(cost['model_file_bytes'])}, runtime arena {_size(cost['arena_bytes'])}")
    lines += [f"  {line}" for line in (_process(cost, ""), _process(cost, "float_")) if line]
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def _process(cost: dict[str, Any], prefix: str) -> str:
    """The measured process in a sentence; empty where it was not measured."""
    peak, latency = cost.get(f"{prefix}process_peak_bytes"), cost.get(f"{prefix}latency")
    if peak is None or latency is None:
        reason = cost.get(f"{prefix}footprint_note")
        return f"process not measured: {reason}" if reason and not prefix else ""
    who = "the same network packed in float32" if prefix else "its own process"
    base = "" if prefix else f" ({_size(cost.get('process_base_bytes'))} before the model)"
    seconds = latency["seconds"]
    return (
        f"{who}: peak {_size(peak)}{base}, {1000 * seconds:.1f} ms an image "
        f"(median of {latency['runs']}, threads {latency['threads']}, {latency['isa']})"
    )


def _cell(entry: dict[str, Any], scale: float, digits: int) -> str:
    """A mean with its interval, and how many units it is not defined for."""
    if entry["mean"] is None:
        return "–"
    text = f"{scale * entry['mean']:.{digits}f}"
    if entry["low"] is not None:
        text += f" [{scale * entry['low']:.{digits}f}, {scale * entry['high']:.{digits}f}]"
    return text + (f" ({entry['undefined']} undefined)" if entry["undefined"] else "")


def cases_table(evaluations: dict[str, Any]) -> list[str]:
    """A row a class and arithmetic: means over cases with 95 % intervals; then differences, and what is to be known."""
    found = {key: evaluations[key] for key in ORDER if evaluations.get(key, {}).get("summary")}
    if not found:
        return []
    first = next(iter(found.values()))
    low_bit = "integer" in evaluations
    names = {"integer": "integer", "float": "quantisers off" if low_bit else "float32", "float_reference": "float32"}
    unit = "mm" if first["distance_unit"] == "mm" else "px"
    columns = (
        ("dice", "Dice %", 100.0, 2),
        ("iou", "IoU %", 100.0, 2),
        ("hd95_mm", f"HD95 {unit}", 1.0, 2),
        ("nsd", f"NSD % at {first['nsd_tolerance']:g} {unit}", 100.0, 2),
        ("volume_error", "volume error %", 100.0, 1),
    )
    count = len(first["cases"])
    over = f"mean over {count} {first['unit']}s" if count > 1 else f"the only {first['unit']}"
    rows = [[over, "", *(title for _, title, _, _ in columns)]]
    for label in first["summary"]:
        if label == BACKGROUND:
            continue
        for key, record in found.items():
            entries = record["summary"][label]
            cells = (_cell(entries[metric], scale, digits) for metric, _, scale, digits in columns)
            rows.append([label, names[key], *cells])
    for name, title in (("rand", "cells, V_Rand %"), ("information", "cells, V_Info %")):
        for key, record in found.items():
            if name in record.get("score_summary", {}):
                rows.append([title, names[key], _cell(record["score_summary"][name], 100.0, 2)])
    lines = ["  " + line for line in _aligned(rows)]
    for label, pair in evaluations.get("paired", {}).items():
        if label != BACKGROUND:
            lines.append(f"  {_difference(label, pair)}")
    note = first.get("bootstrap", {}).get("note")
    return [*lines, *([f"  note: {note}"] if note else [])]


def _difference(label: str, pair: dict[str, Any]) -> str:
    if pair["difference"] is None:
        return f"{label}: integer − float32 Dice: no pairs"
    text = f"{label}: integer − float32 Dice {100 * pair['difference']:+.2f} points"
    if pair["low"] is not None:
        text += f" [{100 * pair['low']:+.2f}, {100 * pair['high']:+.2f}]"
    if pair["p"] is not None:
        text += f", p = {pair['p']:.3g} ({pair['test']}, n = {pair['n']})"
    return text + (f"; {pair['note']}" if pair.get("note") else "")


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]


def _skipped(items: Sequence[dict[str, str]]) -> list[str]:
    """The cases that were left out, each with its reason; the first ``SHOWN`` of them."""
    if not items:
        return []
    lines = [f"skipped {len(items)}:", *(f"  {item['case']}: {item['reason']}" for item in items[:SHOWN])]
    return lines if len(items) <= SHOWN else [*lines, f"  … and {len(items) - SHOWN} more (metrics.json has all)"]
