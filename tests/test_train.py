"""Training: what a run leaves, what it refuses, and what its settings do."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from interruptions import STAGES, crash, history
from small_runs import small, tensors
from unetq_datasets import phantom

from unetq import checkpoint as checkpoints
from unetq.batches import train_batches
from unetq.errors import ConfigError, DataError, OutputError, UnetqError, UnsupportedError
from unetq.experiment import Experiment
from unetq.export.program import Preprocessing
from unetq.loop import schedule_factor
from unetq.prepare import load_data, new_network
from unetq.runs import load_split
from unetq.samples import Samples
from unetq.train import train


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


def test_another_seed_gives_another_network(uninterrupted: tuple[Experiment, Path], tmp_path: Path) -> None:
    experiment, whole = uninterrupted
    other = train(experiment.model_copy(update={"seed": 1}), tmp_path / "other")
    a, b = tensors(whole, "quant", "last"), tensors(other, "quant", "last")
    assert any(not torch.equal(a[name], b[name]) for name in a)


def test_a_second_run_in_a_folder_is_refused(uninterrupted: tuple[Experiment, Path]) -> None:
    experiment, run = uninterrupted
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(OutputError, match="--resume"):
        train(experiment, run)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


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
