"""``compress.json`` for people."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def describe(out: Path, record: Mapping[str, Any]) -> str:
    """A record in a few lines for people: what came out, and the sizes that were tried."""
    chosen, in_float = record["chosen"], record["float"]
    weights, tensors = (sorted(chosen["bits"][kind].values()) for kind in ("weight", "tensor"))
    taken = chosen["measured"]
    lines = [
        f"{out}: {int(taken['size'])} bytes, {int(taken['memory'])} bytes of memory, weights of {weights[0]} to "
        f"{weights[-1]} bits, activations of {tensors[0]} to {tensors[-1]}",
        f"  Dice {chosen['mean_dice']:.4f}, float {in_float['mean_dice']:.4f} (validation), {record['seconds']:.0f} s",
    ]
    if chosen["fine_tuned_steps"]:
        lines.append(f"  fine-tuned for {chosen['fine_tuned_steps']} steps; before that:")
    for point in sorted(record["tried"], key=lambda item: float(item["size"])):
        mark = "" if point["kept"] else ", too low"
        lines.append(f"  {int(point['size']):>10} bytes  Dice {point['mean_dice']:.4f}{mark}")
    return "\n".join(lines)
