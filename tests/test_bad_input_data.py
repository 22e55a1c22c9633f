"""NIfTI data with mistakes, through the command line: what is wrong is named, the rest goes on where it can."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_data import Capture, cut, skipped, third_value, train, voxels
from commands import unetq
from gm_trees import BidsScan, affine, bids_tree, cord_volume, save, scan_files

GM = {"name": "gm", "options": {"validation": ["4"]}}


@pytest.mark.parametrize(
    ("which", "spoil", "words"),
    [
        (0, lambda p: p.write_bytes(b""), ["T2starw.nii.gz", "0 bytes", "copy it again"]),
        (0, cut, ["sub-2_run-1_T2starw.nii.gz"]),
        (0, lambda p: p.write_bytes(gzip.compress(b"no image at all" * 40)), ["sub-2_run-1_T2starw.nii.gz"]),
        (1, lambda p: p.unlink(), ["gmseg-manual", "missing"]),
        (1, lambda p: p.write_bytes(b""), ["gmseg-manual", "0 bytes"]),
        (1, third_value, ["gmseg-manual", "7", "0, 1"]),
        (1, lambda p: save(p, voxels(p)[:-3], affine()), ["gmseg-manual", "grid"]),
        (1, lambda p: save(p, voxels(p), affine((0.5, 0.5, 4.0))), ["gmseg-manual", "grid"]),
        (1, lambda p: save(p, voxels(p) * 0, affine()), ["grey matter"]),
    ],
    ids=[
        "empty image", "cut image", "no image", "no mask", "empty mask", "three values", "other shape", "other place",
        "nothing marked",
    ],
)  # fmt: skip
def test_one_bad_scan_is_skipped_and_named(
    which: int, spoil: Callable[[Path], object], words: list[str], bids: Path, scans: list[BidsScan], capsys: Capture,
    tmp_path: Path,
) -> None:  # fmt: skip
    spoil(scan_files(bids, scans[1])[which])
    code, out, err = train(capsys, tmp_path, GM, bids)
    assert code == 0 and "trained" in out, err
    assert "skipped 1 of 4 cases: sub-2_run-1: " in err and "Traceback" not in err
    assert set(skipped(tmp_path)) == {"sub-2_run-1"} and skipped(tmp_path, "validation") == {}
    for word in words:
        assert word in skipped(tmp_path)["sub-2_run-1"] and word in err


def test_all_scans_bad_is_an_error_that_names_the_first(
    bids: Path, scans: list[BidsScan], capsys: Capture, tmp_path: Path
) -> None:
    for scan in scans:
        scan_files(bids, scan)[1].unlink()
    code, out, err = train(capsys, tmp_path, GM, bids)
    assert code == 3 and out == "" and err.count("\n") == 1
    assert "no case of the train split" in err and "3 skipped" in err and "sub-1_run-1: " in err
    assert not (tmp_path / "run").exists()


def test_one_person_on_two_sides_stops(bids: Path, capsys: Capture, tmp_path: Path) -> None:
    both = {"name": "gm", "options": {"validation": ["4"], "test": ["sub-4"]}}
    code, _, err = train(capsys, tmp_path, both, bids)
    assert code == 3 and "sub-4" in err and "validation" in err and "test" in err
    assert not (tmp_path / "run").exists()


def test_one_scan_under_two_names_on_two_sides_stops(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "gm"
    folder.mkdir()
    bids_tree(folder, [BidsScan("sub-1", seed=1, slices=2), BidsScan("sub-4", seed=1, slices=2)])
    code, _, err = train(capsys, tmp_path, GM, folder)
    assert code == 3 and "sub-1_run-1-000" in err and "sub-4_run-1-000" in err and "two sides" in err


OWN = {"name": "folder", "options": {"train": ["1", "2", "3"], "validation": ["4"]}}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """images/N.nii.gz and labels/N.nii.gz, N from 1 to 4."""
    folder = tmp_path / "own"
    for number in (1, 2, 3, 4):
        image, classes = cord_volume(number, 2)
        save(folder / "images" / f"{number}.nii.gz", image, affine())
        save(folder / "labels" / f"{number}.nii.gz", (classes > 0).astype(np.uint8), affine())
    return folder


@pytest.mark.parametrize(
    ("which", "spoil", "words"),
    [
        ("images", lambda p: p.write_bytes(b""), ["images/2.nii.gz", "0 bytes", "copy it again"]),
        ("images", cut, ["images/2.nii.gz", "truncated"]),
        ("labels", lambda p: p.write_bytes(b""), ["labels/2.nii.gz", "0 bytes"]),
        ("labels", lambda p: p.unlink(), ["labels/2.nii.gz", "every image has one"]),
        ("labels", third_value, ["labels/2.nii.gz", "unexpected values (7)", "0, 1", "label_values"]),
        ("labels", lambda p: save(p, voxels(p)[:-3], affine()), ["labels/2.nii.gz", "different grids", "resample"]),
        (
            "labels", lambda p: save(p, voxels(p), affine((0.5, 0.6, 5.0))), ["labels/2.nii.gz", "different grids"]
        ),
    ],
    ids=["empty image", "cut image", "empty label", "no label", "three values", "other shape", "other place"],
)  # fmt: skip
def test_one_bad_case_is_skipped_and_named(
    which: str, spoil: Callable[[Path], object], words: list[str], own: Path, capsys: Capture, tmp_path: Path
) -> None:
    spoil(own / which / "2.nii.gz")
    code, out, err = train(capsys, tmp_path, OWN, own)
    assert code == 0 and "trained" in out, err
    assert "skipped 1 of 4 cases: 2: " in err and set(skipped(tmp_path)) == {"2"}
    for word in words:
        assert word in skipped(tmp_path)["2"] and word in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": ["1", "2"], "validation": ["2", "4"]}, "case 2 is in two splits, train and validation"),
        (
            {"subjects": {"a": ["1", "4"], "b": ["2", "3"]}, "train": ["1", "2", "3"], "validation": ["4"]},
            "subject a is in train (case 1) and in validation (case 4)",
        ),
    ],
)
def test_a_case_or_person_in_two_splits_stops(
    options: dict[str, Any], message: str, own: Path, capsys: Capture, tmp_path: Path
) -> None:
    code, _, err = train(capsys, tmp_path, {"name": "folder", "options": options}, own)
    assert code == 3 and message in err and err.count("\n") == 1 and not (tmp_path / "run").exists()


def test_one_image_under_two_names_stops(own: Path, capsys: Capture, tmp_path: Path) -> None:
    shutil.copy(own / "images" / "1.nii.gz", own / "images" / "4.nii.gz")
    code, _, err = train(capsys, tmp_path, OWN, own)
    assert code == 3 and "4-000 of validation is also in train (there 1-000)" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": "scans/*.nii.gz"}, "no image in"),
        ({"images": "../*.nii.gz"}, "leave / and .. out"),
        ({"images": "images/all.nii.gz"}, "does not say where the id of a case is"),
        ({"images": ["images/*.nii.gz"]}, "it takes a word"),
        ({"classes": ["one"]}, "two or more different names"),
        ({"classes": "cord"}, "it takes a list"),
        ({"label_values": [0, 300]}, "whole numbers of 0 to 255"),
        ({"label_values": [0, [1]]}, "whole numbers of 0 to 255"),
        ({"spacing": [1, 2]}, "three lengths in mm"),
        ({"axes": "LLS"}, "option axes 'LLS'"),
        ({"subject": "(["}, "no regular expression"),
        ({"subjects": {"a": "1"}}, "a list of ids is expected"),
        ({"train": [1.5]}, "names are expected"),
        ({"train": ["9"]}, "no case and no subject here"),
        ({"fractions": [0.5, 0.6, 0.7]}, "three numbers of 0 to 1 with the sum 1"),
        ({"fraction": [1, 0, 0]}, "did you mean 'fractions'"),
    ],
)
def test_wrong_options_of_a_folder(
    options: dict[str, Any], message: str, own: Path, capsys: Capture, tmp_path: Path
) -> None:
    code, out, err = train(capsys, tmp_path, {"name": "folder", "options": options}, own)
    assert code in (2, 3) and out == "" and err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert not (tmp_path / "run").exists()


def test_nothing_that_exists_is_overwritten(own: Path, capsys: Capture, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    assert train(capsys, tmp_path, OWN, own)[0] == 0
    made = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    code, _, err = train(capsys, tmp_path, OWN, own)
    assert code == 6 and "already holds a run" in err
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == made
    assert {path: path.read_bytes() for path in own.rglob("*") if path.is_file()} == before
    shutil.copytree(own / "images", tmp_path / "taken")
    code, _, err = unetq(capsys, "train", tmp_path / "my.yaml", "--data", own, "--out", tmp_path / "taken")
    assert code == 6 and "1.nii.gz" in err and len(list((tmp_path / "taken").iterdir())) == 4
