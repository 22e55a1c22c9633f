"""Who is compared with whom."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from unetq.report import units
from unetq.report.records import csv_text, records
from unetq.report.runs import load_run, load_runs
from unetq.report.table import groups_of

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


def test_other_pixels_are_another_group(make_run: MakeRun) -> None:
    """The slices' names are the same; only the digest tells."""
    one, two = make_run("one"), make_run("two")
    other = edit(make_run("other"), digests={"validation": "00" * 16})
    unknown, unknown2 = edit(make_run("unknown"), digests={}), edit(make_run("unknown2"), digests={"test": "5f" * 16})
    groups = groups_of(load_runs([one, other, unknown, two, unknown2]))
    assert [[row.run.name for row in group.rows] for group in groups] == [
        ["one", "two"],
        ["other"],
        ["unknown", "unknown2"],
    ]
    assert [group.digest for group in groups] == ["5f" * 16, "00" * 16, None]
    assert [group.tag for group in groups] == ["1 of 3", "2 of 3", "3 of 3"]
    assert [record["digest"] for record in records(groups)] == ["5f" * 16] * 2 + ["00" * 16] + [None] * 2


def test_a_float_run_on_other_pixels_is_no_reference(make_run: MakeRun) -> None:
    low = make_run("low", 4, 6, reference=False)
    other = edit(make_run("float", 32, 32), digests={"validation": "00" * 16})
    rows = {row.run.name: row for group in groups_of(load_runs([low, other])) for row in group.rows}
    assert rows["low"].reference is None


@pytest.mark.parametrize("options", [{"base": 32}, {}, None])
def test_a_float_run_with_other_network_options_is_no_reference(
    make_run: MakeRun, options: dict[str, int] | None
) -> None:
    low = make_run("low", 4, 6, reference=False)
    network = json.loads((low / "metrics.json").read_text())["network"]
    other = edit(make_run("float", 32, 32), network=network | {"options": options})
    assert groups_of(load_runs([low, other]))[0].rows[0].reference is None
    same = edit(other, network=network)
    assert groups_of(load_runs([low, same]))[0].rows[0].reference_source == "the run float"


def test_each_split_has_its_own_note(make_run: MakeRun) -> None:
    run = make_run("low")
    metrics = json.loads((run / "metrics.json").read_text())
    splits = metrics["splits"] | dict.fromkeys(("test", "train"), metrics["splits"]["validation"])
    edit(run, splits=splits, notes=metrics["notes"] | {"test": "never seen before"})
    notes = {group.split: group.notes for group in groups_of([load_run(run)])}
    assert notes == {
        "validation": ("these slices also chose the checkpoint",),
        "test": ("never seen before",),
        "train": ("synthetic membranes made for a test",),  # the general one
    }


def with_changes(run: Path, changes: list[float]) -> Path:
    """The run's cell Dice becomes its float reference's plus ``changes``, one a slice."""
    metrics = json.loads((run / "metrics.json").read_text())
    split = metrics["splits"]["validation"]
    for mine, theirs, change in zip(
        split["integer"]["slices"], split["float_reference"]["slices"], changes, strict=True
    ):
        mine["dice"]["cell"] = theirs["dice"]["cell"] + change
    mean = sum(changes) / len(changes)
    split["integer"]["volume_dice"]["cell"] = split["float_reference"]["volume_dice"]["cell"] + mean
    return edit(run, splits=metrics["splits"])


@pytest.mark.parametrize(
    ("changes", "deviation", "stands_out"),
    [
        ([-0.010, -0.011, -0.009, -0.010], 0.000816, True),
        ([-0.040, 0.0, 0.0, 0.0], 0.02, False),  # as large in the mean, but all on one slice
        ([0.0, 0.0, 0.0, 0.0], 0.0, False),
        ([-0.020], None, False),  # one slice says nothing about the spread
    ],
)
def test_a_change_stands_out_beyond_its_spread_over_slices(
    make_run: MakeRun, changes: list[float], deviation: float | None, stands_out: bool
) -> None:
    run = with_changes(make_run("low", slices=len(changes)), changes)
    group = groups_of([load_run(run)])[0]
    row = group.rows[0]
    spread = row.change_spread("cell")
    assert spread is not None
    assert spread.deviation == (None if deviation is None else pytest.approx(deviation, rel=1e-2, abs=1e-12))
    assert (spread.low, spread.high) == pytest.approx((min(changes), max(changes)))
    assert row.change_stands_out("cell") is stands_out
    assert ("within the spread over slices" in row.sentence.rpartition("on cell")[2]) is not stands_out
    record = records([group])[0]
    own = [score.dice["cell"] for score in row.evaluation.slices]
    assert (record["slice_dice_min_cell"], record["slice_dice_max_cell"]) == (min(own), max(own))
    assert (record["drop_sd_points_cell"] is None) is (deviation is None)


def test_quantisers_off_alone_is_no_score_of_the_low_bit_run(make_run: MakeRun) -> None:
    run = make_run("low")
    split = json.loads((run / "metrics.json").read_text())["splits"]["validation"]
    split["float"] = split.pop("integer") | {"arithmetic": "float32"}
    row = groups_of([load_run(edit(run, splits={"validation": split}))])[0].rows[0]
    assert row.is_unquantised and row.drop("cell") is None


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
