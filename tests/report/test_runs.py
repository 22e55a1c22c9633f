"""Run folders that cannot be read are refused by name, and nothing is written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetq.errors import CheckpointError
from unetq.report import build
from unetq.report.runs import load_run, load_runs

MakeRun = Callable[..., Path]


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def test_a_sound_run(make_run: MakeRun) -> None:
    run = load_run(make_run("em-w4a6"))
    assert run.name == "em-w4a6" and run.metrics.bits.short == "W4A6"
    assert run.metrics.splits["validation"].quoted is run.metrics.splits["validation"].integer
    assert len(run.history) == 300 and "seed: 7" in run.config


BAD_METRICS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "schema": (lambda m: m.update(schema=2), "schema 2"),
    "no schema": (lambda m: m.pop("schema"), "schema None"),
    "dice above 1": (
        lambda m: m["splits"]["validation"]["integer"]["volume_dice"].update(cell=95.0),
        "volume_dice.cell",
    ),
    "no bits": (lambda m: m.pop("bits"), "bits"),
    "bits of text": (lambda m: m["bits"].update(weight="four"), "bits.weight"),
    "no labels": (lambda m: m.update(labels=[]), "labels"),
    "negative bytes": (lambda m: m["cost"].update(weight_bytes=-1), "cost.weight_bytes"),
    "arithmetic": (lambda m: m["splits"]["validation"]["integer"].update(arithmetic="int"), "arithmetic"),
    "no evaluation": (lambda m: m["splits"]["validation"].clear(), "no evaluation"),
}


@pytest.mark.parametrize("case", BAD_METRICS)
def test_wrong_metrics(make_run: MakeRun, tmp_path: Path, case: str) -> None:
    edit, named = BAD_METRICS[case]
    run = make_run("bad")
    change(run / "metrics.json", edit)
    with pytest.raises(CheckpointError, match=named) as caught:
        build([make_run("good"), run], tmp_path / "report")
    assert str(run / "metrics.json") in str(caught.value)
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": NaN}', b"\xff\xfe", b"[" * 100_000])
def test_damaged_metrics(make_run: MakeRun, content: bytes) -> None:
    run = make_run("bad")
    (run / "metrics.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"metrics\.json is damaged"):
        load_run(run)


def test_damaged_neighbours(make_run: MakeRun) -> None:
    for name in ("run.json", "history.jsonl"):
        run = make_run(f"bad-{name}")
        lines = (run / name).read_text().splitlines()
        (run / name).write_text("\n".join(["{broken", *lines]))
        with pytest.raises(CheckpointError, match=name):
            load_run(run)


def test_a_history_cut_short_by_a_kill(make_run: MakeRun) -> None:
    run = make_run("killed")
    text = (run / "history.jsonl").read_text()
    (run / "history.jsonl").write_text(text[:-20])
    assert len(load_run(run).history) == 299


def test_missing_folder_and_missing_metrics(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        load_run(tmp_path / "nowhere")
    run = make_run("unscored")
    (run / "metrics.json").unlink()
    with pytest.raises(CheckpointError, match=f"unetq evaluate {run}"):
        load_run(run)


def test_none_and_twice(make_run: MakeRun) -> None:
    with pytest.raises(CheckpointError, match="no run folder"):
        load_runs([])
    run = make_run("once")
    with pytest.raises(CheckpointError, match="given twice"):
        load_runs([run, run.parent / "." / "once"])


def test_two_runs_of_one_name_are_told_apart(make_run: MakeRun) -> None:
    runs = [make_run("a/x/em"), make_run("b/x/em"), make_run("b/y/em"), make_run("other")]
    assert [run.name for run in load_runs(runs)] == ["a/x/em", "b/x/em", "y/em", "other"]


def test_a_moved_run_goes_by_its_new_name(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run("before").rename(tmp_path / "after")
    assert json.loads((run / "metrics.json").read_text())["run"] == "before"
    assert load_run(run).name == "after"
    monkeypatch.chdir(run)
    assert load_run(Path()).name == load_runs([Path()])[0].name == "after"


@pytest.mark.parametrize("damage", ["truncated", "text", "missing", "shape", "dtype"])
def test_damaged_overlay(make_run: MakeRun, tmp_path: Path, damage: str) -> None:
    run = make_run("bad")
    path = run / "overlays" / "validation" / "em-021.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "text":
        path.write_text("not an archive")
    else:
        if damage == "missing":
            arrays.pop("truth")
        elif damage == "shape":
            arrays["truth"] = arrays["truth"][1:]
        else:
            arrays["prediction"] = arrays["prediction"].astype(np.float32)
        np.savez(path, **arrays)
    with pytest.raises(CheckpointError, match=r"em-021\.npz"):
        build([run], tmp_path / "report")
    assert not (tmp_path / "report").exists()
