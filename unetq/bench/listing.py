"""``unetq bench --list``: the instruction sets that are there, and what each layer of a model uses and why."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..runtime import Runtime, available_isas
from . import caps
from .contenders import PEERS

COLUMNS = ("name", "kind", "scheme", "kernel", "reason")


def listing(model: Path | None = None) -> dict[str, Any]:
    """Plain JSON values.

    Raises:
        DeviceError: no library. ModelFileError: ``model`` is missing or damaged.
    """
    flags = caps.processor_flags()
    found: dict[str, Any] = {
        "processor": caps.processor_name(),
        "isas": list(available_isas()),
        "caps": [name for name, cap in caps.CAPS.items() if all(flag in flags for flag in cap.flags)],
        "peers": [{"name": p.name, "absent": p.absent(), "install": p.install} for p in PEERS],
    }
    if model is not None:
        with Runtime(model) as runtime:
            found |= {
                "model": str(model),
                "isa": runtime.isa,
                "layers": [asdict(operation) for operation in runtime.operations()],
            }
    return found


def _columns(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def describe(found: dict[str, Any]) -> str:
    """For a terminal."""
    lines = [
        f"processor: {found['processor']}",
        f"instruction sets (UNETQ_ISA): {', '.join(found['isas'])}; without it the last is used",
        f"caps: {', '.join(found['caps'])}",
        "",
    ]
    lines += _columns(
        [(p["name"], p["absent"] or "installed", p["install"] if p["absent"] else "") for p in found["peers"]]
    )
    if "model" in found:
        lines += ["", f"{found['model']} with kernels {found['isa']}:"]
        lines += _columns([COLUMNS, *([layer[key] for key in COLUMNS] for layer in found["layers"])])
    return "\n".join(lines)
