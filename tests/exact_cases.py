"""The programs that the exactness tests compare, as files for ``deploy/runtime/tests/programs.c``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import test_runtime_bits as bits
import test_runtime_exact as exact
import test_runtime_lookup as lookup
import test_runtime_schemes as schemes

from unetq.export.modelfile import save
from unetq.export.program import Program


class Cases:
    """Takes what ``compare`` is given, runs it through NumPy and writes model, input and every expected tensor."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self.labels: list[str] = []

    def compare(self, program: Program, x: np.ndarray, path: Path, label: str, tolerance: float = 0.0) -> None:
        """Stands in for ``exact_runs.compare``."""
        path.parent.mkdir(exist_ok=True)
        for image in x:
            found: dict[str, Any] = {}
            with np.errstate(all="ignore"):
                logits = program.run(image[None], found)
            size = image.shape[1:] if program.spatial_rank == 3 else (1, *image.shape[1:])
            parts = [b""]
            for op in program.ops:
                codes = found[program.tensors[op.output].name]
                data = codes.astype(np.int16 if program.tensors[op.output].grid else np.float32).tobytes()
                parts.append(data + bytes(-len(data) % 4))
            parts.append(logits.astype(np.float32).tobytes())
            name = f"{len(self.lines):04d}"
            save(program, self.folder / f"{name}.uqm")
            image.astype(np.float32).tofile(self.folder / f"{name}.in")
            (self.folder / f"{name}.out").write_bytes(b"".join(parts))
            self.lines.append(f"{name} {size[0]} {size[1]} {size[2]} {tolerance}")
            self.labels.append(label)

    def finish(self) -> Path:
        path = self.folder / "cases.txt"
        path.write_text("\n".join(self.lines) + "\n", encoding="utf-8")
        (self.folder / "labels.txt").write_text("\n".join(self.labels) + "\n", encoding="utf-8")
        return path


@contextmanager
def recorded(cases: Cases) -> Iterator[None]:
    before = bits.compare, exact.compare, lookup.compare, schemes.compare
    bits.compare = exact.compare = lookup.compare = schemes.compare = cases.compare
    try:
        yield
    finally:
        bits.compare, exact.compare, lookup.compare, schemes.compare = before


def write_cases(folder: Path) -> Path:
    """Random programs, sums at their extremes, every scheme's hard shapes, groups that do not align with blocks."""
    cases, scratch = Cases(folder), folder / "scratch"
    with recorded(cases):
        for block in range(0, 40, 2):
            exact.test_random_programs(block, scratch)
        exact.test_random_float_programs(0, scratch)
        for widths in exact.EXTREMES:
            exact.test_long_sums_at_the_extremes(*widths, widths[0] % 2 == 0, scratch)
        for groups in (3, 8, 24):
            exact.test_groups_across_blocks(groups, scratch)
        exact.test_images_of_many_strips(False, False, 2, (1, 61, 47), scratch)
        exact.test_images_of_many_strips(True, True, 3, (9, 14, 17), scratch)
        for seed in range(60):
            schemes.test_three_by_three(seed, scratch)
        schemes.test_strips_and_chunks((64, 50), scratch)
        schemes.test_results_over_what_was_read("linear", 40, False, scratch)
        schemes.test_results_over_what_was_read("nearest", 6, True, scratch)
        for number, kind in enumerate(bits.KINDS):
            for seed in range(number % 2, 20, 2):
                bits.compare_shape(kind, seed, scratch)
            bits.compare_groups(kind, 2, 40, scratch)
            bits.test_long_sums(kind, 1 if number % 2 else 4, scratch)
        bits.compare_wide_weights(8, 1, True, scratch)
        bits.compare_wide_weights(3, 5, False, scratch)
        for threshold in range(-1, 18, 3):
            bits.test_bits_doubled(threshold, threshold % 2 == 0, scratch)
        bits.test_joined_and_upsampled_inputs("linear", 2, True, 32, 64, scratch)
        bits.test_joined_and_upsampled_inputs("linear", 3, True, 5, 9, scratch)
        bits.test_joined_and_upsampled_inputs("nearest", 1, True, 24, 40, scratch)
        for number, kind in enumerate(lookup.KINDS):
            for seed in range(number % 2, 12, 2):
                lookup.compare_shape(kind, seed, scratch)
            lookup.compare_groups(kind, 2, 40, 20, scratch)
        for kind, width in lookup.LONG:
            lookup.compare_long_sums(kind, width, scratch)
        lookup.test_joined_and_upsampled_inputs("linear", 5, True, scratch)
        lookup.test_joined_and_upsampled_inputs("nearest", 6, False, scratch)
    return cases.finish()
