"""Time training steps: the float network against its low-bit twins and other toolkits' quantisation-aware training.

``python -m unetq.bench.training -o FOLDER`` takes every step in turn, round by round, so that a busy machine slows
all alike; a ratio is the median of the rounds' own ratios. Writes ``training.json`` and ``training.md``.
"""

import argparse
import importlib.metadata
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError, UnetqError
from ..files import atomic_folder, write_json, write_text

LIMIT = 1.15
"""What a low-bit step may cost against the float step."""
MEASURED, ABSENT, FAILED = "measured", "absent", "failed"


@dataclass
class Result:
    """Seconds of every round's step, by the clock and of processor time (all threads)."""

    name: str
    what: str
    base: str
    status: str = MEASURED
    reason: str = ""
    version: str | None = None
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


def take(step: Callable[[], None], result: Result | None) -> None:
    """One step, timed into ``result``."""
    wall, processor = time.perf_counter(), time.process_time()
    step()
    if result is not None:
        result.wall.append(time.perf_counter() - wall)
        result.processor.append(time.process_time() - processor)


def ratios(result: Result, base: Result) -> dict[str, float]:
    """Medians of the rounds' ratios to ``base``, by the clock and in processor time."""
    pairs = {"wall": (result.wall, base.wall), "processor": (result.processor, base.processor)}
    return {k: statistics.median(a / b for a, b in zip(own, other, strict=True)) for k, (own, other) in pairs.items()}


def summary(results: Sequence[Result]) -> list[dict[str, Any]]:
    """What ``training.json`` says of each: medians, ratios and all samples."""
    by_name = {r.name: r for r in results}
    lines: list[dict[str, Any]] = []
    for result in results:
        line = asdict(result)
        if result.status == MEASURED:
            line["median_wall"] = statistics.median(result.wall)
            line["median_processor"] = statistics.median(result.processor)
            base = by_name.get(result.base)
            line["ratio"] = ratios(result, base) if base is not None and base.status == MEASURED else None
        lines.append(line)
    return lines


def table(results: Sequence[Result]) -> str:
    """A Markdown table of ``results``, and a line for each that was not measured."""
    rows = [("step", "what", "s", "processor s", "x float", "x float, processor")]
    notes = []
    for line in summary(results):
        if line["status"] != MEASURED:
            notes.append(f"- {line['name']}: {line['status']} ({line['reason']})")
            continue
        ratio = line["ratio"]
        shown = (f"{ratio['wall']:.3f}", f"{ratio['processor']:.3f}") if ratio else ("-", "-")
        name = f"{line['name']} {line['version']}" if line["version"] else line["name"]
        rows.append((name, line["what"], f"{line['median_wall']:.3f}", f"{line['median_processor']:.3f}", *shown))
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|---|---|---:|---:|---:|---:|", *body, *([""] if notes else []), *notes]) + "\n"


def measure(work: Any, only: Sequence[str], rounds: int, warmup: int, say: Callable[[str], None]) -> list[Result]:
    """Build every trainer of ``only`` (all where empty), warm up, then ``rounds`` interleaved rounds.

    Raises:
        ConfigError: a name that does not exist.
    """
    from .training_contenders import TRAINERS, make_step

    names = [trainer.name for trainer in TRAINERS]
    for name in only:
        if name not in names:
            raise ConfigError(f"--only {name}: there are {', '.join(names)}.")
    chosen = [
        t for t in TRAINERS if not only or t.name in only or t.name in {u.base for u in TRAINERS if u.name in only}
    ]
    results, steps = [], []
    for trainer in chosen:
        result = Result(trainer.name, trainer.what, trainer.base)
        results.append(result)
        try:
            say(f"{trainer.name}: building")
            step = make_step(trainer, work)
            for _ in range(warmup):
                take(step, None)
        except ImportError as error:
            result.status, result.reason = ABSENT, f"not installed: {error}"
        except Exception as error:  # another toolkit's refusal is a line of the table
            if isinstance(error, UnetqError) and trainer.name in ("float", "fixed"):
                raise
            result.status, result.reason = FAILED, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        else:
            result.version = _version(trainer.name)
            steps.append((step, result))
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for step, result in steps:
            take(step, result)
    return results


def _version(name: str) -> str | None:
    if name not in ("brevitas", "torchao"):
        return None
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m unetq.bench.training", description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, help="new folder for training.json and training.md")
    parser.add_argument("--network", default="paper", help="a name of unetq.nets (default: the paper's U-Net)")
    parser.add_argument("--size", type=int, default=192, help="side of a crop in pixels")
    parser.add_argument("--batch", type=int, default=4, help="crops a step")
    parser.add_argument("--bits", default="w4a6", help="widths of the low-bit networks, such as w4a6")
    parser.add_argument("--rounds", type=int, default=9, help="timed steps of each")
    parser.add_argument("--warmup", type=int, default=3, help="untimed steps of each")
    parser.add_argument("--threads", type=int, default=2, help="torch's threads")
    parser.add_argument("--only", default="", help="names, with commas; their float base comes along")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def run(arguments: Sequence[str] | None = None) -> str:
    """The command; returns the table.

    Raises:
        ConfigError: a value that cannot be used. OutputError: the folder is not new, or cannot be written.
    """
    import torch

    from ..quant.training_library import kernels_in_use
    from .training_contenders import Work

    asked = _arguments(arguments)
    weight, _, act = asked.bits.removeprefix("w").partition("a")
    if not (asked.bits.startswith("w") and weight.isdecimal() and act.isdecimal()):
        raise ConfigError(f"--bits {asked.bits}: write widths like w4a6.")
    for name in ("size", "batch", "rounds", "warmup", "threads"):
        if getattr(asked, name) < 1:
            raise ConfigError(f"--{name} {getattr(asked, name)}: give 1 or more.")
    torch.set_num_threads(asked.threads)
    work = Work(asked.network, asked.size, asked.batch, int(weight), int(act), asked.seed)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    results = measure(work, [n for n in asked.only.split(",") if n], asked.rounds, asked.warmup, say)
    command = f"python -m unetq.bench.training {shlex.join(sys.argv[1:] if arguments is None else arguments)}".rstrip()
    facts = {
        "command": command, "torch": torch.__version__, "processor": _processor(), "threads": asked.threads,
        "quantisers": kernels_in_use(), "limit": LIMIT, "work": asdict(work), "rounds": asked.rounds,
    }  # fmt: skip
    shown = (
        f"{asked.network}, {asked.batch} crops of {asked.size} x {asked.size}, {asked.bits}, bf16 autocast, channels "
        f"last, AdamW; {facts['processor']}, {asked.threads} threads, torch {facts['torch']}, {facts['quantisers']}; "
        f"medians of {asked.rounds} interleaved rounds.\n\n{table(results)}"
    )
    if asked.out is not None:
        with atomic_folder(asked.out) as folder:
            write_json(folder / "training.json", {**facts, "results": summary(results)})
            write_text(folder / "training.md", f"`{command}`\n\n{shown}")
    return shown


def main() -> None:
    """Print the table; one sentence and exit code 1 for what goes wrong."""
    try:
        print(run(), end="")
    except UnetqError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
