"""Writes the seed corpus: ``make_corpus.py path/to/fuzz_run``. The same program makes the same files.

``corpus/run`` holds decisions for the graph generator; ``corpus/loader`` the smallest of its models that together have
every kind of operation, of grid and of weights, two and three dimensions, transposition, instance and group norm,
orientation, spacing, context and windows.
"""

import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

CORPUS = Path(__file__).resolve().parent / "corpus"
CANDIDATES = 400
TENSORS, TENSOR_BYTES = 1, 32  # the section's place in the table, the size of its records
OPS, OP_BYTES = 2, 256


def features(model: bytes) -> set[str]:
    """What a model has, from its records (FORMAT.md)."""
    offset, size = struct.unpack_from("<QQ", model, 64 + OPS * 32 + 8)
    tensors, tensor_bytes = struct.unpack_from("<QQ", model, 64 + TENSORS * 32 + 8)
    head = struct.unpack_from("<Q", model, 64 + 8)[0]
    code, context, *spacing_and_window = struct.unpack_from("<4sI3d3I", model, head + 72)
    found = {"orientation"} if any(code) else set()
    found |= {"context"} if context else set()
    found |= {"spacing"} if any(spacing_and_window[:3]) else set()
    found |= {"window"} if any(spacing_and_window[3:]) else set()
    found |= {f"rank {struct.unpack_from('<I', model, head)[0]}"}
    for at in range(offset, offset + size, OP_BYTES):
        kind, mode, weights, flags = (struct.unpack_from("<I", model, at + field)[0] for field in (0, 100, 108, 136))
        found |= {f"kind {kind} mode {mode}"} | {f"kind {kind} flag {bit}" for bit in (2, 4, 8) if flags & bit}
        found |= {f"weights {weights}"} if kind == 2 else set()
        found |= {"group norm"} if struct.unpack_from("<I", model, at + 140)[0] else set()
    for at in range(tensors, tensors + tensor_bytes, TENSOR_BYTES):
        zero_point, narrow, dynamic = struct.unpack_from("<iBB", model, at + 20)
        names = {"zero-point": zero_point, "narrow": narrow, "dynamic": dynamic}
        found |= {name for name, there in names.items() if there}
    return found


def main() -> int:
    """Replace both folders."""
    if len(sys.argv) != 2:
        print(f"usage: {sys.argv[0]} path/to/fuzz_run", file=sys.stderr)
        return 2
    for name in ("loader", "run"):
        (CORPUS / name).mkdir(parents=True, exist_ok=True)
        for old in (CORPUS / name).iterdir():
            old.unlink()
    for seed in range(6):
        (CORPUS / "run" / f"{seed}.bin").write_bytes(random.Random(seed).randbytes(24 + 8 * seed))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.argv[1], "--seed", "1", "--runs", str(CANDIDATES), "--save", f"{folder}/"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        models = sorted((p.read_bytes() for p in Path(folder).glob("*.uqm")), key=lambda m: (len(m), m))
    seen: set[str] = set()
    kept: list[bytes] = []
    everything = set().union(*map(features, models))
    while seen != everything:
        best = max(models, key=lambda m: len(features(m) - seen) / len(m))
        seen |= features(best)
        kept.append(best)
    for number, model in enumerate(kept):
        (CORPUS / "loader" / f"{number}.bin").write_bytes(model)
    print(f"{len(kept)} models, {sum(map(len, kept))} bytes; {len(everything)} features")
    return 0


if __name__ == "__main__":
    sys.exit(main())
