"""The study's files: read ``study.json``, draw, judge, write ``study.html`` and ``study.md`` beside it."""

from dataclasses import dataclass
from pathlib import Path

import yaml
from markupsafe import Markup

from ...files import write_text
from ...report import shell
from ...report.places import shown_command, shown_config
from ...report.units import probability
from . import figures
from .charts import by_bits, legend
from .claims import Claim, claims_of
from .figures import Figure
from .markdown import markdown
from .record import TITLES, Study, read_study
from .scatter import scatter
from .table import glance, tables_of
from .words import conclusion, facts, heading, verdict_text


@dataclass(frozen=True)
class Plots:
    """One part of the page: a heading, what is drawn, and the drawings."""

    key: str
    title: str
    words: tuple[str, ...]
    charts: tuple[Markup, ...]


def write_page(folder: Path) -> Path:
    """Write ``study.html`` and ``study.md`` into a study's folder, each whole or not at all, from its ``study.json``.

    Returns:
        The path of ``study.html``, one file that needs no network.

    Raises:
        CheckpointError: ``study.json`` is missing, damaged or of another schema.
        OutputError: the folder cannot be written.
    """
    study = read_study(Path(folder))
    claims = claims_of(study)
    page, text = render(study, claims), markdown(study, claims)
    write_text(Path(folder) / "study.md", text)
    write_text(Path(folder) / "study.html", page)
    return Path(folder) / "study.html"


def render(study: Study, claims: tuple[Claim, ...]) -> str:
    """The page as text."""
    templates = shell.environment("unetq.study.page")
    templates.filters |= {"probability": probability, "verdict_text": verdict_text, "two_lines": _two_lines}
    return templates.get_template("study.html.j2").render(
        title=heading(study),
        study=study,
        claims=claims,
        conclusion=conclusion(study, claims),
        parts=[part for part in _parts(study) if part.charts],
        legend=legend(study),
        titles=TITLES,
        tables=tables_of(study),
        glance=glance(study, claims),
        command=shown_command(study.record.command),
        config=shown_config(yaml.safe_dump(study.record.config, sort_keys=False)),
        settings=shown_config(yaml.safe_dump(study.record.settings, sort_keys=False)),
        **shell.script(),
    )


def _parts(study: Study) -> list[Plots]:
    """The plots in the order of the claims; ``words`` are computed of the same figures."""
    return [
        _by_bits(study, "gap", "Loss, Dice and the gap", figures.LOSS_GAP, figures.DICE_GAP, figures.LOSS,
                 figures.DICE, figures.LOSS_TRAIN, figures.DICE_TRAIN),
        _by_bits(study, "sharpness", "Sharpness", *figures.SHARPNESS),
        _twins(study),
        _by_bits(study, "robustness", "Robustness", figures.DROP, figures.DISTORTED,
                 *map(figures.drop_of, study.distortions)),
        _bound(study),
    ]  # fmt: skip


def _by_bits(study: Study, key: str, title: str, *drawn: Figure) -> Plots:
    charts = (by_bits(study, figure) for figure in drawn)
    return Plots(key, title, facts(study, key), tuple(chart for chart in charts if chart is not None))


def _twins(study: Study) -> Plots:
    words, charts = list(facts(study, "twins")), []
    for x, y in (
        (figures.UNIFORM, figures.ROUNDING),
        (figures.PREDICTED, figures.UNIFORM),
        (figures.PREDICTED, figures.ROUNDING),
    ):
        found = scatter(study, x, y, logarithmic=(True, True), same=True, within=2.0)
        if found is not None:
            charts.append(found[0])
            if found[1]:
                words.append(f"{y.title} against {x.title}: {found[1]} networks with no rise are not in the plot.")
    for figure in (figures.CLIPPING, figures.ROUNDING, figures.UNIFORM, figures.PREDICTED, figures.OFF_NOISE):
        charts += [chart] if (chart := by_bits(study, figure)) is not None else []
    return Plots("twins", "Rounding and noise", tuple(words), tuple(charts))


def _bound(study: Study) -> Plots:
    charts = []
    for x, y, logarithmic in (
        (figures.LOSS, figures.BOUND, (False, True)),
        (figures.BOUND, figures.LOSS_GAP, (True, False)),
    ):
        found = scatter(study, x, y, logarithmic=logarithmic)
        if found is not None and not found[1]:
            charts.append(found[0])
    return Plots("bound", "The bound", facts(study, "bound"), tuple(charts))


def _two_lines(text: str) -> Markup:
    """``0.31 (0.28 to 0.34)`` with the interval below."""
    value, bracket, interval = text.partition(" (")
    below = Markup('<span class="under">{}</span>').format(interval.removesuffix(")")) if bracket else Markup("")
    return Markup("{}{}").format(value, below)
