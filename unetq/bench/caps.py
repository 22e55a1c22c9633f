"""Caps on the instruction set: what each engine is told, and whether this processor has more than the cap anyway."""

import platform
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError


@dataclass(frozen=True)
class Cap:
    """One ``--cap``.

    Attributes:
        flags: what the processor must have (names of /proc/cpuinfo).
        more: what a processor may have beyond the cap; where it has none of these, every engine is within the cap.
        ours: instruction sets of this library within the cap, the best last.
        onednn: value of ONEDNN_MAX_CPU_ISA, read by oneDNN (torch) and by OpenVINO's copy of it.
        aten: value of ATEN_CPU_CAPABILITY, read by torch's own kernels.
    """

    name: str
    words: str
    flags: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    ours: tuple[str, ...] = ()
    onednn: str | None = None
    aten: str | None = None


_AMX = ("amx_int8",)
_AVX512 = ("avx512f",)
_AVX2 = ("scalar", "avx2")
CAPS = {
    cap.name: cap
    for cap in (
        Cap("none", "no cap"),
        Cap(
            "avx512vnni",
            "AVX-512 VNNI",
            ("avx512f", "avx512bw", "avx512vl", "avx512_vnni"),
            _AMX,
            (*_AVX2, "avxvnni", "avx512vnni"),
            "AVX512_CORE_VNNI",
        ),
        Cap("avxvnni", "AVX2-VNNI", ("avx2", "avx_vnni"), (*_AVX512, *_AMX), (*_AVX2, "avxvnni"), "AVX2_VNNI", "avx2"),
        Cap("avx2", "AVX2", ("avx2",), ("avx_vnni", *_AVX512, *_AMX), _AVX2, "AVX2", "avx2"),
    )
}


def processor_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The processor's features as Linux names them; empty where they are not told."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return frozenset()
    found = next((line for line in lines if line.partition(":")[0].strip() in ("flags", "Features")), "")
    return frozenset(found.partition(":")[2].split())


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    found = next((line for line in lines if line.startswith("model name")), "")
    return found.partition(":")[2].strip() or platform.machine()


def find_cap(name: str, flags: frozenset[str]) -> Cap:
    """The cap ``name``.

    Raises:
        ConfigError: no such cap, or the processor lacks the instruction set itself.
    """
    if name not in CAPS:
        raise ConfigError(f"cap {name!r} does not exist; choose one of {', '.join(CAPS)}.")
    cap = CAPS[name]
    missing = [flag for flag in cap.flags if flag not in flags]
    if missing:
        raise ConfigError(
            f"cap {name}: this processor lacks {', '.join(missing)}, so nothing can be measured with {cap.words}; "
            "use a lower cap or another machine."
        )
    return cap


def holds_anyway(cap: Cap, flags: frozenset[str]) -> bool:
    """Whether the processor has nothing beyond ``cap``, so that an engine without a switch keeps to it all the same."""
    return not any(flag in flags for flag in cap.more)


def own_isa(cap: Cap, available: tuple[str, ...]) -> str | None:
    """The best of this library's instruction sets within ``cap``; None leaves the choice to the library."""
    if not cap.ours:
        return None
    return next((isa for isa in reversed(cap.ours) if isa in available), "scalar")


def onednn_environment(cap: Cap) -> dict[str, str]:
    """The variables that cap oneDNN and torch."""
    values = {"ONEDNN_MAX_CPU_ISA": cap.onednn, "ATEN_CPU_CAPABILITY": cap.aten}
    return {key: value for key, value in values.items() if value is not None}
