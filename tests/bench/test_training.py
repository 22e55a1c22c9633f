"""The benchmark of training steps: its arithmetic, its table, and a small real run."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from unetq.bench import training
from unetq.bench.training import Result, ratios, run, summary, table
from unetq.bench.training_contenders import TRAINERS, Trainer, Work
from unetq.errors import ConfigError


def result(name: str, wall: list[float], base: str = "float", **more: Any) -> Result:
    return Result(name, f"what {name} is", base, wall=wall, processor=[2 * value for value in wall], **more)


def test_a_ratio_is_the_median_of_the_rounds_own() -> None:
    # The second round was slow for all: a ratio of medians would say 1.25.
    got = ratios(result("low", [1.1, 5.5, 2.5]), result("float", [1.0, 5.0, 2.0]))
    assert got["wall"] == pytest.approx(1.1) and got["processor"] == pytest.approx(1.1)


def test_table_names_what_was_not_measured() -> None:
    results = [
        result("float", [1.0]),
        result("fixed", [1.5]),
        result("other", [], status="absent", reason="not installed: No module"),
        result("lonely", [3.0], base="float32"),
    ]
    text = table(results)
    assert "| fixed | what fixed is | 1.500 | 3.000 | 1.500 | 1.500 |" in text
    assert "- other: absent (not installed: No module)" in text
    assert "| lonely | what lonely is | 3.000 | 6.000 | - | - |" in text
    assert [line.get("ratio") is None for line in summary(results)] == [False, False, True, True]


def test_every_trainer_has_a_base() -> None:
    names = {trainer.name for trainer in TRAINERS}
    assert len(names) == len(TRAINERS) and all(trainer.base in names for trainer in TRAINERS)
    bases = {trainer.name: trainer for trainer in TRAINERS}
    assert all(bases[t.base].autocast == t.autocast for t in TRAINERS)


def test_a_small_run_writes_both_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    arguments = ["--size", "16", "--batch", "1", "--rounds", "2", "--warmup", "1", "--threads", "1"]
    try:
        shown = run([*arguments, "--only", "fixed,fixed-torch", "-o", str(tmp_path / "out")])
    finally:
        torch.set_num_threads(threads)
    found = json.loads((tmp_path / "out" / "training.json").read_text())
    assert [line["name"] for line in found["results"]] == ["float", "fixed", "fixed-torch"]
    assert all(len(line["wall"]) == 2 and line["median_wall"] > 0 for line in found["results"])
    assert found["results"][0]["ratio"] == {"wall": 1.0, "processor": 1.0}
    assert found["command"].endswith("--only fixed,fixed-torch -o " + str(tmp_path / "out"))
    assert (tmp_path / "out" / "training.md").read_text().endswith(shown)


def test_an_absent_or_failing_toolkit_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(work: Work) -> torch.nn.Module:
        raise ImportError("No module named 'toolkit'")

    def broken(work: Work) -> torch.nn.Module:
        raise RuntimeError("cannot\nquantise")

    from unetq.bench import training_contenders as contenders

    fake = (Trainer("a", "", missing), Trainer("b", "", broken))
    monkeypatch.setattr(contenders, "TRAINERS", fake)
    found = training.measure(Work("paper", 16, 1, 4, 6, 0), [], 1, 1, lambda text: None)
    assert [(r.status, r.reason) for r in found] == [
        ("absent", "not installed: No module named 'toolkit'"),
        ("failed", "RuntimeError: cannot quantise"),
    ]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--only", "fixde"], "there are float, fixed"),
        (["--bits", "4/6"], "like w4a6"),
        (["--rounds", "0"], "1 or more"),
    ],
)
def test_bad_arguments(arguments: list[str], reason: str) -> None:
    threads = torch.get_num_threads()
    try:
        with pytest.raises(ConfigError, match=reason):
            run(arguments)
    finally:
        torch.set_num_threads(threads)
