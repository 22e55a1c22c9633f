"""An ESTIMATE of cycles on Cortex-A53 and Cortex-A72 from a counted mix of AArch64 instructions.

Every instruction name of ``icount.c`` occupies resources of the processor. The bound is the resource that is busiest,
as if dependencies, cache misses and mispredicted branches cost nothing, so a processor takes longer. Nothing here was
measured on the processors.

Cortex-A72: what LLVM's AArch64SchedA57.td says (written from Arm's Software Optimization Guide of the A57, whose pipes
the A72 has): three instructions a cycle; two integer pipes, one of them for multiplications; one load and one store
pipe; two ASIMD pipes F0 and F1. CNT is taken as F1 alone, one a cycle, as measured on an A72 (LX2160A).

Cortex-A53, in order: two instructions a cycle, of which one may be ASIMD and one may be a load or store. Two figures:
the best, where a 128-bit ASIMD instruction takes one cycle and a 128-bit load an ASIMD slot of one cycle; and the worst
published, where the first takes 1.5 (throughputs measured on a Raspberry Pi 3 lie between) and the second two (ncnn's
notes on dual issue: a 128-bit vector load is not issued beside ASIMD arithmetic, and takes two cycles).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_VECTOR = re.compile(r"\.(16b|8b|8h|4h|4s|2s|2d|1d|1q|b|h|s|d|q)$")
_WIDE = (".16b", ".8h", ".4s", ".2d", ".q", ".1q")
_INTEGER_MULTIPLY = ("madd", "msub", "mul", "smull", "umull", "smaddl", "umaddl", "smulh", "umulh", "sdiv", "udiv")
_BRANCHES = ("b.", "bl", "br", "ret", "cbz", "cbnz", "tbz", "tbnz")

# ASIMD: beginnings of mnemonics, the pipe, cycles of it at 64 bits and at 128 bits. The first that fits decides.
_ASIMD: tuple[tuple[tuple[str, ...], str, int, int], ...] = (
    (("smull", "umull", "smlal", "umlal", "smlsl", "umlsl", "sqdml", "sqdmull", "pmull"), "first_pipe", 1, 1),
    (("mul", "mla", "mls", "sqdmulh", "sqrdmulh"), "first_pipe", 1, 2),
    (("fdiv", "fsqrt"), "first_pipe", 17, 34),
    (("fcvtl", "fcvtn", "fcvtxn", "faddp", "fmaxp", "fminp"), "either_pipe", 3, 3),
    (("f", "scvtf", "ucvtf"), "either_pipe", 1, 2),
    (("sadalp", "uadalp", "ssra", "usra", "srsra", "ursra", "cnt"), "second_pipe", 1, 1),
    (("sshll", "ushll", "sxtl", "uxtl", "sshr", "ushr", "srshr", "urshr", "shl", "sli", "sri"), "second_pipe", 1, 1),
    (("xtn", "shrn", "rshrn", "sqxt", "uqxt", "sqshr", "uqshr", "sqrshr", "uqrshr"), "second_pipe", 1, 1),
    (("addv", "saddlv", "uaddlv", "smaxv", "umaxv", "sminv", "uminv"), "second_pipe", 1, 2),
    (("sshl", "ushl", "srshl", "urshl", "sqshl", "uqshl"), "second_pipe", 1, 2),
    (("bif", "bit", "bsl"), "either_pipe", 1, 2),
    (("tbl", "tbx", "zip", "uzp"), "either_pipe", 1, 3),
    (("",), "either_pipe", 1, 1),
)


@dataclass(frozen=True)
class Mix:
    """Instructions by what they occupy."""

    total: float = 0.0
    asimd: float = 0.0
    first_pipe: float = 0.0
    second_pipe: float = 0.0
    either_pipe: float = 0.0
    loads: float = 0.0
    wide_loads: float = 0.0
    narrow_loads: float = 0.0
    stores: float = 0.0
    integer: float = 0.0
    integer_multiply: float = 0.0
    branches: float = 0.0


def mix_of(histogram: Mapping[str, int]) -> Mix:
    """Sort a histogram by resource."""
    values = dict.fromkeys(Mix.__dataclass_fields__, 0.0)
    for name, count in histogram.items():
        for key, share in {"total": 1.0, **_occupied(name)}.items():
            values[key] += share * count
    return Mix(**values)


def _occupied(name: str) -> dict[str, float]:
    """What one instruction of this name takes."""
    vector, wide = _VECTOR.search(name) is not None, name.endswith(_WIDE)
    if name.startswith(("ld", "prfm")):
        amount = 2.0 if wide and name.startswith("ldp") else 1.0
        return {"loads": amount} | ({"wide_loads" if wide else "narrow_loads": amount} if vector else {})
    if name.startswith("st"):
        return {"stores": (2.0 if wide else 1.0) * (2.0 if name.startswith("stp") else 1.0)}
    if name == "b" or name.startswith(_BRANCHES):
        return {"branches": 1.0}
    if not vector:
        return {"integer": 1.0} | ({"integer_multiply": 1.0} if name.startswith(_INTEGER_MULTIPLY) else {})
    _, pipe, narrow_cycles, wide_cycles = next(rule for rule in _ASIMD if name.startswith(rule[0]))
    return {"asimd": 1.0, pipe: float(wide_cycles if wide else narrow_cycles)}


def a72(mix: Mix) -> float:
    """Least cycles on a Cortex-A72."""
    pipes = mix.first_pipe + mix.second_pipe + mix.either_pipe
    integer = (mix.integer + mix.branches) / 2
    return max(
        mix.total / 3, mix.first_pipe, mix.second_pipe, pipes / 2, mix.loads, mix.stores, integer, mix.integer_multiply
    )


def a53(mix: Mix) -> tuple[float, float]:
    """Cycles on a Cortex-A53 with the best and with the worst published throughputs."""
    best = max(mix.total / 2, mix.asimd + mix.wide_loads, mix.loads + mix.stores)
    slots = 1.5 * mix.asimd + 2 * mix.wide_loads + mix.narrow_loads
    rest = mix.total - mix.asimd - mix.wide_loads - mix.narrow_loads
    return best, max(slots, mix.total / 2) + max(0.0, rest - slots) / 2
