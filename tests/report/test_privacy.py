"""What a report must not carry on: places on a machine, and with --anonymous names of cases and persons."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from unetq.cli import app
from unetq.errors import OutputError
from unetq.report import build
from unetq.report.anonymous import anonymous, without_names
from unetq.report.overlays import shown_cases
from unetq.report.places import shown_command, shown_config, shown_path, shown_text
from unetq.report.runs import load_runs
from unetq.report.table import groups_of

MakeRun = Callable[..., Path]
FILES = ("report.html", "report.md", "report.csv", "cases.csv", "report.json")


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/home/anna/data/em", "em"),
        ("/home/anna/data/em/", "em"),
        ("~/data/em", "em"),
        ("~anna/em", "em"),
        (r"C:\Users\anna\em", "em"),
        (r"\\server\share\em", "em"),
        ("file:///home/anna/em", "em"),
        ("/home/anna b/em", "em"),
        ("runs/em-float", "runs/em-float"),
        ("../em", "../em"),
        ("1/2", "1/2"),
        ("/", "/"),
    ],
)
def test_the_last_component_of_an_absolute_path(path: str, shown: str) -> None:
    assert shown_path(path) == shown


def test_paths_in_sentences() -> None:
    assert shown_text("/a/b/c.nii: damaged, see (/a/b/d.nii).") == "c.nii: damaged, see (d.nii)."
    for text in ("5 mm/s and/or W4A6 / W8A8", "runs/x", "https://example.org/a/b", "1/2, ~5/6", "'~' or /"):
        assert shown_text(text) == text


def test_paths_of_a_command() -> None:
    text = "unetq train em --data '/home/anna b/em' --out=/srv/x/y --set data.root=/srv/z train.from_run=runs/f"
    expected = "unetq train em --data em --out=y --set data.root=z train.from_run=runs/f"
    assert shown_command(text) == shown_command(["unetq", *re.split(r" (?!b/)", text.replace("'", ""))[1:]]) == expected
    assert "/srv" not in shown_command("unetq train 'em --data /srv/x")


def test_paths_of_a_configuration_and_nothing_else() -> None:
    text = "# from /srv/x/a.yaml\ndata:\n  root: /srv/my study/em  # there\n  x: [\"/srv/1.5\", a/b, '~/on']\nseed: 7\n"
    shown = shown_config(text)
    assert shown == "# from a.yaml\ndata:\n  root: em  # there\n  x: ['1.5', a/b, 'on']\nseed: 7\n"
    assert yaml.safe_load(shown) == {"data": {"root": "em", "x": ["1.5", "a/b", "on"]}, "seed": 7}
    assert shown_config("a: [/srv/x/y") == "a: [y"  # no YAML: still no place


def test_no_place_reaches_a_report(make_case_run: MakeRun, tmp_path: Path) -> None:
    run = make_case_run("gm")
    edit_json(
        run / "run.json", lambda facts: facts.update(command=f"unetq train gm --data {tmp_path}/gm", extra="/srv/q/r")
    )
    reason = f"{tmp_path}/gm/sub-98.nii.gz is damaged."
    edit_json(run / "metrics.json", lambda m: m["skipped"]["validation"].append({"case": "sub-98", "reason": reason}))
    assert str(tmp_path) in (run / "config.yaml").read_text()
    build([run], tmp_path / "report")
    for name in FILES:
        text = (tmp_path / "report" / name).read_text()
        assert str(tmp_path) not in text and "/srv" not in text, name
    html = (tmp_path / "report" / "report.html").read_text()
    assert "unetq train gm --data gm<" in html and "sub-98.nii.gz is damaged." in html and "<dd>r<" in html


def test_training_cases_left_out_are_listed_not_printed(make_case_run: MakeRun, tmp_path: Path) -> None:
    run = make_case_run("gm")
    item = {"case": "sub-50", "reason": "It has no mask."}
    both = {"case": "sub-99", "reason": "The mask lies on another grid."}
    edit_json(run / "run.json", lambda facts: facts.update(skipped={"train": [item, both], "validation": [both]}))
    html = build([run], tmp_path / "report").read_text()
    assert "Left out: 2 cases" in html and "<dt>skipped" not in html and "&#39;case&#39;" not in html
    assert "<b>sub-50</b> (train) It has no mask." in html and html.count("The mask lies on another grid.") == 1
    text = (tmp_path / "report" / "report.md").read_text()
    assert "- sub-50 (train): It has no mask." in text and "- sub-99 (validation, train): The mask" in text
    for odd in ("none", {"train": 3}, {"train": [4, {"reason": "x"}]}):
        edit_json(run / "run.json", lambda facts, odd=odd: facts.update(skipped=odd))
        assert "Left out: 1 case<" in build([run], tmp_path / "report").read_text()


def personal(make_case_run: MakeRun, name: str, cases: int = 4, **options: Any) -> Path:
    """A run of ``anna-1, anna-2, berta-1 …`` of ``anna, anna, berta …``, told in every place that a run has."""
    run = make_case_run(name, cases=cases, **options)
    persons = ("anna", "berta", "clara", "dora")
    for index in range(cases):
        old, new = f"sub-{index + 1:02d}", f"{persons[index // 2]}-{index % 2 + 1}"
        (run / "overlays" / "validation" / f"{old}.npz").rename(run / "overlays" / "validation" / f"{new}.npz")
        text = (run / "metrics.json").read_text().replace(f'"subject": "{old}"', f'"subject": "{new[:-2]}"')
        (run / "metrics.json").write_text(text.replace(old, new))
    reason = "images/emil-1.nii.gz: its mask 'emil' is not like that of anna-1."
    edit_json(
        run / "metrics.json",
        lambda m: m.update(
            skipped={"validation": [{"case": "emil-1", "reason": reason}]}, notes={"validation": "anna-2 moved."}
        ),
    )
    left = {"train": [{"case": "frida-1", "reason": "No mask."}]}
    command = "unetq train x.yaml --data data/gustav --set data.options.test=[anna]"
    edit_json(run / "run.json", lambda facts: facts.update(skipped=left, command=command))
    data = {
        "root": "data/gustav",
        "options": {"test": ["anna*"], "subjects": {"hanna": ["x"]}, "fractions": [0.6, 0.4]},
    }
    edit_json(run / "config.yaml", lambda config: config["data"].update(data))
    return run


NAMES = re.compile("anna|berta|clara|dora|emil|frida|gustav", re.IGNORECASE)


def test_an_anonymous_report_names_nobody(make_case_run: MakeRun, tmp_path: Path) -> None:
    runs = [personal(make_case_run, "one"), personal(make_case_run, "two", 6, weight=2, act=2, digest="ab" * 16)]
    build(runs, tmp_path / "named")
    build(runs, tmp_path / "report", anonymous=True)
    for name in FILES:
        text = re.sub(
            r'"data:[^"]+"', "", (tmp_path / "report" / name).read_text()
        )  # letters of a picture spell anything
        assert not NAMES.search(text), name
    assert all(
        NAMES.search((tmp_path / "named" / name).read_text()) for name in ("report.html", "report.md", "cases.csv")
    )
    html = (tmp_path / "report" / "report.html").read_text()
    named = (tmp_path / "named" / "report.html").read_text()
    for kept in ("Montréal", "case-001", "fractions", "Left out: 2 cases"):
        assert kept in html
    assert html.count('class="viewer"') == named.count('class="viewer"') == 6
    assert set(re.findall(r'href="data:[^"]+"', html)) == set(re.findall(r'href="data:[^"]+"', named))


def test_a_case_has_one_number_in_all_runs(make_case_run: MakeRun, tmp_path: Path) -> None:
    runs = [personal(make_case_run, "one"), personal(make_case_run, "two", 6, weight=2, act=2, digest="ab" * 16)]
    tables = []
    for folder, hidden in (("a", False), ("b", True)):
        build(runs, tmp_path / folder, anonymous=hidden)
        with open(tmp_path / folder / "cases.csv", newline="") as handle:
            tables.append(list(csv.DictReader(handle)))
    assert len(tables[0]) == len(tables[1]) == 20
    pairs = {(one[key], two[key]) for one, two in zip(*tables, strict=True) for key in ("case", "volume", "subject")}
    assert len(pairs) == len(dict(pairs)) == len({new for _, new in pairs}) == 6 + 3
    assert dict(pairs)["anna-1"] == "case-001" and dict(pairs)["clara"] == "subject-003"
    same = ("run", "site", "class", "dice", "float_dice", "change")
    assert [[row[key] for key in same] for row in tables[0]] == [[row[key] for key in same] for row in tables[1]]


def test_slices_of_one_volume_keep_their_pictures(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run("em-w4a6")]
    named, hidden = groups_of(load_runs(runs))[0], groups_of(anonymous(load_runs(runs)))[0]
    assert hidden.slice_ids == tuple(f"case-001-{number:03d}" for number in range(20, 24))
    for one, two in zip(named.rows, hidden.rows, strict=True):
        (before,), (after,) = shown_cases(one), shown_cases(two)
        assert [path for path, _ in before.files] == [path for path, _ in after.files] and after.id == "case-001"
        assert one.paired("cell") == two.paired("cell") and one.change("cell") == two.change("cell")


def test_slices_of_other_names_are_counted(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("em-w4a6")
    text = (run / "metrics.json").read_text()
    (run / "metrics.json").write_text(text.replace("em-021", "berta_19800101"))
    (run / "overlays/validation/em-021.npz").rename(run / "overlays/validation/berta_19800101.npz")
    build([run], tmp_path / "report", anonymous=True)
    for name in FILES:
        assert not re.search("berta|19800101", (tmp_path / "report" / name).read_text()), name
    assert "case-001-004" in (tmp_path / "report" / "cases.csv").read_text()


def test_a_configuration_without_names() -> None:
    values = yaml.safe_load(without_names("data: {name: folder, options: {test: [anna], seed: 3}}\nseed: 7\n"))
    assert values == {"data": {"name": "folder", "options": {"test": ["…"], "seed": 3}}, "seed": 7}
    assert without_names("a: [") == without_names("- anna") == ""


def test_anonymous_on_the_command_line(make_case_run: MakeRun, tmp_path: Path) -> None:
    arguments = ["report", str(personal(make_case_run, "gm")), "-o", str(tmp_path / "report"), "--anonymous"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert not NAMES.search((tmp_path / "report" / "cases.csv").read_text())


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "history.jsonl", "metrics.json", "float", "quant"])
def test_a_report_is_not_written_into_a_run(make_case_run: MakeRun, tmp_path: Path, name: str) -> None:
    run = make_case_run("gm", cases=2)
    other = tmp_path / "other"
    other.mkdir()
    (other / name).mkdir() if "." not in name else (other / name).write_text("{}")
    before = sorted(path.name for path in run.iterdir())
    with pytest.raises(OutputError, match="as run folders do"):
        build([run], run)
    with pytest.raises(OutputError, match=f"holds {name}"):
        build([run], other)
    assert sorted(path.name for path in run.iterdir()) == before and [path.name for path in other.iterdir()] == [name]
    assert build([run], run / "report").is_file() and build([run], run / "report").is_file()  # and once more
