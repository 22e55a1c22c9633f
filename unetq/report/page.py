"""Put the page together: group, draw, render."""

import json
from typing import Any

from markupsafe import Markup

from . import published, shell, units
from .anonymous import without_names
from .casetable import case_table
from .charts import training_curves
from .folds import validations
from .frontier import frontier_plot
from .left_out import left_out
from .memory import COLUMNS, memory_rows
from .overlays import shown_cases
from .pareto import pareto_plots
from .pictures import ALPHA, PALETTE, Gallery
from .places import shown_command, shown_config, shown_text
from .runs import Run
from .seeds import configurations_of
from .sites import site_tables
from .table import Group
from .viewer import Viewer, viewers

MANY_UNITS = 12  # beyond that the table of cases starts folded
MANY_RUNS = 4  # beyond that pictures and curves start folded
FILTERS = (
    "bytes_text", "count_text", "percent", "points", "ratio", "seconds_text", "milliseconds", "probability", "share",
    "number",
)  # fmt: skip


def render(runs: list[Run], groups: list[Group], title: str | None = None) -> str:
    """The page as text."""
    templates = shell.environment()
    for name in FILTERS:
        templates.filters[name] = getattr(units, name)
    templates.filters["css"] = _css_colour
    templates.filters["json_block"] = _json_block
    gallery = Gallery()
    gallery.viewers = max(1, sum(len(shown_cases(row)) for group in groups for row in group.rows))
    found: dict[tuple[str, int], list[Viewer]] = {}
    for index, group in enumerate(groups):
        for row, views in zip(group.rows, viewers(list(group.rows), gallery), strict=True):
            found[row.run.name, index] = views
    return templates.get_template("page.html.j2").render(
        title=title_of(groups, title),
        **shell.script(),
        groups=[_group_part(group) for group in groups],
        validations=validations(groups),
        memory_columns=COLUMNS,
        paper_source=published.SOURCE,
        paper_names=published.NAMES,
        paper_differs=published.DIFFERS,
        paper_ways=published.OWN_WAYS,
        sizes=_sizes(runs),
        sections=[_run_section(run, groups, found, len(runs)) for run in runs],
        gallery=gallery,
        palette=list(zip(PALETTE, ALPHA, strict=True)),
        runs=runs,
        dates=sorted({str(run.facts["finished"])[:10] for run in runs if run.facts.get("finished")}),
        versions=sorted({str(run.facts["unetq"]) for run in runs if run.facts.get("unetq")}),
        notes=_notes(groups),
        bootstraps=_bootstraps(groups),
    )


def _group_part(group: Group) -> dict[str, Any]:
    gathered = [item for item in configurations_of(group) if len(item.rows) > 1]
    skipped = left_out([row.run for row in group.rows], group.split)
    return {
        "group": group,
        "count": group.count_text,
        "few": group.few_text,
        "gathered": gathered,
        "below": below_text(group),
        "references": references_text(group),
        "published": published.published(group),
        "sites": site_tables(group),
        "plots": pareto_plots(group),
        "memory": memory_rows(group),
        "sizes": " or ".join(_sizes([row.run for row in group.rows])),
        "skipped": skipped,
        "skipped_cases": len({item.case for item in skipped}),
    }


def _run_section(
    run: Run, groups: list[Group], found: dict[tuple[str, int], list[Viewer]], count: int
) -> dict[str, Any]:
    parts = []
    for index, group in enumerate(groups):
        for row in group.rows:
            if row.run is run:
                table = case_table(row, group.shown)
                parts.append(
                    {
                        "row": row,
                        "tag": group.tag,
                        "viewers": found[run.name, index],
                        "table": table,
                        "open": len(table.rows) <= MANY_UNITS and count <= MANY_RUNS,
                        "unquantised": run.metrics.splits[row.split].float if not row.is_float else None,
                    }
                )
    return {
        "run": run,
        "parts": parts,
        "open": count <= MANY_RUNS,
        "frontier": None if run.compressed is None else frontier_plot(run.compressed),
        "curves": training_curves(run.history, run.metrics.labels),
        "stages": {point.stage for point in run.history},
        "facts": _facts(run),
        "config": shown_config(run.config if run.names is None else without_names(run.config)),
    }


def _facts(run: Run) -> list[tuple[str, str]]:
    """Versions, seed and the like, in the order a reader looks for them."""
    facts = dict(run.facts)
    seconds = facts.pop("seconds", None)
    if not isinstance(seconds, dict):
        seconds = {}
    shown = [("seed", str(run.metrics.seed))] if run.metrics.seed is not None else []
    command = facts.pop("command", None)
    for key, value in facts.items():
        if key not in ("seed", "skipped"):  # the latter stand under "Left out"
            shown.append((key, shown_text(" ".join(map(str, value)) if isinstance(value, list) else str(value))))
    if command:
        shown.append(("command", shown_command(command)))
    for stage, value in seconds.items():
        if isinstance(value, int | float):
            shown.append((f"time of the {stage} stage", units.seconds_text(float(value))))
    return shown


def below_text(group: Group) -> str:
    """What stands below a Dice of this group's table, in words."""
    rows = group.rows
    if not any(row.change(label) is not None for row in rows for label in group.shown):
        return "Below a Dice: its 95 % interval, or the lowest and highest slice."
    paired = [row.paired(label) for row in rows for label in group.shown]
    if any(item is not None and item.low is not None for item in paired):
        return (
            "Below a Dice: its 95 % interval, and points against float with the interval of that change and a paired "
            "test's p-value. A change is coloured only where its interval excludes 0 and p < 0.05; what another "
            "training seed would change is not in it."
        )
    return (
        "Below a Dice: the lowest and highest slice, and points against float with the standard deviation (SD) of that "
        "change over the slices. A change is coloured only where it exceeds its SD; what another training seed would "
        "change is not in it."
    )


def references_text(group: Group) -> str:
    """Which float network each low-bit row is compared with."""
    sources = {row.run.name: row.reference_source for row in group.rows if row.reference_source}
    if len(set(sources.values())) == 1:
        return f"Float reference of each low-bit run: {next(iter(sources.values()))}."
    return f"Float references: {'; '.join(f'{name}: {source}' for name, source in sources.items())}." if sources else ""


def _notes(groups: list[Group]) -> list[str]:
    """Each empty-slice policy in use, once."""
    return list(dict.fromkeys(row.evaluation.empty_policy for group in groups for row in group.rows))


def _bootstraps(groups: list[Group]) -> list[str]:
    """How the intervals were drawn, each way once."""
    lines = []
    for evaluation in dict.fromkeys(id(row.evaluation) for group in groups for row in group.rows):
        row = next(row for group in groups for row in group.rows if id(row.evaluation) == evaluation)
        values = row.evaluation.bootstrap
        if values:
            lines.append(
                "; ".join(f"{key} {values[key]}" for key in ("method", "samples", "seed") if key in values) + "."
            )
    return list(dict.fromkeys(lines))


def _sizes(runs: list[Run]) -> list[str]:
    """The input sizes that the costs are for, once each: ``1 × 512 × 512``."""
    sizes = [" × ".join(map(str, run.metrics.cost.input_size)) for run in runs if run.metrics.cost.input_size]
    return list(dict.fromkeys(sizes)) or ["an unstated size"]


def title_of(groups: list[Group], title: str | None) -> str:
    """The heading: as asked for, else the data sets' names."""
    if title:
        return title
    names = list(dict.fromkeys(group.dataset for group in groups))
    return f"{', '.join(names)}: segmentation in a few bits"


def _css_colour(entry: tuple[tuple[int, int, int], int]) -> str:
    (red, green, blue), alpha = entry
    return f"rgba({red}, {green}, {blue}, {alpha / 255:.2f})"


def _json_block(text: str) -> Markup:
    """JSON that may stand in a script element: no character that could end it."""
    json.loads(text)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
