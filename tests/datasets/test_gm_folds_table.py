"""The table of a cross-validation's folds, from evaluations as ``metrics.json`` has them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "folds_table.py"


def case(name: str, subject: str, dice: float, slices: int = 3) -> dict[str, Any]:
    scores = {"grey matter": {"dice": dice, "volume_ml": 0.5, "true_volume_ml": 0.4}}
    volume = name.partition(":")[0]
    return {"id": name, "volume": volume, "subject": subject, "site": "A", "slices": slices, "classes": scores}


def fold(
    folder: Path, unit: str, low: list[dict[str, Any]], reference: list[dict[str, Any]], volume: float = 0.0
) -> Path:
    folder.mkdir()
    splits = {
        name: {"unit": unit, "cases": cases, "volume_dice": {"grey matter": volume + offset}}
        for name, cases, offset in (("integer", low, 0.0), ("float_reference", reference, 0.02))
    }
    (folder / "metrics.json").write_text(json.dumps({"splits": {"validation": splits}}), encoding="utf-8")
    return folder


def table(*folders: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, folders)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_persons_are_averaged_before_they_are_compared(tmp_path: Path) -> None:
    two = fold(
        tmp_path / "a", "case", [case("p1a", "p1", 0.70), case("p1b", "p1", 0.90)],
        [case("p1a", "p1", 0.72), case("p1b", "p1", 0.90)],
    )  # fmt: skip
    slices = [case(f"p2:{number}", "p2", 0.1, slices=1) for number in range(4)]
    one = fold(tmp_path / "b", "slice", slices, slices, volume=0.6)
    again = fold(tmp_path / "c", "case", [case("p3", "p3", 0.5)], [case("p3", "p3", 0.5)])
    result = table(two, one, again)
    assert result.returncode == 0, result.stderr
    rows = result.stdout.splitlines()
    assert "| p1a | p1 | A | 3 | 72.00 | 70.00 | -2.00 | 0.400 | 0.500 |" in rows
    assert "| p2 | p2 | A | 4 | 62.00 | 60.00 | -2.00 | 1.600 | 2.000 |" in rows  # voxels pooled, not slices averaged
    (mean,) = [row for row in rows if row.startswith("| mean of 3 persons")]
    assert "| **64.33** (" in mean and "| **63.33** (50.00 to 80.00)" in mean and "**-1.00** (" in mean
    assert "Wilcoxon" in rows[-1]


def test_other_float_runs_as_reference(tmp_path: Path) -> None:
    run = fold(tmp_path / "a", "case", [case("p1", "p1", 0.5)], [case("p1", "p1", 0.9)])
    longer = fold(tmp_path / "b", "case", [case("p1", "p1", 0.6)], [])
    records = json.loads((longer / "metrics.json").read_text(encoding="utf-8"))
    records["splits"]["validation"] = {"float": records["splits"]["validation"]["integer"]}
    (longer / "metrics.json").write_text(json.dumps(records), encoding="utf-8")
    result = subprocess.run(
        [sys.executable, str(SCRIPT), str(run), "--reference", str(longer)], capture_output=True, text=True, check=False
    )
    assert "| p1 | p1 | A | 3 | 60.00 | 50.00 | -10.00 |" in result.stdout, result.stderr


def test_refusals(tmp_path: Path) -> None:
    run = fold(tmp_path / "a", "case", [case("p1", "p1", 0.5)], [case("p1", "p1", 0.5)])
    assert table(run, run).returncode == 2 and "p1 held out by two" in table(run, run).stderr
    assert table(tmp_path / "nothing").returncode == 2
