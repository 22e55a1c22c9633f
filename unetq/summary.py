"""``metrics.json`` in a few lines for a terminal."""

from typing import Any

ORDER = ("integer", "float", "float_reference")
TITLES = {"integer": "integer (as shipped)", "float": "float32", "float_reference": "float32 reference"}
FLOAT_BITS = 32


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
    width = "float32" if is_float else f"W{bits['weight']}A{bits['act']}, {bits['method']}"
    lines = [f"{metrics['run']}: {metrics['network']['name']} ({width}) on {metrics['dataset']}, split {split}"]
    evaluations = metrics["splits"][split]
    kept = [] if is_float else float_layers(bits)
    for key in ORDER:
        if key in evaluations:
            found = evaluations[key]
            dice = ", ".join(f"{label} {100 * value:.2f}" for label, value in found["volume_dice"].items())
            name = "float32, quantisers off" if key == "float" and not is_float else TITLES[key]
            if key == "integer" and kept:
                name = "integer, in part (as shipped)"
            lines.append(f"  {name}: Dice {dice}  ({len(found['slices'])} slices, {found['seconds']:.1f} s)")
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
    return "\n".join(lines)
