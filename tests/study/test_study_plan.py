"""What a study trains: every arm at every width from every seed, and nothing that differs in more than bits."""

from pathlib import Path
from typing import Any

import pytest
from small_runs import small

import unetq.train as training
from unetq.errors import ConfigError
from unetq.experiment import Experiment
from unetq.study.measure import Measures, parse_measures
from unetq.study.plan import ARMS, Grid, StudyRun, parse_arms, parse_bits, plan
from unetq.study.run import parse_part

PHANTOM = "study-phantom"


def cells(runs: tuple[StudyRun, ...]) -> list[tuple[str, str, int, int, int]]:
    return [(run.name, run.arm, run.weight_bits, run.act_bits, run.seed) for run in runs]


def test_all_arms_and_widths_of_each_seed(tmp_path: Path) -> None:
    runs = plan(PHANTOM, Grid((32, 4), ARMS, 2), tmp_path, ["seed=7"])
    assert cells(runs) == [
        (f"{name}-s{seed}", arm, weight, act, seed)
        for seed in (7, 8)
        for name, arm, weight, act in (
            ("float", "float", 32, 32),
            ("w4a32", "weights", 4, 32),
            ("w4a4", "both", 4, 4),
            ("w4a32-noise", "noise", 4, 32),
        )
    ]
    for run in runs:
        experiment = run.planned.experiment
        assert (experiment.quant.weight_bits, experiment.quant.act_bits) == (run.weight_bits, run.act_bits)
        assert experiment.seed == run.seed and experiment.train.from_scratch
        assert experiment.quant.noise.kind == ("uniform" if run.arm == "noise" else "none")
    assert runs[1].planned.command.startswith(f"unetq train {PHANTOM} --out {tmp_path / 'w4a32-s7'} --weight-bits 4")


def test_runs_differ_in_bits_alone(tmp_path: Path) -> None:
    first, *others = plan("study-em", Grid(seeds=1), tmp_path, data=tmp_path)
    bits = {"weight_bits": 32, "act_bits": 32, "noise": first.planned.experiment.quant.noise}
    for run in others:
        experiment = run.planned.experiment
        assert experiment.model_copy(update={"quant": experiment.quant.model_copy(update=bits)}) == (
            first.planned.experiment
        )
    assert first.planned.experiment.data.root == str(tmp_path) and len(others) == 15


def test_a_part_of_the_grid(tmp_path: Path) -> None:
    assert [run.name for run in plan(PHANTOM, Grid((32,), ("both",), 1), tmp_path)] == ["float-s0"]
    assert [run.name for run in plan(PHANTOM, Grid((8,), ("both",), 1), tmp_path)] == ["w8a8-s0"]


@pytest.mark.parametrize("config", ["study-em", "study-phantom"])
def test_noise_is_as_strong_from_start_to_end(tmp_path: Path, config: str) -> None:
    (run,) = plan(config, Grid((2,), ("noise",), 1), tmp_path)
    noise = run.planned.experiment.quant.noise
    assert (noise.tensors, noise.first, noise.last, noise.until) == ("weights", None, None, 1.0)  # 1 to 1 by default


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["train.from_scratch=false"], "train.from_scratch = False"),
        (["train.quant_steps=41"], "train.quant_steps = 41"),
        (["train.lr=0.1"], "train.quant_lr = 0.003"),
        (["train.distill.logits=1.0"], "train.distill.logits"),
        (["train.progressive=[8]"], "train.progressive"),
        (["train.sharpness.method=saq"], "train.sharpness.method"),
        (["train.early_stop_patience=1"], "train.early_stop_patience"),
        (["quant.layers=[{pattern: head, weight_bits: 8}]"], "quant.layers"),
        (["quant.noise.kind=tempering"], "quant.noise.kind = 'tempering': in a study the arm noise alone has noise"),
        (["quant.noise.tensors=both"], "quant.noise.tensors = 'both'"),
        (["quant.noise.last=0.5"], "quant.noise.last = 0.5: in a study noise is as large as a step"),
        (["quant.noise.until=0.9"], "quant.noise.until = 0.9"),
        (["train.validate_every=20"], "train.validate_every = 20 of 40"),
        (["quant.method=bnn"], "quant.weight_bits = 4: the method bnn"),
        (["quant.act_method=ternary"], "quant.act_bits = 4: the method ternary"),
    ],
)
def test_what_would_spoil_the_comparison_is_named(tmp_path: Path, settings: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told.replace(".", r"\.")):
        plan(PHANTOM, Grid((4,), ("both",), 1), tmp_path, settings)


@pytest.mark.parametrize(
    ("parse", "text", "told"),
    [
        (parse_bits, "32,9", "'9' is no width"),
        (parse_bits, "4/4", "'4/4' is no width"),
        (parse_bits, "", "'' is no width"),
        (parse_arms, "weights,float", "'float' is none"),
        (parse_part, "test", "--only test"),
        (parse_measures, ["probe=4"], "--measure probe=4: known are"),
        (parse_measures, ["probes=x"], "no whole number"),
        (parse_measures, ["probes=1"], "at least 2"),
        (parse_measures, ["rho=0"], "above 0"),
        (parse_measures, ["rho=nan"], "above 0"),
        (parse_measures, ["confidence=1"], "below 1"),
    ],
)
def test_words_that_mean_nothing_are_named(parse: Any, text: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse(text)


def test_words() -> None:
    assert parse_bits("4, 32,8,4") == (32, 8, 4) and parse_arms("both,weights") == ("weights", "both")
    assert parse_measures(["probes=3", "rho=0.1"]) == Measures(probes=3, rho=0.1) and parse_part(None) is None


def seeds_of_batches(experiment: Experiment, out: Path, monkeypatch: pytest.MonkeyPatch) -> set[int]:
    seen: set[int] = set()
    draw = training.train_batches

    def spy(*arguments: Any, **named: Any) -> Any:
        seen.add(named["seed"])
        return draw(*arguments, **named)

    monkeypatch.setattr(training, "train_batches", spy)
    training.train(experiment, out)
    monkeypatch.undo()
    return seen


def test_from_scratch_a_float_run_draws_the_low_bit_runs_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {"float_steps": 1, "quant_steps": 1, "validate_every": 1}
    narrow = {"weight_bits": 4, "act_bits": 4, "calibration_batches": 1}
    for scratch, alike in ((True, True), (False, False)):
        train = {**short, "from_scratch": scratch}
        in_float = small(quant={"weight_bits": 32, "act_bits": 32}, train=train)
        found = seeds_of_batches(in_float, tmp_path / f"f{scratch}", monkeypatch)
        low = seeds_of_batches(small(quant=narrow, train=train), tmp_path / f"q{scratch}", monkeypatch)
        assert len(found) == 1 and (found == low) is alike
