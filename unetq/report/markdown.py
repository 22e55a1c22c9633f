"""The report's tables as Markdown, for notes and issues."""

from . import published as paper
from .compressed import Compressed
from .folds import validations
from .left_out import left_out
from .memory import COLUMNS, memory_rows
from .page import below_text, references_text
from .seeds import configurations_of
from .sites import site_tables
from .table import Group, Row
from .units import bytes_text, count_text, milliseconds, percent, points, probability

FOLDS_DIFFER = (
    "Over persons: 95 % bootstrap intervals, several cases of one person counted once, as their mean. Each fold has a "
    "network of its own, trained on other cases: this describes the way of training, not one network, and the "
    "intervals leave out how a network varies with its training. Those of fewer than 10 persons are narrower than they "
    "should be."
)


def markdown(groups: list[Group], title: str) -> str:
    """The whole report, without pictures and plots."""
    parts = [f"# {plain(title)}"]
    found = validations(groups)
    if found:
        parts.append("## Cross-validation")
        head = ["data", "network", "folds", "cases", "class", "Dice", "SD over cases", "Dice over persons"]
        head += ["float", "against float", "that over persons"]
        rows = []
        for item in found:
            start = [f"{item.dataset} · {item.split}", item.name, str(len(item.folds)), str(item.cases)]
            for label, pooled in item.pooled.items():
                dice = [percent(pooled.mean), percent(pooled.deviation), pooled.dice_text, percent(pooled.reference)]
                rows.append([*start, label, *dice, points(pooled.change), pooled.change_text or "–"])
        parts.append(markdown_table(head, rows))
        parts.append(FOLDS_DIFFER)
    for group in groups:
        parts += _group(group)
    runs = {row.run.name: row.run for group in groups for row in group.rows}
    for name, run in runs.items():
        if run.compressed is not None:
            parts += _compressed(name, run.compressed)
    return "\n\n".join(parts) + "\n"


def _group(group: Group) -> list[str]:
    tag = f" ({group.tag})" if group.tag else ""
    parts = [f"## {plain(group.dataset)} · {plain(group.split)}{tag}", f"{group.count_text}."]
    parts += [plain(note) for note in group.notes]
    parts += [group.few_text] if group.few_text else []
    head = ["run", "bits", "arithmetic"]
    for label in group.shown:
        head += [f"Dice {label}", "95 %", "against float", "95 % of that", "p"]
    head += ["weights", "peak activations", "model file", "arena", "process peak", "latency", "bit-ops"]
    parts.append(markdown_table(head, [_row(group, row) for row in group.rows]))
    parts.append(" ".join(text for text in (below_text(group), references_text(group)) if text))
    gathered = [item for item in configurations_of(group) if len(item.rows) > 1]
    if gathered:
        rows = []
        for item in gathered:
            for label in group.shown:
                dice, lost = item.dice(label), item.change(label)
                rows.append(
                    [
                        item.name, ", ".join(map(str, item.seeds)), label,
                        f"{percent(dice.mean)} ({percent(dice.low)}–{percent(dice.high)})" if dice else "–",
                        f"{points(lost.mean)} ({points(lost.low)} to {points(lost.high)})" if lost else "–",
                    ]
                )  # fmt: skip
        parts += ["### Over seeds", markdown_table(["network", "seeds", "class", "Dice", "against float"], rows)]
    beside = paper.published(group)
    if beside:
        rows = [[f"paper ({paper.SOURCE})", paper.NAMES[beside.dataset], points(beside.points / 100)]]
        rows += [[name, label, points(value)] for name, changes in beside.rows for label, value in changes]
        parts += ["### Beside the paper, W4A6", markdown_table(["who", "class", "points against float"], rows)]
        parts.append(f"{paper.DIFFERS} {paper.OWN_WAYS[beside.dataset]}")
    for table in site_tables(group):
        sites = [f"{site} ({count})" for site, count in table.sites]
        rows = [[name, *(percent(value) for value in values)] for name, values in table.rows]
        parts += [f"### Sites: Dice of {plain(table.label)}", markdown_table(["run", *sites], rows)]
    memory = memory_rows(group)
    if memory:
        rows = [
            [row.name, *map(bytes_text, row.values), milliseconds(row.latency.seconds if row.latency else None)]
            for row in memory
        ]
        parts += [
            "### Memory and speed",
            markdown_table(["network", *(title for _, title, _ in COLUMNS), "latency"], rows),
        ]
    skipped = left_out([row.run for row in group.rows], group.split)
    if skipped:
        told = [f"{item.case} ({', '.join(item.splits)}): {item.reason}" for item in skipped]
        parts += ["### Left out", "\n".join(f"- {plain(text)}" for text in told)]
    return parts


def _compressed(name: str, found: Compressed) -> list[str]:
    head = ["bits", "file", "memory", "latency", "Dice before", "after", "steps", "budget"]
    rows = []
    for point in found.points:
        takes, kept = point.takes, "inside" if point.inside else "missed"
        rows.append(
            [
                f"{point.bits.short}{' (chosen)' if point.is_chosen else ''}", bytes_text(takes.size),
                bytes_text(takes.memory), milliseconds(takes.latency), percent(point.before), percent(point.after),
                str(point.steps or "–"), kept,
            ]
        )  # fmt: skip
    widths = {"weights": found.chosen.bits.weight, "activations": found.chosen.bits.tensor}
    told = [f"{kind} " + ", ".join(f"{key} {bits}" for key, bits in each.items()) for kind, each in widths.items()]
    return [
        f"## Bits under a budget: {plain(name)}",
        f"Budget: {plain('; '.join(found.limits))}. Float: Dice {percent(found.float_.mean_dice)}.",
        markdown_table(head, rows),
        "Chosen: " + plain("; ".join(told)) + ".",
    ]


def _row(group: Group, row: Row) -> list[str]:
    cost = row.run.metrics.cost
    cells = [row.run.name, row.run.metrics.bits.short, row.evaluation.arithmetic]
    for label in group.shown:
        interval, paired = row.interval(label), row.paired(label)
        known = interval is not None and interval.low is not None
        cells += [
            percent(row.dice(label)),
            f"{percent(interval.low)}–{percent(interval.high)}" if interval is not None and known else "–",
            points(row.change(label)),
            f"{points(paired.low)} to {points(paired.high)}" if paired is not None and paired.low is not None else "–",
            probability(paired.p if paired else None).removeprefix("p ").removeprefix("= ") or "–",
        ]
    sizes = (cost.weight_bytes, cost.peak_activation_bytes, cost.model_file_bytes, cost.arena_bytes)
    return [
        *cells,
        *map(bytes_text, (*sizes, cost.process_peak_bytes)),
        milliseconds(row.latency),
        count_text(cost.bit_operations),
    ]


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(plain(cell) for cell in line) + " |" for line in lines)


def plain(text: str) -> str:
    """One line that Markdown takes as it stands: no markup, no cell or line end."""
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
