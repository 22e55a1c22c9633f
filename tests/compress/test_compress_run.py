"""`unetq compress` on the phantom: budgets met to the byte, or refused with nothing written."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compress_runs import fit, float_run

from unetq import cli
from unetq.compress.options import parse_widths
from unetq.compress.record import describe
from unetq.export.modelfile import encode, load
from unetq.export.program import ModelMeta
from unetq.runtime import Runtime
from unetq.verify import verify


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return float_run(tmp_path_factory.mktemp("float"))


@pytest.fixture(scope="module")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("compress") / "small"
    fit(source, out, target_size="8.9KB", command="unetq compress …")
    return out


def test_a_size_is_met_and_every_prediction_is_true(made: Path) -> None:
    record = json.loads((made / "compress.json").read_text())
    chosen = record["chosen"]
    size = (made / "model.uqm").stat().st_size
    assert chosen["measured"]["size"] == chosen["predicted"]["size"] == size <= 8900
    with Runtime(made / "model.uqm") as runtime:
        assert chosen["measured"]["memory"] == runtime.plan((48, 48)).arena_bytes
    point = record["tried"][-1]
    assert point["size"] == size or len(record["tried"]) > 1
    metrics = json.loads((made / "metrics.json").read_text())
    low, high = min(chosen["bits"]["weight"].values()), max(chosen["bits"]["weight"].values())
    assert metrics["bits"]["words"].split()[0] == (f"W{low}–{high}" if high > low else f"W{low}")
    assert chosen["dice"] == metrics["splits"]["validation"]["integer"]["volume_dice"]
    judged = next(p for p in record["tried"] if p["bits"] == chosen["bits"])
    assert judged["dice"] == pytest.approx(chosen["dice"])  # the packed file in the runtime, and the run in torch
    assert "bytes" in describe(made, record) and "float" in describe(made, record)
    assert "before that" not in describe(made, record)
    tuned = {**record, "chosen": {**chosen, "fine_tuned_steps": 400}}
    assert "  fine-tuned for 400 steps; before that:\n" in describe(made, tuned)


def test_the_folder_is_a_run_like_any_other(made: Path) -> None:
    assert {p.name for p in made.iterdir()} >= {
        "config.yaml",
        "run.json",
        "float",
        "quant",
        "metrics.json",
        "model.uqm",
    }
    assert not made.with_name("small.work").exists()
    assert verify(made, limit=1)["mismatches"] == 0
    assert json.loads((made / "run.json").read_text())["command"] == "unetq compress …"


def test_equal_calls_give_equal_files(source: Path, made: Path, tmp_path: Path) -> None:
    fit(source, tmp_path / "small", target_size="8.9KB")
    first, again = (load(p / "model.uqm")[0] for p in (made, tmp_path / "small"))
    assert encode(first, ModelMeta()) == encode(again, ModelMeta())


def test_the_smallest_that_keeps_the_dice(source: Path, tmp_path: Path) -> None:
    record = fit(source, tmp_path / "kept", max_dice_drop=2.0, min_dice=("cell=0.5",))
    kept = [p for p in record["tried"] if p["kept"]]
    lost = [p for p in record["tried"] if not p["kept"]]
    assert record["float"]["mean_dice"] - record["chosen"]["mean_dice"] <= 0.02
    assert record["chosen"]["measured"]["size"] <= min(p["size"] for p in kept)
    assert lost, "a search that never fails has not looked"


def test_memory_and_latency_limits(source: Path, tmp_path: Path) -> None:
    wide = fit(source, tmp_path / "wide", max_latency="60s")["chosen"]["measured"]["memory"]
    limit = int(wide) - 64
    record = fit(source, tmp_path / "less", max_memory=f"{limit}B")
    assert record["chosen"]["measured"]["memory"] == record["chosen"]["predicted"]["memory"] <= limit
    assert (tmp_path / "less" / "model.uqm").is_file()


@pytest.mark.parametrize("by", ["loss", "hessian"])
def test_other_sources_of_sensitivity(source: Path, tmp_path: Path, by: str) -> None:
    record = fit(source, tmp_path / "out", target_size="8.9KB", by=by)
    assert record["by"] == by and record["chosen"]["measured"]["size"] <= 8900


def test_the_command_line(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    arguments = ["unetq", "compress", str(source), "-o", str(tmp_path / "out"), "--samples", "2", "--bits", "2,8"]

    def run(*more: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [*arguments, *more])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    code, out, err = run("--target-size", "8.9KB")
    assert code == 0 and "bytes of memory" in out and "sensitivity" in err
    assert np.isfinite(json.loads((tmp_path / "out" / "compress.json").read_text())["seconds"])
    code, out, err = run("--target-size", "8.9KB")
    assert code == 6 and "not empty" in err
    arguments[4] = str(tmp_path / "other")
    code, out, err = run("--target-size", "1KB")
    assert code == 10 and "error: budget --target-size 1000 bytes" in err and not (tmp_path / "other").exists()
    assert run("--target-size", "8.9KB", "--bits", "two")[0] == 2
    assert parse_widths("2,3") == (2, 3)
