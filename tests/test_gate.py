"""The gate: a degraded model fails, a copy passes, few cases cannot tell; and its errors are as rare as it says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from case_runs import write_case_run
from commands import unetq
from scipy import stats
from small_runs import small

from unetq.errors import CheckpointError, ConfigError, DataError
from unetq.gate import FEWEST, bounds, describe, gate, judge, units_needed
from unetq.gate_input import Pair, read_pairs
from unetq.train import train

SEED = 60_001
Dice = list[tuple[float | None, float | None]]


def pairs(changes: list[float] | np.ndarray, reference: float = 0.8) -> list[Pair]:
    """Units whose Dice changes by ``changes`` points."""
    return [Pair(f"c{i:02d}", "", reference + d / 100, reference) for i, d in enumerate(changes)]


def rewritten(
    run: Path, change: dict[str, Any] | None = None, **classes: list[tuple[float | None, float | None]]
) -> Path:
    """``run`` with the Dice (integer, float) of its classes replaced, case by case, and other keys changed."""
    path = run / "metrics.json"
    metrics = json.loads(path.read_text())
    split = metrics["splits"]["validation"]
    for name, values in classes.items():
        label = name.replace("_", " ")
        for place, key in ((0, "integer"), (1, "float_reference")):
            for case, value in zip(split[key]["cases"], values, strict=True):
                case["classes"].setdefault(label, {})["dice"] = value[place]
        metrics["labels"] = list(dict.fromkeys([*metrics["labels"], label]))
    path.write_text(json.dumps(metrics | (change or {})))
    return run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A low-bit run of 12 cases, whose integer Dice of "grey matter" is about that of the float network."""
    return write_case_run(tmp_path / "run", cases=12, size=32)


def near(change: float, spread: float, count: int, seed: int = SEED) -> Dice:
    """Dice whose changes are about ``change`` points, with that spread."""
    rng = np.random.default_rng(seed)
    reference = rng.uniform(0.7, 0.9, count)
    return [
        (float(r + (change + e) / 100), float(r)) for r, e in zip(reference, rng.normal(0, spread, count), strict=True)
    ]


def test_a_model_degraded_on_purpose_fails(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = gate(rewritten(run, grey_matter=near(-3.0, 0.5, 12)), 0.5)
    assert (found["verdict"], found["exit_code"]) == ("fail", 1)
    assert found["classes"]["grey matter"]["high"] < -0.5
    assert unetq(capsys, "gate", run, "--margin", "0.5")[0] == 1


def test_a_copy_passes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewritten(run, grey_matter=[(r, r) for r in np.linspace(0.7, 0.9, 12)])
    code, out, err = unetq(capsys, "gate", run, "--margin", "0.5", "--json")
    found = json.loads(out)
    assert code == 0 and not err and found["verdict"] == "pass" and list(found["classes"]) == ["grey matter"]
    judged = found["classes"]["grey matter"]
    assert (judged["low"], judged["difference"], judged["high"], judged["units"]) == (0.0, 0.0, 0.0, 12)


def test_few_cases_cannot_tell_and_the_number_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = rewritten(write_case_run(tmp_path / "copy", cases=5, size=32), grey_matter=[(0.8, 0.8)] * 5)
    code, out, _ = unetq(capsys, "gate", copy, "--margin", "0.5")
    assert code == 2 and "CANNOT TELL" in out and f"5 cases: at least {FEWEST} are needed" in out
    bad = rewritten(write_case_run(tmp_path / "bad", cases=5, size=32), grey_matter=near(-9.0, 0.1, 5))
    assert gate(bad, 0.5)["verdict"] == "cannot tell"
    six = rewritten(write_case_run(tmp_path / "six", cases=6, size=32), grey_matter=[(0.8, 0.8)] * 6)
    assert gate(six, 0.5)["verdict"] == "pass"
    one = judge(pairs([0.3]), 0.5)
    assert (one["verdict"], one["needed"], one["low"]) == ("cannot tell", FEWEST, None)


def test_an_interval_that_spans_the_margin_cannot_tell(run: Path) -> None:
    found = gate(rewritten(run, grey_matter=near(-0.4, 1.5, 12)), 0.5)["classes"]["grey matter"]
    assert found["low"] < -0.5 < found["high"] and found["verdict"] == "cannot tell"
    assert found["needed"] > 12 and f"about {found['needed']}" in found["reason"]


def test_one_bad_class_fails_all(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewritten(run, grey_matter=near(0.0, 0.05, 12), white_matter=near(-4.0, 0.5, 12))
    found = gate(run, 0.5)
    assert {label: result["verdict"] for label, result in found["classes"].items()} == {
        "grey matter": "pass", "white matter": "fail"
    }  # fmt: skip
    assert found["verdict"] == "fail"
    assert gate(run, 0.5, ["grey matter"])["verdict"] == "pass"
    rewritten(run, white_matter=near(-0.5, 1.0, 12))
    assert gate(run, 0.5)["verdict"] == "cannot tell"
    assert unetq(capsys, "gate", run, "--margin", "0.5", "--class", "grey matter")[0] == 0
    assert set(gate(run, 50, ["background", "grey matter"])["classes"]) == {"background", "grey matter"}


def test_worst_cases_are_shown(run: Path) -> None:
    values = near(0.0, 0.05, 12)
    values[7] = (0.60, 0.80)
    found = gate(rewritten(run, grey_matter=values), 0.5)
    worst = found["classes"]["grey matter"]["worst"]
    assert worst[0]["id"] == "sub-08" and worst[0]["difference"] == pytest.approx(-20.0)
    assert [item["difference"] for item in worst] == sorted(item["difference"] for item in worst) and len(worst) == 5
    assert "worst cases: sub-08 -20.00" in describe(found) and worst[0]["site"]


def test_a_false_finding_in_an_empty_case_counts(run: Path) -> None:
    """With evaluation.empty=skip a rightly empty mask has no Dice, and a false finding beside it has 0."""
    values: Dice = [(0.8, 0.8)] * 10
    clean = gate(rewritten(run, grey_matter=[*values, (None, None), (None, None)]), 0.5)
    assert clean["verdict"] == "pass" and clean["classes"]["grey matter"]["units"] == 10
    assert "grey matter: 2 cases without it" in " ".join(clean["notes"])
    false = gate(rewritten(run, grey_matter=[*values, (0.0, None), (None, None)]), 0.5)["classes"]["grey matter"]
    assert false["units"] == 11 and false["worst"][0]["difference"] == -100.0 and false["verdict"] == "cannot tell"


@pytest.mark.parametrize("n", [6, 9, 12, 25])
@pytest.mark.parametrize("shape", ["normal", "skewed"])
def test_a_model_on_the_margin_passes_rarely(n: int, shape: str) -> None:
    """On the margin itself a pass is an error: 2.5 % of them by design; 16 of 300 is three deviations above."""
    rng = np.random.default_rng(SEED + n)
    passed = 0
    for seed in range(300):
        noise = rng.normal(0, 0.6, n) if shape == "normal" else 0.6 * (rng.gamma(4.0, 0.5, n) - 2.0)
        found = bounds((-0.5 + noise).tolist(), seed)
        passed += found is not None and found.low > -0.5
    assert passed <= 16, f"{passed} of 300 pass"


def test_below_fifty_units_the_interval_is_no_narrower_than_students() -> None:
    for n in (7, 30):
        values = np.random.default_rng(SEED).normal(0, 1, n)
        found = bounds(values.tolist())
        low, high = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
        assert found is not None and found.low <= low and found.high >= high and "Student" in found.method
    many = bounds(np.random.default_rng(SEED).normal(0, 1, 60).tolist())
    assert many is not None and many.method == "BCa"


def test_the_number_needed_tells_four_times_of_five() -> None:
    """Against simulation: so many units of that mean and spread pass in about 80 %."""
    first = np.random.default_rng(SEED).normal(0, 1, 500)
    values = (-0.2 + 0.8 * (first - first.mean()) / first.std(ddof=1)).tolist()
    needed = units_needed(values, 0.5)
    assert needed == 56  # ((1.96 + 0.8416) * 0.8 / 0.3)**2 = 55.8
    rng = np.random.default_rng(SEED + 1)
    told = sum(
        (found := bounds(rng.normal(-0.2, 0.8, needed).tolist(), seed)) is not None and found.low > -0.5
        for seed in range(100)
    )
    assert 70 <= told <= 92
    assert units_needed([-0.5 + 1, -0.5 - 1], 0.5) is None and units_needed([0.1] * 4, 0.5) == FEWEST


def test_a_missing_reference_is_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "metrics.json"
    metrics = json.loads(path.read_text())
    reference = metrics["splits"]["validation"].pop("float_reference")
    path.write_text(json.dumps(metrics))
    code, out, err = unetq(capsys, "gate", run, "--margin", "0.5")
    assert code == 4 and not out and "no 'float_reference' of split 'validation'" in err and err.count("\n") == 1
    metrics["splits"]["validation"] = {"float_reference": reference}
    path.write_text(json.dumps(metrics))
    with pytest.raises(CheckpointError, match="no 'integer' evaluation"):
        gate(run, 0.5)
    with pytest.raises(CheckpointError, match="of a float run"):
        gate(write_case_run(tmp_path / "float", 32, 32, cases=6, size=32), 0.5)


@pytest.mark.parametrize("margin", [0.0, -0.5, 100.5, float("nan")])
def test_a_margin_is_above_zero(run: Path, margin: float) -> None:
    with pytest.raises(ConfigError, match=r"--margin .*points of Dice"):
        gate(run, margin)


def test_bad_input_is_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert unetq(capsys, "gate", run)[0] == 2  # a margin is always stated
    with pytest.raises(ConfigError, match=r"--class grey mater: .*did you mean 'grey matter'\?"):
        gate(run, 0.5, ["grey mater"])
    with pytest.raises(ConfigError, match="given twice"):
        gate(run, 0.5, ["grey matter", "grey matter"])
    with pytest.raises(ConfigError, match="add --evaluate"):
        gate(run, 0.5, data=tmp_path)
    with pytest.raises(CheckpointError, match="no split 'test', only validation"):
        gate(run, 0.5, split="test")
    with pytest.raises(CheckpointError, match="no run folder"):
        gate(tmp_path / "nothing", 0.5)
    (tmp_path / "new").mkdir()
    with pytest.raises(CheckpointError, match="not evaluated"):
        gate(tmp_path / "new", 0.5)
    assert list((tmp_path / "new").iterdir()) == []
    text = (run / "metrics.json").read_text()
    (run / "metrics.json").write_text(text[:-40])
    with pytest.raises(CheckpointError, match="is damaged"):
        gate(run, 0.5)
    (run / "metrics.json").write_text(text.replace('"schema": 1', '"schema": 9', 1))
    with pytest.raises(CheckpointError, match=r"is damaged \(schema"):
        gate(run, 0.5)


def test_zero_cases_and_odd_ones_are_named(run: Path) -> None:
    path = run / "metrics.json"
    metrics = json.loads(path.read_text())
    split = metrics["splits"]["validation"]
    one = split["integer"]["cases"].pop()
    path.write_text(json.dumps(metrics))
    with pytest.raises(CheckpointError, match=rf"do not list the same cases \({one['id']}\)"):
        gate(run, 0.5)
    for key in ("integer", "float_reference"):
        split[key]["cases"] = []
    path.write_text(json.dumps(metrics))
    with pytest.raises(DataError, match="zero cases"):
        gate(run, 0.5)
    del split["integer"]["unit"]
    path.write_text(json.dumps(metrics))
    with pytest.raises(CheckpointError, match="earlier version"):
        gate(run, 0.5)


def test_an_evaluation_of_another_checkpoint_is_refused(run: Path) -> None:
    """Trained on since: what the file says is not of what would ship."""
    (run / "quant").mkdir()
    (run / "quant" / "best.safetensors").write_bytes(b"newer")
    rewritten(run, {"checkpoint": {"stage": "quant", "step": 5, "sha256": "0" * 64}}, grey_matter=near(0.0, 0.05, 12))
    with pytest.raises(CheckpointError, match="of another checkpoint"):
        gate(run, 0.5)
    (run / "quant" / "best.safetensors").unlink()
    assert gate(run, 0.5)["verdict"] == "pass"


def test_the_same_verdict_every_time_and_nothing_written(run: Path) -> None:
    before = sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*"))
    assert gate(run, 0.5) == gate(run, 0.5)
    assert before == sorted((p, p.stat().st_mtime_ns) for p in run.rglob("*"))
    assert read_pairs(run, "validation").unit == "case"


def test_a_trained_run_is_evaluated_first(tmp_path: Path) -> None:
    """Against what the evaluation says of itself, which is made another way."""
    data = {"options": {"size": 48, "train": 4, "validation": 7, "test": 1}}
    steps = {"float_steps": 4, "quant_steps": 2}
    run = train(small(data=data, train=steps, evaluation={"bootstrap": 100, "hd95": False}), tmp_path / "run")
    with pytest.raises(CheckpointError, match="is not evaluated"):
        gate(run, 0.5)
    found = gate(run, 0.5, evaluate=True)
    split = json.loads((run / "metrics.json").read_text())["splits"]["validation"]
    for label, judged in found["classes"].items():
        assert judged["difference"] == pytest.approx(100 * split["paired"][label]["difference"])
        assert judged["units"] == 7 and judged["method"]
    assert found == gate(run, 0.5) and "also chose the checkpoint" in " ".join(found["notes"])
