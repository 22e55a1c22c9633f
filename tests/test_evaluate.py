"""Scores in the shipped arithmetic, labelled; overlays; the schema that reports read."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from small_runs import small

from unetq.cases import Skipped
from unetq.data import resolve_dataset
from unetq.errors import CheckpointError, ConfigError, DataError
from unetq.evaluate import evaluate
from unetq.export.run import export
from unetq.footprint import Footprint
from unetq.metrics import count
from unetq.preprocess import decide, normalize
from unetq.report.schema import Metrics
from unetq.runs import load_split, open_run
from unetq.samples import Samples
from unetq.summary import describe
from unetq.train import train


@pytest.fixture(scope="module")
def low_bit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(small(), tmp_path_factory.mktemp("run") / "w4a6")


@pytest.fixture(scope="module")
def metrics(low_bit: Path) -> dict:
    return evaluate(low_bit)


def test_file_and_return_value_agree_with_the_schema(low_bit: Path, metrics: dict) -> None:
    assert json.loads((low_bit / "metrics.json").read_text()) == metrics
    found = Metrics.model_validate(metrics)
    assert metrics["run"] == "w4a6" and found.bits.weight == 4 and found.network.parameters > 0
    assert found.cost.model_file_bytes and found.cost.weight_bytes < found.cost.float_weight_bytes


def test_the_file_size_is_that_of_the_export(low_bit: Path, metrics: dict, tmp_path: Path) -> None:
    assert metrics["cost"]["model_file_bytes"] == export(low_bit, tmp_path / "m.uqm")["bytes"]


def test_integer_is_the_default_and_labelled(metrics: dict) -> None:
    split = metrics["splits"]["validation"]
    assert set(split) == {"integer", "float_reference", "paired"}
    assert split["integer"]["arithmetic"] == "integer" and split["float_reference"]["arithmetic"] == "float32"
    assert set(split["integer"]["volume_dice"]) == {"membrane", "cell"}
    assert len(split["integer"]["slices"]) == 2


def test_scores_are_those_of_the_integer_program(low_bit: Path, metrics: dict) -> None:
    """The NumPy executor, run on its own, gives the same Dice a slice."""
    from unetq import lower

    run = open_run(low_bit)
    quantized, _ = run.quantized()
    program = lower(quantized, torch.zeros(1, 1, 48, 48))
    spec = resolve_dataset("phantom")
    for sample, record in zip(
        load_split(run.experiment, "validation"), metrics["splits"]["validation"]["integer"]["slices"], strict=True
    ):
        mask = decide(program.run(normalize(sample.image, spec.preprocessing)[None])[0])
        assert count(mask, sample.label, 2).dice.tolist() == list(record["dice"].values())


def test_overlays(low_bit: Path, metrics: dict) -> None:
    """The split's only volume is one stack; its masks are those that were scored."""
    (path,) = (low_bit / "overlays" / "validation").glob("*.npz")
    split = metrics["splits"]["validation"]
    assert path.stem == split["integer"]["slices"][0]["volume"]
    with np.load(path, allow_pickle=False) as arrays:
        found = dict(arrays)
    assert found.pop("slices").tolist() == [4, 5]
    assert set(found) == {"image", "truth", "prediction", "float_prediction"}
    assert all(values.dtype == np.uint8 and values.shape == (2, 48, 48) for values in found.values())
    for key, name in (("integer", "prediction"), ("float_reference", "float_prediction")):
        for place, record in enumerate(split[key]["slices"]):
            dice = count(found[name][place], found["truth"][place], 2).dice.tolist()
            assert dice == list(record["dice"].values())


def test_float_is_added_only_when_asked_and_other_splits_stay(low_bit: Path, metrics: dict) -> None:
    found = evaluate(low_bit, arithmetic="float")["splits"]["validation"]
    assert set(found) == {"integer", "float", "float_reference", "paired"}
    assert found["float"]["arithmetic"] == "float32" and found["paired"] == metrics["splits"]["validation"]["paired"]
    assert found["integer"] == metrics["splits"]["validation"]["integer"]
    both = evaluate(low_bit, "test")
    assert set(both["splits"]) == {"validation", "test"} and set(both["splits"]["test"]) == {
        "integer",
        "float_reference",
        "paired",
    }


def test_a_float_run_has_only_float(tmp_path: Path) -> None:
    run = train(small(quant={"weight_bits": 32, "act_bits": 32}), tmp_path / "float")
    found = evaluate(run)
    assert set(found["splits"]["validation"]) == {"float"}
    assert found["splits"]["validation"]["float"]["arithmetic"] == "float32"
    assert found["cost"]["float_weight_bytes"] == 4 * found["network"]["parameters"]
    Metrics.model_validate(found)


def test_refusals(low_bit: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a run folder"):
        evaluate(tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'validation'"):
        evaluate(low_bit, "validaton")
    (tmp_path / "config.yaml").write_bytes((low_bit / "config.yaml").read_bytes())
    with pytest.raises(CheckpointError, match=r"best\.safetensors is missing"):
        evaluate(tmp_path)
    text = (low_bit / "config.yaml").read_text()
    (tmp_path / "quant").mkdir()
    (tmp_path / "quant" / "best.safetensors").write_bytes((low_bit / "quant" / "best.safetensors").read_bytes())
    (tmp_path / "config.yaml").write_text(text.replace("weight_bits: 4", "weight_bits: 4\n  weight_bitz: 3"))
    with pytest.raises(CheckpointError, match=r"damaged.*weight_bits"):
        evaluate(tmp_path)
    (tmp_path / "config.yaml").write_text(text.replace("name: paper", "name: unet"))
    with pytest.raises(CheckpointError, match="network"):
        evaluate(tmp_path)


def test_a_split_the_data_cannot_give_passes_through(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tifffile.imwrite(tmp_path / "train-volume.tif", rng.integers(0, 255, (24, 48, 48), dtype=np.uint8))
    tifffile.imwrite(tmp_path / "train-labels.tif", rng.integers(0, 2, (24, 48, 48), dtype=np.uint8) * 255)
    check_em(tmp_path, tmp_path / "run")


def test_the_real_stack(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    check_em(real_data("em"), tmp_path / "run")


def check_em(folder: Path, out: Path) -> None:
    """A stack of 24 labelled slices gives the validation split, and says why it has no test split."""
    experiment = small(data={"name": "em"}, train={"float_steps": 2, "quant_steps": 2})
    experiment.data.options.clear()
    run = train(experiment, out, data=folder)
    with pytest.raises(DataError, match="24"):
        evaluate(run, "test", data=folder)
    assert not (run / "metrics.json").exists()
    found = evaluate(run, data=folder)
    assert [s["id"] for s in found["splits"]["validation"]["integer"]["slices"]] == [
        f"em-{i:03d}" for i in range(20, 24)
    ]


def test_cases_are_of_the_masks_that_were_scored(low_bit: Path, metrics: dict) -> None:
    split = metrics["splits"]["validation"]
    record = split["integer"]
    assert record["unit"] == "slice" and [case["id"] for case in record["cases"]] == [s["id"] for s in record["slices"]]
    for case, one in zip(record["cases"], record["slices"], strict=True):
        assert {label: values["dice"] for label, values in case["classes"].items()} == one["dice"]
    assert 0.0 <= record["score_summary"]["rand"]["mean"] <= 1.0  # membranes part cells
    mean = record["mean_slice_dice"]["cell"] - split["float_reference"]["mean_slice_dice"]["cell"]
    assert split["paired"]["cell"]["difference"] == pytest.approx(mean) and split["paired"]["cell"]["n"] == 2
    assert metrics["skipped"]["validation"] == []


def test_the_measured_cost(metrics: dict) -> None:
    cost = metrics["cost"]
    assert cost["process_base_bytes"] < cost["process_peak_bytes"] and cost["latency"]["seconds"] > 0
    assert cost["process_base_bytes"] < cost["float_process_peak_bytes"] and cost["float_latency"]["runs"] >= 3
    assert cost["arena_bytes"] < cost["float_arena_bytes"] and cost["model_file_bytes"] < cost["float_model_file_bytes"]


def test_cost_is_measured_again_only_where_it_is_missing(low_bit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = evaluate(low_bit)["cost"]
    asked = []

    def measured(*_: object) -> Footprint:
        asked.append(1)
        return Footprint(1, 2, 3, 4, None, "no library")

    monkeypatch.setattr("unetq.evaluate.footprint", measured)
    assert evaluate(low_bit)["cost"] == before and not asked
    path = low_bit / "metrics.json"
    old = json.loads(path.read_text())
    del old["cost"]["latency"]
    path.write_text(json.dumps(old))
    found = evaluate(low_bit)
    assert len(asked) == 2 and found["cost"]["process_peak_bytes"] == 3 and found["cost"]["latency"] is None
    assert found["cost"]["footprint_note"] == "no library" and set(found["splits"]) == set(old["splits"])
    Metrics.model_validate(found)
    monkeypatch.undo()
    assert evaluate(low_bit)["cost"]["latency"] is not None


@pytest.fixture(scope="module")
def cords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on volumes of one slice each, whose evaluation skips empty classes and measures no distances."""
    experiment = small(
        data={"options": {"kind": "cord", "validation": 5}},
        network={"options": {"widths": [4, 8], "out_channels": 3}},
        train={"float_steps": 1, "quant_steps": 1},
        evaluation={"empty": "skip", "hd95": False, "bootstrap": 100},
    )
    return train(experiment, tmp_path_factory.mktemp("run") / "cords")


def test_cases_of_several_volumes(cords: Path) -> None:
    found = evaluate(cords)
    record = found["splits"]["validation"]["integer"]
    assert record["unit"] == "case" and len(record["cases"]) == 5 and record["empty"] == "skip"
    assert "left out of every mean" in record["empty_policy"] and record["bootstrap"]["samples"] == 100
    assert all(c["classes"][label]["hd95_mm"] is None for c in record["cases"] for label in c["classes"])
    for label, dice in record["volume_dice"].items():
        assert record["summary"][label]["dice"]["mean"] == (None if dice is None else pytest.approx(dice))
    pictures = {path.stem for path in (cords / "overlays" / "validation").iterdir()}
    assert len(pictures) == 3 and pictures <= {case["id"] for case in record["cases"]}
    Metrics.model_validate(found)


def test_skipped_cases_are_listed(cords: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def some(*arguments: object) -> Samples:
        return Samples(load_split(*arguments)[:2], [Skipped("c9", "its label is missing.")])

    monkeypatch.setattr("unetq.evaluate.load_split", some)
    found = evaluate(cords)
    assert found["skipped"]["validation"] == [{"case": "c9", "reason": "its label is missing."}]
    assert "c9: its label is missing." in describe(found, "validation")
    assert len(Metrics.model_validate(found).skipped["validation"]) == 1
