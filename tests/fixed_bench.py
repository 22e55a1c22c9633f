"""A benchmark with fixed numbers, and a small packed model to run."""

from pathlib import Path

from device_program import META, network

from unetq.bench.result import ABSENT, FAILED, MEASURED, Bench, Entry
from unetq.export.modelfile import save


def entry(name: str, kind: str, ms: tuple[float, ...], capped: bool = True, **more: object) -> Entry:
    note = "" if capped else "no switch"
    values = {"version": "1.0", "settings": "plain", "peak_bytes": 50_000_000, "peak_life_bytes": 60_000_000, **more}
    return Entry(name, name.upper(), kind, MEASURED, ms=ms, cpu_ms=ms, capped=capped, cap_note=note, **values)  # type: ignore[arg-type]


def bench() -> Bench:
    """Ours at 10 ms; int8 peers at 15 and, not held to the cap, at 5; a float peer at 40; one absent, one failed."""
    return Bench(
        command="unetq bench --cap avx2",
        started="2026-01-01T00:00:00+00:00",
        unetq="0.1.0",
        processor="A Processor",
        flags=("avx2",),
        cores=2,
        system="Linux",
        network="s",
        description="network S",
        size=(208, 208),
        parameters=1000,
        macs=20_000_000_000,
        cap="avx2",
        cap_words="AVX2",
        threads=1,
        rounds=5,
        entries=(
            entry("ours-w4a6", "ours", (10.0, 9.0, 12.0, 10.0, 11.0), facts={"exact": True}, correlation=0.5),
            entry("slow8", "int8", (15.0, 16.0, 14.0, 15.0, 15.0), correlation=0.99),
            entry("fast8", "int8", (5.0, 5.0, 5.0, 5.0, 5.0), capped=False, correlation=0.99),
            entry("real", "float32", (40.0, 40.0, 40.0, 40.0, 40.0), correlation=1.0),
            Entry("gone", "GONE", "int8", ABSENT, reason="not installed (gone)", install="pip install gone"),
            Entry("broken", "BROKEN", "int8", FAILED, reason="its logits are noise"),
        ),
    )


def packed(folder: Path) -> Path:
    """A small 2-D network as a file."""
    path = folder / "small.uqm"
    save(network(), path, META)
    return path
