"""A low-bit run from another run's float network: what it takes, and which it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from interruptions import Crash, at, crash, history, press_control_c, rewrite_info
from small_runs import assert_same_tensors, small, tensors

from unetq import checkpoint as checkpoints
from unetq import files
from unetq.errors import CheckpointError, ConfigError
from unetq.experiment import Experiment
from unetq.loop import Interrupted
from unetq.runs import load_split
from unetq.samples import digest
from unetq.train import train


def test_from_run_takes_the_float_network(uninterrupted: tuple[Experiment, Path], tmp_path: Path) -> None:
    experiment, whole = uninterrupted
    settings = {"from_run": str(whole), "precision": experiment.train.precision}
    run = train(small(train=settings), tmp_path / "twin")
    assert (run / "float" / "best.safetensors").read_bytes() == (whole / "float" / "best.safetensors").read_bytes()
    assert not (run / "float" / "last.safetensors").exists()
    # From the same float network, seed and steps the low-bit stage is the same one.
    assert_same_tensors(tensors(whole, "quant", "last"), tensors(run, "quant", "last"))
    by_file = small(train={**settings, "from_run": str(whole / "float" / "best.safetensors")}, quant={"weight_bits": 2})
    other = tmp_path / "w2"
    with pytest.raises(Crash):
        train(by_file, other, on_step=at("quant", 4, crash))
    by_file.train.from_run = "moved/away"
    train(by_file, other, resume=True)
    assert {line["stage"] for line in history(other)} == {"quant"}


def test_from_run_of_another_network_is_refused(uninterrupted: tuple[Experiment, Path], tmp_path: Path) -> None:
    _, whole = uninterrupted
    out = tmp_path / "out"
    with pytest.raises(CheckpointError, match="widths"):
        train(small(network={"options": {"widths": [4, 16]}}, train={"from_run": str(whole)}), out)
    with pytest.raises(CheckpointError, match="'quant' stage"):
        train(small(train={"from_run": str(whole / "quant" / "best.safetensors")}), out)
    with pytest.raises(CheckpointError, match="is missing"):
        train(small(train={"from_run": str(tmp_path)}), out)
    with pytest.raises(ConfigError, match="nothing left to train"):
        train(small(quant={"weight_bits": 32, "act_bits": 32}, train={"from_run": str(whole)}), out)
    assert not out.exists()


def test_from_run_of_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    half = tmp_path / "half"
    with pytest.raises(Interrupted):
        train(small(), half, on_step=at("float", 5, press_control_c))
    with pytest.raises(CheckpointError, match="resume it first"):
        train(small(train={"from_run": str(half)}), tmp_path / "out")
    train(small(train={"from_run": str(half / "float" / "best.safetensors"), "quant_steps": 1}), tmp_path / "out")


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float run trained on slices 0 to 3 and validated on 4 and 5."""
    return train(small(quant={"weight_bits": 32, "act_bits": 32}), tmp_path_factory.mktemp("floats") / "a run")


def test_a_checkpoint_says_what_it_was_trained_on(floats: Path) -> None:
    data = checkpoints.load(floats / "float" / "best.safetensors").info["data"]
    assert data["name"] == "phantom" and data["options"]["train"] == 4 and data["options"]["kind"] == "membranes"
    assert data["labels"] == ["membrane", "cell"] and data["preprocessing"]["normalize"] == "zscore"
    for split in ("train", "validation"):
        assert data["digests"][split] == [digest(sample) for sample in load_split(small(), split)]


def test_a_float_run_of_a_version_with_fewer_preprocessing_steps_is_still_a_source(
    floats: Path, tmp_path: Path
) -> None:
    source = tmp_path / "best.safetensors"
    source.write_bytes((floats / "float" / "best.safetensors").read_bytes())

    def older(info: dict[str, Any]) -> None:
        info["data"]["preprocessing"] = {k: info["data"]["preprocessing"][k] for k in ("normalize", "low", "high")}

    rewrite_info(source, older)
    run = train(small(train={"from_run": str(source), "quant_steps": 1}), tmp_path / "out")
    assert (run / "quant" / "best.safetensors").is_file()


def test_from_run_that_saw_the_validation_slices_is_refused(floats: Path, tmp_path: Path) -> None:
    out, source = tmp_path / "out", {"from_run": str(floats), "quant_steps": 1, "float_steps": 1}
    with pytest.raises(CheckpointError, match=r"trained on slice phantom-membranes-002 of this run's validation split"):
        train(small(data={"options": {"train": 2}}, train=source), out)
    with pytest.raises(CheckpointError, match="with data preprocessing"):
        train(small(data={"preprocessing": {"normalize": "none"}}, train=source), out)
    assert not out.exists()
    # More training slices that end before the validation: nothing is on two sides.
    train(small(data={"options": {"train": 6}}, train=source), out)


def test_from_run_with_other_classes_or_without_a_record_is_refused(floats: Path, tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    experiment = small(train={"from_run": str(path)})
    changes: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
        (lambda info: info["data"].update(labels=["a", "b"]), "with data labels"),
        (lambda info: info["data"].pop("digests"), "earlier version; train it again"),
        (lambda info: info.pop("data"), "earlier version; train it again"),
        (lambda info: info.pop("state"), "header's state"),
    ]
    for change, words in changes:
        path.write_bytes((floats / "float" / "best.safetensors").read_bytes())
        rewrite_info(path, change)
        with pytest.raises(CheckpointError, match=words):
            train(experiment, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["config.yaml", "best.json", "best.safetensors"])
def test_a_run_killed_while_its_folder_is_made_can_go_on(
    floats: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    experiment, out = small(train={"from_run": str(floats), "quant_steps": 2}), tmp_path / "run"
    write = files.write_with

    def killed(path: Path, writer: Any) -> None:
        if path.name == name:
            raise Crash
        write(path, writer)

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(files, "write_with", killed)
        train(experiment, out)
    train(experiment, out, resume=(out / "config.yaml").exists())
    copy, source = out / "float" / "best.safetensors", floats / "float" / "best.safetensors"
    assert copy.read_bytes() == source.read_bytes()
    assert json.loads(copy.with_suffix(".json").read_text()) == checkpoints.load(source).info
