"""A folder of images: every one gets its mask or its reason, and the exit code tells whether all did."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import unetq
from dicom_tree import write_series
from PIL import Image
from test_geometry import affine_for
from test_predict_geometry import scene, store, voxels
from toy_model import NumpyRuntime, network

from unetq.errors import ConfigError, DataError, ModelFileError
from unetq.export.modelfile import save
from unetq.export.program import ModelMeta, Preprocessing
from unetq.predict import parse_spacing, predict
from unetq.predict_folder import describe, images_in, is_folder_of_images, predict_folder


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("unetq.predict.Runtime", NumpyRuntime)
    save(
        network(multiple=4),
        tmp_path / "model.uqm",
        ModelMeta("toy", ("dark", "bright"), (0, 7), Preprocessing("zscore")),
    )
    return tmp_path / "model.uqm"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three that work (a DICOM series is one), two that do not, and what is no image."""
    folder = tmp_path / "images"
    folder.mkdir()
    store(folder / "a.nii.gz", scene(), affine_for("RAS"))
    Image.fromarray(np.asarray(scene()[0] + 128).clip(0, 255).astype(np.uint8)).save(folder / "b.png")
    (folder / "c.nii.gz").touch()
    np.save(folder / "d.npy", np.full((2, 9, 9), 3))
    write_series(folder / "e" / "study", scene(), (2.5, 0.8, 0.9))
    (folder / "notes.txt").write_text("of the data")
    (folder / ".hidden.npy").touch()
    (folder / "papers").mkdir()
    (folder / "papers" / "readme.txt").write_text("none")
    return folder


def test_what_counts_as_an_image(images: Path) -> None:
    assert [name for _, name in images_in(images)] == ["a.nii.gz", "b.png", "c.nii.gz", "d.npy", "e.nii.gz"]
    assert images_in(images / "e") == [(images / "e" / "study", "study.nii.gz")]
    assert images_in(images / "e" / "study") == [(images / "e" / "study", "study.nii.gz")]
    with pytest.raises(DataError, match=r"papers holds no image: files of the kinds \.tif"):
        images_in(images / "papers")


def test_failures_are_named_and_the_rest_goes_on(model: Path, images: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    summary = predict_folder(model, images, tmp_path / "masks", note=lines.append)
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["a.nii.gz", "b.png", "e.nii.gz"]
    assert [Path(item["image"]).name for item in summary["images"]] == ["a.nii.gz", "b.png", "e"]
    reasons = {Path(item["image"]).name: item["reason"] for item in summary["failed"]}
    assert set(reasons) == {"c.nii.gz", "d.npy"}
    assert "0 bytes" in reasons["c.nii.gz"] and "constant" in reasons["d.npy"]
    assert len(lines) == 5 and lines[2].startswith("failed: ") and "c.nii.gz" in lines[2]
    told = describe(summary)
    assert "3 masks" in told and "2 images failed" in told and "d.npy" in told
    json.dumps(summary)
    predict(model, images / "a.nii.gz", tmp_path / "alone.nii.gz")
    np.testing.assert_array_equal(voxels(tmp_path / "masks" / "a.nii.gz"), voxels(tmp_path / "alone.nii.gz"))


def test_names_that_meet(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    write_series(folder / "a", scene(), (2.5, 0.8, 0.9))
    store(folder / "a.nii.gz", scene(), affine_for("RAS"))
    summary = predict_folder(model, folder, tmp_path / "masks")
    assert len(summary["images"]) == 1 and "one mask, a.nii.gz" in summary["failed"][0]["reason"]


def test_a_series_or_many(images: Path, tmp_path: Path) -> None:
    (tmp_path / "there.tif").mkdir()
    assert is_folder_of_images(images, tmp_path / "masks") and is_folder_of_images(images, tmp_path / "there.tif")
    assert not is_folder_of_images(images / "e", tmp_path / "m.nii.gz")
    assert not is_folder_of_images(images / "e", tmp_path / "m.dcm")
    assert not is_folder_of_images(images / "b.png", tmp_path / "masks")


def test_what_stops_at_once(model: Path, images: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="folder of the images"):
        predict_folder(model, images, images)
    with pytest.raises(ConfigError, match="three letters"):
        predict_folder(model, images, tmp_path / "masks", axes="ABC")
    model.write_bytes(model.read_bytes()[:-5])
    with pytest.raises(ModelFileError):
        predict_folder(model, images, tmp_path / "masks")
    assert not (tmp_path / "masks").exists()


def test_the_command(model: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = unetq(capsys, "predict", model, images, "-o", tmp_path / "masks")
    assert code == 1 and "2 images failed" in out and "failed: " in err
    for name in ("c.nii.gz", "d.npy"):
        (images / name).unlink()
    code, out, _ = unetq(capsys, "predict", model, images, "-o", tmp_path / "masks", "--json")
    assert code == 0 and json.loads(out)["failed"] == []
    code, out, err = unetq(capsys, "predict", model, images / "e", "-o", tmp_path / "e.nii.gz", "--json")
    found: dict[str, Any] = json.loads(out)
    assert code == 0 and found["format"] == "dicom" and found["slices"] == 7
    arguments = ["--axes", "LAS", "--spacing", "3,1,1", "--json"]
    code, out, _ = unetq(capsys, "predict", model, images / "b.png", "-o", tmp_path / "b.png", *arguments)
    assert code == 0 and json.loads(out)["spacing_mm"] == [3, 1, 1] and json.loads(out)["axes"] == "LAS"
    code, _, err = unetq(capsys, "predict", model, images / "b.png", "-o", tmp_path / "b.png", "--spacing", "3;1")
    assert code == 2 and "three lengths" in err


@pytest.mark.parametrize("text", ["a", "1,,2", "1;2;3"])
def test_spacing_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="three lengths"):
        parse_spacing(text)
    assert parse_spacing("3,0.5,0.5") == (3.0, 0.5, 0.5) and parse_spacing("") == ()
