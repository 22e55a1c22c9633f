"""The study end to end on a tiny phantom: trained, measured, told; nothing done twice, nothing lost."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sweep_runs import FakeRuns

import unetq.study.measure as measuring
from unetq.errors import CheckpointError, ConfigError, OutputError, UnetqError
from unetq.study.measure import Measures
from unetq.study.plan import ARMS, Grid
from unetq.study.run import Part, Study, study
from unetq.sweep_process import Ended, Stop, locked
from unetq.sweep_worker import run as work

ROOT = Path(__file__).resolve().parent.parent.parent
SETTINGS = (
    "train.float_steps=6", "train.quant_steps=6", "train.validate_every=6", "network.options.widths=[4, 8]",
    "data.options.size=48", "data.options.train=2",
)  # fmt: skip
QUICK = Measures(crops=2, steps=1, probes=2, products=3, draws=2)
NAMES = [f"{name}-s{seed}" for seed in (0, 1) for name in ("float", "w4a32", "w4a4", "w4a32-noise")]


def here(job: dict[str, Any], stop: Stop, lock: int) -> Ended:
    """What a worker does, in this process."""
    return Ended(work(job))


def asked(out: Path, seeds: int = 2, measures: Measures = QUICK, settings: tuple[str, ...] = SETTINGS) -> Study:
    return Study("study-phantom", Grid((32, 4), ARMS, seeds), out, settings, None, "unetq study …", measures)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole study."""
    out = tmp_path_factory.mktemp("made") / "study"
    outcome = study(asked(out), start=here)
    assert outcome.exit_code == 0 and f"{out / 'study.html'}: written" in outcome.text, outcome.text
    return out


def test_the_record(made: Path) -> None:
    record = json.loads((made / "study.json").read_text())
    assert [run["name"] for run in record["runs"]] == NAMES and record["schema"] == 1
    assert record["settings"]["bits"] == [32, 4] and record["settings"]["probes"] == 2
    assert record["config"]["data"]["root"] is None and record["config"]["quant"]["weight_bits"] == 32
    for run in record["runs"]:
        loss, dice, gap = run["loss"], run["dice"], run["gap"]
        assert gap["loss"] == pytest.approx(loss["validation"] - loss["train"])
        assert gap["dice"] == pytest.approx(dice["train"]["mean"] - dice["validation"]["mean"])
        assert set(dice["train"]) == {"membrane", "cell", "mean"}
        assert set(run["robustness"]) == {"blur", "noise", "contrast", "motion", "bias_field"}
        assert (run["twin"] is None) == (run["arm"] == "float")
        assert run["bound"]["samples"] == 2 and run["bound"]["empirical"] == loss["train"]
        assert run["bound"]["value"] >= loss["train"] and run["sharpness"]["trace"]["probes"] == 2
        twin = run["twin"]
        if twin is not None:  # what is sharp of a noise run are the weights that its twin starts from
            centre = run["sharpness"]["loss"] - twin["loss"]
            assert centre == pytest.approx(0.0 if run["arm"] == "noise" else twin["rounding"], abs=1e-5)
    assert (made / "study.md").is_file() and str(made) not in (made / "study.json").read_text()


def test_the_same_again_does_nothing(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (made / "study.json").read_text()

    def never(*arguments: Any) -> Any:
        raise AssertionError("made twice")

    monkeypatch.setattr(measuring, "measure", never)
    lines: list[str] = []
    assert study(asked(made), tell=lines.append, start=never).exit_code == 0
    assert lines[0] == "8 of 8 runs are trained" and lines[-1] == "8 of 8: w4a32-noise-s1: measured before"
    assert (made / "study.json").read_text() == before
    (made / "study.html").unlink()
    assert study(asked(made), "page", start=never).exit_code == 0 and (made / "study.html").is_file()


def test_a_record_alone_is_enough_for_the_page(made: Path, tmp_path: Path) -> None:
    (tmp_path / "study.json").write_bytes((made / "study.json").read_bytes())
    assert study(asked(tmp_path), "page").exit_code == 0
    assert (tmp_path / "study.md").read_text() == (made / "study.md").read_text()
    with pytest.raises(OutputError, match="a study has its folder to itself"):
        study(asked(tmp_path), "measure")


def test_what_changed_is_measured_anew(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []
    whole = measuring.measure

    def spy(out: Path, run: Any, *rest: Any) -> Any:
        measured.append(run.name)
        return whole(out, run, *rest)

    monkeypatch.setattr(measuring, "measure", spy)
    path = made / "runs" / "w4a4-s0" / "study.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "checkpoint": "another"}))
    (made / "runs" / "float-s1" / "study.json").write_text("{")
    assert study(asked(made), "measure").exit_code == 0 and measured == ["w4a4-s0", "float-s1"]
    assert json.loads(path.read_text()) == record  # to the last bit
    measured.clear()
    one = Study("study-phantom", Grid((32,), ARMS, 1), made, SETTINGS, None, "", Measures(**{**vars(QUICK), "seed": 1}))
    assert study(one, "measure").exit_code == 0 and measured == ["float-s0"]
    other = json.loads((made / "study.json").read_text())["runs"][0]["sharpness"]["loss"]
    assert other != json.loads(path.read_text())["run"]["sharpness"]["loss"]
    study(asked(made), "measure")


def test_another_config_is_refused_before_anything(made: Path) -> None:
    runs = FakeRuns()
    with pytest.raises(ConfigError, match=r"train\.lr was 0\.003, now 0\.004"):
        study(asked(made, 2, QUICK, (*SETTINGS, "train.lr=0.004", "train.quant_lr=0.004")), start=runs)
    assert not runs.made


def test_a_failure_is_named_and_an_interruption_goes_on(tmp_path: Path) -> None:
    lines: list[str] = []
    failing = FakeRuns(fail="w4a32-s0")
    outcome = study(asked(tmp_path / "s", 1), "train", lines.append, failing)
    assert failing.made == NAMES[:4] and outcome.exit_code == 1 and "failed: w4a32-s0" in outcome.text
    assert "2 of 4: w4a32-s0: failed: the loss is not finite." in lines
    stopped = FakeRuns(stop_at="w4a32-s1")
    outcome = study(asked(tmp_path / "s"), None, start=stopped)
    assert stopped.made == ["w4a32-s0", "float-s1", "w4a32-s1"] and outcome.exit_code == 130
    assert "The same command goes on: unetq study …" in outcome.text and not (tmp_path / "s" / "study.json").exists()
    rest = FakeRuns()
    assert study(asked(tmp_path / "s"), "train", start=rest).exit_code == 0
    assert rest.made == ["w4a32-s1", "w4a4-s1", "w4a32-noise-s1"]


def test_an_interrupted_measurement_goes_on(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)

    path = made / "runs" / "w4a4-s1" / "study.json"
    before = path.read_text()
    path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(measuring, "measure", stop)
        outcome = study(asked(made), "measure")
    assert outcome.exit_code == 130 and "interrupted: w4a4-s1, w4a32-noise-s1" in outcome.text
    assert study(asked(made), "measure").exit_code == 0 and path.read_text() == before


def test_two_commands_share_a_folder(tmp_path: Path) -> None:
    place = tmp_path / "s" / "locks" / "w4a4-s0"
    place.mkdir(parents=True)
    (tmp_path / "s" / "runs").mkdir()
    runs, lines = FakeRuns(), list[str]()
    with locked(place):
        outcome = study(asked(tmp_path / "s", 1), "train", lines.append, runs)
    assert runs.made == ["float-s0", "w4a32-s0", "w4a32-noise-s0"] and outcome.exit_code == 1
    assert "3 of 4: w4a4-s0: another process is at work on it; left to that" in lines


@pytest.mark.parametrize(
    ("only", "kind", "told"),
    [
        ("measure", CheckpointError, "nothing to measure"),
        ("page", CheckpointError, "no study.json"),
        ("train", OutputError, "holds other.txt"),
    ],
)
def test_a_folder_that_is_no_study(tmp_path: Path, only: Part, kind: type[UnetqError], told: str) -> None:
    out = tmp_path / "s"
    if only == "train":
        out.mkdir()
        (out / "other.txt").write_text("mine")
    with pytest.raises(kind, match=told):
        study(asked(out), only, start=here)
    assert sorted(path.name for path in out.rglob("*")) == (["other.txt"] if only == "train" else [])


def test_nothing_measured_is_no_study(tmp_path: Path) -> None:
    (tmp_path / "s" / "runs").mkdir(parents=True)
    with pytest.raises(UnetqError, match=r"no run in .* is trained and measured"):
        study(asked(tmp_path / "s"), "measure")


def test_the_command(tmp_path: Path) -> None:
    """In processes of their own, as a person calls it."""
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    measures = [word for setting in ("crops=2", "probes=2", "draws=2", "steps=1") for word in ("--measure", setting)]
    command = [
        sys.executable, "-m", "unetq.cli", "study", "regularisation", "study-phantom", "-o", str(tmp_path / "s"),
        "--bits", "2", "--arms", "noise", "--seeds", "1", *settings, *measures,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "datasets")])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "1 of 1 runs trained" in done.stdout and "1 of 1: w2a32-noise-s0: validation Dice" in done.stderr
    assert json.loads((tmp_path / "s" / "study.json").read_text())["runs"][0]["act_bits"] == 32
    assert (tmp_path / "s" / "study.html").stat().st_size > 1000
