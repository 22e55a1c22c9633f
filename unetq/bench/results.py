"""``python -m unetq.bench.results FOLDER -o RESULTS.md``: one page from the files that the benchmarks wrote."""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError, UnetqError
from ..files import write_text
from .counted import Count, read_counts
from .cycles import a53, a72, mix_of
from .result import Bench, read
from .table import explanation, heading, markdown_table, notes, ratio_lines, rows, settings

CAP_ORDER = ("none", "avx512vnni", "avxvnni", "avx2")
TOP = 12
COUNT_FILES = ("arm.json", "arm-onnxruntime.json")


def load(folder: Path) -> tuple[list[Bench], list[Count]]:
    """Every ``*/bench.json`` and the counts in ``folder``.

    Raises:
        DataError: nothing is there, or a file cannot be read.
    """
    benches = [read(path) for path in sorted(folder.glob("*/bench.json"))]
    counts = [count for name in COUNT_FILES if (folder / name).exists() for count in read_counts(folder / name)]
    if not benches and not counts:
        raise DataError(f"{folder} holds no results; make some with `make bench` and `make bench-arm`.")
    benches.sort(key=lambda bench: (bench.network != "s", bench.network, CAP_ORDER.index(bench.cap)))
    return benches, counts


def page(benches: Sequence[Bench], counts: Sequence[Count]) -> str:
    """The whole page."""
    parts = [
        "# Measured and counted",
        "",
        "Made by `make bench-results` from the files in `results/`; nothing here is written by hand. `make bench` "
        "measures again on the machine at hand, `make bench-arm` counts again.",
        "",
    ]
    if benches:
        parts += _measured(benches)
    if counts:
        parts += _counted(counts)
    return "\n".join(parts).rstrip() + "\n"


# -- x86: measured ---------------------------------------------------------------------------------


def _measured(benches: Sequence[Bench]) -> list[str]:
    first = benches[0]
    parts = [
        "## Against other engines, measured",
        "",
        f"{first.processor}, {first.cores} cores ({', '.join(first.flags)}); {first.system}. {explanation(first)} "
        "The two last columns here are how many times faster ours is than the fastest peer that was held to the cap.",
        "",
        *_summary(benches),
        "",
    ]
    for bench in benches:
        parts += [f"### {heading(bench)}", "", *markdown_table(rows(bench)), ""]
        parts += [f"- {line}" for line in ratio_lines(bench) + notes(bench)]
        parts += ["", f"`{bench.command}` (unetq {bench.unetq}, {bench.started})", ""]
    whole = max(benches, key=lambda bench: len(bench.measured()))
    return [*parts, "### Versions and settings", "", settings(whole), ""]


def _summary(benches: Sequence[Bench]) -> list[str]:
    lines = ["| network | cap | ours | ms | best int8 | best float32 |", "|---|---|---|---:|---:|---:|"]
    for bench in benches:
        for entry in bench.measured("ours"):
            cells = [bench.network.upper(), bench.cap_words, entry.label, f"{entry.median:.3g}"]
            for kind in ("int8", "float32"):
                peer, ratio = bench.best(kind), bench.ratio(entry, kind)
                cells.append("" if peer is None or ratio is None else f"{ratio:.2f}x ({peer.label})")
            lines.append("| " + " | ".join(cells) + " |")
    return lines


# -- ARM: counted ----------------------------------------------------------------------------------


def _counted(counts: Sequence[Count]) -> list[str]:
    size = "×".join(map(str, counts[0].size))
    parts = [
        "## ARM, counted",
        "",
        f"Instructions of one inference at {size} under qemu-user, divided by the network's multiply-accumulates: "
        "counted, not measured on ARM. One thread. *Same bits*: the logits' hash equals that of this machine's own "
        "kernels. The last column compares with ONNX Runtime int8 (S8S8, per channel, its own quantiser) on the same "
        "processor.",
        "",
        "| network | engine | processor | kernels | instructions | a MAC | same bits | ONNX Runtime int8 / it |",
        "|---|---|---|---|---:|---:|---|---:|",
    ]
    peers = {(c.network, c.cpu): c for c in counts if c.agrees is None and c.bits == "int8"}
    for item in counts:
        peer = peers.get((item.network, item.cpu))
        name = item.engine if item.agrees is not None else f"{item.engine} {item.bits}"
        ratio = "" if peer is None or item is peer else f"{peer.per_mac / item.per_mac:.2f}x"
        same = {True: "yes", False: "NO", None: ""}[item.agrees]
        parts.append(
            f"| {item.network.upper()} | {name} | {_cpu(item)} | {item.isa} | {item.instructions / 1e9:.3f} G "
            f"| {item.per_mac:.4f} | {same} | {ratio} |"
        )
    parts += ["", "`make bench-arm` (`python -m unetq.bench.counted -o results/arm.json`)", ""]
    parts += _estimates([c for c in counts if c.cpu == "cortex-a72"])
    parts += _mixes(
        [c for c in counts if c.network == "s" and c.bits in ("w4a6", "w2a2", "w1a1") and c.agrees is not None]
    )
    return parts


def _cpu(item: Count) -> str:
    return f"{item.cpu.partition(',')[0]} ({item.architecture})"


def _estimates(counts: Sequence[Count]) -> list[str]:
    if not counts:
        return []
    lines = [
        "### Cycles on A53 and A72, ESTIMATED",
        "",
        "From the mix of instructions counted on Armv8.0 and published throughputs (`unetq/bench/cycles.py` says "
        "which): the busiest pipe's cycles, so what a processor takes at the least. Cache misses and dependencies are "
        "not in it. A53: with the best and with the worst published figures.",
        "",
        "| network | engine | A53: M cycles | A53: MACs a cycle | A72: M cycles | A72: MACs a cycle |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for item in counts:
        mix = mix_of(item.histogram)
        low, high = a53(mix)
        bound = a72(mix)
        name = item.engine if item.agrees is not None else f"{item.engine} {item.bits}"
        lines.append(
            f"| {item.network.upper()} | {name} | {low / 1e6:.0f}–{high / 1e6:.0f} | {item.macs / high:.1f}–"
            f"{item.macs / low:.1f} | {bound / 1e6:.0f} | {item.macs / bound:.1f} |"
        )
    return [*lines, ""]


def _mixes(counts: Sequence[Count]) -> list[str]:
    """The commonest instructions, and the functions they are in."""
    lines = ["### Where the instructions go, network S", ""]
    for item in counts:
        if item.cpu == "cortex-a15":
            continue  # the same program and the same count as on cortex-a7
        common = sorted(item.histogram.items(), key=lambda pair: -pair[1])[:TOP]
        shares = ", ".join(f"{name} {100 * n / item.instructions:.1f}" for name, n in common)
        places = sorted(item.functions.items(), key=lambda pair: -pair[1])[:5]
        where = ", ".join(f"`{_plain(name)}` {100 * n / item.instructions:.1f}" for name, n in places)
        lines.append(f"- {item.engine}, {_cpu(item)}, % of the instructions: {shares}. In {where}.")
    return [*lines, ""]


def _plain(symbol: str) -> str:
    """A C++ symbol's own name, without namespaces and arguments."""
    try:
        done = subprocess.run(["c++filt", symbol], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return symbol
    return done.stdout.strip().replace("(anonymous namespace)::", "").partition("(")[0].removeprefix("uq::")


def main() -> None:
    """Parse, read, write."""
    parser = argparse.ArgumentParser(prog="python -m unetq.bench.results", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    values = parser.parse_args()
    try:
        write_text(values.out, page(*load(values.folder)))
    except UnetqError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
