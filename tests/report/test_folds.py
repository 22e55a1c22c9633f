"""Cross-validations: folds of one configuration gathered, with intervals over persons."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from case_runs import edit, split_of

from unetq.report import build
from unetq.report.folds import validations
from unetq.report.runs import load_run, load_runs
from unetq.report.table import groups_of
from unetq.statistics import interval

MakeRun = Callable[..., Path]
GREY = "grey matter"


def test_folds_of_one_configuration(make_case_run: MakeRun, tmp_path: Path) -> None:
    runs = [
        make_case_run(f"f{fold}", fold=fold, digest=f"{fold:02d}" * 16, cases=2 + fold, error=0.2 + 0.1 * fold)
        for fold in range(3)
    ]
    groups = groups_of(load_runs([*runs, make_case_run("alone", 2, 2, fold=0)]))
    found = validations(groups)
    assert len(found) == 1 and [fold.number for fold in found[0].folds] == [0, 1, 2] and found[0].cases == 9
    by_fold = [[case["classes"][GREY]["dice"] for case in split_of(run)["integer"]["cases"]] for run in runs]
    values = np.concatenate(by_fold)
    reference = [case["classes"][GREY]["dice"] for run in runs for case in split_of(run)["float_reference"]["cases"]]
    pooled = found[0].pooled[GREY]
    assert (pooled.mean, pooled.deviation) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert pooled.change == pytest.approx(np.mean(values) - np.mean(reference)) and pooled.change < 0
    assert [fold.scores[GREY][0] for fold in found[0].folds] == pytest.approx([np.mean(fold) for fold in by_fold])
    assert found[0].folds[2].where == "Montréal, Zürich"
    html = build(runs, tmp_path / "report").read_text()
    assert 'id="folds"' in html and "fold 2" in html and "Do not compare" not in html
    assert "## Cross-validation" in (tmp_path / "report" / "report.md").read_text()
    (record,) = json.loads((tmp_path / "report" / "report.json").read_text())["cross_validations"]
    assert [(fold["run"], fold["fold"], fold["cases"]) for fold in record["folds"]] == [
        ("f0", 0, 2), ("f1", 1, 3), ("f2", 2, 4)
    ]  # fmt: skip
    assert record["folds"][1]["dice"][GREY] == pytest.approx(np.mean(by_fold[1]))
    assert record["pooled"][GREY]["dice"] == pooled.mean and record["pooled"][GREY]["change"] == pooled.change
    assert record["pooled"][GREY]["persons"]["low"] == pooled.persons.low and record["cases"] == 9
    assert validations(groups_of([load_run(runs[0])])) == []


def test_a_fold_of_one_volume_counts_as_one_case(make_run: MakeRun) -> None:
    """Its slices are scored one by one, but they are no cases of a cross-validation."""
    runs = []
    for fold, error in enumerate((0.02, 0.05)):
        run = edit(
            make_run(f"f{fold}", error=error), lambda m, fold=fold: m["digests"].update(validation=f"{fold}" * 32)
        )
        (run / "config.yaml").write_text(f"data: {{name: em, folds: 2, fold: {fold}}}\n")
        runs.append(run)
    found = validations(groups_of(load_runs(runs)))[0]
    assert found.cases == 2 and [fold.where for fold in found.folds] == ["em", "em"]
    dice = [split_of(run)["integer"]["volume_dice"]["cell"] for run in runs]
    assert found.pooled["cell"].mean == pytest.approx(np.mean(dice))
    assert found.pooled["cell"].dice_text == "1 person: fewer than 3, no interval"


def test_intervals_of_folds_are_over_persons(make_case_run: MakeRun, tmp_path: Path) -> None:
    """Two cases of one person count once, as their mean, even where they lie in two folds."""
    owners = [["anna", "anna", "berta", "clara"], ["anna", "dora", "emil"]]
    runs = []
    for fold, names in enumerate(owners):
        run = make_case_run(f"f{fold}", fold=fold, digest=f"{fold:02d}" * 16, cases=len(names), error=0.2 + 0.1 * fold)

        def rename(metrics: dict[str, Any], names: list[str] = names) -> None:
            for evaluation in ("integer", "float_reference"):
                for case, name in zip(metrics["splits"]["validation"][evaluation]["cases"], names, strict=True):
                    case["subject"] = name

        runs.append(edit(run, rename))
    scores: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        split = split_of(run)
        for mine, theirs in zip(split["integer"]["cases"], split["float_reference"]["cases"], strict=True):
            pair = (mine["classes"][GREY]["dice"], theirs["classes"][GREY]["dice"])
            scores.setdefault(mine["subject"], []).append(pair)
    means = np.array([np.mean(pairs, axis=0) for pairs in scores.values()])
    found = validations(groups_of(load_runs(runs)))[0].pooled[GREY]
    assert len(scores["anna"]) == 3 and found.persons.cases == found.persons_change.cases == 5
    assert found.persons.mean == pytest.approx(means[:, 0].mean()) and found.mean != pytest.approx(found.persons.mean)
    assert found.persons_change.mean == pytest.approx((means[:, 0] - means[:, 1]).mean())
    dice, change = interval(means[:, 0].tolist()), interval((means[:, 0] - means[:, 1]).tolist())
    assert (found.persons.low, found.persons.high) == (dice.low, dice.high) != (None, None)
    assert (found.persons_change.low, found.persons_change.high) == (change.low, change.high)
    html = build(runs, tmp_path / "report").read_text()
    text = (tmp_path / "report" / "report.md").read_text()
    for shown in (found.dice_text, found.change_text):
        assert " over 5 persons, 95 % " in shown and shown in html and shown in text
    for page in (html, text):
        assert "network of its own" in " ".join(page.replace("\n", " ").split())


@pytest.mark.parametrize(
    ("cases", "said"), [(1, "2 persons: fewer than 3, no interval"), (2, " over 4 persons, 95 % ")]
)
def test_two_persons_give_no_interval(make_case_run: MakeRun, tmp_path: Path, cases: int, said: str) -> None:
    runs = [make_case_run(f"f{fold}", fold=fold, digest=f"{fold:02d}" * 16, cases=cases) for fold in range(2)]
    for run in runs:
        text = (run / "metrics.json").read_text()
        (run / "metrics.json").write_text(text.replace('"subject": "sub-', f'"subject": "{run.name}-'))
    assert said in build(runs, tmp_path / "report").read_text()
    assert said in (tmp_path / "report" / "report.md").read_text()
    floats = [make_case_run(f"r{fold}", 32, 32, fold=fold, digest=f"{fold:02d}" * 16, cases=2) for fold in range(2)]
    assert validations(groups_of(load_runs(floats)))[0].pooled[GREY].change_text == ""
