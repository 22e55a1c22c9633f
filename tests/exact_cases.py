"""The programs that the exactness tests compare, as files for ``deploy/runtime/tests/programs.c``."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import test_runtime_bits as bits
import test_runtime_dynamic as dynamic
import test_runtime_exact as exact
import test_runtime_groups as groups
import test_runtime_lookup as lookup
import test_runtime_operations as operations
import test_runtime_schemes as schemes
import test_runtime_zero_point as zero_point

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
    modules: list[Any] = [bits, dynamic, exact, groups, lookup, operations, schemes, zero_point]
    before = [module.compare for module in modules]
    for module in modules:
        module.compare = cases.compare
    try:
        yield
    finally:
        for module, compare in zip(modules, before, strict=True):
            module.compare = compare


def write_operations(scratch: Path) -> None:
    """Tables, products, group norm, shifted weights and narrow grids."""
    for width in range(1, 9):
        operations.test_tables_between_all_widths(width, width % 2 == 0, scratch)
    operations.test_what_is_behind_a_pixels_codes_stays_zero(1, scratch)
    for channels, one_channel, one_pixel in ((5, True, False), (32, False, True), (1, True, True)):
        operations.test_products_of_codes(channels, one_channel, one_pixel, (8, 8), scratch)
        operations.test_products_of_codes(channels, one_channel, one_pixel, (1, 2), scratch)
    operations.test_products_of_floats((True, False), scratch)
    for count in (1, 3, 8, 24):
        groups.test_group_norm_of_convolutions(count, count == 3, scratch)
    groups.test_group_norm_of_rows(4, "linear", scratch)
    groups.test_group_norm_of_rows(1, "product", scratch)
    for width in range(2, 9):
        groups.test_shifted_weights(width, (1, 3, 16, 32)[width % 4], scratch)
    for width in (2, 5, 8):
        groups.test_narrow_grids_have_no_lowest_code(width, scratch)


def write_grids(scratch: Path) -> None:
    """Zero-points in every scheme, and scales that are found from whole tensors."""
    for number, shape in enumerate(zero_point.SHAPES):
        zero_point.compare_padding(shape, number % 3, scratch)
    for width in (1, 2, 3, 6, 8):
        zero_point.compare_moves(width, (1 << width) - 1, scratch)
    for number, (width, act) in enumerate([(4, 6), (8, 8), (2, 2), (1, 1), (2, 5)]):
        dynamic.compare_conv(width, number % 2 == 0, act, number % 3, scratch)
    for norm in (0, 1, 2, 16):
        dynamic.compare_norm(norm, norm == 2, 3 if norm == 1 else 2, scratch)
    for width in (1, 2, 5, 8):
        dynamic.compare_readers(width, width % 2 == 0, scratch)


def write_cases(folder: Path) -> Path:
    """Random programs, sums at their extremes, every scheme's hard shapes, groups that do not align with blocks."""
    cases, scratch = Cases(folder), folder / "scratch"
    with recorded(cases):
        for block in range(0, 40, 2):
            exact.test_random_programs(block, scratch)
        exact.test_random_float_programs(0, scratch)
        for widths in exact.EXTREMES:
            exact.test_long_sums_at_the_extremes(*widths, widths[0] % 2 == 0, scratch)
        for count in (3, 8, 24):
            exact.test_groups_across_blocks(count, scratch)
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
        write_operations(scratch)
        write_grids(scratch)
    return cases.finish()
