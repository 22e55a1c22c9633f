"""What a sweep plans, and how far its runs are."""

import shlex
from pathlib import Path

import pytest
import yaml
from commands import unetq
from gm_trees import affine, cord_volume, save
from sweep_runs import finish, names, write_config

from unetq.errors import ConfigError, DataError
from unetq.experiment import Experiment
from unetq.runs import read_experiment, set_evaluation
from unetq.sweep import parse_splits
from unetq.sweep_plan import Grid, parse_bits, parse_methods, plan, standing

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def config(tmp_path: Path) -> str:
    return write_config(tmp_path)


def test_bits() -> None:
    assert parse_bits("32/32, 8/8,4/6,4/6") == ((32, 32), (8, 8), (4, 6))
    for text in ("4", "4x6", "4/", "", "4/6,", "-4/6"):
        with pytest.raises(ConfigError, match="write it like 4/6"):
            parse_bits(text)
    for text in ("9/8", "4/0", "16/16"):
        with pytest.raises(ConfigError, match="1 to 8, or 32"):
            parse_bits(text)
    assert parse_methods("lsq, lsq+,lsq") == ("lsq", "lsq+") and parse_methods(None) == ()
    assert parse_splits("test,validation") == ("test", "validation")
    with pytest.raises(ConfigError, match="validation,test"):
        parse_splits("train")


def test_the_plan(config: str, tmp_path: Path) -> None:
    runs = plan(config, Grid(parse_bits("8/8,2/2"), seeds=2), tmp_path / "s", ["train.lr=0.5", "seed=3"])
    assert names(runs) == ["float-s3", "w8a8-s3", "w2a2-s3", "float-s4", "w8a8-s4", "w2a2-s4"]
    assert [run.source for run in runs] == [None, "float-s3", "float-s3", None, "float-s4", "float-s4"]
    assert runs[2].experiment.train.from_run == str(tmp_path / "s" / "float-s3")
    assert {run.experiment.train.lr for run in runs} == {0.5}
    assert runs[0].experiment.quant.is_float and runs[1].experiment.quant.weight_bits == 8

    runs = plan(config, Grid(parse_bits("32/32,4/6"), folds=2, methods=("lsq", "pact")), tmp_path / "s", [], tmp_path)
    assert names(runs) == [f"{n}-s0-f{f}" for f in (0, 1) for n in ("float", "w4a6-lsq", "w4a6-pact")]
    assert [(run.experiment.data.fold, run.experiment.data.folds) for run in runs] == [(0, 2)] * 3 + [(1, 2)] * 3
    assert runs[1].experiment.quant.method == "lsq" and runs[0].experiment.quant.method == "fixed"
    assert {run.experiment.data.root for run in runs} == {str(tmp_path)}


def test_one_fold_for_each_group_is_counted(config: str, tmp_path: Path) -> None:
    settings = ["data.options.kind=cord"]  # each slice is a subject
    runs = plan(config, Grid(parse_bits("32/32"), folds=0), tmp_path, settings)
    assert names(runs) == [f"float-s0-f{fold}" for fold in range(6)]
    assert {run.experiment.data.folds for run in runs} == {0}
    with pytest.raises(ConfigError, match="one fold divides nothing"):
        plan(config, Grid(parse_bits("32/32"), folds=1), tmp_path)
    with pytest.raises(DataError, match="no site"):
        plan(config, Grid(parse_bits("32/32"), folds=0), tmp_path, ["data.by=site"])


def test_groups_are_counted_in_the_folder_that_is_given(tmp_path: Path) -> None:
    for number in range(3):
        image, classes = cord_volume(number, 2)
        save(tmp_path / "images" / f"{number}.nii.gz", image, affine())
        save(tmp_path / "labels" / f"{number}.nii.gz", classes, affine())
    config = tmp_path / "own.yaml"
    options = {"classes": ["background", "grey", "white"], "validation": ["0"]}
    config.write_text(yaml.safe_dump({"data": {"name": "folder", "options": options}}))
    runs = plan(str(config), Grid(parse_bits("32/32"), folds=0), tmp_path / "s", data=tmp_path)
    assert names(runs) == ["float-s0-f0", "float-s0-f1", "float-s0-f2"]
    deep = ["data.dimensions=3", "data.by=slice", "data.preprocessing.spacing=[5, 1, 1]"]
    assert len(plan(str(config), Grid(parse_bits("32/32"), folds=0), tmp_path / "s", deep, tmp_path)) == 3


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["train.from_scratch=true"], ["w4a6-s0"]),
        (["train.from_run=elsewhere"], ["w4a6-s0"]),
        (["train.from_scratch=true", "train.distill.logits=1.0"], ["float-s0", "w4a6-s0"]),
    ],
)
def test_a_float_run_only_where_one_is_needed(
    config: str, tmp_path: Path, settings: list[str], expected: list[str]
) -> None:
    runs = plan(config, Grid(parse_bits("4/6")), tmp_path, settings)
    assert names(runs) == expected
    runs = plan(config, Grid(parse_bits("32/32,4/6")), tmp_path, settings)
    assert names(runs) == ["float-s0", "w4a6-s0"]
    first = runs[0].experiment.train
    assert first.from_run is None and not first.from_scratch and not first.distill.is_on


def test_a_run_by_hand_is_the_same_run(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """The listed command, through the real command line, gives the planned experiment and folder."""
    settings = ["train.progressive=[8]", "train.distill.logits=0.5", "quant.layers=[{pattern: head, weight_bits: 8}]"]
    seen: list[tuple[Experiment, Path]] = []
    monkeypatch.setattr("unetq.train.train", lambda experiment, out, **_: seen.append((experiment, out)))
    grid = Grid(parse_bits("32/32,4/6"), seeds=2, folds=2, methods=("lsq",))
    for run in plan(config, grid, tmp_path / "a b", settings, tmp_path):
        words = shlex.split(run.command)
        assert words[0] == "unetq" and unetq(capsys, *words[1:])[0] == 0
        experiment, out = seen.pop()
        assert experiment == run.experiment and out == tmp_path / "a b" / run.name


def test_a_fold_of_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    seen: list[tuple[Experiment, Path]] = []
    monkeypatch.setattr("unetq.train.train", lambda experiment, out, **_: seen.append((experiment, out)))
    code, out, _ = unetq(capsys, "train", "phantom", "--fold", 2, "--folds", 5)
    (experiment, folder) = seen.pop()
    assert code == 0 and folder == Path("runs/phantom-w4a6-f2") and f"{folder}: trained" in out
    assert (experiment.data.fold, experiment.data.folds) == (2, 5)
    unetq(capsys, "train", "phantom", "--fold", 0)
    assert seen.pop()[0].data.folds == 0  # one for each group
    code, _, err = unetq(capsys, "train", "phantom", "--fold", 5, "--folds", 5)
    assert code == 2 and "data.fold = 5 of 5" in err and not seen


def test_how_far_a_run_is(config: str, tmp_path: Path) -> None:
    _, low = plan(config, Grid(parse_bits("32/32,4/6")), tmp_path)
    folder = tmp_path / low.name
    assert standing(folder, low, ["validation"]) == "new"
    finish(folder, low.experiment)
    assert standing(folder, low, ["validation"]) == "done"
    assert standing(folder, low, ["validation", "test"]) == "evaluate"
    (folder / "quant" / "best.safetensors").write_bytes(b"other weights")
    assert standing(folder, low, ["validation"]) == "evaluate"
    (folder / "run.json").write_text('{"finished": null}')
    assert standing(folder, low, ["validation"]) == "resume"


def test_another_scoring_asks_for_an_evaluation_only(config: str, tmp_path: Path) -> None:
    grid = Grid(parse_bits("32/32,4/6"))
    _, low = plan(config, grid, tmp_path)
    folder = tmp_path / low.name
    finish(folder, low.experiment)
    _, other = plan(config, grid, tmp_path, ["evaluation.empty=skip", "evaluation.bootstrap=500"])
    assert standing(folder, other, ["validation"]) == "evaluate"
    set_evaluation(folder, other.experiment.evaluation)
    assert read_experiment(folder) == other.experiment
    assert standing(folder, other, ["validation"]) == "evaluate"  # what is there was scored by the old settings
    assert standing(folder, low, ["validation"]) == "evaluate"
    set_evaluation(folder, low.experiment.evaluation)
    assert standing(folder, low, ["validation"]) == "done"
    (folder / "run.json").write_text('{"finished": null}')
    assert standing(folder, other, ["validation"]) == "resume"
