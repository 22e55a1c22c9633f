"""Put the page together: read runs, group, draw, render, write."""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..errors import OutputError
from ..files import write_text
from . import units
from .charts import memory_plots, training_curves
from .overlays import ALPHA, PALETTE, Gallery, slice_views
from .records import csv_text, records
from .runs import Run, load_runs
from .spread import slice_spread
from .table import Group, Row, groups_of

MANY_SLICES = 12  # beyond that the table of slices starts folded


def build(runs: list[Path], out: Path, title: str | None = None) -> Path:
    """Write ``report.html``, ``report.csv`` and ``report.json`` into the folder ``out``.

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
    html = render(loaded, groups, title)
    table = csv_text(flat)
    data = json.dumps({"schema": 1, "title": _title(groups, title), "runs": flat}, indent=2, allow_nan=False) + "\n"
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make the folder {out}: {error.strerror or error}; a report is written into a folder. "
            "Choose another place."
        ) from error
    write_text(out / "report.csv", table)
    write_text(out / "report.json", data)
    write_text(out / "report.html", html)
    return out / "report.html"


def render(runs: list[Run], groups: list[Group], title: str | None = None) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("unetq.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("bytes_text", "count_text", "percent", "points", "ratio", "seconds_text"):
        environment.filters[name] = getattr(units, name)
    environment.filters["css"] = _css_colour
    gallery = Gallery()
    sections = [_run_section(run, groups, gallery) for run in runs]
    plots = [memory_plots(group) for group in groups]
    return environment.get_template("page.html.j2").render(
        title=_title(groups, title),
        groups=groups,
        plots=plots,
        references=[_references(group) for group in groups],
        sizes=_sizes(runs),
        sections=sections,
        gallery=gallery,
        palette=list(zip(PALETTE, ALPHA, strict=True)),
        runs=runs,
        dates=sorted({str(run.facts["finished"])[:10] for run in runs if run.facts.get("finished")}),
        versions=sorted({str(run.facts["unetq"]) for run in runs if run.facts.get("unetq")}),
        notes=_notes(groups),
    )


def _run_section(run: Run, groups: list[Group], gallery: Gallery) -> dict[str, Any]:
    parts = []
    for group in groups:
        for row in group.rows:
            if row.run is run:
                drawn, views = slice_views(row, gallery)
                reference = {score.id: score for score in row.reference.slices} if row.reference else {}
                slices = sorted(row.evaluation.slices, key=lambda score: score.id)
                unquantised = run.metrics.splits[row.split].float if not row.is_float else None
                parts.append(
                    {
                        "row": row,
                        "tag": group.tag,
                        "deviations": {label: _deviations(row, label) for label in group.labels},
                        "drawn": drawn,
                        "views": views,
                        "slices": [(score, reference.get(score.id)) for score in slices],
                        "open": len(slices) <= MANY_SLICES,
                        "unquantised": unquantised,
                    }
                )
    return {
        "run": run,
        "parts": parts,
        "curves": training_curves(run.history, run.metrics.labels),
        "stages": {point.stage for point in run.history},
        "facts": _facts(run),
    }


def _deviations(row: Row, label: str) -> tuple[float | None, float | None, float | None]:
    """Standard deviations over slices: of the run's Dice, of the float reference's, of the change."""
    theirs = slice_spread(row.reference, label) if row.reference else None
    spreads = (row.spread(label), theirs, row.change_spread(label))
    own, reference, change = (spread.deviation if spread else None for spread in spreads)
    return own, reference, change


def _facts(run: Run) -> list[tuple[str, str]]:
    """Versions, seed and the like, in the order a reader looks for them."""
    facts = dict(run.facts)
    seconds = facts.pop("seconds", None)
    if not isinstance(seconds, dict):
        seconds = {}
    shown = [("seed", str(run.metrics.seed))] if run.metrics.seed is not None else []
    facts.pop("seed", None)
    for key, value in facts.items():
        shown.append((key, " ".join(map(str, value)) if isinstance(value, list) else str(value)))
    for stage, value in seconds.items():
        if isinstance(value, int | float):
            shown.append((f"time of the {stage} stage", units.seconds_text(float(value))))
    return shown


def _notes(groups: list[Group]) -> list[str]:
    """Each empty-slice policy in use, once."""
    return list(dict.fromkeys(row.evaluation.empty_policy for group in groups for row in group.rows))


def _references(group: Group) -> str:
    """Which float network each low-bit row is compared with."""
    sources = {row.run.name: row.reference_source for row in group.rows if row.reference_source}
    if len(set(sources.values())) == 1:
        return f"Float reference of each low-bit run: {next(iter(sources.values()))}."
    return f"Float references: {'; '.join(f'{name}: {source}' for name, source in sources.items())}." if sources else ""


def _sizes(runs: list[Run]) -> list[str]:
    """The input sizes that the costs are for, once each: ``1 × 512 × 512``."""
    sizes = [" × ".join(map(str, run.metrics.cost.input_size)) for run in runs if run.metrics.cost.input_size]
    return list(dict.fromkeys(sizes)) or ["an unstated size"]


def _title(groups: list[Group], title: str | None) -> str:
    if title:
        return title
    names = list(dict.fromkeys(group.dataset for group in groups))
    return f"{', '.join(names)}: segmentation in a few bits"


def _css_colour(entry: tuple[tuple[int, int, int], int]) -> str:
    (red, green, blue), alpha = entry
    return f"rgba({red}, {green}, {blue}, {alpha / 255:.2f})"
