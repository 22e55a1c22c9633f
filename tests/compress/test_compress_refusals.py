"""`unetq compress` where the budget, the source or the data cannot be: named, and nothing is written."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from compress_runs import fit, float_run

from unetq.compress import source as sources
from unetq.errors import BudgetError, CheckpointError, ConfigError, DataError, OutputError, UnetqError
from unetq.samples import Samples
from unetq.sweep_process import locked


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return float_run(tmp_path_factory.mktemp("float"))


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"target_size": "1KB"}, "--target-size cannot be met by any choice of bits"),
        ({"max_memory": "1KB"}, "--max-memory cannot be met"),
        ({"target_size": "1KB", "max_memory": "1KB"}, "nearest point has size .* of the limit.*memory"),
        ({"max_latency": "1us"}, "--max-latency cannot be met"),
        ({"target_size": "9KB", "max_memory": "1KB"}, "budget --target-size .* --max-memory cannot be met by any"),
        ({"min_dice": ("cell=0.9999",)}, "float network itself reaches"),
        ({"max_dice_drop": 50.0, "min_dice": ("cell=0.9999",)}, "min-dice cell=0.9999: the float network itself"),
    ],
)
def test_what_cannot_be_is_refused(source: Path, tmp_path: Path, wishes: dict[str, Any], message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        fit(source, tmp_path / "out", **wishes)
    assert not list(tmp_path.iterdir())


def test_a_dice_that_no_small_file_keeps_is_refused_with_the_one_that_does(source: Path, tmp_path: Path) -> None:
    least = fit(source, tmp_path / "least", target_size="1MB")["chosen"]["uniform"]["W2"]
    with pytest.raises(
        BudgetError, match=r"misses max-dice-drop by .* file found that keeps the Dice without fine-tuning has"
    ):
        fit(source, tmp_path / "out", target_size=f"{int(least) + 64}B", max_dice_drop=0.0001)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ConfigError, "no budget"),
        ({"target_size": "many"}, ConfigError, "--target-size"),
        ({"target_size": "8.9KB", "effort": "weeks"}, ConfigError, "effort"),
        ({"target_size": "8.9KB", "by": "guess"}, ConfigError, "choose one of"),
        ({"target_size": "8.9KB", "widths": (0, 4)}, ConfigError, "1 to 8"),
        ({"target_size": "8.9KB", "settings": {"weight_bits": 4}}, ConfigError, "compress itself"),
        ({"target_size": "8.9KB", "settings": {"method": "bnn"}}, ConfigError, "fixed or lsq"),
        ({"target_size": "0.2B"}, ConfigError, "less than a byte"),
        ({"max_latency": "200"}, ConfigError, r"a number and a unit are needed \(us, ms, s\), such as 200ms"),
        ({"target_size": "9" * 400 + "MB"}, ConfigError, "too large for a number"),
        ({"max_latency": "9" * 400 + "s"}, ConfigError, "too large for a number"),
        ({"min_dice": ("liver=0.5",)}, ConfigError, "membrane, cell"),
        ({"min_dice": ("cell=0.5", "cell=0.6")}, ConfigError, "names 'cell' twice"),
        ({"max_dice_drop": -1.0}, ConfigError, "in points of Dice, 0 to 100"),
        ({"target_size": "8.9KB", "samples": 0}, ConfigError, "at least 1 crop"),
    ],
)
def test_bad_options_are_named(
    source: Path, tmp_path: Path, options: dict[str, Any], error: type[UnetqError], message: str
) -> None:
    with pytest.raises(error, match=message):
        fit(source, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_without_a_float_parent(source: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    low = fit(source, tmp_path / "in" / "low", target_size="1MB", widths=(8,))
    assert low["chosen"]["fine_tuned_steps"] == 0
    alone = tmp_path / "in" / "low.safetensors"
    shutil.copy(tmp_path / "in" / "low" / "quant" / "best.safetensors", alone)
    with pytest.raises(CheckpointError, match="'quant' stage, not of a float one"):
        fit(alone, tmp_path / "out", target_size="8.9KB")
    shutil.rmtree(tmp_path / "in" / "low" / "float")
    with pytest.raises(CheckpointError, match=r"has no float stage .* Train the float network first"):
        fit(tmp_path / "in" / "low", tmp_path / "out", target_size="8.9KB")
    with pytest.raises(CheckpointError, match="nowhere"):
        fit(tmp_path / "nowhere", tmp_path / "out", target_size="8.9KB")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_a_full_folder_is_not_touched(source: Path, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        fit(source, tmp_path, target_size="8.9KB")
    assert [p.name for p in tmp_path.iterdir()] == ["note"]


def test_two_at_once_do_not_share_measurements(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out.work").mkdir()
    with locked(tmp_path / "out.work"), pytest.raises(OutputError, match=r"another compression.* choose another -o"):
        fit(source, tmp_path / "out", target_size="8.9KB")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_other_things_beside_the_output_is_not_touched(source: Path, tmp_path: Path) -> None:
    """What is measured has ``OUT.work`` to itself, which is removed in the end."""
    (tmp_path / "out.work").mkdir()
    (tmp_path / "out.work" / "note").write_text("mine")
    with pytest.raises(OutputError, match=r"out\.work holds note and no measured\.json"):
        fit(source, tmp_path / "out", target_size="8.9KB")
    assert [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.rglob("*"))] == ["out.work", "out.work/note"]


def test_validation_slices_that_were_trained_on(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sources.load_split
    monkeypatch.setattr(sources, "load_split", lambda experiment, split: real(experiment, "train"))
    with pytest.raises(DataError, match=r"slice .* of split 'validation' is one that .* was trained on"):
        fit(source, tmp_path / "out", target_size="8.9KB")
    # A checkpoint that does not tell what it was trained on: the training split does, by the hash of its pixels.
    monkeypatch.setattr(sources.checkpoints, "shared_slice", lambda *_: None)
    with pytest.raises(DataError, match=r"slice .* of split 'validation' is one that .* was trained on"):
        fit(source, tmp_path / "out", target_size="8.9KB")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("empty", ["train", "validation"])
def test_no_cases_at_all(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty: str) -> None:
    real = sources.load_split
    monkeypatch.setattr(sources, "load_split", lambda e, split: Samples() if split == empty else real(e, split))
    with pytest.raises(DataError, match=f"split '{empty}' has 0 slices"):
        fit(source, tmp_path / "out", target_size="8.9KB")
    assert not list(tmp_path.iterdir())


def test_a_wrong_width_is_told_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="widths are 1 to 8"):
        fit(tmp_path / "nowhere", tmp_path / "out", target_size="9KB", widths=(4, 9))
