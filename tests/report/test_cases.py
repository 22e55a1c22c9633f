"""Runs of several cases: intervals, paired changes, seeds, sites, memory, the paper; on the page and beside."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from case_runs import edit, split_of

from unetq.errors import CheckpointError
from unetq.report import build, units
from unetq.report.casetable import case_table
from unetq.report.memory import COLUMNS, memory_rows
from unetq.report.published import POINTS, published
from unetq.report.runs import load_run, load_runs
from unetq.report.seeds import configurations_of
from unetq.report.sites import site_tables
from unetq.report.table import groups_of

MakeRun = Callable[..., Path]
GREY = "grey matter"


def test_the_change_is_the_paired_one_with_its_interval(make_case_run: MakeRun, tmp_path: Path) -> None:
    run = make_case_run("gm-w4a6", error=0.5)
    row = groups_of([load_run(run)])[0].rows[0]
    paired = split_of(run)["paired"][GREY]
    assert row.change(GREY) == paired["difference"] < -0.01
    assert row.change_stands_out(GREY)
    interval = row.interval(GREY)
    assert interval is not None and interval.low == split_of(run)["integer"]["summary"][GREY]["dice"]["low"]
    html = build([run], tmp_path / "report").read_text()
    assert f"({units.points(paired['low'])} to {units.points(paired['high'])})" in html
    assert "p = 0.016" in html and "Wilcoxon signed-rank, 7 matched" in html
    assert f"95 % {units.percent(interval.low)}–{units.percent(interval.high)}" in html
    assert "BCa; samples 2000" in html.replace("method ", "")


@pytest.mark.parametrize(
    ("low", "high", "p", "coloured"),
    [
        (-0.02, -0.001, 0.016, True),
        (-0.02, -0.001, None, True),
        (-0.02, -0.001, 0.125, False),  # few cases: the interval is narrow, the test knows better
        (-0.02, 0.001, 0.016, False),
        (0.001, 0.02, 0.016, True),
    ],
)
def test_a_change_is_coloured_where_interval_and_test_exclude_zero(
    make_case_run: MakeRun, tmp_path: Path, low: float, high: float, p: float | None, coloured: bool
) -> None:
    changed = {"difference": (low + high) / 2, "low": low, "high": high, "p": p}
    run = edit(make_case_run("gm"), lambda m: m["splits"]["validation"]["paired"][GREY].update(changed))
    row = groups_of([load_run(run)])[0].rows[0]
    assert row.change_stands_out(GREY) is coloured
    html = build([run], tmp_path / "report").read_text()
    assert ('class="change loss"' in html or 'class="change gain"' in html) is coloured


def test_no_paired_figure_against_a_float_run_that_is_not_the_own(make_case_run: MakeRun) -> None:
    """The paired record is of the network it was tuned from; beside another one it would be a wrong figure."""
    low = edit(make_case_run("low"), lambda m: m["splits"]["validation"].pop("float_reference"))
    row = groups_of(load_runs([make_case_run("float", 32, 32), low]))[0].rows[1]
    assert row.reference_source == "the run float" and row.paired(GREY) is None
    assert row.change(GREY) == pytest.approx(-row.drop(GREY))  # type: ignore[operator]


def test_background_has_no_column(make_case_run: MakeRun, tmp_path: Path) -> None:
    run = make_case_run("gm")
    group = groups_of([load_run(run)])[0]
    assert group.labels == ("background", GREY) and group.shown == (GREY,)
    html = build([run], tmp_path / "report").read_text()
    assert "Dice, background" not in html and f"Dice, {GREY}" in html
    with open(tmp_path / "report" / "report.csv", newline="") as handle:
        assert "dice_background" in next(csv.DictReader(handle))


def test_the_table_of_cases(make_case_run: MakeRun) -> None:
    row = groups_of([load_run(make_case_run("gm"))])[0].rows[0]
    table = case_table(row, (GREY,))
    assert table.unit == "case" and table.first == ("case", "site", "slices")
    assert [column.title for column in table.columns] == [
        "W4A6", "float", "change", "IoU", "HD95, mm", "NSD", "volume, ml", "true, ml", "error, %",
    ]  # fmt: skip
    assert [line.first[0] for line in table.rows] == [f"sub-{number:02d}" for number in range(1, 8)]
    dice = [line.cells[0].value for line in table.rows]
    assert table.foot[0].cells[0].value == pytest.approx(np.mean(dice))  # type: ignore[arg-type]
    assert table.foot[1].cells[0].value == pytest.approx(np.std(dice, ddof=1))  # type: ignore[arg-type]
    for line in table.rows:
        mine, theirs, change = (cell.value for cell in line.cells[:3])
        assert change == pytest.approx(mine - theirs)  # type: ignore[operator]


def test_undefined_metrics_are_dashes_and_not_in_a_mean(make_case_run: MakeRun) -> None:
    def lose(metrics: dict[str, Any]) -> None:
        for name in ("integer", "float_reference"):
            metrics["splits"]["validation"][name]["cases"][0]["classes"][GREY].update(dice=None, hd95_mm=None)

    row = groups_of([load_run(edit(make_case_run("gm"), lose))])[0].rows[0]
    table = case_table(row, (GREY,))
    assert [cell.text for cell in table.rows[0].cells[:3]] == ["–", "–", "–"]
    rest = [line.cells[0].value for line in table.rows[1:]]
    assert table.foot[0].cells[0].value == pytest.approx(np.mean(rest))  # type: ignore[arg-type]


def test_seeds_of_a_configuration_are_gathered(make_case_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_case_run(f"w4a6-s{seed}", 4, 6, seed=seed) for seed in (3, 1, 2)]
    runs.append(make_case_run("w2a2", 2, 2, seed=1))
    other = make_case_run("w4a6-long", 4, 6, seed=1)
    (other / "config.yaml").write_text((other / "config.yaml").read_text().replace('"seed"', '"steps": 9, "seed"'))
    group = groups_of(load_runs([*runs, other]))[0]
    found = configurations_of(group)
    assert [[row.run.name for row in item.rows] for item in found] == [
        ["w4a6-s3", "w4a6-s1", "w4a6-s2"], ["w2a2"], ["w4a6-long"],
    ]  # fmt: skip
    assert [item.name for item in found] == ["w4a6", "W2A2", "w4a6-long"]
    assert found[0].seeds == (1, 2, 3)
    dice = [row.dice(GREY) for row in found[0].rows]
    spread = found[0].dice(GREY)
    assert spread is not None and spread.count == 3
    assert (spread.mean, spread.low, spread.high) == pytest.approx((np.mean(dice), min(dice), max(dice)))  # type: ignore[arg-type, type-var]
    html = build([*runs, other], tmp_path / "report").read_text()
    assert "Over seeds" in html and f"{units.percent(spread.low)}–{units.percent(spread.high)}" in html
    data = json.loads((tmp_path / "report" / "report.json").read_text())
    first = data["configurations"][1]
    assert (first["class"], first["seeds"], first["dice"][0]) == (GREY, [1, 2, 3], pytest.approx(spread.mean))


def test_a_seed_twice_is_not_one_configuration(make_case_run: MakeRun) -> None:
    group = groups_of(load_runs([make_case_run("a"), make_case_run("b")]))[0]
    assert [len(item.rows) for item in configurations_of(group)] == [1, 1]


def test_sites(make_case_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_case_run("float", 32, 32), make_case_run("low", error=0.6)]
    tables = site_tables(groups_of(load_runs(runs))[0])
    assert len(tables) == 1 and tables[0].sites == (("Montréal", 4), ("Zürich", 3))
    assert [name for name, _ in tables[0].rows] == ["float", "low"]  # the float reference is the float run: once
    by_site = split_of(runs[1])["integer"]["by_site"]
    assert tables[0].rows[1][1] == tuple(by_site[site][GREY]["dice"] for site in ("Montréal", "Zürich"))
    assert "Zürich" in build(runs, tmp_path / "a").read_text()
    nowhere = make_case_run("nowhere", sites=())
    assert site_tables(groups_of([load_run(nowhere)])[0]) == []


def test_memory_of_float_and_low_bits(make_case_run: MakeRun, tmp_path: Path) -> None:
    low, binary = make_case_run("w4a6"), make_case_run("w2a2", 2, 2)
    rows = memory_rows(groups_of(load_runs([binary, low]))[0])
    assert [row.name for row in rows] == ["float32", "W4A6", "W2A2"]  # float from the low-bit runs' own record
    cost = json.loads((low / "metrics.json").read_text())["cost"]
    names = [name for name, *_ in COLUMNS]
    assert rows[0].values == tuple(cost[f"float_{name}"] for name in names)
    assert rows[1].values == tuple(cost[name] for name in names)
    assert rows[1].speed == pytest.approx(cost["float_latency"]["seconds"] / cost["latency"]["seconds"])
    html = build([low], tmp_path / "report").read_text()
    assert units.bytes_text(cost["process_peak_bytes"]) in html and "28.0 ms" in html and "avx2" in html


def test_beside_the_paper(make_case_run: MakeRun, tmp_path: Path) -> None:
    low = make_case_run("gm-w4a6")
    group = groups_of([load_run(low)])[0]
    found = published(group)
    assert found is not None and found.points == POINTS["gm"] == -0.57
    assert found.rows == (("gm-w4a6", ((GREY, group.rows[0].change(GREY)),)),)
    html = build([low], tmp_path / "a").read_text()
    assert "Beside the paper" in html and "−0.57" in html and "Not the same experiment" in html
    assert published(groups_of([load_run(make_case_run("w8a8", 8, 8))])[0]) is None
    assert published(groups_of([load_run(make_case_run("mine", dataset="mine"))])[0]) is None


@pytest.mark.parametrize(("cases", "warned"), [(2, True), (7, False)])
def test_few_cases_claim_nothing(make_case_run: MakeRun, tmp_path: Path, cases: int, warned: bool) -> None:
    run = make_case_run("gm", cases=cases)
    assert ("claim nothing about others" in build([run], tmp_path / "report").read_text()) is warned
    assert ("claim nothing about others" in (tmp_path / "report" / "report.md").read_text()) is warned


def test_what_was_left_out_is_named(make_case_run: MakeRun, tmp_path: Path) -> None:
    html = build([make_case_run("gm")], tmp_path / "report").read_text()
    assert "Left out: 1 case" in html and "The mask lies on another grid." in html
    assert "sub-99 (validation): The mask lies on another grid." in (tmp_path / "report" / "report.md").read_text()


def test_cases_as_csv(make_case_run: MakeRun, tmp_path: Path) -> None:
    run = make_case_run("gm")
    build([run], tmp_path / "report")
    with open(tmp_path / "report" / "cases.csv", newline="") as handle:
        table = list(csv.DictReader(handle))
    assert len(table) == 7 * 2
    wanted = split_of(run)["integer"]["cases"][0]
    line = next(row for row in table if (row["case"], row["class"]) == ("sub-01", GREY))
    for name, value in wanted["classes"][GREY].items():
        assert float(line[name]) == pytest.approx(value)
    assert (line["site"], line["slices"], line["bits"]) == ("Montréal", "5", "W4A6")
    assert float(line["change"]) == pytest.approx(float(line["dice"]) - float(line["float_dice"]))


def test_markdown_is_tables_without_markup_of_names(make_case_run: MakeRun, tmp_path: Path) -> None:
    run = make_case_run("a|b_*c", 4, 6)
    build([run], tmp_path / "report", title="x <script> | y")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "a\\|b\\_\\*c" in text and "<script>" not in text.replace("\\<script\\>", "")
    for block in text.split("\n\n"):
        lines = block.splitlines()
        if lines[0].startswith("| "):
            columns = {line.replace("\\|", "").count("|") for line in lines}
            assert len(columns) == 1 and set(lines[1]) <= set("|- ")


def test_layers_are_drawn(make_case_run: MakeRun, tmp_path: Path) -> None:
    run = make_case_run("gm")
    html = build([run], tmp_path / "a").read_text()
    assert html.count('class="histogram"') == 12 and "codes −8 to 7, most often 0" in html
    assert html.count('class="number warned"') == 3  # above 5 % at the ends
    (run / "layers.json").unlink()
    assert 'class="histogram"' not in build([run], tmp_path / "b").read_text()


@pytest.mark.parametrize(
    "damage",
    [
        lambda found: found["layers"][0]["weight"]["histogram"].update(counts=[]),
        lambda found: found["layers"][0]["weight"]["histogram"].update(counts=[-1]),
        lambda found: found["layers"][0].update(weight_bits="four"),
        lambda found: found.update(schema=2),
    ],
)
def test_damaged_layers_are_named(make_case_run: MakeRun, damage: Callable[[dict[str, Any]], object]) -> None:
    run = make_case_run("gm")
    found = json.loads((run / "layers.json").read_text())
    damage(found)
    (run / "layers.json").write_text(json.dumps(found))
    with pytest.raises(CheckpointError, match=r"layers\.json is damaged"):
        load_run(run)


def test_figures_in_words() -> None:
    assert [units.probability(v) for v in (0.0004, 0.0123, 0.5, None)] == ["p < 0.001", "p = 0.012", "p = 0.50", ""]
    assert [units.share(v) for v in (0.0, 0.00001, 0.004, 0.25, None)] == ["0", "<0.01 %", "0.40 %", "25.0 %", "–"]
    assert [units.milliseconds(v) for v in (0.0005, 0.0412, 2.5, None)] == ["0.50 ms", "41.2 ms", "2.50 s", "–"]
