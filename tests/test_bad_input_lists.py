"""Datalists with mistakes, through the command line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_data import Capture, skipped, train
from commands import unetq
from gm_trees import affine, cord_volume, save

MSD = {"name": "msd", "options": {"classes": ["background", "cord"]}}


def entry(name: str) -> dict[str, str]:
    return {"image": f"images/{name}.nii.gz", "label": f"labels/{name}.nii.gz"}


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """dataset.json: three cases to train, one to validate."""
    folder = tmp_path / "task"
    for number, name in enumerate("abcd"):
        image, classes = cord_volume(number, 2)
        save(folder / "images" / f"{name}.nii.gz", image, affine())
        save(folder / "labels" / f"{name}.nii.gz", (classes > 0).astype(np.uint8), affine())
    write(folder, lambda content: None)
    return folder


def write(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = {"labels": {"0": "background", "1": "cord"}, "training": [entry(name) for name in "abc"]}
    content["validation"] = [entry("d")]
    change(content)
    (folder / "dataset.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "labels" / "b.nii.gz").unlink(), ["labels/b.nii.gz", "does not exist"]),
        (lambda f: (f / "images" / "b.nii.gz").write_bytes(b""), ["images/b.nii.gz", "0 bytes"]),
        (lambda f: write(f, lambda c: c["training"][1].pop("label")), ["b has no label"]),
    ],
    ids=["no label file", "empty image", "no label listed"],
)
def test_one_bad_entry_is_skipped_and_evaluation_says_so(
    spoil: Callable[[Path], object], words: list[str], listed: Path, capsys: Capture, tmp_path: Path
) -> None:
    spoil(listed)
    code, _, err = train(capsys, tmp_path, MSD, listed)
    assert code == 0 and "skipped 1 of 4 cases: b: " in err, err
    for word in words:
        assert word in skipped(tmp_path)["b"]


def test_evaluation_says_what_it_skipped(listed: Path, capsys: Capture, tmp_path: Path) -> None:
    write(listed, lambda content: content.update(training=[entry("a")], validation=[entry("c"), entry("d")]))
    assert train(capsys, tmp_path, MSD, listed)[0] == 0
    (listed / "labels" / "c.nii.gz").write_bytes(b"")
    code, out, err = unetq(capsys, "evaluate", tmp_path / "run", "--data", listed)
    assert code == 0 and "c: " in out and "0 bytes" in out, err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    (item,) = metrics["skipped"]["validation"]
    assert item["case"] == "c" and "labels/c.nii.gz" in item["reason"]


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (lambda c: c["validation"].append(entry("a")), 3, "case a is in train and in validation"),
        (lambda c: c["training"].append(entry("a")), 3, "twice in train"),
        (lambda c: [c[k][0].update(subject="anna") for k in ("training", "validation")], 3, "subject anna is in train"),
        (lambda c: c.update(training={"a": 1}), 3, "'training' is no list"),
        (lambda c: c["training"].append({"image": 7}), 3, "training[3]"),
        (lambda c: c["training"].append({"label": "x.nii.gz"}), 3, "training[3]"),
        (lambda c: c["labels"].update({"2": "canal"}), 2, "data.options.classes"),
        (lambda c: c["labels"].update({"1": "canal"}), 2, "value 1 'canal' and the options call it 'cord'"),
        (lambda c: c.update(training=[]), 3, "train"),
    ],
)
def test_a_list_that_contradicts_itself_stops(
    change: Callable[[dict[str, Any]], object], code: int, message: str, listed: Path, capsys: Capture, tmp_path: Path
) -> None:
    write(listed, change)
    found, out, err = train(capsys, tmp_path, MSD, listed)
    assert found == code and out == "" and err.startswith("error: ") and err.count("\n") == 1 and message in err, err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("of", ["a", "d"], ids=["train", "validation"])
def test_a_copy_in_the_test_split_stops_training(of: str, listed: Path, capsys: Capture, tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        shutil.copy(listed / kind / f"{of}.nii.gz", listed / kind / "e.nii.gz")
    write(listed, lambda content: content.update(test=[entry("e")]))
    code, out, err = train(capsys, tmp_path, MSD, listed)
    split = "train" if of == "a" else "validation"
    assert code == 3 and f"slice e-000 of test is also in {split} (there {of}-000)" in err and "two sides" in err
    assert out == "" and not (tmp_path / "run").exists()


def test_a_test_split_that_cannot_be_given_stops_no_training(listed: Path, capsys: Capture, tmp_path: Path) -> None:
    for path in listed.glob("*/d.nii.gz"):
        shutil.copy(path, path.with_name("e.nii.gz"))
    write(listed, lambda content: content.update(test=[entry("e")]))
    (listed / "images" / "e.nii.gz").write_bytes(b"")
    code, _, err = train(capsys, tmp_path, MSD, listed)
    assert code == 0, err


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"training": '])
def test_a_file_that_is_no_list(text: str, listed: Path, capsys: Capture, tmp_path: Path) -> None:
    (listed / "dataset.json").write_text(text)
    code, _, err = train(capsys, tmp_path, MSD, listed)
    assert code == 3 and "dataset.json" in err and err.count("\n") == 1
    (listed / "dataset.json").unlink()
    code, _, err = train(capsys, tmp_path, MSD, listed)
    assert code == 3 and "dataset.json" in err and "datalist" in err
