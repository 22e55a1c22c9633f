"""Sweeps: what is redone, what a failure or an interruption leaves, and the real thing in processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from commands import start as start_command
from commands import unetq
from gm_trees import affine, cord_volume, save
from small_runs import assert_same_tensors, tensors
from sweep_runs import FakeRuns, asked, write_config

from unetq.config import load_experiment
from unetq.errors import ConfigError, OutputError
from unetq.runs import read_experiment
from unetq.sweep import Sweep, describe, preview, sweep
from unetq.sweep_plan import Grid, parse_bits
from unetq.sweep_process import Stop, locked, run_apart
from unetq.train import train

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def config(tmp_path: Path) -> str:
    return write_config(tmp_path)


def test_a_sweep_and_the_same_again(config: str, tmp_path: Path) -> None:
    out, lines, runs = tmp_path / "sweeps" / "em", [], FakeRuns()
    outcome = sweep(asked(config, out, seeds=2), lines.append, runs)
    assert runs.made == ["float-s0", "w4a6-s0", "float-s1", "w4a6-s1"] and outcome.exit_code == 0
    assert lines[0] == "1 of 4: float-s0" and lines[-2] == "4 of 4: w4a6-s1" and "Dice 50.00 (validation)" in lines[1]
    record = json.loads((out / "sweep.json").read_text())
    assert record["command"] == "unetq sweep my.yaml" and record["versions"]["torch"] and record["seeds"] == 2
    assert [(run["name"], run["state"], run["source"]) for run in record["runs"]][1] == ("w4a6-s0", "done", "float-s0")
    assert record["runs"][0]["dice"] == {"validation": {"background": 0.0, "cell": 0.5}}
    assert f"unetq report {out}/* -o {out}-report" in describe(asked(config, out), outcome)

    again = FakeRuns()
    assert sweep(asked(config, out, seeds=2), lines.append, again).exit_code == 0 and again.made == []
    wider = FakeRuns()
    sweep(asked(config, out, "32/32,4/6,2/2", seeds=2), lines.append, wider)
    assert wider.made == ["w2a2-s0", "w2a2-s1"]
    kept = {run["name"]: run.get("dice") for run in json.loads((out / "sweep.json").read_text())["runs"]}
    assert len(kept) == 6 and kept["float-s0"]


def test_a_failed_run_is_named_and_the_rest_goes_on(config: str, tmp_path: Path) -> None:
    runs = FakeRuns(fail="w4a6-s0")
    wanted = asked(config, tmp_path / "s", "32/32,4/6,2/2")
    outcome = sweep(wanted, start=runs)
    assert runs.made == ["float-s0", "w4a6-s0", "w2a2-s0"] and outcome.exit_code == 1
    told = describe(wanted, outcome)
    assert "2 of 3 runs done" in told and "w4a6-s0 failed: the loss is not finite." in told
    assert f"unetq report {tmp_path}/s/float-s0 {tmp_path}/s/w2a2-s0 -o" in told
    entry = json.loads((tmp_path / "s" / "sweep.json").read_text())["runs"][1]
    assert entry["state"] == "failed" and entry["message"] == "the loss is not finite."
    again = FakeRuns()
    assert sweep(wanted, start=again).exit_code == 0 and again.made == ["w4a6-s0"]
    assert "message" not in json.loads((tmp_path / "s" / "sweep.json").read_text())["runs"][1]


def test_without_its_float_run_a_low_bit_run_waits(config: str, tmp_path: Path) -> None:
    runs = FakeRuns(fail="float-s0")
    wanted = asked(config, tmp_path / "s", seeds=2)
    outcome = sweep(wanted, start=runs)
    assert runs.made == ["float-s0", "float-s1", "w4a6-s1"] and outcome.states["w4a6-s0"] == "waiting"
    assert outcome.exit_code == 1 and "w4a6-s0 not made: the float run it starts from, float-s0" in describe(
        wanted, outcome
    )


def test_an_interruption_stops_and_the_same_command_goes_on(config: str, tmp_path: Path) -> None:
    runs = FakeRuns(stop_at="w4a6-s0")
    wanted = asked(config, tmp_path / "s", seeds=2)
    before = signal.getsignal(signal.SIGINT)
    outcome = sweep(wanted, start=runs)
    assert signal.getsignal(signal.SIGINT) is before
    assert runs.made == ["float-s0", "w4a6-s0"] and outcome.exit_code == 130
    assert "The same command goes on: unetq sweep my.yaml" in describe(wanted, outcome)
    states = [run["state"] for run in json.loads((tmp_path / "s" / "sweep.json").read_text())["runs"]]
    assert states == ["done", "interrupted", "planned", "planned"]
    again = FakeRuns()
    assert sweep(wanted, start=again).exit_code == 0 and again.made == ["w4a6-s0", "float-s1", "w4a6-s1"]


def test_a_changed_config_is_refused_before_anything_is_trained(config: str, tmp_path: Path) -> None:
    sweep(asked(config, tmp_path / "s"), start=FakeRuns())
    changed = Sweep(config, Grid(parse_bits("32/32,4/6"), seeds=2), tmp_path / "s", ("train.batch=3",))
    runs = FakeRuns()
    with pytest.raises(ConfigError, match=r"float-s0 was made by another config: train\.batch was 2, now 3\."):
        sweep(changed, start=runs)
    assert runs.made == []
    # What only the low-bit stage uses is none of the float run's business, nor is where the data lie.
    for settings, made in ((("train.quant_lr=0.5",), "w4a6-s0"), (("train.threads=1", "data.root=x"), None)):
        other = Sweep(config, Grid(parse_bits("32/32,4/6")), tmp_path / "s", settings)
        if made:
            with pytest.raises(ConfigError, match=rf"{made} was made by another config: train\.quant_lr"):
                preview(other)
        else:
            assert preview(other).count("done before") == 2


def test_a_damaged_run_fails_alone(config: str, tmp_path: Path) -> None:
    sweep(asked(config, tmp_path / "s"), start=FakeRuns())
    (tmp_path / "s" / "w4a6-s0" / "config.yaml").write_text("[")
    outcome = sweep(asked(config, tmp_path / "s", "32/32,4/6,2/2"), start=FakeRuns())
    assert outcome.states == {"float-s0": "done", "w4a6-s0": "failed", "w2a2-s0": "done"}
    assert "is damaged" in outcome.messages["w4a6-s0"] and "Remove" in outcome.messages["w4a6-s0"]


def test_folders_that_are_no_sweep(config: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        sweep(asked(config, tmp_path / "file"), start=FakeRuns())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years")
    with pytest.raises(OutputError, match=r"holds thesis\.tex"):
        sweep(asked(config, tmp_path / "full"), start=FakeRuns())
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]
    (tmp_path / "busy").mkdir()
    with locked(tmp_path / "busy"), pytest.raises(OutputError, match="one at a time"):
        sweep(asked(config, tmp_path / "busy"), start=FakeRuns())
    assert sweep(asked(config, tmp_path / "busy"), start=FakeRuns()).exit_code == 0


@pytest.mark.parametrize(
    ("settings", "folds", "message"),
    [
        (["data.options.kind=cord"], 99, "data.folds = 99 of 6 subjects"),
        (["data.by=slice"], 7, "data.folds = 7 of 6 slices"),
        ([], 2, "data.folds = 2 of 1 subjects"),
        ([], 0, "data.folds = 0 of 1 subjects"),
        (["data.options.kind=cord", "data.fold=3", "data.folds=7"], None, "data.folds = 7 of 6 subjects"),
    ],
)
def test_more_folds_than_groups_start_nothing(
    settings: list[str], folds: int | None, message: str, config: str, tmp_path: Path
) -> None:
    runs = FakeRuns()
    with pytest.raises(ConfigError, match=message):
        sweep(Sweep(config, Grid(parse_bits("4/6"), folds=folds), tmp_path / "s", tuple(settings)), start=runs)
    assert runs.made == [] and not (tmp_path / "s").exists()


def test_more_folds_than_sites_start_nothing(tmp_path: Path) -> None:
    """Of a data set whose validation split is empty, too."""
    for number in range(4):
        image, classes = cord_volume(number, 2)
        save(tmp_path / "images" / f"{'ab'[number % 2]}{number}.nii.gz", image, affine())
        save(tmp_path / "labels" / f"{'ab'[number % 2]}{number}.nii.gz", classes, affine())
    options = {"classes": ["background", "grey", "white"], "site": "images/(.)", "fractions": [1.0, 0.0, 0.0]}
    config = tmp_path / "own.yaml"
    config.write_text(yaml.safe_dump({"data": {"name": "folder", "options": options, "by": "site"}}))
    runs = FakeRuns()
    for folds in (3, 2, 0):
        wanted = Sweep(str(config), Grid(parse_bits("32/32"), folds=folds), tmp_path / f"s{folds}", data=tmp_path)
        if folds == 3:
            with pytest.raises(ConfigError, match=r"data\.folds = 3 of 2 sites"):
                sweep(wanted, start=runs)
        else:
            sweep(wanted, start=runs)
    assert runs.made == ["float-s0-f0", "float-s0-f1"] * 2


def test_a_preview_writes_none(config: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = unetq(capsys, "sweep", config, "--bits", "4/6", "--folds", 2, "--dry-run", "--set", "train.lr=0.1")
    assert code == 0 and out.splitlines()[2] == "2 of 4: w4a6-s0-f0: to train"
    assert "unetq train" in out and "sweeps/my/float-s0-f0" in out
    assert [path.name for path in tmp_path.iterdir()] == ["my.yaml"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["emm"], 2, "did you mean 'em'"),
        (["phantom", "--bits", "4-6"], 2, "write it like 4/6"),
        (["phantom", "--method", "lsqq"], 2, "quant.method"),
        (["phantom", "--set", "train.lrr=1"], 2, "did you mean 'train.lr'"),
        (["phantom", "--split", "train"], 2, "validation,test"),
        (["em", "--data", "no/such/folder"], 3, "does not exist"),
        (["phantom", "--set", "data.options.kind=cards"], 2, "kind = 'cards'"),
    ],
)
def test_mistakes_leave_nothing_behind(
    arguments: list[str], code: int, message: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found, out, err = unetq(capsys, "sweep", *arguments)
    assert found == code and out == "" and err.startswith("error: ") and message in err
    assert not list(tmp_path.iterdir())


def test_for_real(config: str, tmp_path: Path, capsys: Capture) -> None:
    """Processes, files and the words at the end; and a run of a sweep has the bits of the same run alone."""
    out = tmp_path / "s"
    process = start_command("sweep", config, "--bits", "4/6", "--method", "lsq", "-o", out, cwd=tmp_path)
    told, err = process.communicate(timeout=300)
    assert process.returncode == 0 and "2 of 2 runs done" in told and "Traceback" not in err, err
    assert "2 of 2: w4a6-lsq-s0" in err and "evaluating on the validation split" in err
    record = json.loads((out / "sweep.json").read_text())
    assert [run["state"] for run in record["runs"]] == ["done", "done"]
    for run in record["runs"]:
        folder = out / run["name"]
        assert json.loads((folder / "run.json").read_text())["command"] == run["command"]
        scored = json.loads((folder / "metrics.json").read_text())["splits"]["validation"]
        assert scored["float" if run["source"] is None else "integer"]["volume_dice"] == run["dice"]["validation"]
    # Scored otherwise: evaluated again, not trained again.
    weights = (out / "w4a6-lsq-s0" / "quant" / "best.safetensors").stat().st_mtime_ns
    again = ["sweep", config, "--bits", "4/6", "--method", "lsq", "-o", out, "--set", "evaluation.bootstrap=500"]
    process = start_command(*again, cwd=tmp_path)
    told, err = process.communicate(timeout=300)
    assert process.returncode == 0 and "2 of 2 runs done" in told, err
    for run in record["runs"]:
        metrics = json.loads((out / run["name"] / "metrics.json").read_text())
        assert metrics["evaluation"]["bootstrap"] == 500
        assert read_experiment(out / run["name"]).evaluation.bootstrap == 500
    assert (out / "w4a6-lsq-s0" / "quant" / "best.safetensors").stat().st_mtime_ns == weights
    # The shell's sweeps/em/* holds sweep.json, too.
    code, shown, told = unetq(capsys, "report", *sorted(out.glob("[!.]*")), "-o", tmp_path / "report")
    assert code == 0 and "report.html: written" in shown, told
    alone = train(load_experiment(str(out / "float-s0" / "config.yaml")), tmp_path / "alone")
    assert_same_tensors(tensors(alone, "float", "best"), tensors(out / "float-s0", "float", "best"))


def test_a_process_that_dies_is_told_from_one_that_refuses(tmp_path: Path) -> None:
    job = {"out": str(tmp_path / "run"), "standing": "new", "splits": [], "command": ""}
    with Stop() as stop:
        refused = run_apart({**job, "experiment": {"seed": "x"}}, stop, 2)
        died = run_apart({}, stop, 2)
    assert "seed" in refused.error and not refused.interrupted
    assert "exit code 1" in died.error or "KeyError" in died.error


def test_signals_are_taken_and_given_back() -> None:
    found = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever started the tests may have it ignored
    before = {number: signal.getsignal(number) for number in Stop.SIGNALS}
    with Stop() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.requested
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup leaves it
    try:
        with Stop() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before[signal.SIGHUP])
    assert {number: signal.getsignal(number) for number in Stop.SIGNALS} == before
    signal.signal(signal.SIGHUP, found)


def test_control_c_reaches_the_run_once(config: str, tmp_path: Path) -> None:
    settings = ["--set", "train.float_steps=5000", "--set", "train.validate_every=5000"]
    arguments = ["sweep", config, "--bits", "32/32", "-o", str(tmp_path / "s"), *settings]
    process = start_command(*arguments, cwd=tmp_path)
    run = tmp_path / "s" / "float-s0"
    deadline = time.monotonic() + 300
    while not (run / "history.jsonl").is_file():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "The same command goes on" in out and "Traceback" not in err, err
    assert json.loads((run / "float" / "last.json").read_text())["state"]["step"] > 0
    record = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert record["runs"][0]["state"] == "interrupted"
    told = subprocess.run(
        [sys.executable, "-c", "import unetq.cli; unetq.cli.main()", *arguments, "--dry-run"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "float-s0: to go on with" in told.stdout
