"""What a benchmark found, as ``bench.json`` holds it, and the ratios drawn from it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from ..errors import DataError

SCHEMA = 1
MEASURED, ABSENT, FAILED = "measured", "absent", "failed"


@dataclass(frozen=True)
class Entry:
    """One contender.

    Attributes:
        status: "measured", "absent" (reason and install command given) or "failed" (reason given).
        capped: whether it kept to the cap; where not, it is shown but no ratio is drawn from it.
        cap_note: what capped it, or why nothing does.
        ms, cpu_ms: one value a round: wall clock, and processor time of the process.
        peak_bytes: resident at most while it ran; peak_life_bytes: with loading; interpreter_bytes: before loading.
        correlation: of its logits with the float network's, None where there is no float network.
    """

    name: str
    label: str
    kind: str
    status: str
    reason: str = ""
    install: str = ""
    version: str = ""
    settings: str = ""
    capped: bool = True
    cap_note: str = ""
    ms: tuple[float, ...] = ()
    cpu_ms: tuple[float, ...] = ()
    peak_bytes: int = 0
    peak_life_bytes: int = 0
    interpreter_bytes: int = 0
    correlation: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Milliseconds of the median round."""
        return median(self.ms)


@dataclass(frozen=True)
class Bench:
    """One run of ``unetq bench``."""

    command: str
    started: str
    unetq: str
    processor: str
    flags: tuple[str, ...]
    cores: int
    system: str
    network: str
    description: str
    size: tuple[int, ...]
    parameters: int
    macs: int
    cap: str
    cap_words: str
    threads: int
    rounds: int
    entries: tuple[Entry, ...]
    schema: int = SCHEMA

    def measured(self, kind: str | None = None) -> list[Entry]:
        """Those with times, of one kind or all."""
        return [e for e in self.entries if e.status == MEASURED and kind in (None, e.kind)]

    def best(self, kind: str) -> Entry | None:
        """The fastest of a kind that kept to the cap."""
        return min((e for e in self.measured(kind) if e.capped), key=lambda e: e.median, default=None)

    def ratio(self, ours: Entry, kind: str) -> float | None:
        """How many times faster ``ours`` is than the best of ``kind``; None where there is none."""
        peer = self.best(kind)
        return None if peer is None else peer.median / ours.median

    def speed(self, entry: Entry) -> float:
        """Multiply-accumulates a nanosecond, that is GMAC/s."""
        return self.macs / entry.median / 1e6


def to_json(bench: Bench) -> str:
    """``bench.json``: the fields, and the derived medians and ratios beside them."""
    value = asdict(bench)
    for entry, written in zip(bench.entries, value["entries"], strict=True):
        if entry.status == MEASURED:
            written["median_ms"] = round(entry.median, 4)
            written["gmac_per_second"] = round(bench.speed(entry), 3)
    value["ratios"] = [
        {"ours": entry.name, "over": kind, "peer": peer.name, "times": round(peer.median / entry.median, 4)}
        for entry in bench.measured("ours")
        for kind in ("int8", "float32")
        if (peer := bench.best(kind)) is not None
    ]
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def read(path: Path) -> Bench:
    """The inverse of ``to_json``.

    Raises:
        DataError: no such file, or not a benchmark of this schema.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if value["schema"] != SCHEMA:
            raise DataError(f"{path}: schema {value['schema']}, this unetq reads {SCHEMA}; measure again.")
        entries = tuple(
            Entry(**{k: _frozen(v) for k, v in entry.items() if k in Entry.__dataclass_fields__})
            for entry in value["entries"]
        )
        fields = {k: _frozen(v) for k, v in value.items() if k in Bench.__dataclass_fields__}
        return Bench(**{**fields, "entries": entries})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a bench.json ({error}); make one with `unetq bench -o DIR`.") from error


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
