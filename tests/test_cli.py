"""The command line: the names others rely on, exit codes, one line an error."""

import json
import signal
import time
from pathlib import Path

import pytest
import yaml
from commands import start, unetq
from native_library import ensure_library
from small_runs import SMALL, assert_same_tensors, small, tensors

from unetq.cli.shared import spread_settings
from unetq.train import train


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    return path


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    from unetq import __version__

    assert unetq(capsys, "--version") == (0, f"unetq {__version__}\n", "")
    code, out, _ = unetq(capsys, "--help")
    assert code == 0
    for command in ("train", "evaluate", "export", "predict", "report", "inspect", "download", "verify"):
        assert command in out


def test_the_whole_way(capsys: pytest.CaptureFixture[str], config_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "w2a3"
    code, out, err = unetq(
        capsys, "train", config_file, "--weight-bits", 2, "--act-bits", 3, "--out", run, "--set", "seed=5"
    )
    assert code == 0 and "unetq evaluate" in out and "validation Dice" in err
    assert json.loads((run / "run.json").read_text())["command"].startswith("unetq train")
    code, out, _ = unetq(capsys, "evaluate", run, "--json")
    metrics = json.loads(out)
    assert code == 0 and metrics["bits"]["weight"] == 2 and metrics["bits"]["act"] == 3 and metrics["seed"] == 5
    assert set(metrics["splits"]["validation"]) == {"integer", "float_reference", "paired"}
    code, out, _ = unetq(capsys, "evaluate", run, "--split", "test")
    assert code == 0 and "integer (as shipped): Dice membrane" in out and "float32 reference" in out
    code, out, _ = unetq(capsys, "evaluate", run, "--float")
    assert code == 0 and "float32, quantisers off" in out
    model = tmp_path / "m.uqm"
    code, out, _ = unetq(capsys, "export", run, "-o", model)
    assert code == 0 and f"{model.stat().st_size} bytes" in out
    code, out, _ = unetq(capsys, "report", run, "-o", tmp_path / "report")
    assert code == 0 and (tmp_path / "report" / "report.html").is_file()


def test_inspect_and_predict(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import numpy as np
    import tifffile

    from unetq.export.run import export

    run = train(small(), tmp_path / "run")
    model = tmp_path / "m.uqm"
    export(run, model)
    ensure_library(tmp_path)
    code, out, _ = unetq(capsys, "inspect", model, "--json")
    assert code == 0 and "layers" in json.loads(out)
    code, out, _ = unetq(capsys, "inspect", model)
    assert code == 0 and "head" in out
    image = tmp_path / "image.tif"
    tifffile.imwrite(image, np.random.default_rng(0).integers(0, 255, (40, 56), dtype=np.uint8))
    code, out, _ = unetq(capsys, "predict", model, image, "-o", tmp_path / "mask.tif")
    assert code == 0 and "1 slice(s) of 40 x 56" in out
    assert set(np.unique(tifffile.imread(tmp_path / "mask.tif"))) <= {0, 255}
    assert tifffile.imread(tmp_path / "mask.tif").shape == (40, 56)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "emm"], 2, "did you mean 'em'"),
        (["train"], 2, "no config was given"),
        (["train", "em", "--weight-bits", "9"], 2, "1 to 8, or 32"),
        (["train", "em", "--act-bits", "0"], 2, "1 to 8, or 32"),
        (["train", "em", "--set", "train.lrr=1"], 2, "did you mean 'train.lr'"),
        (["train", "em", "--data", "no/such/folder"], 3, "does not exist"),
        (["train", "em", "--out", "none", "--resume"], 4, "no run to resume"),
        (["train", "--out", "none", "--resume"], 4, "not a run folder"),
        (["evaluate", "none"], 4, "not a run folder"),
        (["export", "none", "-o", "m.uqm"], 4, "not a run folder"),
        (["report", "none", "-o", "report"], 4, "none"),
        (["inspect", "none.uqm"], 4, "none.uqm"),
        (["predict", "none.uqm", "none.tif", "-o", "mask.tif"], 3, "none.tif"),
        (["download", "emm"], 2, "em"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    found, out, err = unetq(capsys, *arguments)
    assert found == code, err
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert not list(tmp_path.iterdir()), "an error must leave nothing behind"


def test_verify(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = train(small(train={"float_steps": 2, "quant_steps": 2}), tmp_path / "run")
    code, out, err = unetq(capsys, "verify", run, "--limit", 1)
    assert code == 0 and "numpy" in out and "scalar" in out and "0 mismatches" in out and "1 slices" in out
    assert err.count("0 mismatches") == out.count("mismatches in")
    code, out, _ = unetq(capsys, "verify", run, "--limit", 1, "--json")
    assert code == 0 and json.loads(out)["mismatches"] == 0


def test_several_settings_behind_one_flag() -> None:
    spread = spread_settings(["train", "em", "--set", "a=1", "b.c=[2, 3]", "--set", "d=4", "--out", "x=y"])
    assert spread == ["train", "em", "--set", "a=1", "--set", "b.c=[2, 3]", "--set", "d=4", "--out", "x=y"]
    assert spread_settings(["study", "--measure", "a=1", "b=2"]) == ["study", "--measure", "a=1", "--measure", "b=2"]
    floors = spread_settings(["compress", "--min-dice", "a=0.8", "b=0.7", "run"])
    assert floors == ["compress", "--min-dice", "a=0.8", "--min-dice", "b=0.7", "run"]
    assert spread_settings(["x", "--images", "a=.png", "b.png", "-o", "c", "d"]) == (
        ["x", "--images", "a=.png", "--images", "b.png", "-o", "c", "d"]
    )


def test_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["trian"], ["train", "em", "--weight-bits", "four"], ["export"]):
        code, _, err = unetq(capsys, *arguments)
        assert code == 2 and "Usage" in err


def test_control_c_saves_and_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], config_file: Path, tmp_path: Path
) -> None:
    settings = ["--set", "train.float_steps=150", "--set", "train.checkpoint_every=1000"]
    settings += ["--set", "train.validate_every=100"]
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    process = start("train", config_file, "--out", broken, *settings, cwd=tmp_path)
    history = broken / "history.jsonl"
    deadline = time.monotonic() + 300
    while not (history.is_file() and history.read_text().count("\n") >= 2):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert f"unetq train --resume --out {broken}" in err and "Traceback" not in err
    last = json.loads((broken / "float" / "last.json").read_text())
    assert 20 <= last["state"]["step"] < 150

    assert unetq(capsys, "train", "--resume", "--out", broken)[0] == 0
    assert unetq(capsys, "train", config_file, "--out", whole, *settings)[0] == 0
    for stage in ("float", "quant"):
        for which in ("best", "last"):
            assert_same_tensors(tensors(broken, stage, which), tensors(whole, stage, which))


def test_two_processes(config_file: Path, tmp_path: Path) -> None:
    """Data-parallel training on the CPU: one run folder, one voice, low bits frozen without complaint."""
    settings = ["--set", "train.devices=2", "--set", "train.threads=1"]
    process = start("train", config_file, "--out", tmp_path / "run", *settings, cwd=tmp_path)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.count("trained") == 1 and err.count("calibrating") == 1
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["processes"] == 2
    lines = (tmp_path / "run" / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [4, 8, 4, 8]


def test_another_network_over_a_shipped_config(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    settings = ["train.float_steps=1", "train.quant_steps=1", "train.crop=32", "train.precision=32"]
    settings += ["data.options.size=48", "data.options.train=4", "quant.calibration_batches=1", "network.name=unet"]
    settings += ["network.options.channels=[4, 8, 8, 8]", "quant.first_bits=32"]
    out = tmp_path / "my run"
    code, _, err = unetq(capsys, "train", "phantom", "--out", out, "--set", *settings)
    assert code == 0, err
    code, shown, _ = unetq(capsys, "evaluate", out)
    assert code == 0 and "integer, in part (as shipped)" in shown and "float32 in it: the first layer" in shown
    before = (out / "config.yaml").read_bytes()
    code, _, err = unetq(capsys, "train", "--resume", "--out", out, "--data", tmp_path / "nowhere")
    assert code == 3 and "does not exist" in err and (out / "config.yaml").read_bytes() == before
    code, shown, _ = unetq(capsys, "train", "--resume", "--out", out)
    assert code == 0 and f"unetq evaluate '{out}'" in shown
