"""Training: what a run leaves, what it refuses, and resuming to the last bit."""

import itertools
import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from small_runs import assert_same_tensors, small, tensors
from unetq_datasets import phantom

from unetq import checkpoint as checkpoints
from unetq import files
from unetq.batches import train_batches
from unetq.data import resolve_dataset
from unetq.errors import CheckpointError, ConfigError, DataError, OutputError, UnetqError, UnsupportedError
from unetq.experiment import Experiment
from unetq.export.program import Preprocessing
from unetq.loop import Interrupted, schedule_factor
from unetq.prepare import load_data, new_network
from unetq.runs import load_split
from unetq.samples import Samples, digest
from unetq.scoring import Scorer
from unetq.train import train

STAGES = ("float", "quant")


class Crash(Exception):
    """Stands for a killed process: nothing is saved on the way out."""


def at(stage: str, step: int, action: Callable[[], None]) -> Callable[[str, int], None]:
    def on_step(now: str, done: int) -> None:
        if (now, done) == (stage, step):
            action()

    return on_step


def crash() -> None:
    raise Crash


def press_control_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def history(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def assert_same_run(a: Path, b: Path, stages: tuple[str, ...] = STAGES) -> None:
    for stage in stages:
        for which in ("best", "last"):
            assert_same_tensors(tensors(a, stage, which), tensors(b, stage, which))
    assert history(a) == history(b)


@pytest.fixture(scope="module", params=["32", "bf16"])
def uninterrupted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Path]:
    experiment = small(train={"precision": request.param})
    return experiment, train(experiment, tmp_path_factory.mktemp("run") / "whole")


def test_a_run_leaves_what_the_others_read(uninterrupted: tuple[Experiment, Path]) -> None:
    _, run = uninterrupted
    facts = json.loads((run / "run.json").read_text())
    assert facts["seed"] == 0 and facts["finished"] and facts["seconds"]["quant"] > 0
    lines = history(run)
    assert [(line["stage"], line["step"]) for line in lines] == [("float", 4), ("float", 8), ("quant", 4), ("quant", 8)]
    assert all(set(line["dice"]) == {"membrane", "cell"} for line in lines)
    assert list((run / "tensorboard").glob("events*"))
    for stage in STAGES:
        info = json.loads((run / stage / "last.json").read_text())
        assert info == checkpoints.load(run / stage / "last.safetensors").info
        assert info["state"]["step"] == 8 and info["state"]["done"] and info["network"]["name"] == "paper"
        assert not any(name.startswith("optimizer") for name in tensors(run, stage, "best"))
    assert not list(run.rglob("*.pt")) and not list(run.rglob("*.pkl"))


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


def test_another_seed_gives_another_network(uninterrupted: tuple[Experiment, Path], tmp_path: Path) -> None:
    experiment, whole = uninterrupted
    other = train(experiment.model_copy(update={"seed": 1}), tmp_path / "other")
    a, b = tensors(whole, "quant", "last"), tensors(other, "quant", "last")
    assert any(not torch.equal(a[name], b[name]) for name in a)


def test_a_finished_run_resumes_to_itself(tmp_path: Path) -> None:
    experiment = small(quant={"weight_bits": 32, "act_bits": 32}, train={"float_steps": 4})
    run = train(experiment, tmp_path / "run")
    before = (run / "float" / "last.safetensors").read_bytes()
    assert not (run / "quant").exists()
    train(experiment, run, resume=True, on_step=lambda stage, step: crash())
    assert (run / "float" / "last.safetensors").read_bytes() == before


def test_a_second_run_in_a_folder_is_refused(uninterrupted: tuple[Experiment, Path]) -> None:
    experiment, run = uninterrupted
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(OutputError, match="--resume"):
        train(experiment, run)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


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


def test_from_scratch_has_no_float_stage(tmp_path: Path) -> None:
    quant = {
        "method": "paper",
        "first_bits": 32,
        "last_bits": 32,
        "float_layers": ["encoder.0.*", "head"],
        "refine_step_sizes": False,
    }
    run = train(
        small(quant=quant, train={"from_scratch": True, "schedule": "step", "optimizer": "adam"}), tmp_path / "run"
    )
    assert not (run / "float").exists()
    assert {line["stage"] for line in history(run)} == {"quant"}


def test_step_sizes_move_until_they_are_frozen(tmp_path: Path) -> None:
    def log2_steps(run: Path, step: int) -> torch.Tensor:
        state = checkpoints.load(run / "quant" / "last.safetensors")
        assert state.info["state"]["step"] == step
        return torch.cat(
            [v.flatten() for k, v in state.tensors.items() if k.startswith("model.") and k.endswith("log2_step")]
        )

    # Weight bits set what is watched; a high rate makes every step visible.
    experiment = small(
        quant={"freeze_after": 0.5}, train={"step_size_lr": 0.05, "checkpoint_every": 1, "schedule": "constant"}
    )
    run, seen = tmp_path / "run", {}

    def look(stage: str, step: int) -> None:
        if stage == "quant" and step > 1:
            seen[step - 1] = log2_steps(run, step - 1)

    train(experiment, run, on_step=look)
    assert not torch.equal(seen[1], seen[2]) and not torch.equal(seen[3], seen[4])
    assert torch.equal(seen[4], seen[5]) and torch.equal(seen[4], seen[7])


def test_a_nan_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unetq import train as module

    original = module.build_loss

    def poisoned(*arguments: Any) -> Any:
        loss, calls = original(*arguments), []

        def apply(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            calls.append(None)
            return loss(logits, labels) * (float("nan") if len(calls) == 5 else 1.0)

        return apply

    monkeypatch.setattr(module, "build_loss", poisoned)
    with pytest.raises(
        UnetqError, match=r"^the loss is not finite by step 6 of the float stage.*last\.safetensors.*train\.lr"
    ):
        train(small(), tmp_path / "run")
    last = checkpoints.load(tmp_path / "run" / "float" / "last.safetensors")
    assert last.info["state"]["step"] == 3
    assert all(bool(torch.isfinite(t).all()) for t in last.tensors.values() if t.is_floating_point())


def test_early_stop_counts_validations(tmp_path: Path) -> None:
    # A learning rate too small to change a mask: the first validation is never bettered.
    settings = {"lr": 1e-12, "float_steps": 40, "validate_every": 2, "early_stop_patience": 2, "weight_decay": 0.0}
    experiment = small(quant={"weight_bits": 32, "act_bits": 32}, train=settings)
    experiment.network.options["order"] = "conv-norm-relu"
    run = train(experiment, tmp_path / "run")
    state = checkpoints.load(run / "float" / "last.safetensors").info["state"]
    assert state["done"] and state["since_best"] == 2 and state["step"] < 40
    assert state["step"] == state["best_step"] + 4


def test_bad_data_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="crop"):
        train(small(train={"crop": 33}), out)
    with pytest.raises(ConfigError, match="out_channels"):
        train(small(network={"options": {"out_channels": 5}}), out)
    with pytest.raises(ConfigError, match="did you mean"):
        train(small(data={"name": "phantomm", "options": {}}), out)
    with pytest.raises(DataError, match="stride"):
        train(small(data={"options": {"size": 16}}, network={"options": {"widths": [2, 2, 2, 2, 2, 2]}}), out)
    with pytest.raises(DataError, match="does not exist"):
        experiment = small(data={"name": "em", "root": str(tmp_path / "nowhere")})
        experiment.data.options.clear()
        train(experiment, out)
    with pytest.raises(ConfigError, match=r"train\.accelerator = quantum.*train\.accelerator=cpu train\.devices=1"):
        train(small(train={"accelerator": "quantum"}), out)
    assert not out.exists()


def test_the_test_split_is_read_where_the_loader_promises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its samples are compared and let go; other splits are read as before."""
    read: list[str] = []

    def spy(experiment: Experiment, split: str, data: Path | None = None) -> Samples:
        read.append(split)
        return load_split(experiment, "train" if split == "test" else split, data)  # a copy of all of it

    monkeypatch.setattr("unetq.prepare.load_split", spy)
    experiment = small()
    load_data(experiment, new_network(experiment), None, torch.device("cpu"))
    assert read == ["train", "validation"]
    monkeypatch.setattr("unetq_datasets.phantom.DATASET", replace(phantom.DATASET, test_apart=False))
    with pytest.raises(DataError, match="of test is also in train"):
        load_data(experiment, new_network(experiment), None, torch.device("cpu"))
    assert read == ["train", "validation"] * 2 + ["test"]


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


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant"])
def test_schedule(schedule: str) -> None:
    config = small(train={"schedule": schedule, "warmup": 4}).train
    factors = [schedule_factor(config, step, 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.2) and all(0 < f <= 1 for f in factors)
    assert factors[:4] == sorted(factors[:4])
    assert all(a >= b for a, b in itertools.pairwise(factors[4:]))
    assert factors[-1] == pytest.approx({"cosine": 2.5e-4, "step": 1e-4, "constant": 1.0}[schedule], rel=0.02)


def test_several_processes_draw_different_batches() -> None:
    samples = load_split(small(), "train")
    first, second = (
        next(train_batches(samples, Preprocessing("zscore"), 32, 2, 0, 0, 1, rank=rank, world_size=2, ahead=0))[0]
        for rank in (0, 1)
    )
    assert not torch.equal(first, second)


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float run trained on slices 0 to 3 and validated on 4 and 5."""
    return train(small(quant={"weight_bits": 32, "act_bits": 32}), tmp_path_factory.mktemp("floats") / "a run")


def rewrite_info(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the header of a checkpoint."""
    from safetensors.torch import save

    loaded = checkpoints.load(path)
    change(loaded.info)
    path.write_bytes(save(loaded.tensors, metadata={"unetq": json.dumps(loaded.info)}))


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


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"quant": {"float_layers": ["nosuch"]}}, ConfigError, "'nosuch' matches no convolution"),
        ({"network": {"name": "unet", "options": {"act": ["softmax", {"dim": 1}]}}}, UnsupportedError, "softmax"),
    ],
)
def test_low_bit_settings_are_checked_before_the_float_stage(
    tmp_path: Path, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    experiment = small(**changes)
    if experiment.network.name == "unet":
        experiment.network.options.pop("widths")
    with pytest.raises(error, match=words):
        train(experiment, tmp_path / "run", on_step=lambda stage, step: crash())
    assert not (tmp_path / "run").exists()


def test_a_folder_with_other_things_is_no_place_for_a_run(tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    (out / "overlays").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"holds overlays and is no run.*Choose another --out"):
        train(small(), out)
    assert [path.name for path in out.iterdir()] == ["overlays"]
    (out / "overlays").rmdir()
    (out / ".config.yaml.x1.yaml").write_text("half")  # what a run killed at its very start leaves
    train(small(train={"float_steps": 1, "quant_steps": 1}), out)


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


def test_parts_of_a_run_without_its_config(floats: Path, tmp_path: Path) -> None:
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
