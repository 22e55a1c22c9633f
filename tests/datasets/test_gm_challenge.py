"""The grey matter challenge's own layout: sites, raters, consensus, the split of 8 and 2."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from gm_trees import GREY, BidsScan, bids_tree, by_id, cases, challenge_tree, cord_volume, rater_masks, save
from unetq_datasets._raters import majority, staple
from unetq_datasets.gm import DATASET

from unetq.data import resolve_dataset
from unetq.errors import DataError
from unetq.folds import Fold
from unetq.samples import check_no_leak


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return challenge_tree(tmp_path_factory.mktemp("challenge"))


def masks(site: int, number: int, classes: tuple[int, ...] = (0, 1, 2)) -> list[np.ndarray]:
    """The raters' masks as (slices, rows, columns)."""
    drawn = rater_masks(cord_volume_classes(site, number), 100 * site + number)
    found = [np.moveaxis(mask, 2, 0) for mask in drawn.values()]
    return found if len(classes) == 3 else [(mask == GREY).astype(np.uint8) for mask in found]


def cord_volume_classes(site: int, number: int) -> np.ndarray:
    return list(cord_volume(100 * site + number, 2))[1]


def test_sites_subjects_and_the_split_of_the_paper(tree: Path) -> None:
    parts = {split: DATASET.load(tree, split) for split in ("train", "validation")}
    ids = {split: sorted({sample.subject for sample in part}) for split, part in parts.items()}
    assert ids["train"] == [f"site{site}-sc{number:02d}" for site in (1, 2) for number in range(1, 9)]
    assert ids["validation"] == ["site1-sc09", "site1-sc10", "site2-sc09", "site2-sc10"]
    assert {sample.site for sample in parts["train"]} == {"site1", "site2"}
    check_no_leak(parts)
    with pytest.raises(DataError, match=r"has no test split"):
        cases(tree, "test")


def test_lists_hold_for_all_sites_or_one(tree: Path) -> None:
    assert set(by_id(tree, "validation", validation=["sc01"])) == {"site1-sc01", "site2-sc01"}
    assert set(by_id(tree, "test", test=["site2-sc03"])) == {"site2-sc03"}
    assert "site2-sc09" in by_id(tree, "validation", test=["site1-sc09"])
    assert "site1-sc09" not in by_id(tree, "validation", test=["site1-sc09"])


def test_a_site_left_out(tree: Path) -> None:
    for index, site in enumerate(("site1", "site2")):
        fold = Fold(index, 0, "site")
        train, validation = (DATASET.load(tree, split, fold=fold) for split in ("train", "validation"))
        assert {sample.site for sample in validation} == {site} and site not in {sample.site for sample in train}
        assert len(train) == len(validation) == 20


@pytest.mark.parametrize("structure", ["gm", "gm+wm"])
def test_consensus(tree: Path, structure: str) -> None:
    classes = (0, 1, 2) if structure == "gm+wm" else (0, 1)
    drawn = masks(2, 3, classes)
    expected = {
        "majority": majority(drawn, len(classes)),
        "staple": staple(drawn, len(classes)).labels,
        "r1": drawn[0],
        "r4": drawn[3],
    }
    for consensus, truth in expected.items():
        case = by_id(tree, structure=structure, consensus=consensus)["site2-sc03"]
        assert case.label is not None and (case.label == truth).all(), consensus
    assert (expected["majority"] != expected["r4"]).any()
    assert resolve_dataset("gm", {"structure": structure}).labels[1] == "grey matter"


def test_geometry_and_orientation(tree: Path) -> None:
    case = by_id(tree)["site2-sc01"]
    assert case.spacing == (5.0, 0.5, 0.5) and case.axes == "LAS" and case.labelled is None
    sample = DATASET.load(tree, "train")[0]
    assert sample.spacing == (5.0, 0.25, 0.25)
    assert (sample.image[0] == by_id(tree)["site1-sc01"].image[0, ::-1]).all()  # rows turned to the right


def test_missing_raters_and_odd_masks(tmp_path: Path) -> None:
    root = challenge_tree(tmp_path, sites=1, subjects=10, slices=1)
    (root / "site1-sc02-mask-r3.nii.gz").unlink()
    for rater in (1, 2, 3, 4):
        (root / f"site1-sc03-mask-r{rater}.nii.gz").unlink()
    path = root / "site1-sc04-mask-r2.nii.gz"
    save(path, np.asarray(nib.load(path).dataobj) + np.uint8(1), nib.load(path).affine)
    told = {item.case: item.reason for item in cases(root).skipped}
    assert (
        "rater r3 is missing and consensus is majority: use one of those that are there (r1, r2, r4)"
        in told["site1-sc02"]
    )
    assert "it has no mask at all" in told["site1-sc03"]
    assert "holds 3: its values are 0, 1, 2 and nothing else" in told["site1-sc04"] and len(told) == 3
    assert "site1-sc02" in by_id(root, consensus="r1") and "site1-sc02" not in by_id(root, consensus="r3")


def test_subfolders_and_the_unlabelled_test_subjects(tmp_path: Path) -> None:
    challenge_tree(tmp_path / "training", sites=1, subjects=10, slices=1)
    image, _ = cord_volume(7, 1)
    save(tmp_path / "test" / "site1-sc11-image.nii.gz", image, np.diag([-0.5, 0.5, 5, 1]))
    assert len(by_id(tmp_path)) == 8 and not cases(tmp_path).skipped
    with pytest.raises(DataError, match=r"no case of the test split .* site1-sc11: .* no mask at all"):
        cases(tmp_path, "test")


def test_a_slice_that_most_raters_left_out(tmp_path: Path) -> None:
    root = challenge_tree(tmp_path, sites=1, subjects=10, slices=3)
    for rater in (1, 2):
        path = root / f"site1-sc01-mask-r{rater}.nii.gz"
        mask = np.asarray(nib.load(path).dataobj).copy()
        mask[:, :, 2] = 0
        save(path, mask, nib.load(path).affine)
    case = by_id(root)["site1-sc01"]
    assert case.labelled is not None and list(case.labelled) == [True, True, False]
    assert by_id(root, consensus="r3")["site1-sc01"].labelled is None


def test_one_layout_a_folder(tmp_path: Path) -> None:
    challenge_tree(tmp_path, sites=1, subjects=1, slices=1)
    bids_tree(tmp_path, [BidsScan("sub-1")])
    with pytest.raises(DataError, match=r"a folder has one layout"):
        cases(tmp_path)
