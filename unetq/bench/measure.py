"""The benchmark itself: convert, load, check, then interleaved rounds."""

import os
import platform
import random
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import ConfigError, DeviceError
from . import caps
from .contenders import NO_SWITCH, OWN, Contender, choose
from .job import Job
from .process import WorkerError, WorkerProcess, single_threaded
from .result import ABSENT, FAILED, MEASURED, Bench, Entry

Say = Callable[[str], None]
NAMED = {"s": "network S: U-Net 64-128-256-256, bilinear", "l": "network L: BasicUNet 32-32-64-128-256-32, transposed"}
LEAST_CORRELATION = {"float32": 0.999, "int8": 0.9}
EVICTED = 1  # untimed runs at the head of a round: the other engines had the caches meanwhile


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    network: str = "s"
    size: int | None = None
    cap: str = "none"
    rounds: int = 15
    times: int = 1
    threads: int = 1
    bits: tuple[str, ...] = ("w4a6",)
    only: str | None = None
    seed: int = 0
    command: str = ""


@dataclass
class _Runner:
    """A loaded contender between rounds."""

    entry: Entry
    worker: WorkerProcess
    ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)


def measure(request: Request, say: Say = lambda _: None) -> Bench:
    """Run it; see ``Request``.

    Raises:
        ConfigError: a value that cannot be used. ModelFileError, CheckpointError: of a given network.
        DeviceError: nothing at all could be measured.
    """
    flags = caps.processor_flags()
    cap = caps.find_cap(request.cap, flags)
    for name in ("rounds", "times", "threads"):
        if getattr(request, name) < 1:
            raise ConfigError(f"--{name} {getattr(request, name)}: give 1 or more.")
    with tempfile.TemporaryDirectory(prefix="unetq-bench-") as folder, ExitStack() as stack:
        job = _job(request, Path(folder))
        packed, is_run = request.network.endswith(".uqm"), request.network not in NAMED
        contenders = choose((OWN,) if is_run else request.bits, request.only, with_peers=not packed)
        facts = _prepare(job, packed, say)
        entries: list[Entry] = []
        runners: list[_Runner] = []
        for contender in contenders:
            entry, worker = _start(contender, replace(job, option=contender.option), cap, flags, say)
            entries.append(entry)
            if worker is not None:
                stack.callback(worker.close)
                runners.append(_Runner(entry, worker))
        if not runners:
            raise DeviceError(f"nothing could be measured: {'; '.join(f'{e.name}: {e.reason}' for e in entries)}.")
        _rounds(runners, request, say)
        done = {runner.entry.name: _finish(runner) for runner in runners}
    return Bench(
        command=request.command,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        unetq=__version__,
        processor=caps.processor_name(),
        flags=tuple(sorted(f for f in flags if f in _TOLD or f.startswith(_TOLD_FAMILIES))),
        cores=os.cpu_count() or 1,
        system=f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        network=request.network if not is_run else Path(request.network).name,
        description=NAMED.get(request.network, Path(request.network).name),
        size=job.size,
        parameters=facts["parameters"],
        macs=facts["macs"],
        cap=cap.name,
        cap_words=cap.words,
        threads=request.threads,
        rounds=request.rounds,
        entries=tuple(done.get(entry.name, entry) for entry in entries),
    )


_TOLD = frozenset({"avx2", "avx_vnni", "asimd", "asimddp", "i8mm", "sve"})  # what bench.json tells of the processor
_TOLD_FAMILIES = ("avx512", "amx")


def _job(request: Request, folder: Path) -> Job:
    """The network's channels and the image's size."""
    channels, rank, multiple = 1, 2, 1
    if request.network.endswith(".uqm"):
        from ..runtime import Runtime

        with Runtime(request.network) as runtime:
            channels, rank, multiple = runtime.input_channels, runtime.spatial_rank, max(runtime.input_multiple)
            if runtime.fixed_size is not None:
                return Job(
                    folder,
                    str(Path(request.network).resolve()),
                    channels,
                    runtime.fixed_size,
                    request.threads,
                    request.cap,
                )
    elif request.network not in NAMED:
        from ..runs import open_run

        channels = open_run(Path(request.network)).quantized()[0].in_channels
    else:
        multiple = 8 if request.network == "s" else 16
    size = request.size or (208 if rank == 2 else 64)
    if size < 1 or size % multiple:
        raise ConfigError(f"--size {size}: this network takes multiples of {multiple}; give one.")
    network = request.network if request.network in NAMED else str(Path(request.network).resolve())
    return Job(folder, network, channels, (size,) * rank, request.threads, request.cap, request.seed)


def _prepare(job: Job, packed: bool, say: Say) -> dict[str, Any]:
    """The float network's files, and what it costs."""
    if packed:
        from ..cost import cost
        from ..export.modelfile import load
        from ..export.program import Conv

        program, _ = load(job.network)
        weights = sum(int(op.weight.size) for op in program.ops if isinstance(op, Conv))
        return {"parameters": weights, "macs": cost(program, job.size).macs}
    import json

    say("preparing the float network")
    with WorkerProcess("network", single_threaded(job.threads), job.file("network.log")) as worker:
        try:
            worker.ask("convert", job)
        except WorkerError as error:
            raise ConfigError(f"network {job.network!r} cannot be prepared: {error}.") from error
    facts: dict[str, Any] = json.loads(job.file("network.json").read_text())
    return facts


def _environment(contender: Contender, job: Job, cap: caps.Cap) -> dict[str, str]:
    """What the contender's process gets besides ours: threads, the cap, and no cache outside the job's folder."""
    values = single_threaded(job.threads)
    values |= {"TORCHINDUCTOR_CACHE_DIR": str(job.file("inductor")), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    if contender.switch == "ONEDNN_MAX_CPU_ISA":
        values |= caps.onednn_environment(cap)
    if contender.switch == "UNETQ_ISA":
        from ..runtime import available_isas

        isa = caps.own_isa(cap, available_isas())
        values |= {} if isa is None else {"UNETQ_ISA": isa}
    return values


def _capped(
    contender: Contender, cap: caps.Cap, flags: frozenset[str], environment: dict[str, str]
) -> tuple[bool, str]:
    if cap.name == "none":
        return True, ""
    if contender.switch:
        names = (contender.switch, "ATEN_CPU_CAPABILITY" if contender.module == "torch" else "")
        return True, ", ".join(f"{name}={environment[name]}" for name in names if name in environment)
    if caps.holds_anyway(cap, flags):
        return True, "this processor has nothing beyond the cap"
    return False, NO_SWITCH


def _start(
    contender: Contender, job: Job, cap: caps.Cap, flags: frozenset[str], say: Say
) -> tuple[Entry, WorkerProcess | None]:
    """Convert, load and check one contender; its process where all that went well."""
    entry = Entry(contender.name, contender.label, contender.kind, ABSENT, install=contender.install)
    reason = contender.absent()
    if reason is not None:
        say(f"{contender.name}: absent, {reason}; {contender.install}")
        return replace(entry, reason=reason), None
    say(f"{contender.name}: converting, loading")
    environment = _environment(contender, job, cap)
    capped, note = _capped(contender, cap, flags, environment)
    entry = replace(entry, install="", capped=capped, cap_note=note)
    log = job.file(f"{contender.name}.log")
    try:
        with WorkerProcess(contender.module, environment, log) as converter:
            converter.ask("convert", job)
        worker = WorkerProcess(contender.module, environment, log)
        try:
            loaded = worker.ask("load", job)
            found = worker.ask("check")["correlation"]
            _require(contender, loaded, found)
        except WorkerError:
            worker.close()
            raise
    except WorkerError as error:
        say(f"{contender.name}: failed, {error}")
        return replace(entry, status=FAILED, reason=str(error)), None
    wanted = {key: loaded[key] for key in ("version", "settings", "facts", "interpreter_bytes")}
    return replace(entry, status=MEASURED, correlation=found, **wanted), worker


def _require(contender: Contender, loaded: dict[str, Any], found: float | None) -> None:
    """A broken conversion, or kernels that are not exact, are not timed."""
    least = LEAST_CORRELATION.get(contender.kind)
    if least is not None and found is not None and found < least:
        raise WorkerError(
            f"its logits correlate with the float network's by {found:.3f}, less than {least}: the conversion is "
            "broken, so it is not timed"
        )
    if loaded["facts"].get("exact") is False:
        raise WorkerError(f"the kernels {loaded['facts']['isa']} differ from the scalar ones, so they are not timed")


def _rounds(runners: Sequence[_Runner], request: Request, say: Say) -> None:
    """Every contender once a round, in an order that changes."""
    order = random.Random(request.seed)
    for number in range(request.rounds):
        for runner in order.sample(list(runners), len(runners)):
            answer = runner.worker.ask("run", warm=EVICTED, times=request.times)
            best = min(range(request.times), key=answer["ms"].__getitem__)
            runner.ms.append(round(answer["ms"][best], 4))
            runner.cpu_ms.append(round(answer["cpu_ms"][best], 4))
        say(f"round {number + 1} of {request.rounds}")


def _finish(runner: _Runner) -> Entry:
    memory = runner.worker.ask("memory")
    return replace(runner.entry, ms=tuple(runner.ms), cpu_ms=tuple(runner.cpu_ms), **memory)
