"""Evaluated again, or on other slices: what stays, what is dropped, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from small_runs import small

from unetq.errors import DataError, OutputError
from unetq.evaluate import evaluate
from unetq.experiment import EvaluationConfig
from unetq.runs import load_split, open_run, set_evaluation
from unetq.samples import digest_all
from unetq.train import train


def test_stale_metrics_are_dropped(tmp_path: Path) -> None:
    run = train(small(), tmp_path / "run")
    path = run / "metrics.json"
    first = evaluate(run)
    old = json.loads(json.dumps(first))
    old["checkpoint"]["sha256"] = "of another checkpoint"
    old["splits"]["test"] = old["splits"]["validation"]
    path.write_text(json.dumps(old))
    assert set(evaluate(run)["splits"]) == {"validation"}
    path.write_text("{half a fi")
    assert evaluate(run)["checkpoint"] == first["checkpoint"]


def test_each_split_has_its_note_and_the_digest_of_its_slices(tmp_path: Path) -> None:
    run = train(small(train={"float_steps": 1, "quant_steps": 1}), tmp_path / "run")
    evaluate(run)
    found = evaluate(run, "test")
    assert found["digests"] == {
        split: digest_all(load_split(open_run(run).experiment, split)) for split in ("validation", "test")
    }
    assert "the validation slices also chose the checkpoint. Options: {" in found["notes"]["validation"]
    assert "chose" not in found["notes"]["test"] and "chose" not in found["data_note"]
    assert found["notes"]["test"].startswith("Whole slices of 'phantom'. Options: {")


def em_run(tmp_path: Path) -> tuple[Path, Path]:
    """A run on 24 slices in the layout of the EM data, and their folder."""
    rng = np.random.default_rng(0)
    data = tmp_path / "data"
    data.mkdir()
    tifffile.imwrite(data / "train-volume.tif", rng.integers(0, 255, (24, 48, 48), dtype=np.uint8))
    tifffile.imwrite(data / "train-labels.tif", rng.integers(0, 2, (24, 48, 48), dtype=np.uint8) * 255)
    experiment = small(data={"name": "em"}, train={"float_steps": 1, "quant_steps": 1})
    experiment.data.options.clear()
    return train(experiment, tmp_path / "run", data=data), data


def test_scores_of_other_slices_are_dropped(tmp_path: Path) -> None:
    run, data = em_run(tmp_path)
    evaluate(run, arithmetic="float", data=data)
    both = evaluate(run, data=data)
    assert set(both["splits"]["validation"]) == {"integer", "float", "float_reference", "paired"}
    labels = tifffile.imread(data / "train-labels.tif")
    labels[20, :8] = 255 - labels[20, :8]
    tifffile.imwrite(data / "train-labels.tif", labels)
    found = evaluate(run, data=data)
    assert set(found["splits"]["validation"]) == {"integer", "float_reference", "paired"}
    assert found["digests"] != both["digests"]


def test_scores_by_other_settings_are_dropped(tmp_path: Path) -> None:
    run = train(small(quant={"weight_bits": 32, "act_bits": 32}, train={"float_steps": 1}), tmp_path / "run")
    assert set(evaluate(run, "test")["splits"]) == {"test"}
    assert set(evaluate(run)["splits"]) == {"test", "validation"}
    set_evaluation(run, EvaluationConfig(empty="skip"))
    found = evaluate(run)
    assert set(found["splits"]) == {"validation"} and found["evaluation"]["empty"] == "skip"
    del found["evaluation"]  # as an earlier version wrote it
    (run / "metrics.json").write_text(json.dumps(found))
    assert set(evaluate(run, "test")["splits"]) == {"test", "validation"}
    found = json.loads((run / "metrics.json").read_text())
    del found["evaluation"]
    (run / "metrics.json").write_text(json.dumps(found))
    set_evaluation(run, EvaluationConfig())
    assert set(evaluate(run)["splits"]) == {"validation"}


def test_a_damaged_metrics_file_is_replaced(tmp_path: Path) -> None:
    run = train(small(train={"float_steps": 1, "quant_steps": 1}), tmp_path / "run")
    good = evaluate(run)
    for key in ("splits", "cost", "digests", "notes", "skipped"):
        (run / "metrics.json").write_text(json.dumps({**good, key: 3}))
        assert set(evaluate(run)["splits"]) == {"validation"}


def test_pictures_are_replaced_and_other_files_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unetq import files

    run = train(small(train={"float_steps": 1, "quant_steps": 1}), tmp_path / "run")
    evaluate(run)
    folder = run / "overlays" / "validation"
    ours = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "old.npz").write_bytes(next(iter(ours.values())))
    np.savez(folder / "mine.npz", image=np.zeros(3), more=np.ones(3))
    (folder / "not an archive.npz").write_bytes(b"text")
    (folder / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(path: Path, writer: object) -> None:
        raise OutputError("full")

    with monkeypatch.context() as patch, pytest.raises(OutputError):
        patch.setattr(files, "write_with", full)
        evaluate(run)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    evaluate(run)
    assert {path.name for path in folder.iterdir()} == {*ours, "mine.npz", "not an archive.npz", "notes.txt"}
    assert [path.name for path in folder.parent.iterdir()] == ["validation"]


def test_slices_it_was_trained_on_are_not_scored(tmp_path: Path) -> None:
    run, data = em_run(tmp_path)
    for name in ("train-volume.tif", "train-labels.tif"):
        values = tifffile.imread(data / name)
        values[[3, 21]] = values[[21, 3]]
        tifffile.imwrite(data / name, values)
    with pytest.raises(DataError, match=r"slice em-021 of split 'validation'.*was trained on"):
        evaluate(run, data=data)
    assert not (run / "metrics.json").exists()
