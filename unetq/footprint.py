"""Memory and time as a user meets them: a process of its own that loads a packed model and runs it.

``python -m unetq.footprint MODEL SIZE…`` is that process; it imports NumPy and the C library, no torch. Its *base* is
what is resident before the model is opened, its *peak* the most that was resident from there on: the mapped model, the
arena, the image and the logits on top of the base. The peak is the kernel's own count (VmHWM), started anew where the
system allows; the base then is VmRSS.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from .errors import UnetqError, UnsupportedError
from .export.program import ModelMeta, Program

THREADS = 1
FEWEST_RUNS, MOST_RUNS = 3, 20
ENOUGH_RUNS = 5
BUDGET = 3.0
"""Seconds after which no further run is started, once there are ``FEWEST_RUNS``."""
LONG_RUN = 10.0
"""A single run that takes this many seconds is not repeated."""
TIMEOUT = 600.0


@dataclass(frozen=True)
class Latency:
    """Seconds of a run (the median), over how many, on how many threads, by which instruction set."""

    seconds: float
    runs: int
    threads: int
    isa: str


@dataclass(frozen=True)
class Footprint:
    """What a model takes at one input size; bytes. None where it could not be measured, and ``reason`` says why."""

    model_file_bytes: int | None
    arena_bytes: int | None
    process_peak_bytes: int | None
    process_base_bytes: int | None
    latency: Latency | None
    reason: str = ""

    def record(self, prefix: str = "") -> dict[str, Any]:
        """As ``metrics.json`` has it, every key with ``prefix``; the base only without one."""
        values = asdict(self)
        reason = values.pop("reason")
        if prefix:
            del values["process_base_bytes"]
        found = {f"{prefix}{key}": value for key, value in values.items()}
        return found | ({f"{prefix}footprint_note": reason} if reason else {})


def footprint(program: Program, meta: ModelMeta, size: Sequence[int]) -> Footprint:
    """Pack ``program``, and measure it on one image of ``size``, (H, W) or (D, H, W) network pixels."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.uqm"
        try:
            program.save(path, meta)
        except UnsupportedError as error:
            return Footprint(None, None, None, None, None, f"it cannot be packed: {error}")
        return measure(path, size)


def measure(model: Path, size: Sequence[int]) -> Footprint:
    """The footprint of a model file on one image of ``size``, by a process of its own."""
    file_bytes = model.stat().st_size
    package = str(Path(__file__).resolve().parents[1])
    paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(THREADS))
    command = [sys.executable, "-m", "unetq.footprint", str(model), *map(str, size)]
    try:
        child = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            env={**os.environ, **threads, "PYTHONPATH": paths},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Footprint(file_bytes, None, None, None, None, f"the measuring process did not end well: {error}")
    if child.returncode != 0:
        lines = (child.stderr.strip() or f"exit code {child.returncode}").splitlines()
        return Footprint(file_bytes, None, None, None, None, lines[-1])
    found = json.loads(child.stdout)
    return Footprint(
        file_bytes,
        found["arena_bytes"],
        found["process_peak_bytes"],
        found["process_base_bytes"],
        Latency(**found["latency"]),
    )


def _status(field: str) -> int | None:
    """A field of /proc/self/status in bytes; None on systems without it."""
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    line = next((line for line in text.splitlines() if line.startswith(f"{field}:")), None)
    return int(line.split()[1]) * 1024 if line else None


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return  # not allowed: the peak then includes what came before, which is rarely more


def _peak() -> int | None:
    found = _status("VmHWM")
    if found is None:
        import resource

        scale = 1 if sys.platform == "darwin" else 1024
        found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
    return found


def _child(model: Path, size: Sequence[int]) -> dict[str, Any]:
    """What the measuring process finds out; the image is seeded noise."""
    import numpy as np

    from .native import load_runtime
    from .runtime import Runtime

    load_runtime()
    noise = np.random.default_rng(0).standard_normal  # the generator is no part of the model
    noise(1)
    _forget_peak()
    base = _status("VmRSS") or _peak()
    with Runtime(model, threads=THREADS) as runtime:
        image = noise((1, runtime.input_channels, *size), dtype=np.float32)
        plan = runtime.plan(tuple(size))
        started = time.perf_counter()
        runtime.run(image)
        first = time.perf_counter() - started
        peak = _peak()
        times = _times(lambda: runtime.run(image), first)
        return {
            "arena_bytes": plan.arena_bytes,
            "process_base_bytes": base,
            "process_peak_bytes": max(filter(None, (peak, _peak())), default=None),
            "latency": asdict(Latency(float(median(times)), len(times), THREADS, runtime.isa)),
        }


def _times(run: Callable[[], object], first: float) -> list[float]:
    """Seconds of warm runs, five or more where time allows; ``first`` is that of the cold run before them.

    Where a run takes long, warm or cold makes little difference, and the cold one counts.
    """
    if first >= LONG_RUN:
        return [first]
    times = [first] if first >= BUDGET else []
    while len(times) < MOST_RUNS:
        spent = sum(times)
        if (len(times) >= FEWEST_RUNS and spent >= BUDGET) or (len(times) >= ENOUGH_RUNS and spent >= BUDGET / 3):
            break
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return times


def main(arguments: Sequence[str]) -> int:
    """The measuring process: JSON on stdout, or one sentence on stderr and 1."""
    try:
        print(json.dumps(_child(Path(arguments[0]), [int(side) for side in arguments[1:]])))
    except (UnetqError, MemoryError) as error:
        print(str(error) or "out of memory", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
