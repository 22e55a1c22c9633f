"""``scripts/sharpness_table.py``: pairs by seed, Student's interval over seeds, and what is left out by name."""

import json
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from unetq.statistics import Interval, t_interval

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "sharpness_table.py"


def test_students_interval() -> None:
    """Of (1, 2, 4): mean 7/3, standard error sqrt(7/3 / 3), and 4.302653 standard errors either way at two degrees."""
    found = t_interval([1.0, 2.0, 4.0])
    half = 4.3026527 * (7 / 9) ** 0.5
    assert (found.low, found.high) == pytest.approx((7 / 3 - half, 7 / 3 + half)) and found.method == "t"
    assert t_interval([0.3]) == t_interval([]) == Interval(None, None, "")
    assert t_interval([0.5, 0.5]) == Interval(0.5, 0.5, "t")


def write_run(folder: Path, method: str, seed: int, dice: float, *, bits: int = 2, steps: int = 40) -> Path:
    """A run folder as far as the script reads it: fine-tuned for 40 steps, validated every 20."""
    folder.mkdir(parents=True)
    train = {"quant_steps": 40, "from_run": "em-float", "sharpness": {"method": method}}
    config = {"data": {"name": "em"}, "seed": seed, "quant": {"weight_bits": bits, "act_bits": bits}, "train": train}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    lines = [
        {"stage": "quant", "step": step, "loss": 0.3, "lr": 0.1, "seconds": 1.0, "dice": {"cell": value, "edge": 0.5}}
        for step, value in ((20, 0.999), (steps, dice))
    ]
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    error: str


Table = Callable[..., Answer]


@pytest.fixture
def table_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Table:
    """The script's answer, in this process: its imports take seconds."""

    def run(*runs: Path) -> Answer:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, runs)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(SCRIPT), run_name="__main__")
        out, error = capsys.readouterr()
        return Answer(int(str(end.value.code)), out, error)

    return run


def test_pairs_are_by_seed_and_the_last_validation_counts(tmp_path: Path, table_of: Table) -> None:
    plain, other = (0.90, 0.91, 0.92), (0.91, 0.93, 0.95)
    runs = [write_run(tmp_path / f"none-{seed}", "none", seed, dice) for seed, dice in enumerate(plain)]
    runs += [write_run(tmp_path / f"saq-{seed}", "saq", seed, dice) for seed, dice in reversed([*enumerate(other)])]
    runs += [write_run(tmp_path / "half", "saq", 5, 0.9, steps=30), write_run(tmp_path / "lonely", "saq", 6, 0.9)]
    runs += [write_run(tmp_path / "w4", "none", 0, 0.95, bits=4)]
    found = table_of(*runs)
    assert found.code == 0, found.error
    assert "| W2A2 | cell | 1 | 91.00 | saq | 93.00 | +2.00 |" in found.out  # not the better one before it
    half = 4.3026527 * 1.0 / 3**0.5  # of +1, +2, +3 points
    interval = f"+2.00 ({2 - half:+.2f} to {2 + half:+.2f})"
    assert f"| W2A2 | cell | mean of 3 | **91.00** | saq | **93.00** | **{interval}** |" in found.out
    assert "| W2A2 | mean | mean of 3 | **70.50** | saq | **71.50** |" in found.out
    assert "Intervals that leave 0 out: none." in found.out  # three seeds, +1 to +3 points
    assert "one float network" in found.out
    assert "half (not finished)" in found.out and "lonely (no plain run" in found.out
    assert "w4 (no other method" in found.out and "W4A4" not in found.out


def test_a_difference_beyond_its_interval_is_named(tmp_path: Path, table_of: Table) -> None:
    runs = [write_run(tmp_path / f"none-{seed}", "none", seed, 0.90 + 0.001 * seed) for seed in range(3)]
    runs += [write_run(tmp_path / f"saq-{seed}", "saq", seed, 0.88 + 0.002 * seed) for seed in range(3)]
    assert (
        "Intervals that leave 0 out: saq below plain at W2A2, cell; saq below plain at W2A2, mean."
        in table_of(*runs).out
    )


def test_no_pair_and_doubles_are_errors(tmp_path: Path, table_of: Table) -> None:
    first = write_run(tmp_path / "a", "none", 0, 0.9)
    alone = table_of(first)
    assert alone.code == 2 and "no pair" in alone.error
    again = write_run(tmp_path / "b", "none", 0, 0.9)
    found = table_of(first, again)
    assert found.code == 2 and "one setting and one seed" in found.error and "Traceback" not in found.error
    missing = table_of(first, tmp_path / "nothing")
    assert missing.code == 2 and "Traceback" not in missing.error
