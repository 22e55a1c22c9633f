"""What was measured so far, kept beside the output so that an interrupted compression goes on where it was."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import files
from ..errors import OutputError

SCHEMA = 1
NAME = "measured.json"
KINDS = ("sensitivity", "hessian", "scores", "plans", "divergences", "tuned", "times")


@dataclass
class Measurements:
    """JSON values by kind; ``identity`` is all that they depend on, and others are not taken up.

    Attributes:
        sensitivity: by ``name_of`` a variable and a width. hessian: traces by layer.
        scores, divergences: of whole allocations, on the validation split and on the crops. plans: bytes of memory.
        tuned: what fine-tuned allocations reach and take. times: seconds of layers by pair of widths.
    """

    path: Path
    identity: dict[str, Any]
    sensitivity: dict[str, dict[str, float]] = field(default_factory=dict)
    hessian: dict[str, float] = field(default_factory=dict)
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    plans: dict[str, int] = field(default_factory=dict)
    divergences: dict[str, dict[str, float]] = field(default_factory=dict)
    tuned: dict[str, dict[str, Any]] = field(default_factory=dict)
    times: dict[str, dict[str, float]] = field(default_factory=dict)

    def save(self) -> None:
        """Write all, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        values = {"schema": SCHEMA, "identity": self.identity, **{kind: getattr(self, kind) for kind in KINDS}}
        files.write_json(self.path, values)


def open_measurements(folder: Path, identity: dict[str, Any]) -> tuple[Measurements, bool]:
    """Those of ``folder`` where they are of the same ``identity``, else new ones; and whether any were found.

    Raises:
        OutputError: the folder cannot be made, or holds other things than measurements: it is removed in the end.
    """
    other = next((entry.name for entry in sorted(folder.glob("[!.]*"))), None)
    if other is not None and not (folder / NAME).is_file():
        raise OutputError(
            f"{folder} holds {other} and no {NAME}: measurements have that folder to themselves, and it is removed in "
            "the end. Move it, or choose another -o."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot create {folder}: {error.strerror or error}. Choose another -o.") from None
    path = folder / NAME
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    fresh = Measurements(path, plain)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["schema"] != SCHEMA or values["identity"] != plain:
            return fresh, False
        kept = Measurements(path, plain, **{kind: values.get(kind, {}) for kind in KINDS})
    except (OSError, ValueError, KeyError, TypeError):
        return fresh, False  # none yet, or what was left is not whole: it is measured again
    return kept, bool(kept.sensitivity)
