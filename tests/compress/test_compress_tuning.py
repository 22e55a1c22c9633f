"""Fine-tuning of `unetq compress`: what is tried, when it ends, and how it goes on after a stop."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compress_runs import fit, float_run

from unetq.compress import deliver, finetune, options
from unetq.compress.job import Job
from unetq.compress.options import Effort
from unetq.compress.workbench import Packed
from unetq.export.modelfile import load
from unetq.quant.network import QuantNet


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return float_run(tmp_path_factory.mktemp("float"))


def test_fine_tuning_of_what_was_chosen(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    level = Effort(2, 2, 2, tuning=4, attempts=1, slack=100.0)
    monkeypatch.setitem(options.EFFORTS, "hour", level)
    record = fit(source, tmp_path / "out", target_size="8.9KB", effort="hour")
    chosen = record["chosen"]
    assert record["tuning"][0]["missing"] == []
    assert chosen["fine_tuned_steps"] > 0 or chosen["mean_dice"] > record["tuning"][0]["mean_dice"]
    assert chosen["predicted"]["size"] == chosen["measured"]["size"] <= 8900
    monkeypatch.setitem(options.EFFORTS, "hour", replace(level, steps=3, polish=0, tuning=1))
    record = fit(source, tmp_path / "safe", max_dice_drop=1.0, effort="hour")
    assert record["float"]["mean_dice"] - record["chosen"]["mean_dice"] <= 0.01  # tuned or not, it is kept


def test_all_that_was_predicted_is_true_of_the_final_file(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    level = Effort(2, 1, 1, tuning=4, attempts=1, slack=100.0)
    monkeypatch.setitem(options.EFFORTS, "hour", level)
    wishes = {"max_dice_drop": 90.0, "max_memory": "1MB", "max_latency": "10s"}
    record = fit(source, tmp_path / "out", effort="hour", widths=(2, 8), **wishes)
    predicted, model = record["chosen"]["predicted"], tmp_path / "out" / "model.uqm"
    assert predicted["size"] == model.stat().st_size
    with Packed(*load(model)) as packed:
        assert predicted["memory"] == packed.arena_bytes((48, 48))
    assert predicted["latency"] > 0 and record["chosen"]["measured"]["latency"] > 0


def test_time_that_is_left_is_used(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes on both sides of the border, then more steps for the smallest; the clock ends it."""
    level = Effort(2, 1, 0, tuning=20, attempts=3, last=30, slack=0.0, seconds=1e6)
    monkeypatch.setitem(options.EFFORTS, "hour", level)
    record = fit(source, tmp_path / "long", max_dice_drop=5.0, effort="hour")
    tuning, chosen = record["tuning"], record["chosen"]
    assert len(tuning) > 1 and len({str(t["bits"]) for t in tuning}) > 1 and tuning[-1]["steps"] == 30
    kept = [t for t in tuning if not t["missing"]]
    if kept:
        assert chosen["measured"]["size"] <= min(t["size"] for t in kept) + 64
    monkeypatch.setitem(options.EFFORTS, "hour", replace(level, seconds=0.0))
    short = fit(source, tmp_path / "short", max_dice_drop=20.0, effort="hour")
    assert [t["missing"] for t in short["tuning"]][-1] == []  # nothing was begun after the first that kept it


def test_equal_widths_of_a_given_size_are_fine_tuned_too(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(options.EFFORTS, "hour", Effort(2, 1, 0, tuning=3, attempts=3, slack=100.0, seconds=1e6))
    record = fit(source, tmp_path / "out", target_size="8.9KB", effort="hour", widths=(2, 4, 8))
    first, equal = record["tuning"]
    inner = [bits for name, bits in equal["bits"]["weight"].items() if name not in ("encoder.0.0", "head")]
    assert len(set(inner)) == 1 and equal["bits"]["weight"]["head"] == 8 and equal["size"] <= 8900
    assert record["chosen"]["mean_dice"] >= max(first["mean_dice"], equal["mean_dice"])


def untimed(attempt: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in attempt.items() if key != "seconds"}


LEVEL = Effort(2, 1, 2, tuning=6, attempts=2, last=8, slack=100.0, seconds=1e6)
WISHES: dict[str, Any] = {"max_dice_drop": 20.0, "effort": "hour", "widths": (2, 8)}


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The record of a run that nothing stopped."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(options.EFFORTS, "hour", LEVEL)
        return fit(source, tmp_path_factory.mktemp("whole") / "run", **WISHES)


@pytest.mark.parametrize("at", ["first step", "last step", "moving"])
def test_fine_tuning_goes_on(
    source: Path, whole: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Stopped at any stage, the same command gives what an unstopped one does."""
    monkeypatch.setitem(options.EFFORTS, "hour", LEVEL)
    steps = {"first step": 2, "last step": 9, "moving": 10**6}[at]
    seen: list[int] = []
    real = finetune.tune

    def some(*arguments: Any) -> Path:
        def stop(self: Any, *rest: Any) -> None:
            seen.append(1)
            if len(seen) == steps:
                raise KeyboardInterrupt
            advance(self, *rest)

        advance = QuantNet.set_progress
        with monkeypatch.context() as inside:
            inside.setattr(QuantNet, "set_progress", stop)
            return real(*arguments)

    def never(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(finetune, "tune", some)
        if at == "moving":
            patched.setattr(deliver.Delivery, "_move", never)
        with pytest.raises(KeyboardInterrupt):
            fit(source, tmp_path / "part" / "run", **WISHES)
    assert not (tmp_path / "part" / "run").exists()
    lines: list[str] = []
    again = fit(source, tmp_path / "part" / "run", tell=lines.append, **WISHES)
    assert not any("sensitivity:" in line for line in lines)
    assert (at == "moving") != any("a fine-tuning of" in line for line in lines)
    assert again["chosen"] == whole["chosen"]
    assert [untimed(attempt) for attempt in again["tuning"]] == [untimed(attempt) for attempt in whole["tuning"]]


def test_what_was_interrupted_goes_on(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Job, "_judge", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(source, tmp_path / "out", target_size="8.9KB", widths=(2, 8))
    assert not (tmp_path / "out").exists() and (tmp_path / "out.work" / "measured.json").is_file()
    lines: list[str] = []
    fit(source, tmp_path / "out", target_size="8.9KB", widths=(2, 8), tell=lines.append)
    assert any("going on" in line for line in lines) and not any("sensitivity:" in line for line in lines)
    assert not (tmp_path / "out.work").exists()
