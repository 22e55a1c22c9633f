"""A benchmark as a picture: one bar a contender, the fastest engine of each kind told apart by colour."""

from pathlib import Path

from .result import Bench
from .table import heading, ordered

COLOURS = {"ours": "#00796f", "int8": "#7a6a58", "float32": "#b9ab9b"}
WORDS = {"ours": "unetq", "int8": "int8", "float32": "float32"}
LONG = 6.0  # a bar this many times the median of all is cut, so that the others can be told apart


def draw(bench: Bench, paths: list[Path]) -> None:
    """Write the picture to every path, in the format of its suffix."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    entries = ordered(bench)[::-1]
    times = [entry.median for entry in entries]
    limit = LONG * sorted(times)[len(times) // 2]
    shown = [min(value, limit) for value in times]
    with matplotlib.rc_context({"font.size": 9, "svg.hashsalt": "unetq", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7.2, 1.1 + 0.32 * len(entries)), layout="constrained")
        axes = figure.add_subplot()
        axes.barh(range(len(entries)), shown, height=0.68, color=[COLOURS[entry.kind] for entry in entries])
        for place, (entry, value, bar) in enumerate(zip(entries, times, shown, strict=True)):
            cut = " (bar cut)" if value > bar else ""
            star = "" if entry.capped else " *"
            axes.text(bar + 0.008 * max(shown), place, f"{value:.3g} ms{star}{cut}", va="center", fontsize=8)
        axes.set_yticks(range(len(entries)), [entry.label for entry in entries])
        axes.set_xlim(0, 1.16 * max(shown))
        axes.set_xlabel("milliseconds an image (median); * not held to the cap")
        axes.set_title(heading(bench), fontsize=9, loc="left")
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.tick_params(left=False)
        kinds = dict.fromkeys(entry.kind for entry in reversed(entries))
        axes.legend(handles=[Patch(color=COLOURS[k], label=WORDS[k]) for k in kinds], frameon=False, loc="lower right")
        for path in paths:
            figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
