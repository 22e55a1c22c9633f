"""Resuming a training: to the last bit, or a refusal that says why."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from interruptions import STAGES, Crash, assert_same_run, at, crash, history, press_control_c, rewrite_info
from small_runs import small

from unetq import checkpoint as checkpoints
from unetq.data import resolve_dataset
from unetq.errors import CheckpointError, ConfigError, DataError, OutputError
from unetq.experiment import EvaluationConfig, Experiment
from unetq.loop import Interrupted
from unetq.runs import read_experiment
from unetq.scoring import Scorer
from unetq.train import train


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    ("step", "action"), [(5, crash), (8, crash), (1, crash), (5, press_control_c), (8, press_control_c)]
)
def test_resume_gives_the_same_bits(
    uninterrupted: tuple[Experiment, Path], tmp_path: Path, stage: str, step: int, action: Callable[[], None]
) -> None:
    experiment, whole = uninterrupted
    out = tmp_path / "broken"
    with pytest.raises(Crash if action is crash else Interrupted):
        train(experiment, out, on_step=at(stage, step, action))
    if action is press_control_c:
        assert checkpoints.load(out / stage / "last.safetensors").info["state"]["step"] == step
    train(experiment, out, resume=True)
    assert_same_run(whole, out)


def test_two_interruptions_and_one_within_a_validation(
    uninterrupted: tuple[Experiment, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, whole = uninterrupted
    out = tmp_path / "broken"
    score = Scorer.score
    calls = []

    def interrupted_score(self: Scorer, *arguments: Any) -> Any:
        calls.append(None)
        if len(calls) == 3:
            press_control_c()
        return score(self, *arguments)

    monkeypatch.setattr(Scorer, "score", interrupted_score)
    with pytest.raises(Interrupted, match="validating step 8"):
        train(experiment, out)
    with pytest.raises(Interrupted):
        train(experiment, out, resume=True, on_step=at("quant", 2, press_control_c))
    train(experiment, out, resume=True)
    assert_same_run(whole, out)


def test_resume_restores_the_generator_that_dropout_draws_from(tmp_path: Path) -> None:
    options = {"channels": [4, 8], "strides": [2], "num_res_units": 0, "norm": "batch", "dropout": 0.4}
    experiment = small(network={"name": "unet", "options": options}, train={"optimizer": "sgd", "lr": 0.01})
    experiment.network.options.pop("widths")
    whole = train(experiment, tmp_path / "whole")
    for stage in STAGES:
        out = tmp_path / stage
        with pytest.raises(Crash):
            train(experiment, out, on_step=at(stage, 5, crash))
        train(experiment, out, resume=True)
        assert_same_run(whole, out)


def test_a_finished_run_resumes_to_itself(tmp_path: Path) -> None:
    experiment = small(quant={"weight_bits": 32, "act_bits": 32}, train={"float_steps": 4})
    run = train(experiment, tmp_path / "run")
    before = (run / "float" / "last.safetensors").read_bytes()
    assert not (run / "quant").exists()
    scored = experiment.model_copy(update={"evaluation": EvaluationConfig(empty="skip")})  # not what is trained
    train(scored, run, resume=True, on_step=lambda stage, step: crash())
    assert (run / "float" / "last.safetensors").read_bytes() == before
    assert read_experiment(run) == scored


def test_resume_of_another_config_names_the_key(uninterrupted: tuple[Experiment, Path]) -> None:
    experiment, run = uninterrupted
    changed = experiment.model_copy(deep=True)
    changed.train.lr = 0.5
    with pytest.raises(ConfigError, match=r"train\.lr was 0\.001, now 0\.5"):
        train(changed, run, resume=True)


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no run to resume"):
        train(small(), tmp_path / "none", resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        train(small(), tmp_path / "file")


def test_disk_full_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    out, fsync = tmp_path / "run", os.fsync

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        train(small(), out, on_step=at("float", 5, lambda: monkeypatch.setattr(os, "fsync", full)))
    monkeypatch.setattr(os, "fsync", fsync)
    assert checkpoints.load(out / "float" / "last.safetensors").info["state"]["step"] == 3
    assert not [path for path in out.rglob(".*") if path.is_file()]
    whole = train(small(), tmp_path / "whole")
    train(small(), out, resume=True)
    assert_same_run(whole, out)


def stack(folder: Path, seed: int) -> Path:
    """24 slices in the layout of the EM data."""
    options = {"size": 48, "train": 20, "validation": 4, "seed": seed}
    spec = resolve_dataset("phantom", options)
    samples = [sample for split in ("train", "validation") for sample in spec.load(None, split, options)]
    folder.mkdir()
    tifffile.imwrite(folder / "train-volume.tif", np.stack([s.image[0] for s in samples]).astype(np.uint8))
    tifffile.imwrite(folder / "train-labels.tif", np.stack([s.label * np.uint8(255) for s in samples]))
    return folder


@pytest.mark.parametrize("stage", STAGES)
def test_resume_takes_moved_data_but_no_other(tmp_path: Path, stage: str) -> None:
    def em(root: Path) -> Experiment:
        experiment = small(data={"name": "em", "root": str(root)}, train={"float_steps": 4, "quant_steps": 4})
        experiment.data.options.clear()
        return experiment

    here, other, out = stack(tmp_path / "here", 0), stack(tmp_path / "other", 1), tmp_path / "run"
    with pytest.raises(Interrupted):
        train(em(here), out, on_step=at(stage, 2, press_control_c))
    before = (out / "config.yaml").read_bytes()
    with pytest.raises(CheckpointError, match=r"20 of 20 of the train split differ"):
        train(em(other), out, resume=True)
    labels = tifffile.imread(here / "train-labels.tif")
    labels[21] = 255 - labels[21]
    tifffile.imwrite(other / "train-volume.tif", tifffile.imread(here / "train-volume.tif"))
    tifffile.imwrite(other / "train-labels.tif", labels)
    with pytest.raises(CheckpointError, match=r"1 of 4 of the validation split differ"):
        train(em(other), out, resume=True)
    with pytest.raises(DataError, match="does not exist"):
        train(em(tmp_path / "nowhere"), out, resume=True)
    assert (out / "config.yaml").read_bytes() == before
    moved = here.rename(tmp_path / "moved")
    train(em(moved), out, resume=True)
    assert str(moved) in (out / "config.yaml").read_text()


def test_parts_of_a_run_without_its_config(tmp_path: Path) -> None:
    (tmp_path / "run" / "float").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"parts of a run but no config\.yaml"):
        train(small(), tmp_path / "run", resume=True)


def test_damaged_notes_and_headers_on_resume(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(small(), out, on_step=at("float", 5, press_control_c))
    with open(out / "history.jsonl", "a") as handle:
        handle.write("12\nnull\n")
    (out / "run.json").write_text("12")
    last = out / "float" / "last.safetensors"
    whole = last.read_bytes()
    rewrite_info(last, lambda info: info.update(state={"step": "x"}))
    with pytest.raises(CheckpointError, match=r"last\.safetensors is damaged.*state\.step"):
        train(small(), out, resume=True)
    last.write_bytes(whole)
    train(small(), out, resume=True)
    assert len(history(out)) == 4 and json.loads((out / "run.json").read_text())["finished"]


def test_the_command_to_go_on_is_quoted(tmp_path: Path) -> None:
    out = tmp_path / "my run"
    with pytest.raises(Interrupted, match=r"unetq train --resume --out '[^']*/my run'$"):
        train(small(), out, on_step=at("float", 2, press_control_c))
    with pytest.raises(CheckpointError, match=r"\(unetq train --resume --out '[^']*/my run'\)"):
        train(small(train={"from_run": str(out)}), tmp_path / "out")
