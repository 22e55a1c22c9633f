"""The grey matter of a BIDS folder: what is read, which slices have truth, and what is left out for which reason."""

import gzip
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from gm_trees import GREY, BidsScan, affine, bids_tree, by_id, cases, save, scan_files, standard_scans
from unetq_datasets.gm import DATASET, DEFAULTS

from unetq.data import resolve_dataset
from unetq.errors import ConfigError, DataError
from unetq.samples import check_no_leak


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bids_tree(tmp_path_factory.mktemp("bids"), standard_scans())


def test_runs_sessions_sites_and_the_default_split(tree: Path) -> None:
    train, validation = by_id(tree), by_id(tree, "validation")
    names = ("7_run-1", "11_run-1", "11_run-2", "12_run-1", "20Ses1_run-1", "20Ses2_run-1")
    assert list(train) == [f"sub-{name}" for name in names]
    assert list(validation) == ["sub-100_run-1"]  # the fifth person by number, not by text
    assert {case.subject for case in train.values()} == {"sub-7", "sub-11", "sub-12", "sub-20"}
    assert train["sub-20Ses1_run-1"].subject == train["sub-20Ses2_run-1"].subject == "sub-20"
    assert {case.id: case.site for case in train.values()}["sub-12_run-1"] == "Kyoto"
    with pytest.raises(DataError, match=r"no test split: its 5 subjects are sub-100 in validation; sub-7, .* in train"):
        cases(tree, "test")


def test_voxels_and_masks_arrive_as_stored(tree: Path) -> None:
    for scan in standard_scans():
        image, classes = scan.content()
        case = {**by_id(tree), **by_id(tree, "validation")}[f"{scan.participant}_{scan.run}"]
        assert (case.image == np.moveaxis(image, 2, 0)).all()
        truth = np.moveaxis(classes == GREY, 2, 0)
        truth[list(scan.undrawn)] = False
        assert case.label is not None and (case.label == truth).all() and case.label.dtype == np.uint8
        zooms = np.linalg.norm(scan.place[:3, :3], axis=0)
        assert case.spacing == pytest.approx((zooms[2], zooms[0], zooms[1]), abs=1e-4)
        assert case.axes == "".join(nib.aff2axcodes(scan.place))


def test_slices_that_nobody_drew_are_left_out_and_told(tree: Path) -> None:
    case = by_id(tree)["sub-12_run-1"]
    assert case.axes == "LPS"  # by its qform: the image has no sform, the masks have
    assert case.labelled is not None and list(case.labelled) == [True] * 3 + [False] * 3
    assert case.label is not None and not case.label[4].any()  # the stray voxel
    (told,) = [item for item in cases(tree).skipped if item.case == case.id]
    assert "slices 3-5 of 6" in told.reason and "1 grey matter voxel there" in told.reason
    samples = DATASET.load(tree, "train")
    assert [s.index for s in samples if s.volume == case.id] == [0, 1, 2]
    assert samples.skipped == cases(tree).skipped and all(sample.label is not None for sample in samples)


def test_volumes_for_a_network_of_three_dimensions(tree: Path) -> None:
    spec = replace(DATASET, preprocessing=replace(DATASET.preprocessing, spacing=()))
    sizes = {sample.id: sample.image.shape for sample in spec.load(tree, "train", dimensions=3)}
    assert sizes["sub-7_run-1"] == (1, 4, 48, 40) and sizes["sub-12_run-1"] == (1, 3, 48, 40)  # the drawn slices


def test_without_a_cord_mask_the_grey_matter_is_the_witness(tmp_path: Path) -> None:
    scan = BidsScan("sub-1", undrawn=(0,))
    root = bids_tree(tmp_path, [scan, BidsScan("sub-2", seed=2)])
    scan_files(root, scan)[2].unlink()
    case = by_id(root)["sub-1_run-1"]
    assert case.labelled is not None and list(case.labelled) == [False, True, True, True]
    with pytest.raises(DataError, match=r"cord mask .* is missing: white matter is cord that is not grey"):
        cases(root, structure="gm+wm")


def test_white_matter_is_the_cord_without_its_grey_matter(tree: Path) -> None:
    spec = resolve_dataset("gm", {"structure": "gm+wm"})
    assert spec.labels == ("background", "grey matter", "white matter") and spec.label_values == (0, 1, 2)
    scan = standard_scans()[0]
    case = by_id(tree, structure="gm+wm")["sub-7_run-1"]
    assert (case.label == np.moveaxis(scan.content()[1], 2, 0)).all()


def test_lists_name_persons_in_any_of_their_names(tree: Path) -> None:
    options = {"validation": ["sub-7", 11], "test": ["20Ses1"]}
    parts = {split: DATASET.load(tree, split, options) for split in DATASET.splits}
    subjects = {split: {sample.subject for sample in part} for split, part in parts.items()}
    assert subjects == {"validation": {"sub-7", "sub-11"}, "test": {"sub-20"}, "train": {"sub-12", "sub-100"}}
    assert {sample.volume for sample in parts["test"]} == {
        "sub-20Ses1_run-1",
        "sub-20Ses2_run-1",
    }  # the other session, too
    check_no_leak(parts)
    assert set(by_id(tree, "validation", test=["sub-100"])) == {"sub-20Ses1_run-1", "sub-20Ses2_run-1"}  # last of four


def test_wrong_lists(tree: Path) -> None:
    for validation, test in ((["sub-7"], ["7"]), (["sub-20Ses1"], ["sub-20Ses2"])):
        with pytest.raises(DataError, match=r"would be in validation and in test: no person may be on two sides"):
            cases(tree, validation=validation, test=test)
    with pytest.raises(ConfigError, match=r"option test = 'sub-9' is no subject here; did you mean 'sub-7'"):
        cases(tree, test=["sub-9"])
    for entry in (True, "", 1.5, ["sub-7"]):
        with pytest.raises(ConfigError, match=r"option validation has the entry .*: it lists subjects, such as sub-7"):
            cases(tree, validation=[entry])
    with pytest.raises(DataError, match=r"has no train split"):
        cases(tree, validation=["7", "11", "12", "20", "100"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"structure": "wm"}, "option structure = 'wm': the grey matter data have gm, gm.wm"),
        ({"consensus": "r5"}, "option consensus = 'r5': .*majority, staple, r1"),
        ({"contrast": "../x"}, "option contrast = '../x': it is a BIDS suffix"),
        ({"validation": "sub-7"}, "option validation = 'sub-7'"),
        ({"subjects": []}, "option 'subjects' .* does not exist"),
    ],
)
def test_wrong_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_dataset("gm", options)
    assert set(DEFAULTS) == {"structure", "consensus", "contrast", "axes", "validation", "test"}


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], place: np.ndarray | None = None) -> None:
    image = nib.load(path)
    save(path, change(np.asarray(image.dataobj)), image.affine if place is None else place)


def scan_image() -> np.ndarray:
    return BidsScan("sub-2", seed=2).content()[0]


def moved(millimetres: float) -> np.ndarray:
    place = affine()
    place[0, 3] += millimetres
    return place


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda i, g, c: i.write_bytes(b""), "0 bytes"),
        (lambda i, g, c: i.write_bytes(i.read_bytes()[:-40]), "truncated or damaged"),
        (lambda i, g, c: (i.unlink(), i.symlink_to("nowhere")), "does not exist"),
        (lambda i, g, c: g.unlink(), "grey matter mask .* is missing: a case needs a truth"),
        (lambda i, g, c: g.write_bytes(b""), "0 bytes"),
        (lambda i, g, c: rewrite(g, lambda m: m[:-1]), "not on the grid of .*4 x 47 x 40"),
        (lambda i, g, c: rewrite(g, lambda m: m, moved(0.4)), "not on the grid of .*a corner lies 0.4 mm apart"),
        (lambda i, g, c: rewrite(c, lambda m: m[::-1], np.diag([0.5, 0.5, 5, 1])), "axes LAS and RAS"),
        (lambda i, g, c: rewrite(g, lambda m: m + 2 * (m == 0)), "holds 2: its values are 0, 1"),
        (lambda i, g, c: rewrite(g, lambda m: m * 0.5), "holds 0.5: .*without interpolation"),
        (lambda i, g, c: rewrite(g, lambda m: m * 0), "no voxel of its 4 slices is marked as grey matter"),
        (lambda i, g, c: rewrite(i, lambda m: np.stack([m, m], axis=3)), "one 2-D or 3-D volume is expected"),
        (lambda i, g, c: save(i, scan_image(), np.diag([0.5, 0.5, 5, 1]), 0, 0), "data.options.axes"),
    ],
)  # fmt: skip
def test_a_bad_case_is_named_and_the_others_go_on(
    tmp_path: Path, damage: Callable[[Path, Path, Path], object], message: str
) -> None:
    bad = BidsScan("sub-2", seed=2)
    root = bids_tree(tmp_path, [BidsScan("sub-1", seed=1), bad, BidsScan("sub-3", seed=3)])
    damage(*scan_files(root, bad))
    assert list(by_id(root)) == ["sub-1_run-1"] and list(by_id(root, "validation")) == ["sub-3_run-1"]
    (told,) = cases(root).skipped
    assert told.case == "sub-2_run-1" and str(tmp_path) not in told.reason
    assert re.search(message, told.reason), told.reason
    with pytest.raises(DataError, match=r"no case of the test split in .* can be used \(1 skipped\). sub-2_run-1"):
        cases(root, "test", test=["sub-2"])


def test_grids_that_differ_by_single_precision_are_one(tmp_path: Path) -> None:
    scan = BidsScan("sub-1")
    root = bids_tree(tmp_path, [scan, BidsScan("sub-2", seed=2)])
    place = affine()
    place[:3, :3] += 2e-4
    rewrite(scan_files(root, scan)[1], lambda mask: mask, place)
    assert "sub-1_run-1" in by_id(root)


def test_a_slope_of_zero_scales_nothing(tmp_path: Path) -> None:
    scan = BidsScan("sub-1")
    root = bids_tree(tmp_path, [scan, BidsScan("sub-2", seed=2)])
    _, grey, _ = scan_files(root, scan)
    save(grey, (scan.content()[1] == GREY).astype(np.int16), scan.place, slope=0.0)
    assert np.frombuffer(gzip.decompress(grey.read_bytes())[112:116], np.float32) == 0
    assert by_id(root)["sub-1_run-1"].label.any()  # type: ignore[union-attr]


def test_files_that_do_not_say_how_they_lie(tmp_path: Path) -> None:
    scan = BidsScan("sub-1")
    root = bids_tree(tmp_path, [scan, BidsScan("sub-2", seed=2)])
    for path in scan_files(root, scan):
        save(path, np.asarray(nib.load(path).dataobj), np.diag([0.5, 0.5, 5, 1]), sform=0, qform=0)
    case = by_id(root, axes="LPS")["sub-1_run-1"]
    assert case.axes == "LPS" and case.spacing == (5.0, 0.5, 0.5)
    with pytest.raises(DataError, match=r"'LLS'"):
        resolve_dataset("gm", {"axes": "LLS"})


def test_a_cord_along_another_stored_axis(tmp_path: Path) -> None:
    """A volume saved with the cord's axis first: labelled slices are still those across the cord."""
    scan = BidsScan("sub-1", slices=6, undrawn=(0, 5))
    root = bids_tree(tmp_path, [scan, BidsScan("sub-2", seed=2)])
    plain = {sample.id: sample for sample in DATASET.load(root, "train")}
    for path in scan_files(root, scan):
        image = nib.load(path)
        save(path, np.moveaxis(np.asarray(image.dataobj), 2, 0)[::-1], image.affine[:, [2, 0, 1, 3]] * [-1, 1, 1, 1])
    turned = {sample.id: sample for sample in DATASET.load(root, "train")}
    assert list(plain) == list(turned) == [f"sub-1_run-1-{index:03d}" for index in range(1, 5)]
    for key, sample in plain.items():
        assert (sample.image == turned[key].image).all() and (sample.label == turned[key].label).all()
        assert sample.spacing == pytest.approx(turned[key].spacing)


def test_masks_without_image_and_doubled_files_are_told(tmp_path: Path) -> None:
    scans = [BidsScan("sub-1"), BidsScan("sub-2", seed=2), BidsScan("sub-2", "run-2", seed=3)]
    root = bids_tree(tmp_path, scans)
    scan_files(root, scans[2])[0].unlink()
    image = scan_files(root, scans[0])[0]
    nib.load(image).to_filename(image.with_suffix(""))
    told = {item.case: item.reason for item in cases(root).skipped}
    assert "no image of its name" in told["sub-2_run-2_T2starw"]
    assert "is there beside" in told["sub-1_run-1"] and "sub-1_run-1" in by_id(root)


def test_folders_without_grey_matter(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no grey matter data.*siteS-scNN-image"):
        cases(tmp_path)
    bids_tree(tmp_path, [BidsScan("sub-1")])
    with pytest.raises(DataError, match=r"images are of T2starw: set data.options.contrast"):
        cases(tmp_path, contrast="T1w")
    (tmp_path / "participants.tsv").write_bytes(b"participant_id\tSite\n\xff\xfe\t1")
    with pytest.raises(DataError, match=r"participants.tsv cannot be read"):
        cases(tmp_path)
    (tmp_path / "participants.tsv").unlink()
    with pytest.raises(DataError, match=r"has no validation split"):
        cases(tmp_path, "validation")
    assert by_id(tmp_path)["sub-1_run-1"].site == ""


def test_the_real_folder(real_data: Callable[[str], Path]) -> None:
    root = real_data("gm")
    train, validation = cases(root), cases(root, "validation")
    found = {case.id: case for case in [*train.cases, *validation.cases]}
    assert len(found) == 7 and {case.subject for case in validation.cases} == {"sub-10062"}
    assert {case.site for case in found.values()} == {"UCL", "NWU", "Philips", "Milan", "CEITEC"}
    partial = found["sub-9604_run-1"]
    assert partial.axes == "LPS" and partial.labelled is not None
    assert list(np.flatnonzero(partial.labelled)) == list(range(14))
    assert [item.case for item in train.skipped] == ["sub-9604_run-1"] and "slices 14-19" in train.skipped[0].reason
    for case in found.values():
        inside = case.label == 1
        volume = inside.sum() * np.prod(case.spacing) / 1000
        assert 0.4 < volume < 1.0, (case.id, volume)  # millilitres of grey matter
    for case in by_id(root, structure="gm+wm").values():
        grey, white = (case.image[case.label == value].mean() for value in (1, 2))
        assert grey > 1.02 * white, case.id  # T2*: a shifted or turned mask would not tell them apart
