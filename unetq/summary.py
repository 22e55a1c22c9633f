"""``metrics.json`` in a few lines for a terminal."""

from typing import Any

ORDER = ("integer", "float", "float_reference")
TITLES = {"integer": "integer (as shipped)", "float": "float32", "float_reference": "float32 reference"}


def _size(count: int | None) -> str:
    if count is None:
        return "not known"
    return f"{count / 1e6:.2f} MB" if count >= 100_000 else f"{count} bytes"


def describe(metrics: dict[str, Any], split: str) -> str:
    """Dice a label in each arithmetic of ``split``, and the costs; plain text."""
    bits, cost = metrics["bits"], metrics["cost"]
    is_float = bits["weight"] == bits["act"] == 32
    width = "float32" if is_float else f"W{bits['weight']}A{bits['act']}, {bits['method']}"
    lines = [f"{metrics['run']}: {metrics['network']['name']} ({width}) on {metrics['dataset']}, split {split}"]
    evaluations = metrics["splits"][split]
    for key in ORDER:
        if key in evaluations:
            found = evaluations[key]
            dice = ", ".join(f"{label} {100 * value:.2f}" for label, value in found["volume_dice"].items())
            name = "float32, quantisers off" if key == "float" and not is_float else TITLES[key]
            lines.append(f"  {name}: Dice {dice}  ({len(found['slices'])} slices, {found['seconds']:.1f} s)")
    lines.append(f"  weights {_size(cost['weight_bytes'])} (float {_size(cost['float_weight_bytes'])})")
    shape = " x ".join(str(n) for n in cost["input_size"])
    lines.append(
        f"  at {shape}: peak activations {_size(cost['peak_activation_bytes'])} "
        f"(float {_size(cost['float_peak_activation_bytes'])}), "
        f"{cost['macs'] / 1e9:.3f} GMAC, {cost['bit_operations'] / 1e9:.1f} Gbit-operations"
    )
    lines.append(f"  model file {_size(cost['model_file_bytes'])}, runtime arena {_size(cost['arena_bytes'])}")
    return "\n".join(lines)
