"""The report's files: read runs, write the page and the same figures for notes and for programs."""

import json
from pathlib import Path

from ..errors import OutputError
from ..files import write_text
from .anonymous import anonymous as without_names
from .markdown import markdown
from .page import render, title_of
from .records import case_records, configuration_records, csv_text, fold_records, records
from .runs import load_runs
from .table import groups_of

OF_A_RUN = ("config.yaml", "run.json", "history.jsonl", "metrics.json", "float", "quant")


def build(runs: list[Path], out: Path, title: str | None = None, *, anonymous: bool = False) -> Path:
    """Write ``report.html``, ``report.md``, ``report.csv``, ``cases.csv`` and ``report.json`` into the folder ``out``.

    Args:
        runs: run folders, as ``unetq train`` and ``unetq evaluate`` leave them; their order is kept.
        out: made where missing; each file is replaced whole.
        title: heading of the page; the data sets' names by default.
        anonymous: numbers for cases, volumes and subjects, see ``unetq.report.anonymous``.

    Returns:
        The path of ``report.html``, one file that needs no network.

    Raises:
        CheckpointError: a run folder that is missing, damaged or of another schema, named.
        OutputError: ``out`` is a run folder, or cannot be made or written.
    """
    out = Path(out)
    found = next((name for name in OF_A_RUN if (out / name).exists()), None)
    if found is not None:
        raise OutputError(
            f"{out} holds {found}, as run folders do; a report is written beside runs, not into one. "
            "Choose another folder, such as report/."
        )
    loaded = load_runs([Path(run) for run in runs])
    if anonymous:
        loaded = without_names(loaded)
    groups = groups_of(loaded)
    flat = records(groups)
    heading = title_of(groups, title)
    data = {
        "schema": 1,
        "title": heading,
        "runs": flat,
        "configurations": configuration_records(groups),
        "cross_validations": fold_records(groups),
    }
    written = {
        "report.csv": csv_text(flat),
        "cases.csv": csv_text(case_records(groups)),
        "report.json": json.dumps(data, indent=2, allow_nan=False) + "\n",
        "report.md": markdown(groups, heading),
        "report.html": render(loaded, groups, title),
    }
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
