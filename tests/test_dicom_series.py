"""Folders of slices that are no volume: each defect is named, with the slice, the rule and the remedy."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_tree import NAME, Written, write_series
from test_dicom import volume

from unetq.dicom import read_series
from unetq.errors import DataError

SPACING = (2.0, 0.7, 0.8)


def make(folder: Path, **options: Any) -> Written:
    return write_series(folder, volume((8, 16, 12)), SPACING, **options)


def refused(folder: Path, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_series(folder)
    assert NAME.partition("^")[0] not in str(caught.value)


def test_a_missing_slice(tmp_path: Path) -> None:
    make(tmp_path).files[3].unlink()
    refused(
        tmp_path,
        r"1 slice is missing between 1-003.dcm \(instance 3, position \(-100, -120, 44\)\) and 1-005.dcm .* these are "
        r"4.00 mm apart and slices 2.00 mm; a series must be whole; copy or download it again",
    )


def test_several_missing_slices(tmp_path: Path) -> None:
    files = make(tmp_path).files
    for index in (2, 3, 5):
        files[index].unlink()
    refused(tmp_path, "2 slices are missing between 1-002.dcm .* and 1-005.dcm .* and 1 more gaps follow")


def test_every_other_slice_missing_but_one(tmp_path: Path) -> None:
    files = make(tmp_path).files
    for index in (1, 3, 5):
        files[index].unlink()
    refused(tmp_path, "1 slice is missing between 1-001.dcm .* these are 4.00 mm apart and slices 2.00 mm")


def test_missing_frames_of_a_multiframe_file(tmp_path: Path) -> None:
    def drop(number: int, data: Any) -> None:
        data.PerFrameFunctionalGroupsSequence = data.PerFrameFunctionalGroupsSequence[:-1]

    make(tmp_path, multiframe=True, edit=drop)
    refused(tmp_path, "states 8 frames and describes 7 of them")


def test_unequal_distances(tmp_path: Path) -> None:
    def move(number: int, data: Any) -> None:
        if number >= 5:
            data.ImagePositionPatient[2] += 0.7

    make(tmp_path, edit=move)
    refused(tmp_path, r"slices are 2.00 to 2.70 mm apart \(usually 2.00 mm, but 2.70 mm between 1-005.dcm")


@pytest.mark.parametrize("distance", [0.75, 1.25])
def test_rounded_positions_are_no_defect(tmp_path: Path, distance: float) -> None:
    def round_them(number: int, data: Any) -> None:
        data.ImagePositionPatient[2] = round(float(data.ImagePositionPatient[2]), 1)

    write_series(tmp_path, volume((9, 16, 12)), (distance, 0.7, 0.8), edit=round_them)
    assert read_series(tmp_path).spacing[0] == pytest.approx(distance, abs=0.02)


def test_distances_that_change_slowly_are_a_defect(tmp_path: Path) -> None:
    """No step is far from the usual one, and the last slice would be put two millimetres off."""

    def stretch(number: int, data: Any) -> None:
        data.ImagePositionPatient[2] += max(number - 20, 0) * 0.1

    write_series(tmp_path, volume((40, 8, 6)), (2.0, 0.7, 0.8), edit=stretch)
    refused(tmp_path, "slices are 2.00 to 2.10 mm apart")


def test_equal_copies_are_dropped(tmp_path: Path) -> None:
    files = make(tmp_path).files
    shutil.copy(files[2], tmp_path / "again.dcm")
    shutil.copy(files[5], tmp_path / "once-more.dcm")
    series = read_series(tmp_path)
    np.testing.assert_array_equal(series.data, volume((8, 16, 12)))
    assert len(series.warnings) == 1 and "2 copies of slices (equal position and pixels)" in series.warnings[0]


def test_differing_copies(tmp_path: Path) -> None:
    make(tmp_path, key="a")
    write_series(tmp_path / "phase2", volume((8, 16, 12), seed=1), SPACING, key="a")
    refused(tmp_path, r"a-001.dcm and a-001.dcm lie at the same position and show different pixels \(8 of 8 positions")


def test_two_patients(tmp_path: Path) -> None:
    make(tmp_path / "a", patient="P1", key="a")
    make(tmp_path / "b", patient="P2", key="b")
    refused(tmp_path, r"holds images of 2 patients \(P1, P2\)")


def test_two_patients_under_one_series_uid(tmp_path: Path) -> None:
    def rename(number: int, data: Any) -> None:
        if number == 4:
            data.PatientID = "P9"

    made = make(tmp_path, edit=rename)
    refused(tmp_path, r"holds images of 2 patients \(P9, PANCREAS_0001\)")
    with pytest.raises(DataError, match="2 patient"):
        read_series(tmp_path, made.series)


def test_two_series(tmp_path: Path) -> None:
    one, two = make(tmp_path, key="a"), make(tmp_path, key="b")
    refused(tmp_path, rf"holds 2 series: .*{min(one.series, two.series)} \(8 images\).*name the one to read")
    assert read_series(tmp_path, two.series).series == two.series
    with pytest.raises(DataError, match=r"holds no series 1\.2\.3; it holds .*name one of them"):
        read_series(tmp_path, "1.2.3")


def test_localizers_are_left_out(tmp_path: Path) -> None:
    make(tmp_path)

    def scout(number: int, data: Any) -> None:
        data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    front = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
    write_series(tmp_path, volume((1, 20, 30)), SPACING, front, key="scout", edit=scout)
    series = read_series(tmp_path)
    assert series.data.shape == (8, 16, 12)
    assert len(series.warnings) == 1 and "1 localizer images were left out" in series.warnings[0]


def test_localizers_only(tmp_path: Path) -> None:
    def scout(number: int, data: Any) -> None:
        data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    make(tmp_path, edit=scout)
    refused(tmp_path, "8 localizer images only")


def test_a_tilted_gantry(tmp_path: Path) -> None:
    make(tmp_path, shift=(0.0, 0.5, 0.0))
    refused(tmp_path, r"shifted sideways .*by 3.50 mm from 1-001.dcm to 1-008.dcm \(14.0 degrees.*correct the tilt")


def test_a_hair_of_tilt_is_no_defect(tmp_path: Path) -> None:
    make(tmp_path, shift=(0.0, 0.01, 0.0))
    assert read_series(tmp_path).data.shape == (8, 16, 12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: setattr(d, "ImageOrientationPatient", [0, 1, 0, 0, 0, -1]), r"2 orientations .*in 7 images"),
        (lambda d: setattr(d, "PixelSpacing", [0.5, 0.5]), r"2 pixel spacings .*in 7 images"),
        (lambda d: setattr(d, "FrameOfReferenceUID", "1.2.3"), "2 frames of reference"),
        (lambda d: delattr(d, "ImagePositionPatient"), r"1-004.dcm has no position in space \(1 of 8 images\)"),
        (lambda d: delattr(d, "ImageOrientationPatient"), "has no orientation in space"),
        (lambda d: delattr(d, "PixelSpacing"), "has no spacing in space"),
    ],
)
def test_mixtures(tmp_path: Path, change: Callable[[Any], object], words: str) -> None:
    make(tmp_path, edit=lambda number, data: change(data) if number == 3 else None)
    refused(tmp_path, words)


def test_different_sizes(tmp_path: Path) -> None:
    made = make(tmp_path, key="a")
    other = write_series(tmp_path / "b", volume((8, 20, 12)), SPACING, key="a")
    shutil.copy(other.files[3], made.files[3])
    shutil.rmtree(tmp_path / "b")
    refused(tmp_path, r"2 image sizes \(rows x columns\) \(12 x 16 in 7 images, 12 x 20 in 1 images\)")


def test_directions_that_are_none(tmp_path: Path) -> None:
    def bend(number: int, data: Any) -> None:
        data.ImageOrientationPatient = [1, 0, 0, 0.5, 0.8, 0]

    make(tmp_path, edit=bend)
    refused(tmp_path, "two directions of length 1 at right angles")


def test_no_distance_between_pixels(tmp_path: Path) -> None:
    make(tmp_path, edit=lambda number, data: setattr(data, "PixelSpacing", [0, 0.5]))
    refused(tmp_path, "both distances are above 0")


def test_empty_and_absent_folders(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    refused(tmp_path, "holds no DICOM image")
    refused(tmp_path / "nowhere", "does not exist")


def test_a_bad_file_elsewhere_in_the_tree_is_no_matter(tmp_path: Path) -> None:
    made = make(tmp_path / "good")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "bad.dcm").write_bytes(b"bad")
    assert read_series(tmp_path, made.series).data.shape == (8, 16, 12)
    (tmp_path / "good" / "bad.dcm").write_bytes(b"bad")
    refused(tmp_path, "bad.dcm is not DICOM")


def test_a_single_slice(tmp_path: Path) -> None:
    write_series(tmp_path, volume((1, 16, 12)), SPACING, edit=lambda number, data: delattr(data, "SliceThickness"))
    series = read_series(tmp_path)
    assert series.data.shape == (1, 16, 12) and series.spacing[0] == 1.0
    assert "single slice of unknown thickness" in series.warnings[0]
