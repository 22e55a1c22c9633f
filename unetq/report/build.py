"""The report's files: read runs, write the page and the same figures for notes and for programs."""

import json
from pathlib import Path

from ..errors import OutputError
from ..files import write_text
from .markdown import markdown
from .page import render, title_of
from .records import case_records, configuration_records, csv_text, records
from .runs import load_runs
from .table import groups_of


def build(runs: list[Path], out: Path, title: str | None = None) -> Path:
    """Write ``report.html``, ``report.md``, ``report.csv``, ``cases.csv`` and ``report.json`` into the folder ``out``.

    Args:
        runs: run folders, as ``unetq train`` and ``unetq evaluate`` leave them; their order is kept.
        out: made where missing; each file is replaced whole.
        title: heading of the page; the data sets' names by default.

    Returns:
        The path of ``report.html``, one file that needs no network.

    Raises:
        CheckpointError: a run folder that is missing, damaged or of another schema, named.
        OutputError: ``out`` cannot be made or written.
    """
    loaded = load_runs([Path(run) for run in runs])
    groups = groups_of(loaded)
    flat = records(groups)
    heading = title_of(groups, title)
    data = {"schema": 1, "title": heading, "runs": flat, "configurations": configuration_records(groups)}
    written = {
        "report.csv": csv_text(flat),
        "cases.csv": csv_text(case_records(groups)),
        "report.json": json.dumps(data, indent=2, allow_nan=False) + "\n",
        "report.md": markdown(groups, heading),
        "report.html": render(loaded, groups, title),
    }
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make the folder {out}: {error.strerror or error}; a report is written into a folder. "
            "Choose another place."
        ) from error
    for name, text in written.items():
        write_text(out / name, text)
    return out / "report.html"
