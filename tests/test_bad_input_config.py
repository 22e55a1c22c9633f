"""Configs with wrong keys and types, through the command line: the key, the rule, one line, nothing left behind."""

from pathlib import Path
from typing import Any

import pytest
from bad_data import TINY, Capture, tiny, train
from commands import unetq

GM = {"name": "gm", "options": {"validation": ["4"]}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"nmae": "gm"}, "unknown key 'data.nmae' in config"),
        ({"name": "gmm"}, "did you mean 'gm'"),
        ({"name": ["gm"]}, "data.name = [gm]"),
        ([1, 2], "data = [1, 2]"),
        ({"options": ["gm"]}, "data.options = [gm]"),
        ({"name": "gm", "options": {"structrue": "gm"}}, "option 'structrue' of data set 'gm' does not exist"),
        (
            {"name": "gm", "options": {"structure": ["gm"]}},
            "option structure = ['gm'] of data set 'gm': it takes a word",
        ),
        ({"name": "gm", "options": {"validation": "4"}}, "option validation = '4' of data set 'gm': it takes a list"),
        ({"name": "gm", "options": {"validation": [{"sub": 4}]}}, "option validation has the entry {'sub': 4}"),
        ({"name": "gm", "options": {"validation": ["40"]}}, "option validation = '40' is no subject here"),
        ({"name": "gm", "options": {"consensus": "best"}}, "option consensus = 'best'"),
        ({"name": "gm", "dimensions": 4}, "data.dimensions = 4"),
        ({"name": "gm", "dimensions": 3}, "train.crop"),
        ({"name": "gm", "preprocessing": {"spacing": 0.5}}, "data.preprocessing.spacing = 0.5"),
        ({"name": "gm", "preprocessing": {"spacing": [0.5, "x"]}}, "data.preprocessing.spacing.1 = x"),
        ({"name": "gm", "preprocessing": {"window": [32, 0]}}, "data.preprocessing.window.1 = 0"),
        ({"name": "gm", "preprocessing": {"window": [32, 31]}}, "window 32 x 31"),
        ({"name": "gm", "preprocessing": {"orientation": "RAR"}}, "data.preprocessing.orientation = RAR"),
        ({"name": "gm", "preprocessing": {"normalize": "window", "low": 3, "high": 1}}, "data.preprocessing.low = 3"),
        ({"name": "gm", "fold": 5, "folds": 3}, "data.fold = 5 of 3"),
        ({"name": "gm", "fold": 0, "folds": 9}, "data.folds = 9 of 4 subjects"),
        ({"name": "gm", "by": "patient"}, "data.by = patient"),
    ],
)
def test_wrong_keys_and_types(data: Any, message: str, bids: Path, capsys: Capture, tmp_path: Path) -> None:
    extra = {"train": {**TINY["train"], "crop": [16, 16]}} if isinstance(data, dict) and "dimensions" in data else {}
    if isinstance(data, dict) and data.get("name") == "gm":
        data = {"options": {}, **data}
    code, out, err = unetq(
        capsys, "train", tiny(tmp_path, data, **extra), *(() if isinstance(data, list) else ("--data", bids)),
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert code in (2, 3) and out == "" and err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- data\n- train\n", "holds a list"),
        ("data: {name: gm\n", "is not valid YAML"),
        ("data: !!python/object/apply:os.system [true]\n", "is not valid YAML"),
        ("gm", "holds a str"),
        ("", "my.yaml is empty: a config names at least its data set"),
        ("# data: {name: gm}\n", "is empty"),
        ("data: {name: em}\ntrain: {crop: 16}\ndata: {root: x}\n", "the key 'data' comes twice"),
        ("train:\n  lr: 0.1\n  crop: 16\n  lr: 0.2\n", "the key 'lr' comes twice"),
        ("train: {crop: [16, sixteen]}", "train.crop = [16, sixteen]"),
        ("train: [1]", "train = [1]"),
    ],
)
def test_a_file_that_is_no_config(text: str, message: str, capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(text)
    code, out, err = unetq(capsys, "train", tmp_path / "my.yaml", "--out", tmp_path / "run")
    assert code == 2 and out == "" and err.count("\n") == 1 and "my.yaml" in err and message in err
    assert not (tmp_path / "run").exists()


def test_a_fold_without_its_number(bids: Path, capsys: Capture, tmp_path: Path) -> None:
    code, _, err = train(capsys, tmp_path, GM, bids, "--folds", 2)
    assert code == 2 and "--fold" in err and not (tmp_path / "run").exists()


@pytest.mark.parametrize("key", ["context: 1", "orientation: RAS", "over: volume"])
def test_what_only_volumes_have_is_refused_of_single_slices(key: str, capsys: Capture, tmp_path: Path) -> None:
    """Training would pass over it, and prediction would not."""
    text = f"data: {{name: phantom, preprocessing: {{{key}}}}}\nnetwork: {{options: {{widths: [2, 4]}}}}\n"
    (tmp_path / "my.yaml").write_text(text + "train: {crop: 16}\n")
    code, _, err = unetq(capsys, "train", tmp_path / "my.yaml", "--out", tmp_path / "run")
    assert code == 2 and f"data.preprocessing.{key.replace(':', ' =')}" in err and "single slices" in err
    assert not (tmp_path / "run").exists()
