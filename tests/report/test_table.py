"""Who is compared with whom."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from unetq.report import units
from unetq.report.runs import load_run, load_runs
from unetq.report.table import csv_text, groups_of

MakeRun = Callable[..., Path]


def edit(run: Path, **changes: object) -> Path:
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps(metrics | changes))
    return run


def test_the_own_float_reference_comes_first(make_run: MakeRun) -> None:
    group = groups_of(load_runs([make_run("float", 32, 32), make_run("low", 4, 6)]))[0]
    assert group.rows[0].reference is None and group.rows[0].is_float
    assert group.rows[1].reference_source == "the float network it was tuned from"


def test_a_float_run_of_the_same_network_and_seed_stands_in(make_run: MakeRun) -> None:
    other = edit(make_run("other-seed", 32, 32), seed=1)
    same = make_run("same-seed", 32, 32)
    low = make_run("low", 4, 6, reference=False)
    row = groups_of(load_runs([other, same, low]))[0].rows[2]
    assert row.reference_source == "the run same-seed"
    assert row.drop("cell") == pytest.approx(row.reference.volume_dice["cell"] - row.dice("cell"))  # type: ignore[union-attr, operator]


def test_no_reference_is_better_than_a_wrong_one(make_run: MakeRun) -> None:
    network = edit(make_run("other-network", 32, 32), network={"name": "unet", "parameters": 10})
    row = groups_of(load_runs([network, make_run("low", 4, 6, reference=False)]))[0].rows[1]
    assert row.reference is None and row.drop("cell") is None and row.change("cell") is None


def test_other_slices_are_another_group(make_run: MakeRun) -> None:
    groups = groups_of(load_runs([make_run("four"), make_run("six", slices=6), make_run("set", slices=4)]))
    assert [[row.run.name for row in group.rows] for group in groups] == [["four", "set"], ["six"]]


def test_equal_bits_are_told_apart_by_name(make_run: MakeRun) -> None:
    group = groups_of(load_runs([make_run("a"), make_run("b"), make_run("c", 8, 8)]))[0]
    assert [group.row_label(row) for row in group.rows] == ["a", "b", "W8A8"]


def test_sentence(make_run: MakeRun) -> None:
    row = groups_of([load_run(make_run("low", 4, 6))])[0].rows[0]
    assert "weights 8.0× smaller and peak activations 5.3× smaller" in row.sentence
    assert "points against float" in row.sentence


def test_csv_columns_are_the_union() -> None:
    text = csv_text([{"run": "a", "dice_x": 0.5}, {"run": "b,c", "dice_y": None}])
    assert text == 'run,dice_x,dice_y\na,0.5,\n"b,c",,\n'


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "–"), (0, "0 B"), (1023, "1023 B"), (1536, "1.50 KiB"), (19_348_996, "18.5 MiB"), (3 << 30, "3.00 GiB")],
)
def test_bytes(value: int | None, expected: str) -> None:
    assert units.bytes_text(value) == expected


def test_signs_and_times() -> None:
    assert [units.points(v) for v in (-0.0221, 0.0005, 0.00001, None)] == ["−2.21", "+0.05", "±0.00", "–"]
    assert [units.seconds_text(v) for v in (1.25, 59.4, 185, 7800)] == ["1.2 s", "59 s", "3 min 05 s", "2 h 10 min"]
    assert units.ratio(8, 1) == "8.0×" and units.ratio(None, 1) == units.ratio(100, 99) == units.ratio(4, 4) == ""
