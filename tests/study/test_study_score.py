"""How a run of a study is scored: against `unetq evaluate`, and against a loss computed by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from unetq.evaluate import evaluate
from unetq.preprocess import network_image
from unetq.quant.unrounded import unrounded_forward
from unetq.runs import open_run
from unetq.study.distortions import DISTORTIONS
from unetq.study.plan import Arm, Grid, StudyRun, plan
from unetq.study.score import Bench, open_trained
from unetq.train import train

SHORT = ["train.float_steps=6", "train.quant_steps=6", "train.validate_every=6", "network.options.widths=[4, 8]"]
RUNS: dict[Arm, str] = {"float": "float-s0", "weights": "w2a32-s0", "both": "w2a2-s0", "noise": "w2a32-noise-s0"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[Arm, tuple[StudyRun, Path]]:
    """A trained run of each arm."""
    folder = tmp_path_factory.mktemp("runs")
    made = plan("study-phantom", Grid((32, 2), seeds=1), folder, SHORT)
    return {run.arm: (run, train(run.planned.experiment, folder / run.name)) for run in made}


@pytest.fixture(scope="module")
def bench(runs: dict[Arm, tuple[StudyRun, Path]]) -> Bench:
    return Bench(runs["float"][0].planned.experiment, 0)


@pytest.mark.parametrize("arm", ["float", "weights", "both"])
def test_dice_is_what_evaluate_says(runs: dict[Arm, tuple[StudyRun, Path]], bench: Bench, arm: Arm) -> None:
    run, folder = runs[arm]
    score = bench.score(bench.validation, open_trained(folder, arm).forward)
    found = evaluate(folder)["splits"]["validation"]["float" if arm == "float" else "integer"]["volume_dice"]
    assert {name: value for name, value in score.dice.items() if name != "mean"} == pytest.approx(found, abs=1e-12)
    assert score.dice["mean"] == pytest.approx(np.mean(list(found.values()))) and run.name == RUNS[arm]


@pytest.mark.parametrize("arm", RUNS)
def test_loss_is_the_mean_over_whole_images(runs: dict[Arm, tuple[StudyRun, Path]], bench: Bench, arm: Arm) -> None:
    trained = open_trained(runs[arm][1], arm)
    losses = []
    for sample in bench.train:
        image = network_image(sample.image, sample.spacing, bench.preprocessing, sample.moments)
        with torch.no_grad():
            logits = trained.forward(torch.from_numpy(image)[None])
        assert sample.label is not None
        losses.append(float(bench.loss(logits, torch.from_numpy(sample.label.astype(np.int64))[None])))
    assert len(losses) == 4 and max(losses) - min(losses) > 1e-4
    assert bench.score(bench.train, trained.forward).loss == pytest.approx(np.mean(losses), rel=1e-6)


def test_noise_is_scored_unrounded(runs: dict[Arm, tuple[StudyRun, Path]], bench: Bench) -> None:
    _, folder = runs["noise"]
    trained, (q, _) = open_trained(folder, "noise"), open_run(folder).quantized()
    images, _ = bench.crops(2)
    with torch.no_grad():
        found = trained.forward(images[0])
        torch.testing.assert_close(found, unrounded_forward(q, images[0]))
        assert (found - q(images[0])).abs().max() > 1e-3 and not trained.rounded


def test_crops_are_fixed_and_unaugmented(bench: Bench) -> None:
    images, labels = bench.crops(5)
    again, _ = bench.crops(5)
    assert [tuple(x.shape) for x in images] == [(2, 1, 32, 32)] * 2 and labels[0].dtype == torch.int64
    assert all(torch.equal(a, b) for a, b in zip(images, again, strict=True))
    other, _ = Bench(bench.experiment, 1).crops(5)
    assert not torch.equal(images[0], other[0])
    rows = {
        row.tobytes()
        for s in bench.train
        for row in np.lib.stride_tricks.sliding_window_view(
            network_image(s.image, s.spacing, bench.preprocessing, s.moments)[0], 32, axis=1
        ).reshape(-1, 32)
    }
    assert all(row.numpy().tobytes() in rows for x in images for row in x.reshape(-1, 32))


def test_robustness_falls_with_severity(runs: dict[Arm, tuple[StudyRun, Path]], bench: Bench) -> None:
    """Of a threshold at the image's mean, which sees what noise and a blur take away."""

    def threshold(x: torch.Tensor) -> torch.Tensor:
        return x

    found = bench.robustness(threshold)
    assert {name: set(by) for name, by in found.items()} == {name: {"1", "2", "3"} for name in DISTORTIONS}
    clean = bench.score(bench.validation, threshold).dice["mean"]
    assert clean > found["noise"]["1"] > found["noise"]["3"] and clean > found["blur"]["3"]
