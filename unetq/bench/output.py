"""A benchmark's folder: ``bench.json``, ``table.md``, ``plot.png``, ``plot.svg``; whole or not at all."""

from pathlib import Path

from ..files import atomic_folder
from .plot import draw
from .result import Bench, to_json
from .table import markdown


def write(bench: Bench, folder: Path) -> None:
    """Write the folder, which is new or empty.

    Raises:
        OutputError: it is not, or it cannot be written; nothing is left then.
    """
    with atomic_folder(folder) as made:
        (made / "bench.json").write_text(to_json(bench), encoding="utf-8")
        (made / "table.md").write_text(markdown(bench), encoding="utf-8")
        draw(bench, [made / "plot.png", made / "plot.svg"])
