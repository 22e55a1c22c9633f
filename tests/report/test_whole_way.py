"""A run as training and evaluation really leave it, on the page: the two sides of the format meet here."""

import json
from pathlib import Path

import pytest
from small_runs import small

from unetq.evaluate import evaluate
from unetq.report import build
from unetq.report.memory import memory_rows
from unetq.report.overlays import load, shown_cases
from unetq.report.runs import load_run
from unetq.report.table import groups_of
from unetq.train import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = train(small(), tmp_path_factory.mktemp("whole") / "w4a6")
    evaluate(folder)
    return folder


def test_everything_that_evaluation_writes_is_read(run: Path) -> None:
    loaded = load_run(run)
    group = groups_of([loaded])[0]
    row = group.rows[0]
    metrics = json.loads((run / "metrics.json").read_text())["splits"]["validation"]
    assert row.evaluation.units and len(row.evaluation.units) == len(metrics["integer"]["cases"])
    for label in group.labels:
        paired = row.paired(label)
        assert paired is not None and paired.n == len(row.evaluation.units)
        assert row.change(label) == metrics["paired"][label]["difference"]
        interval = row.interval(label)
        assert interval is not None and interval.mean == metrics["integer"]["summary"][label]["dice"]["mean"]
    cases = shown_cases(row)
    assert cases and all(load(row, case) for case in cases)
    assert loaded.layers is not None and loaded.layers.activations.images == 2
    convolutions = [layer for layer in loaded.layers.layers if layer.weight is not None]
    assert {layer.weight_bits for layer in convolutions} == {4, 8}
    assert len(memory_rows(group)) == 2


def test_the_page_shows_it(run: Path, tmp_path: Path) -> None:
    html = build([run], tmp_path / "report").read_text()
    for expected in ('class="viewer"', 'class="histogram"', "Memory and speed", "Every slice", "Training", "95 %"):
        assert expected in html, expected
    assert str(run.parent) not in html.replace((run / "config.yaml").read_text(), "")
