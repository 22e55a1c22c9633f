"""What is said of cases that were not used."""

import numpy as np

from unetq.cases import Skipped
from unetq.left_out import record, tell
from unetq.samples import Sample, Samples


def samples(*volumes: str, skipped: tuple[Skipped, ...] = ()) -> Samples:
    image, label = np.zeros((1, 4, 4)), np.zeros((4, 4), np.uint8)
    return Samples([Sample(f"{volume}-{k:03d}", volume, image, label) for volume in volumes for k in (0, 1)], skipped)


def test_nothing_to_say() -> None:
    splits = {"train": samples("a", "b"), "validation": samples("c")}
    assert tell(splits) == [] and record(splits) == {"train": [], "validation": []}


def test_one_case() -> None:
    lost = Skipped("d", "its label is missing.")
    splits = {"train": samples("a", "b", skipped=(lost,)), "validation": samples("c")}
    assert tell(splits) == ["skipped 1 of 4 cases: d: its label is missing."]
    assert record(splits)["train"] == [{"case": "d", "reason": "its label is missing."}]


def test_several_cases_parts_and_what_both_splits_tell() -> None:
    """In a fold both splits are of the same files, and tell of the same losses."""
    lost = tuple(Skipped(f"x{number:02d}", "damaged.") for number in range(25))
    part = Skipped("a", "slices 3-5 of 6 are left out.")
    splits = {"train": samples("a", "b", skipped=(*lost, part)), "validation": samples("c", skipped=(*lost, part))}
    lines = tell(splits)
    assert lines[:2] == ["skipped 25 of 28 cases:", "  x00: damaged."] and lines[21] == "  … and 5 more"
    assert lines[22:] == ["used with a remark, 1 of 28 cases: a: slices 3-5 of 6 are left out."]
