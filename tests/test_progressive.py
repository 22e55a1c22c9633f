"""Progressive bits: the phases, what each leaves, resuming, and a low-bit stage that diverges."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import assert_same_tensors, small, tensors

from unetq import checkpoint as checkpoints
from unetq.errors import ConfigError, UnetqError
from unetq.loop import Interrupted
from unetq.progressive import Phase, phases, widened
from unetq.runs import open_run
from unetq.train import train

STEPS = {"progressive": [8, 6], "quant_steps": 14, "float_steps": 4}


class Crash(Exception):
    """Stands for a killed process."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(small(train=STEPS), tmp_path_factory.mktemp("progressive") / "run")


def test_phases_share_the_steps() -> None:
    assert phases(small()) == (Phase(None, 0, 8),)
    assert phases(small(train=STEPS)) == (Phase(8, 0, 4), Phase(6, 4, 4), Phase(None, 8, 6))


def test_a_phase_widens_what_is_narrower() -> None:
    quant = widened(small(quant={"act_bits": 8, "last_bits": 32}), 6).quant
    assert (quant.weight_bits, quant.act_bits, quant.first_bits, quant.last_bits) == (6, 8, 8, 32)
    assert widened(small(), None) == small()


def test_every_phase_leaves_its_checkpoints(whole: Path) -> None:
    for folder, bits, steps in (("quant/8-bit", (8, 8), 4), ("quant/6-bit", (6, 6), 4), ("quant", (4, 6), 6)):
        info = checkpoints.load(whole / folder / "last.safetensors").info
        assert info["stage"] == "quant" and info["state"]["step"] == steps and info["state"]["done"]
        assert (info["quant"]["weight_bits"], info["quant"]["act_bits"]) == bits
        assert info["train"]["progressive"] == [8, 6]
    quantized, _ = open_run(whole).quantized()
    assert quantized.settings.weight_bits == 4
    lines = [json.loads(line) for line in (whole / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["stage"] == "quant"] == [4, 8, 12, 14]
    assert json.loads((whole / "run.json").read_text())["seconds"].keys() >= {"quant", "quant 8-bit", "quant 6-bit"}


def test_a_phase_goes_on_from_the_one_before(tmp_path: Path) -> None:
    # A rate too small to move a weight: what the last phase holds is the float network, its steps are its own.
    settings = {**STEPS, "quant_lr": 1e-12, "step_size_lr": 0.0, "weight_decay": 0.0, "precision": "32"}
    run = train(small(train=settings), tmp_path / "run")
    start, early, end = (tensors(run, folder, "last") for folder in ("float", "quant/8-bit", "quant"))
    best = tensors(run, "float", "best")
    weights = [name for name in best if name.endswith(".weight") and best[name].ndim == 4]
    assert weights and start.keys() >= set(weights)
    for name in weights:
        torch.testing.assert_close(end[name.replace("model.", "model.net.")], best[name], rtol=0, atol=1e-6)
    steps = [name for name in end if name.startswith("model.weight_quantizers") and name in early]
    assert steps and any(not torch.equal(early[name], end[name]) for name in steps)


@pytest.mark.parametrize("step", [2, 4, 6, 9, 13])
def test_resume_gives_the_same_bits(whole: Path, tmp_path: Path, step: int) -> None:
    def crash(stage: str, done: int) -> None:
        if (stage, done) == ("quant", step):
            raise Crash

    out = tmp_path / "broken"
    with pytest.raises(Crash):
        train(small(train=STEPS), out, on_step=crash)
    train(small(train=STEPS), out, resume=True)
    for folder in ("quant/8-bit", "quant/6-bit", "quant"):
        for which in ("best", "last"):
            assert_same_tensors(tensors(whole, folder, which), tensors(out, folder, which))
    assert [strip(line) for line in lines(out)] == [strip(line) for line in lines(whole)]


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


def strip(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if key != "seconds"}


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"train": {"progressive": [6, 8]}}, "fall from phase to phase"),
        ({"train": {"progressive": [8, 8]}}, "fall from phase to phase"),
        ({"train": {"progressive": [16]}}, "1 to 8 bits"),
        ({"train": {"progressive": [8, 4]}}, "leave such widths out"),
        ({"train": {"progressive": [8]}, "quant": {"weight_bits": 32, "act_bits": 32}}, "no stage has low bits"),
        ({"train": {"progressive": [8, 6], "quant_steps": 2}}, "each needs a step"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, sections: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=f"train.progressive.*{reason}|train.quant_steps.*{reason}"):
        train(small(**sections), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match=r"train\.progressive"):
        small(train={"progressive": "8"})


@pytest.mark.parametrize("progressive", [[], [8]])
def test_a_nan_in_the_low_bit_stage_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, progressive: list[int]
) -> None:
    from unetq import train as module

    original = module.build_loss

    def poisoned(*arguments: Any) -> Any:
        loss, calls = original(*arguments), []

        def apply(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            calls.append(None)
            return loss(logits, labels) * (float("nan") if len(calls) == 5 else 1.0)

        return apply

    settings = {"float_steps": 3, "quant_steps": 8 * (1 + len(progressive)), "progressive": progressive}
    train(small(train={**settings, "quant_steps": 2, "progressive": []}), tmp_path / "float")
    monkeypatch.setattr(module, "build_loss", poisoned)
    out = tmp_path / "run"
    folder = "8-bit/last" if progressive else "quant/last"
    with pytest.raises(UnetqError, match=rf"^the loss is not finite by step 6 of the quant .*{folder}.*quant_lr"):
        train(small(train={**settings, "from_run": str(tmp_path / "float")}), out)
    last = checkpoints.load(out / "quant" / ("8-bit" if progressive else "") / "last.safetensors")
    assert last.info["state"]["step"] == 3
    assert all(bool(torch.isfinite(t).all()) for t in last.tensors.values() if t.is_floating_point())


def test_an_interruption_tells_the_step_of_the_stage(tmp_path: Path) -> None:
    import os
    import signal

    def press(stage: str, done: int) -> None:
        if (stage, done) == ("quant", 6):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="after step 6 of the quant stage"):
        train(small(train=STEPS), tmp_path / "run", on_step=press)


def test_quantisers_hear_of_the_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unetq.quant.fixed_point import FixedPointWeight

    heard: list[float] = []
    monkeypatch.setattr(FixedPointWeight, "set_progress", lambda self, done: heard.append(done), raising=False)
    train(small(train={**STEPS, "from_scratch": True}), tmp_path / "run")
    assert heard == sorted(heard) and sorted(set(heard)) == [step / 14 for step in range(14)]
