"""Memory of the paper's network by bits, as a user meets it: file, planned memory, and the process that runs it.

``python scripts/memory_table.py [--network paper] [--size 512 512] [-o docs/results/memory.md]``

Weights are random: memory does not depend on them. Each row is a model file that a process of its own loads in
``unetq.Runtime`` and runs (``unetq.footprint``). Prints Markdown, or writes it.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

from unetq import calibrate, files, lower, quantize
from unetq.cost import cost
from unetq.errors import UnetqError
from unetq.export.program import ModelMeta, Program
from unetq.footprint import Footprint, footprint
from unetq.nets import build_network, count_parameters

ROWS: dict[str, dict[str, Any]] = {
    "float32": {"weight_bits": 32, "act_bits": 32},
    "W8A8": {"weight_bits": 8, "act_bits": 8},
    "W4A6": {"weight_bits": 4, "act_bits": 6},
    "W2A2": {"weight_bits": 2, "act_bits": 2},
    "ternary weights (TWN) and activations": {"weight_bits": 2, "act_bits": 2, "method": "ternarynet"},
}
TEXT = """# Memory by bits

Network `{network}`, {parameters:,} parameters, untrained (memory does not depend on the weights), one image of {size}
pixels, first and last layer 8 bits. Made by

    {command}

| | model file | weights | peak activations | arena | process, added | process, peak | of float |
|---|---:|---:|---:|---:|---:|---:|---:|
{rows}

Sizes in MB (10^6 bytes).

- **weights**, **peak activations**: computed (`unetq.cost`): packed weights with scales and offsets; the largest sum of
  the program's tensors that are alive at once, at their bits.
- **arena**: planned by the runtime before anything is allocated: tensors as they lie in memory (1, 2, 4 or 8 bits a
  code), and the working memory of the largest operation. It can be less than the peak of activations, because an
  upsampling that one convolution reads is made there row by row and never stored. It depends on the instruction set,
  here {isa}.
- **process**: measured (`unetq.footprint`): a Python process with NumPy and the C library alone, {base} before the
  model is opened; *peak* is the most that was resident at once: the model, the arena, the float32 image and the logits
  on top of that; *added* is the difference, *of float* the peak's share of the float32 process's peak.

For speed see `deploy/runtime/bench/RESULTS.md`.
"""


def _program(bits: dict[str, Any], network: str, options: dict[str, Any], size: tuple[int, ...]) -> tuple[Program, int]:
    torch.manual_seed(0)
    net = build_network(network, options).eval()
    image = torch.randn(1, 1, *[min(side, 128) for side in size])
    quantized = quantize(net, example_input=image, **bits)
    if bits["weight_bits"] != 32:
        calibrate(quantized, [image])
    return lower(quantized.eval(), image), count_parameters(net)


def _mega(count: int | None) -> str:
    return "–" if count is None else f"{count / 1e6:.2f}"


def _row(name: str, program: Program, found: Footprint, size: tuple[int, ...], whole: int | None) -> str:
    price, peak, base = cost(program, size), found.process_peak_bytes, found.process_base_bytes
    added = None if peak is None or base is None else peak - base
    values = (found.model_file_bytes, price.weight_bytes, price.peak_activation_bytes, found.arena_bytes, added, peak)
    share = "–" if whole is None or peak is None else f"{100 * peak / whole:.0f} %"
    return f"| {name} | {' | '.join(map(_mega, values))} | {share} |"


def table(network: str, size: tuple[int, ...], command: str, options: dict[str, Any] | None = None) -> str:
    """The whole page; ``options`` are the network's.

    Raises:
        UnetqError: the network is not known, or does not take ``size``.
    """
    rows, isa, base, whole, parameters = [], "?", "?", None, 0
    for name, bits in ROWS.items():
        program, parameters = _program(bits, network, options or {}, size)
        found = footprint(program, ModelMeta(), size)
        if found.reason:
            print(f"{name}: {found.reason}", file=sys.stderr)
        if found.latency is not None:
            isa, base = found.latency.isa, f"{_mega(found.process_base_bytes)} MB"
        whole = found.process_peak_bytes if whole is None else whole
        rows.append(_row(name, program, found, size, whole))
    shape = " × ".join(map(str, size))
    return TEXT.format(
        network=network,
        parameters=parameters,
        size=shape,
        command=command,
        rows="\n".join(rows),
        isa=isa,
        base=base,
    )


def main() -> int:
    """Print or write the page; 2 where it cannot be made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="paper")
    parser.add_argument("--size", nargs="+", type=int, default=[512, 512])
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    try:
        command = " ".join(["python scripts/memory_table.py", *map(shlex.quote, sys.argv[1:])])
        page = table(given.network, tuple(given.size), command)
        if given.out is None:
            print(page, end="")
        else:
            files.write_text(given.out, page)
    except UnetqError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
