"""ONNX files: from a run and back to scores and masks, what they know, and files that are no good."""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from random_programs import random_integer_program
from small_runs import small
from typer.testing import CliRunner

import unetq
from unetq.cli import app
from unetq.errors import ConfigError, DeviceError, ModelFileError, OutputError, UnetqError
from unetq.evaluate import evaluate
from unetq.export.program import ModelMeta, Preprocessing
from unetq.export.run import export
from unetq.onnx.metadata import OnnxMeta, from_text, to_text
from unetq.onnx.run import data_of, export_onnx
from unetq.onnx.session import OnnxModel
from unetq.predict import predict
from unetq.train import train

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from unetq.onnx import model as models  # noqa: E402
from unetq.onnx.evaluate import evaluate_onnx  # noqa: E402
from unetq.onnx.model import save  # noqa: E402


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(small(), tmp_path_factory.mktemp("onnx") / "run")


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    export_onnx(run, run.parent / "m.onnx")
    export(run, run.parent / "m.uqm")
    return run.parent / "m.onnx"


def message(error: pytest.ExceptionInfo[UnetqError]) -> str:
    return str(error.value)


def test_a_run_scores_the_same(run: Path, exported: Path) -> None:
    """The phantom is made, so no --data: Dice and every pixel as in the run's own integer arithmetic."""
    expected = evaluate(run)["splits"]["validation"]["integer"]
    found = evaluate_onnx(exported, against=exported.with_suffix(".uqm"))
    assert found["dataset"] == "phantom" and found["arithmetic"] == "onnxruntime"
    assert found["volume_dice"] == expected["volume_dice"] and found["slices"] == expected["slices"]
    agreement = found["agreement"]
    assert agreement["share"] == 1.0 and agreement["pixels"] == 2 * 48 * 48 and len(agreement["slices"]) == 2
    assert agreement["volume_dice"] == expected["volume_dice"]


@pytest.mark.parametrize("opset", [17, 21])
def test_files_are_equal_and_hold_no_place(run: Path, tmp_path: Path, opset: int) -> None:
    summary = export_onnx(run, tmp_path / "a.onnx", opset)
    export_onnx(run, tmp_path / "b.onnx", opset)
    data = (tmp_path / "a.onnx").read_bytes()
    assert data == (tmp_path / "b.onnx").read_bytes()
    assert summary["bytes"] == len(data) and summary["opset"] == opset and summary["stage"] == "quant"
    kinds = {t.data_type for t in onnx.load(tmp_path / "a.onnx").graph.initializer}
    assert (onnx.TensorProto.INT4 in kinds) == (opset == 21)
    places = [str(run.parent), str(Path.home()), str(Path(unetq.__file__).parent)]
    assert not [p for p in places if p.encode() in data] and not re.search(rb"/(home|root|tmp|work|Users)/", data)


def test_predict_gives_the_runtime_s_mask(exported: Path, tmp_path: Path) -> None:
    image = (np.random.default_rng(0).random((3, 50, 45)) * 255).astype(np.uint8)
    tifffile.imwrite(tmp_path / "image.tif", image, photometric="minisblack")
    summary = predict(exported, tmp_path / "image.tif", tmp_path / "onnx.tif")
    predict(exported.with_suffix(".uqm"), tmp_path / "image.tif", tmp_path / "uqm.tif")
    assert summary["isa"] == "onnxruntime" and summary["arena_bytes"] is None
    masks = [tifffile.imread(tmp_path / name) for name in ("onnx.tif", "uqm.tif")]
    assert np.array_equal(masks[0], masks[1]) and masks[0].shape == image.shape
    assert set(np.unique(masks[0])) <= {0, 255}


def test_the_command_line(run: Path, tmp_path: Path) -> None:
    cli, out = CliRunner(), tmp_path / "m.onnx"
    assert cli.invoke(app, ["export", str(run), "--onnx", str(out), "--onnx-opset", "18"]).exit_code == 0
    assert onnx.load(out).opset_import[0].version == 18
    result = cli.invoke(app, ["evaluate", str(out), "--json"])
    assert result.exit_code == 0 and json.loads(result.stdout)["split"] == "validation"
    assert "onnxruntime: Dice membrane" in cli.invoke(app, ["evaluate", str(out), "--split", "test"]).stdout
    for wrong in (["export", str(run)], ["export", str(run), "-o", "x.uqm", "--onnx", "x.onnx"]):
        assert isinstance(cli.invoke(app, wrong).exception, ConfigError)
    assert isinstance(cli.invoke(app, ["evaluate", str(run), "--config", "em"]).exception, ConfigError)


META = OnnxMeta(
    ModelMeta("net", ("a", "b", "c"), (0, 7, 255), Preprocessing("window", -3.5, 200.25), {"step": 3, "x": [1, "é"]}),
    3,
    (1, 8, 8),
    (4, 16, 24),
    {"name": "em", "options": {"fold": 1}},
)


def test_metadata_round_trip() -> None:
    assert from_text(to_text(META), "m.onnx") == META
    assert data_of("x", {"root": "/a/b", "kind": "cells", "n": 3})["options"] == {"kind": "cells", "n": 3}


@pytest.mark.parametrize(
    ("key", "value"),
    [("schema", 2), ("labels", ["a"]), ("label_values", [0]), ("preprocessing", {}), ("spatial_rank", 4),
     ("input_multiple", [0, 1, 1]), ("more", 1)],
)  # fmt: skip
def test_damaged_metadata(key: str, value: Any) -> None:
    with pytest.raises(ModelFileError, match=r"m\.onnx: its metadata is damaged .*export again") as error:
        from_text(json.dumps(json.loads(to_text(META)) | {key: value}), "m.onnx")
    assert message(error)
    for text in ("", "[]", "{"):
        with pytest.raises(ModelFileError, match="damaged"):
            from_text(text, "m.onnx")


def test_files_that_are_no_good(exported: Path, tmp_path: Path) -> None:
    data = exported.read_bytes()
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "half.onnx").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.onnx").write_bytes(b"not a model at all")
    for name in ("empty.onnx", "half.onnx", "text.onnx"):
        with pytest.raises(ModelFileError, match=name):
            OnnxModel(tmp_path / name)
    with pytest.raises(ModelFileError, match="cannot be read"):
        OnnxModel(tmp_path / "missing.onnx")
    bare = onnx.load(exported)
    del bare.metadata_props[:]
    onnx.save(bare, tmp_path / "bare.onnx")
    with pytest.raises(ModelFileError, match="without unetq's metadata"):
        OnnxModel(tmp_path / "bare.onnx")
    other = onnx.load(exported)
    other.graph.input[0].type.tensor_type.shape.dim.pop()
    onnx.save(other, tmp_path / "axes.onnx")
    with pytest.raises(ModelFileError, match=r"axes\.onnx"):
        OnnxModel(tmp_path / "axes.onnx")


def test_inputs_that_are_no_good(exported: Path) -> None:
    with OnnxModel(exported) as model:
        assert model.run(np.zeros((2, 1, 8, 10))).shape == (2, 1, 8, 10)
        wrong: list[tuple[tuple[int, ...], str]] = [
            ((1, 2, 8, 8), "takes"), ((1, 8, 8), "takes"), ((1, 1, 7, 8), "multiple"), ((0, 1, 8, 8), "empty")
        ]  # fmt: skip
        for shape, rule in wrong:
            with pytest.raises(DeviceError, match=rule):
                model.run(np.zeros(shape))
        with pytest.raises(DeviceError, match="NaN"):
            model.run(np.full((1, 1, 8, 8), np.nan))


def test_other_data_than_the_model_s(exported: Path, tmp_path: Path) -> None:
    config = tmp_path / "other.yaml"
    for data, rule in (("{name: nothing}", "nothing"), ("{name: phantom, options: {kind: cord}}", "has the labels")):
        config.write_text(f"data: {data}\n")
        with pytest.raises(UnetqError, match=rule):
            evaluate_onnx(exported, config=str(config))
    program = random_integer_program(2)
    meta = ModelMeta("x", tuple("abcdefghij"[: max(2, program.tensors[program.output].channels)]))
    meta = replace(meta, label_values=tuple(range(len(meta.labels))))
    save(program, tmp_path / "unknown.onnx", meta)
    with pytest.raises(ConfigError, match="--config"):
        evaluate_onnx(tmp_path / "unknown.onnx")


def test_without_the_packages(run: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install unetq\[onnx\]"):
        OnnxModel(exported)
    monkeypatch.setitem(sys.modules, "unetq.onnx.model", None)
    with pytest.raises(ConfigError, match=r"pip install unetq\[onnx\]"):
        export_onnx(run, tmp_path / "m.onnx")


def test_outputs_whole_or_not_at_all(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_disk: Any
) -> None:
    target = tmp_path / "m.onnx"
    target.write_bytes(b"before")
    for wrong in (tmp_path, tmp_path / "m.uqm", tmp_path / "none" / "m.onnx"):
        with pytest.raises(OutputError):
            export_onnx(run, wrong)
    with full_disk(), pytest.raises(OutputError):
        export_onnx(run, target)
    monkeypatch.setattr(models, "_check", lambda model: (_ for _ in ()).throw(ConfigError("refused")))
    with pytest.raises(ConfigError, match="refused"):
        export_onnx(run, target)
    assert target.read_bytes() == b"before" and [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_weights_beyond_the_limit_lie_beside_the_model(
    run: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "PROTO_LIMIT", 0)
    monkeypatch.setattr(models, "EXTERNAL_BYTES", 100)
    folder = tmp_path / "a"
    folder.mkdir()
    export_onnx(run, folder / "m.onnx")
    assert sorted(p.name for p in folder.iterdir()) == ["m.onnx", "m.onnx.data"]
    moved = tmp_path / "b"
    shutil.move(folder, moved)
    x = np.random.default_rng(1).standard_normal((1, 1, 16, 16)).astype(np.float32)
    assert np.array_equal(OnnxModel(moved / "m.onnx").run(x), OnnxModel(exported).run(x))
