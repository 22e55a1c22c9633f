"""Dots and their names in the plot of Dice against memory."""

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import ImageFont

from unetq.report.dots import dots_of
from unetq.report.labels import LONGEST, Box, place, shortened, text_width
from unetq.report.runs import load_runs
from unetq.report.table import groups_of

MakeRun = Callable[..., Path]
AREA = Box(48.0, 22.0, 456.0, 258.0)
RADIUS = 6.0


def around(x: float, y: float) -> Box:
    return Box(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS)


def rows_of(kind: str) -> list[tuple[float, float, str]]:
    rng = np.random.default_rng(5)
    if kind == "corners":
        return [(50, 30, "first-run"), (454, 30, "second-run"), (50, 256, "third-run"), (454, 256, "fourth-run")]
    if kind == "column":
        return [(200.0, 60.0 + 9 * k, f"em-w{k}a{k}-seed{k}") for k in range(8)]
    if kind == "one spot":
        return [(300.0, 150.0, f"em-w4a6-seed{k}") for k in range(6)]
    spread = {"crowd": 22.0, "wide": 90.0}[kind]
    return [
        (
            float(np.clip(rng.normal(250, spread), 60, 440)),
            float(np.clip(rng.normal(140, spread), 40, 250)),
            f"W{k}A{k}",
        )
        for k in range(16)
    ]


@pytest.mark.parametrize("kind", ["corners", "column", "one spot", "crowd", "wide"])
def test_names_cover_neither_each_other_nor_a_dot(kind: str) -> None:
    dots = rows_of(kind)
    labels = place(dots, RADIUS, AREA)
    assert [label.text for label in labels] == [name for _, _, name in dots]
    for one, two in combinations(labels, 2):
        assert one.box.overlap(two.box) == 0, (one, two)
    for label, (own_x, own_y, _) in zip(labels, dots, strict=True):
        assert all(label.box.overlap(around(x, y)) == 0 for x, y, _ in dots), label
        assert AREA.left <= label.box.left + 1e-6 and label.box.right <= AREA.right + 1e-6
        assert AREA.top <= label.box.top + 1e-6 and label.box.bottom <= AREA.bottom + 1e-6
        end_x, end_y = label.box.nearest(own_x, own_y)
        near = np.hypot(end_x - own_x, end_y - own_y) < 17
        assert near or label.leader == (own_x, own_y, end_x, end_y)  # far from its dot: tied to it


def test_a_lone_dot_has_its_name_above_and_no_line() -> None:
    (label,) = place([(250.0, 140.0, "W4A6")], RADIUS, AREA)
    assert label.leader is None and label.box.bottom < 140 - RADIUS
    assert (label.box.left + label.box.right) / 2 == pytest.approx(250)


@pytest.mark.parametrize("text", ["W4A6", "em-w4a6-seed3", "float32 of em-w4a6", "WIDE_MMM", "illicit-fill"])
def test_names_are_not_wider_than_thought(text: str) -> None:
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    drawn = ImageFont.truetype(str(folder / "DejaVuSans-Bold.ttf"), 1000).getlength(text) * 11 / 1000
    assert drawn <= text_width(text) <= 1.5 * drawn


def test_long_names_keep_their_end() -> None:
    name = "an-experiment-with-a-very-long-name-seed17"
    assert len(shortened(name)) == LONGEST and shortened(name).endswith("seed17") and "…" in shortened(name)
    assert shortened("em-w4a6") == "em-w4a6"


def names(runs: list[Path]) -> list[str]:
    return [dot.name for dot in dots_of(groups_of(load_runs(runs))[0], "cell")]


def test_one_dot_a_float_network(make_run: MakeRun) -> None:
    low = [make_run("a", 4, 6), make_run("b", 8, 8)]
    assert names(low) == ["W4A6", "W8A8", "float32"]
    assert names([make_run("float", 32, 32), *low]) == ["float32", "W4A6", "W8A8"]


def test_rounding_does_not_make_a_second_float_network(make_run: MakeRun) -> None:
    a, b = make_run("a", 4, 6), make_run("b", 8, 8)
    shift(b, 1e-6)
    assert names([a, b]) == ["W4A6", "W8A8", "float32"]


def test_two_float_networks_have_two_names(make_run: MakeRun) -> None:
    a, b = make_run("a", 4, 6), make_run("b", 8, 8)
    shift(b, -1e-3)
    assert names([a, b]) == ["W4A6", "W8A8", "float32 of W4A6", "float32 of W8A8"]


def test_no_dot_for_a_low_bit_run_with_its_quantisers_off(make_run: MakeRun) -> None:
    run = make_run("low")
    metrics = json.loads((run / "metrics.json").read_text())
    split = metrics["splits"]["validation"]
    split["float"] = split.pop("integer") | {"arithmetic": "float32"}
    (run / "metrics.json").write_text(json.dumps(metrics))
    assert names([run, make_run("other", 8, 8)]) == ["W8A8", "float32"]


def shift(run: Path, by: float) -> None:
    """Another Dice for the run's float reference."""
    metrics = json.loads((run / "metrics.json").read_text())
    reference = metrics["splits"]["validation"]["float_reference"]
    for scores in (reference["volume_dice"], *(score["dice"] for score in reference["slices"])):
        scores["cell"] += by
    (run / "metrics.json").write_text(json.dumps(metrics))
