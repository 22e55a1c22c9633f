"""Noise training in whole runs: resumed to the same bits, in two processes, exact when packed; where it cannot be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import run_program
from interruptions import Crash, assert_same_run, at, crash
from noise_program import KINDS, SEED, STEPS, network, optimizer_of
from sharpness_reference import batch, loss_of
from small_runs import assert_same_tensors, small, tensors

import unetq
from unetq.errors import ConfigError
from unetq.runs import open_run
from unetq.runtime import Runtime
from unetq.train import train

FLOAT = {"float_steps": 2, "validate_every": 8}


@pytest.fixture(scope="module", params=["32", "bf16"])
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A precision, and a run without noise."""
    experiment = small(quant={"method": "lsq"}, train={**FLOAT, "precision": request.param})
    return request.param, train(experiment, tmp_path_factory.mktemp("plain") / "run")


@pytest.mark.parametrize("kind", KINDS)
def test_resume_gives_the_same_bits_and_the_file_is_exact(tmp_path: Path, kind: str, plain: tuple[str, Path]) -> None:
    """Killed at step 5, a checkpoint of step 3 is what there is; weights and activations have noise."""
    precision, without = plain
    noise = {"kind": kind, "tensors": "both"}
    experiment = small(quant={"method": "lsq", "noise": noise}, train={**FLOAT, "precision": precision})
    whole, broken = train(experiment, tmp_path / "whole"), tmp_path / "broken"
    with pytest.raises(Crash):
        train(experiment, broken, on_step=at("quant", 5, crash))
    train(experiment, broken, resume=True)
    assert_same_run(whole, broken)
    assert_same_tensors(tensors(whole, "float", "last"), tensors(without, "float", "last"))
    with pytest.raises(AssertionError, match="tensors differ"):
        assert_same_tensors(tensors(whole, "quant", "last"), tensors(without, "quant", "last"))
    q, _ = open_run(whole).quantized()
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(SEED))
    program = unetq.lower(q, images)
    logits = q(images).numpy()
    np.testing.assert_array_equal(logits, program.run(images.numpy()))
    program.save(tmp_path / "m.uqm")
    np.testing.assert_array_equal(logits, Runtime(tmp_path / "m.uqm").run(images.numpy()))


@pytest.mark.parametrize("kind", KINDS)
def test_with_all_else_that_training_has(tmp_path: Path, kind: str) -> None:
    taught = {"distill": {"logits": 1.0, "features": 1.0}, "progressive": [8], "sharpness": {"method": "saq"}}
    run = train(small(quant={"noise": {"kind": kind}}, train={**FLOAT, **taught}), tmp_path / "run")
    assert all(torch.isfinite(t).all() for t in tensors(run, "quant", "last").values() if t.is_floating_point())


@pytest.mark.parametrize(
    ("quant", "told"),
    [
        ({"noise": {"kind": "uniform"}, "weight_bits": 32}, "all of these have 32 bits"),
        ({"noise": {"kind": "uniform"}, "weight_bits": 32, "act_bits": 32}, "all of these have 32 bits"),
        ({"noise": {"kind": "uniform"}, "method": "codebook"}, "layer encoder.0.3 is quantised by CodebookWeight"),
        ({"noise": {"kind": "gauss"}}, "quant.noise.kind"),
        ({"noise": {"kind": "uniform", "anneal": [0.9, 0.1]}}, "quant.noise.anneal"),
        ({"noise": {"kind": "uniform", "first": 1.5}}, "quant.noise.first"),
        ({"noise": {"kind": "uniform", "utnil": 0.5}}, "until"),
    ],
)
def test_bad_settings_are_named_and_nothing_is_written(tmp_path: Path, quant: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told.replace(".", r"\.")):
        train(small(quant=quant), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_processes_train_with_one_noise(tmp_path: Path) -> None:
    """Both draw alike, so that they take the step of both batches together in one process."""
    run_program("noise_program.py", tmp_path)
    for kind in KINDS:
        a, b = (torch.load(tmp_path / f"{kind}-{rank}.pt") for rank in (0, 1))
        assert all(torch.equal(a[key], b[key]) for key in a), f"{kind}: the processes part"
        q = network(kind)
        optimizer = optimizer_of(q)
        for number in range(STEPS):
            q.set_progress(number / STEPS, number)
            optimizer.zero_grad()
            for rank in (0, 1):
                images, labels = batch(4, SEED + 10 * number + rank)
                (0.5 * loss_of(q(images), labels)).backward()
            optimizer.step()
        for key, value in q.named_parameters():
            torch.testing.assert_close(
                a[key], value.detach(), rtol=1e-4, atol=1e-6, msg=lambda m, k=key, n=kind: f"{n}, {k}: {m}"
            )
