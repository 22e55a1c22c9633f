"""The report as a whole: what it writes, what it says, that it needs nothing else."""

import csv
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from unetq.errors import OutputError
from unetq.report import build

MakeRun = Callable[..., Path]


class Balance(HTMLParser):
    """Every element that is opened is closed in order; ids are unique; references meet an id."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: set[str] = set()
        self.remote: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "input"):
            self.open.append(tag)
        self._look(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._look(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing at {self.getpos()}"

    def _look(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
            if name in ("href", "src") and value:
                if value.startswith("#"):
                    self.references.add(value[1:])
                elif not value.startswith("data:"):
                    self.remote.append(value)


@pytest.fixture
def runs(make_run: MakeRun) -> list[Path]:
    return [
        make_run("em-float", 32, 32),
        make_run("em-w8a8", 8, 8, error=0.011),
        make_run("em-w4a6", 4, 6, error=0.02),
    ]


FILES = ["cases.csv", "report.csv", "report.html", "report.json", "report.md"]


def test_five_files_and_nothing_else(runs: list[Path], tmp_path: Path) -> None:
    page = build(runs, tmp_path / "a" / "report")
    assert page == tmp_path / "a" / "report" / "report.html"
    assert sorted(path.name for path in page.parent.iterdir()) == FILES


def test_page_is_sound_and_alone(runs: list[Path], tmp_path: Path) -> None:
    html = build(runs, tmp_path / "report").read_text()
    checker = Balance()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    assert checker.remote == []
    assert len(checker.ids) == len(set(checker.ids))
    assert checker.references <= set(checker.ids)
    assert not re.search(r"https?://|@import|<link|<img|\bfetch\(|XMLHttpRequest|WebSocket|\beval\(", html)
    assert html.count("<script>") == 1  # and the pictures' lists, which are data
    assert set(re.findall(r"<script[^>]*>", html)) == {"<script>", '<script type="application/json">'}
    assert str(tmp_path) not in html


def test_page_says_what_is_integer_and_what_is_lost(runs: list[Path], tmp_path: Path) -> None:
    html = build(runs, tmp_path / "report", title="Two <b>bits</b>").read_text()
    assert "Two &lt;b&gt;bits&lt;/b&gt;" in html and "Two <b>" not in html
    for expected in ("W4A6", "W8A8", "float32", 'class="badge integer"', "against float", "A class empty in truth"):
        assert expected in html
    assert html.count('class="viewer"') == 3  # the slices of one volume, once a run
    assert html.count("data:image/jpeg") == 4  # one image a slice, however many runs and panels show it


def test_csv_and_json_agree_with_metrics(runs: list[Path], tmp_path: Path) -> None:
    build(runs, tmp_path / "report")
    with open(tmp_path / "report" / "report.csv", newline="") as handle:
        table = list(csv.DictReader(handle))
    data = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [row["run"] for row in table] == [row["run"] for row in data["runs"]] == ["em-float", "em-w8a8", "em-w4a6"]
    metrics = json.loads((runs[2] / "metrics.json").read_text())
    split = metrics["splits"]["validation"]
    for label in metrics["labels"]:
        lost = 100 * (split["float_reference"]["volume_dice"][label] - split["integer"]["volume_dice"][label])
        assert lost > 0.1  # the fixture's low-bit network is worse, or this test shows nothing
        assert float(table[2][f"drop_points_{label}"]) == pytest.approx(lost, abs=1e-4)
        assert data["runs"][2][f"dice_{label}"] == split["integer"]["volume_dice"][label]
    assert table[2]["arithmetic"] == "integer" and table[0]["arithmetic"] == "float32"
    assert table[0]["drop_points_cell"] == "" and data["runs"][0]["drop_points_cell"] is None
    assert int(table[2]["weight_bytes"]) == metrics["cost"]["weight_bytes"]


def test_same_input_gives_the_same_bytes(runs: list[Path], tmp_path: Path) -> None:
    first, second = build(runs, tmp_path / "a"), build(runs, tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()


def test_a_run_without_the_optional_files(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("bare")
    for name in ("run.json", "config.yaml", "history.jsonl"):
        (run / name).unlink()
    for picture in (run / "overlays" / "validation").iterdir():
        picture.unlink()
    html = build([run], tmp_path / "report").read_text()
    assert "No training history" in html and "No run.json" in html


def test_hostile_names_are_escaped(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("x")
    text = (run / "metrics.json").read_text().replace("membrane", "</svg><script>")
    (run / "metrics.json").write_text(text)
    (run / "config.yaml").write_text("name: <img src=x onerror=alert(1)>\n")
    html = build([run], tmp_path / "report").read_text()
    assert "</svg><script>" not in html and "<img" not in html and html.count("<script>") == 1


def test_output_that_is_a_file(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(OutputError, match="taken"):
        build([make_run("x")], tmp_path / "taken")
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize("changes", [{"first": 32}, {"float_layers": ["encoder.0.*", "head"]}])
def test_layers_kept_in_float_are_named(make_run: MakeRun, tmp_path: Path, changes: dict[str, object]) -> None:
    plain, mixed = make_run("plain"), make_run("mixed")
    metrics = json.loads((mixed / "metrics.json").read_text())
    metrics["bits"] |= changes
    (mixed / "metrics.json").write_text(json.dumps(metrics))
    assert "Not all of it is integer" not in build([plain], tmp_path / "a").read_text()
    html = build([mixed], tmp_path / "b").read_text()
    assert "Not all of it is integer" in html and "within 1e-5 of the range" in html


def test_changes_are_coloured_only_beyond_the_spread(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("low", error=0.011)
    metrics = json.loads((run / "metrics.json").read_text())
    split = metrics["splits"]["validation"]
    theirs = split["float_reference"]
    for lost, expected in (([0.02, -0.02, 0.02, -0.018], 0), ([0.02, 0.021, 0.02, 0.019], 4)):
        for label in metrics["labels"]:
            for mine, other, change in zip(split["integer"]["slices"], theirs["slices"], lost, strict=True):
                mine["dice"][label] = min(other["dice"][label] - change, 1.0)
            split["integer"]["volume_dice"][label] = theirs["volume_dice"][label] - sum(lost) / 4
        (run / "metrics.json").write_text(json.dumps(metrics))
        html = build([run], tmp_path / "report").read_text()
        assert len(re.findall(r'class="change (?:loss|gain)"', html)) == expected  # two classes, card and table
        assert "(SD " in html and "Sample standard deviation" in html
    low = min(score["dice"]["cell"] for score in split["integer"]["slices"])
    high = max(score["dice"]["cell"] for score in split["integer"]["slices"])
    assert f"{100 * low:.2f}–{100 * high:.2f}" in html


def test_groups_that_must_not_be_compared_say_so(make_run: MakeRun, tmp_path: Path) -> None:
    one, two, three = make_run("one"), make_run("two"), make_run("three")
    assert "Do not compare" not in build([one, two], tmp_path / "a").read_text()
    assert "do not record which pixels" not in build([one, two], tmp_path / "a").read_text()
    for run in (two, three):
        metrics = json.loads((run / "metrics.json").read_text())
        del metrics["digests"]
        (run / "metrics.json").write_text(json.dumps(metrics))
    html = build([one, two, three], tmp_path / "b").read_text()
    assert "Group 2 of 2" in html and "Do not compare" in html and "do not record which pixels" in html


def test_quantisers_off_alone_is_labelled(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("low")
    metrics = json.loads((run / "metrics.json").read_text())
    split = metrics["splits"]["validation"]
    split["float"] = split.pop("integer") | {"arithmetic": "float32"}
    (run / "metrics.json").write_text(json.dumps(metrics))
    assert "quantisers off" in build([run], tmp_path / "report").read_text()


def test_many_runs_come_as_a_table_without_cards(make_run: MakeRun, tmp_path: Path) -> None:
    few = [make_run(f"few-{index}", size=16, slices=2) for index in range(4)]
    assert build(few, tmp_path / "a").read_text().count('<article class="card">') == 4
    many = [*few, make_run("one-more", size=16, slices=2)]
    assert '<article class="card">' not in build(many, tmp_path / "b").read_text()
