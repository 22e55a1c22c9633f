"""The study for notes: the findings and all figures as Markdown, without the plots."""

from collections.abc import Sequence

from ...report.markdown import markdown_table, plain
from ...report.places import shown_command
from ...report.units import probability
from .claims import Claim
from .record import TITLES, Study
from .table import tables_of
from .words import conclusion, facts, heading

PARTS = ("gap", "sharpness", "twins", "robustness", "bound")


def markdown(study: Study, claims: Sequence[Claim]) -> str:
    """The whole text."""
    parts = [f"# {plain(heading(study))}", f"`{shown_command(study.record.command)}` · unetq {study.record.unetq}"]
    parts += [
        "## What the data support, and what they contradict",
        *(plain(line) for line in conclusion(study, claims)),
    ]
    for claim in claims:
        parts.append(f"### {plain(claim.sentence)}")
        parts.append(plain(f"{claim.source}. {claim.rule}"))
        if not claim.findings:
            parts.append("Not tested: the study lacks the figures.")
            continue
        rows = [
            [
                finding.who, finding.what, finding.estimate, probability(finding.p) or "–", str(finding.seeds),
                finding.verdict + (", stands" if finding.stands else ""),
                "; ".join(f"{name}: {text}" for name, text in finding.parts) or "–",
            ]
            for finding in claim.findings
        ]  # fmt: skip
        parts.append(markdown_table(["networks", "statistic", "mean (95 %)", "p", "seeds", "verdict", "each"], rows))
    words = [f"- {plain(line)}" for part in PARTS for line in facts(study, part)]
    parts += ["## Beside the figures", "\n".join(words)] if words else []
    parts += ["## All figures", "Mean and Student's 95 % interval over seeds."]
    for table in tables_of(study):
        parts.append(f"### {TITLES[table.arm].capitalize()}")
        parts.append(markdown_table(["figure", *table.heads], [[title, *cells] for title, cells in table.rows]))
    return "\n\n".join(parts) + "\n"
