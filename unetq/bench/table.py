"""A benchmark as a table: Markdown for files, the same columns as text for a terminal."""

from collections.abc import Sequence

from .result import ABSENT, FAILED, MEASURED, Bench, Entry

TITLES = ("", "ms", "spread", "GMAC/s", "ours / it", "peak MB", "with loading", "agrees")
RIGHT = (1, 2, 3, 4, 5, 6, 7)
MEGABYTE = 1e6


def _digits(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _spread(entry: Entry) -> str:
    """Quartiles of the rounds."""
    ordered = sorted(entry.ms)
    low, high = ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]
    return f"{_digits(low)}–{_digits(high)}"


def _agreement(entry: Entry) -> str:
    if entry.facts.get("exact") is True:
        return "exact"
    return "" if entry.correlation is None else f"{entry.correlation:.4f}"


def ordered(bench: Bench) -> list[Entry]:
    """Those with times: ours as given, then int8 and float32, each the fastest first."""
    peers = [sorted(bench.measured(kind), key=lambda entry: entry.median) for kind in ("int8", "float32")]
    return bench.measured("ours") + [entry for group in peers for entry in group]


def rows(bench: Bench) -> list[tuple[str, ...]]:
    """One row a measured contender; a star where it was not held to the cap."""
    ours = next(iter(bench.measured("ours")), None)
    found: list[tuple[str, ...]] = []
    for entry in ordered(bench):
        times = "" if ours is None or entry is ours else f"{entry.median / ours.median:.2f}x"
        found.append(
            (
                entry.label + ("" if entry.capped else " *"),
                _digits(entry.median),
                _spread(entry),
                _digits(bench.speed(entry)),
                times,
                f"{entry.peak_bytes / MEGABYTE:.0f}",
                f"{entry.peak_life_bytes / MEGABYTE:.0f}",
                _agreement(entry),
            )
        )
    return found


def ratio_lines(bench: Bench) -> list[str]:
    """One sentence for each of ours: against the best int8 and the best float32 peer within the cap."""
    lines = []
    for entry in bench.measured("ours"):
        parts = [
            f"{bench.ratio(entry, kind):.2f}x the best {kind} peer ({peer.label})"
            for kind in ("int8", "float32")
            if (peer := bench.best(kind)) is not None
        ]
        if parts:
            lines.append(f"{entry.label}: {', '.join(parts)}.")
    return lines


def notes(bench: Bench) -> list[str]:
    """Who was left out and why, whom the cap does not reach, what each was set to."""
    lines = []
    loose = [entry for entry in bench.measured() if not entry.capped]
    if loose:
        names = ", ".join(entry.label for entry in loose)
        lines.append(f"\\* not held to {bench.cap_words} ({loose[0].cap_note}), so no ratio is drawn from it: {names}.")
    for entry in bench.entries:
        if entry.status == ABSENT:
            lines.append(f"{entry.label}: absent, {entry.reason}; `{entry.install}`.")
        elif entry.status == FAILED:
            lines.append(f"{entry.label}: failed: {entry.reason}.")
    return lines


def heading(bench: Bench) -> str:
    """Network, size, cap, threads."""
    size = "×".join(map(str, bench.size))
    threads = f"{bench.threads} thread{'s' if bench.threads > 1 else ''}"
    return f"{bench.description}, {size}, {bench.macs / 1e9:.2f} GMAC; {bench.cap_words}; {threads}"


def explanation(bench: Bench) -> str:
    """What the columns are."""
    return (
        f"Medians of {bench.rounds} interleaved rounds, one process each, on {bench.processor}; the spread is the "
        "middle half. Peak MB: resident at most while running, interpreter included. Agrees: exact where the kernels "
        "give the scalar ones' bits, else correlation with the float network's logits."
    )


def markdown_table(body: Sequence[Sequence[str]]) -> list[str]:
    """``rows`` under their titles, as lines of Markdown."""
    head = "| " + " | ".join(TITLES) + " |"
    rule = "|" + "|".join("---:" if i in RIGHT else "---" for i in range(len(TITLES))) + "|"
    return [head, rule, *("| " + " | ".join(row) + " |" for row in body)]


def markdown(bench: Bench) -> str:
    """``table.md``."""
    parts = [f"### {heading(bench)}", "", *markdown_table(rows(bench)), ""]
    parts += [f"- {line}" for line in ratio_lines(bench) + notes(bench)]
    parts += ["", explanation(bench), "", f"`{bench.command}`, unetq {bench.unetq}, {bench.started}", ""]
    return "\n".join(parts)


def settings(bench: Bench) -> str:
    """Version and configuration of everybody, as a Markdown list."""
    return "\n".join(f"- {e.label} {e.version}: {e.settings}." for e in bench.entries if e.status == MEASURED)


def text(bench: Bench) -> str:
    """For a terminal."""
    table = [TITLES, *rows(bench)]
    widths = [max(len(row[i]) for row in table) for i in range(len(TITLES))]
    lines = [
        "  ".join(
            cell.rjust(width) if i in RIGHT else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([heading(bench), "", *lines, "", *ratio_lines(bench), *notes(bench)]).replace("\\*", "*")
