"""Sharpness-aware steps in whole runs: resumed to the same bits, in two processes, with all else that training has."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import run_program
from sharpness_program import BITS, METHODS, RHO, SEED, network
from sharpness_reference import batch, stepped, steps_of
from small_runs import assert_same_tensors, small, tensors

from unetq.config import build, merge
from unetq.errors import ConfigError
from unetq.train import train


class Crash(Exception):
    """Stands for a killed process."""


def crash_at(stage: str, step: int) -> Any:
    def on_step(now: str, done: int) -> None:
        if (now, done) == (stage, step):
            raise Crash

    return on_step


@pytest.mark.parametrize("method", ["saq", "esam", "looksam"])
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_resume_gives_the_same_bits(tmp_path: Path, method: str, precision: str) -> None:
    """Killed at step 5, a checkpoint of step 3 is what there is: for LookSAM between two looks."""
    experiment = small(train={"precision": precision, "sharpness": {"method": method, "stages": "both"}})
    whole, broken = train(experiment, tmp_path / "whole"), tmp_path / "broken"
    for stage in ("float", "quant"):
        with pytest.raises(Crash):
            train(experiment, broken, resume=broken.exists(), on_step=crash_at(stage, 5))
    train(experiment, broken, resume=True)
    for stage in ("float", "quant"):
        for which in ("best", "last"):
            assert_same_tensors(tensors(whole, stage, which), tensors(broken, stage, which))


def test_only_the_stage_that_is_asked_for(tmp_path: Path) -> None:
    runs = {
        name: train(small(train={"sharpness": sharpness}), tmp_path / name)
        for name, sharpness in {
            "plain": {},
            "quant": {"method": "saq"},
            "float": {"method": "saq", "stages": "float"},
        }.items()
    }
    assert_same_tensors(tensors(runs["plain"], "float", "last"), tensors(runs["quant"], "float", "last"))
    plain = tensors(runs["plain"], "quant", "last")
    for name, stage in (("quant", "quant"), ("float", "float")):
        other = tensors(runs[name], stage, "last")
        base = plain if stage == "quant" else tensors(runs["plain"], "float", "last")
        assert any(not torch.equal(base[key], other[key]) for key in base if key.startswith("model"))
    assert "sharpness" in (runs["quant"] / "config.yaml").read_text()


@pytest.mark.parametrize("method", ["saq", "esam", "looksam"])
def test_with_a_teacher_and_falling_bits(tmp_path: Path, method: str) -> None:
    taught = {"distill": {"logits": 1.0, "features": 1.0}, "progressive": [8], "sharpness": {"method": method}}
    run = train(small(train={**taught, "float_steps": 4}), tmp_path / "run")
    assert json.loads((run / "quant" / "last.json").read_text())["state"]["done"]


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"quant": {"weight_bits": 32, "act_bits": 32}, "train": {"sharpness": {"method": "saq"}}}, "no low-bit stage"),
        (
            {"train": {"sharpness": {"method": "sam", "stages": "float"}, "from_scratch": True}},
            "leaves the float stage",
        ),
        ({"train": {"sharpness": {"method": "samm"}}}, "train.sharpness.method"),
        ({"train": {"sharpness": {"rho": 0}}}, "train.sharpness.rho"),
        ({"train": {"sharpness": {"beta": 1.5}}}, "train.sharpness.beta"),
        ({"train": {"sharpness": {"case": 4}}}, "train.sharpness.case"),
        ({"train": {"sharpness": {"every": 0}}}, "train.sharpness.every"),
        ({"train": {"sharpness": {"roh": 0.1}}}, "rho"),
    ],
)
def test_bad_settings_are_named_and_nothing_is_written(tmp_path: Path, sections: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told.replace(".", r"\.")):
        train(build(merge(small().model_dump(), sections)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_resumed_with_another_step(tmp_path: Path) -> None:
    run = train(small(train={"float_steps": 2, "quant_steps": 2}), tmp_path / "run")
    other = small(train={"float_steps": 2, "quant_steps": 2, "sharpness": {"method": "saq"}})
    with pytest.raises(ConfigError, match=r"train\.sharpness\.method was 'none', now 'saq'"):
        train(other, run, resume=True)


def test_two_processes_move_to_one_point(tmp_path: Path) -> None:
    """Gradients are averaged before the norm: both take the step that is written by hand for the two batches."""
    run_program("sharpness_program.py", tmp_path)
    for name in METHODS:
        for number in (0, 2):
            a, b = (torch.load(tmp_path / f"{name}-{number}-{rank}.pt") for rank in (0, 1))
            assert all(torch.equal(a[key], b[key]) for key in a), f"{name}: the processes part at step {number}"
    q = network()
    start = {key: p.detach().clone() for key, p in q.net.named_parameters()}
    for case in (1, 2, 3):
        _, expected = stepped(start, steps_of(q), BITS, [batch(4, SEED + rank) for rank in (0, 1)], case, RHO)
        found = torch.load(tmp_path / f"case {case}-0-0.pt")
        for key, value in expected.items():
            torch.testing.assert_close(
                found[f"net.{key}"], value, rtol=1e-5, atol=2e-6, msg=lambda m, k=key: f"{k}: {m}"
            )
