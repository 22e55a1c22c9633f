"""``history.jsonl`` and TensorBoard: the same numbers, for programs and for people."""

import json
from pathlib import Path
from typing import Any

from . import files
from .errors import OutputError


class History:
    """Appends lines; a resumed stage first cuts what was written after its checkpoint.

    ``offset`` maps a stage to its first step on TensorBoard's one time line.
    """

    def __init__(self, run: Path, offset: dict[str, int]) -> None:
        self.path = run / "history.jsonl"
        self._board_folder = run / "tensorboard"
        self._offset = offset
        self._board: Any = None

    def cut(self, stage: str, step: int) -> None:
        """Drop the lines of ``stage`` after ``step``, and lines that are no records, such as half of one."""
        kept: list[str] = []
        if self.path.is_file():
            for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                if not isinstance(record, dict) or not isinstance(record.get("step"), int):
                    continue
                if record.get("stage") != stage or record["step"] <= step:
                    kept.append(line)
            files.write_text(self.path, "".join(f"{line}\n" for line in kept))
        self.close()
        # Imported here: TensorBoard takes a second to load, and evaluation does not need it.
        from torch.utils.tensorboard import SummaryWriter

        first_stale = self._offset[stage] + step + 1
        self._board = SummaryWriter(str(self._board_folder), purge_step=first_stale if kept else None)

    def add(
        self, stage: str, step: int, loss: float | None, lr: float, seconds: float, dice: dict[str, float] | None
    ) -> None:
        """One line; ``dice`` where the step was validated."""
        record: dict[str, Any] = {"stage": stage, "step": step, "loss": loss, "lr": lr, "seconds": round(seconds, 3)}
        if dice is not None:
            record["dice"] = dice
        try:
            with open(self.path, "a", encoding="utf-8") as handle:
                handle.write(json.dumps(record, allow_nan=False) + "\n")
        except OSError as error:
            raise OutputError(
                f"cannot append to {self.path}: {error.strerror or error}; free some space, then --resume."
            ) from error
        if self._board is not None:
            at = self._offset[stage] + step
            if loss is not None:
                self._board.add_scalar(f"{stage}/loss", loss, at)
            self._board.add_scalar(f"{stage}/lr", lr, at)
            for label, value in (dice or {}).items():
                self._board.add_scalar(f"{stage}/dice_{label}", value, at)

    def close(self) -> None:
        """Flush TensorBoard's file."""
        if self._board is not None:
            self._board.close()
            self._board = None
