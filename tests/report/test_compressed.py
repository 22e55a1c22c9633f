"""The report of a compressed run: every choice that was tried, before and after fine-tuning, and the limits."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unetq.errors import CheckpointError
from unetq.report import build
from unetq.report.compressed import Compressed


def bits(*widths: int) -> dict[str, dict[str, int]]:
    return {"weight": {f"layer.{i}": b for i, b in enumerate(widths)}, "tensor": {"#input": 8, "layer.0": 4}}


def record() -> dict[str, Any]:
    tried = [
        {"size": 900_000.0, "memory": 5e6, "mean_dice": 0.90, "bits": bits(4, 4), "kept": True, "dice": {}},
        {"size": 500_000.0, "memory": 5e6, "mean_dice": 0.85, "bits": bits(2, 3), "kept": False, "dice": {}},
        {"size": 600_000.0, "memory": 5e6, "mean_dice": 0.87, "bits": bits(3, 3), "kept": True, "dice": {}},
    ]
    tuning = [
        {"size": 600_064.0, "memory": 5e6, "mean_dice": 0.902, "bits": bits(3, 3), "steps": 400, "missing": []},
        {"size": 500_064.0, "memory": 5e6, "mean_dice": 0.88, "bits": bits(2, 3), "steps": 400,
         "missing": ["max-dice-drop"]},
    ]  # fmt: skip
    chosen = {
        "bits": bits(3, 3), "predicted": {"size": 600_064.0, "memory": 5e6, "latency": 0.0123},
        "measured": {"size": 600_064.0, "memory": 5e6, "latency": 0.0130}, "mean_dice": 0.902,
        "fine_tuned_steps": 300, "uniform": {"W4": 950_000},
    }  # fmt: skip
    return {
        "schema": 1, "budget": {"max_dice_drop_points": 0.5, "target_size_bytes": 1_000_000, "min_dice": {}},
        "effort": "hour", "by": "divergence", "seconds": 1800.0, "float": {"mean_dice": 0.905}, "tried": tried,
        "tuning": tuning, "chosen": chosen,
    }  # fmt: skip


def with_record(run: Path, values: dict[str, Any]) -> Path:
    (run / "compress.json").write_text(json.dumps(values))
    return run


def test_points_are_merged() -> None:
    found = Compressed.model_validate(record())
    assert [(p.before, p.after, p.inside, p.is_chosen) for p in found.points] == [
        (0.85, 0.88, False, False), (0.87, 0.902, True, True), (0.90, None, True, False)
    ]  # fmt: skip
    assert found.floor == pytest.approx(0.90)
    assert found.points[0].bits.short == "W2–3 A4–8"
    untuned = record() | {"tuning": []}
    untuned["chosen"] = untuned["chosen"] | {"bits": bits(4, 4), "mean_dice": 0.90}
    assert [p.is_chosen for p in Compressed.model_validate(untuned).points] == [False, False, True]


@pytest.mark.parametrize("times", [0, 2])
def test_a_solver_without_time_is_told(make_run: Callable[..., Path], tmp_path: Path, times: int) -> None:
    run = with_record(make_run("a"), record() | {"unproven_choices": times})
    page = build([run], tmp_path / "report").read_text(encoding="utf-8")
    assert (f"time was over {times} times" in page) is (times > 0)


def test_the_page_and_the_notes_have_them(make_run: Callable[..., Path], tmp_path: Path) -> None:
    page = build([with_record(make_run("small"), record()), make_run("other")], tmp_path / "report")
    html, notes = page.read_text(), page.with_suffix(".md").read_text()
    assert html.count("Bits under a budget: what was tried (3)") == 1
    plot = next(svg for svg in re.findall(r'<svg class="chart".*?</svg>', html, re.S) if "Choices of bits" in svg)
    assert plot.count('class="dot-before"') == 3 and plot.count('class="dot-low"') == 2
    assert plot.count('class="ring"') == 1 and plot.count('class="whisker"') == 2
    assert plot.count('class="divider"') == 2  # the least Dice and the most bytes
    assert "mean Dice at most 0.5 points below float; file at most 977 KiB" in html
    assert "12.3 ms" in html and "13.0 ms" in html and "W4 928 KiB" in html
    assert "| W3 A4–8 (chosen) | 586 KiB |" in notes and "weights layer.0 3, layer.1 3" in notes


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema": 2}, "compress.json"),
        ({"tried": [{"size": -1.0}]}, "tried.0"),
        ({"float": {"mean_dice": 1.5}}, "float.mean_dice"),
    ],
)
def test_a_damaged_record_is_named(
    make_run: Callable[..., Path], tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    run = with_record(make_run("small"), record() | change)
    with pytest.raises(CheckpointError, match=told):
        build([run], tmp_path / "report")


def test_one_point_is_a_plot_too(make_run: Callable[..., Path], tmp_path: Path) -> None:
    values = record()
    values |= {"tried": values["tried"][:1], "tuning": [], "budget": {"target_size_bytes": 1_000_000}}
    values["chosen"] |= {"bits": bits(4, 4)}
    html = build([with_record(make_run("small"), values)], tmp_path / "report").read_text()
    assert "nan" not in html.lower().split("<style>")[0] and "what was tried (1)" in html
