"""DICOM series: every transfer syntax and orientation comes back as it was written, and lies where it lay."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_tree import AXIAL, SYNTAXES, write_series
from pydicom.pixels.encoders.base import get_encoder
from pydicom.uid import UID

from unetq.dicom import Series, find_series, read_series

SPACING = (2.5, 0.7, 0.8)
SUPINE_UP = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)  # as NIH Pancreas-CT: rows grow to the front, slices to the feet
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
OBLIQUE = (0.96, 0.28, 0.0, -0.224, 0.768, 0.6)  # two unit vectors at right angles


def volume(shape: tuple[int, int, int] = (5, 40, 36), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1024, 2000, shape).astype(np.int16)


def needs_encoder(syntax: str) -> None:
    uid = UID(SYNTAXES[syntax])
    if uid.is_encapsulated and not get_encoder(uid).is_available:
        pytest.skip(f"no encoder for {syntax}: pip install 'unetq[dicom]'")


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("multiframe", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_what_is_written_is_read(tmp_path: Path, syntax: str, signed: bool, multiframe: bool, descending: bool) -> None:
    needs_encoder(syntax)
    written = write_series(
        tmp_path, volume(), SPACING, syntax=syntax, signed=signed, multiframe=multiframe, descending=descending
    )
    series = read_series(tmp_path)
    assert series.data.dtype == np.int16
    np.testing.assert_array_equal(series.data, volume())
    np.testing.assert_allclose(series.affine, written.affine, atol=1e-6)
    assert series.spacing == pytest.approx(SPACING) and series.axes == "LPS"
    assert (series.patient, series.series, series.modality) == ("PANCREAS_0001", written.series, "CT")
    assert series.warnings == ()


@pytest.mark.parametrize(
    ("orientation", "axes"), [(AXIAL, "LPS"), (SUPINE_UP, "LAI"), (SAGITTAL, "PIR"), (OBLIQUE, "LPS")]
)
@pytest.mark.parametrize("multiframe", [False, True])
def test_geometry_is_that_of_an_independent_reader(
    tmp_path: Path, orientation: tuple[float, ...], axes: str, multiframe: bool
) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="the independent reader is not installed")
    written = write_series(tmp_path, volume(), SPACING, orientation, descending=not multiframe, multiframe=multiframe)
    series = read_series(tmp_path)
    assert series.axes == axes
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    compare_with_sitk(series, sitk.ReadImage(str(written.files[0])) if multiframe else reader.Execute())


def compare_with_sitk(series: Series, image: Any) -> None:
    """Every corner lies where SimpleITK puts it, and holds the value that SimpleITK reads there."""
    slices, columns, rows = series.data.shape
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    for corner in np.ndindex(2, 2, 2):
        i, j, k = (edge * (size - 1) for edge, size in zip(corner, (columns, rows, slices), strict=True))
        point = to_lps @ series.affine @ (i, j, k, 1)
        index = image.TransformPhysicalPointToContinuousIndex(tuple(point[:3]))
        np.testing.assert_allclose(index, np.rint(index), atol=2e-3)
        whole = tuple(round(value) for value in index)
        assert image.GetPixel(whole) == series.data[k, i, j]


def test_the_real_series(real_data: Any) -> None:
    """JPEG 2000, z descending, empty UIDs, no .dcm: as an independent reader has it."""
    sitk = pytest.importorskip("SimpleITK", reason="the independent reader is not installed")
    folder = real_data("ct") / "example_ct_dicom"
    series = read_series(folder)
    assert series.data.shape == (20, 512, 512) and series.spacing == pytest.approx((2.0, 0.9765625, 0.9765625))
    assert len({file.sop for file in series.slices}) == 20  # the meta header states what the data set leaves empty
    heights = [file.position[2] for file in series.slices]
    assert heights == sorted(heights)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(file.file) for file in series.slices])
    image = reader.Execute()
    compare_with_sitk(series, image)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).transpose(0, 2, 1), series.data)


def test_slices_name_their_files(tmp_path: Path) -> None:
    written = write_series(tmp_path, volume(), SPACING, descending=True, suffix="")
    series = read_series(tmp_path)
    assert [file.file for file in series.slices] == written.files
    assert [file.instance for file in series.slices] == [5, 4, 3, 2, 1]
    assert len({file.sop for file in series.slices}) == 5
    for k, file in enumerate(series.slices):
        place = np.diag([-1, -1, 1, 1]) @ series.affine @ (0, 0, k, 1)
        np.testing.assert_allclose(file.position, place[:3], atol=1e-6)


def test_multiframe_slices_name_their_frames(tmp_path: Path) -> None:
    written = write_series(tmp_path, volume(), SPACING, multiframe=True, descending=True)
    series = read_series(tmp_path / written.files[0].name)
    assert [(file.frame, file.frames) for file in series.slices] == [(4, 5), (3, 5), (2, 5), (1, 5), (0, 5)]


def test_bare_files_without_meta_header(tmp_path: Path) -> None:
    """Files of before 1993's Part 10: neither preamble nor transfer syntax."""
    for path in write_series(tmp_path, volume(), SPACING, syntax="implicit").files:
        content = path.read_bytes()
        length = int.from_bytes(content[140:144], "little")  # of group 2, after its first element
        path.write_bytes(content[144 + length :])
    np.testing.assert_array_equal(read_series(tmp_path).data, volume())


def test_find_series_lists_a_tree(tmp_path: Path) -> None:
    one = write_series(tmp_path / "PANCREAS_0001" / "study" / "a", volume(), key="a")
    two = write_series(tmp_path / "PANCREAS_0002" / "b", volume(seed=1), key="b", patient="PANCREAS_0002")
    (tmp_path / "PANCREAS_0002" / "b" / "broken.dcm").write_bytes(b"no")
    (tmp_path / "LICENSE").write_text("text")
    found = find_series(tmp_path)
    assert [(info.series, info.patient, info.images) for info in found] == [
        (one.series, "PANCREAS_0001", 5),
        (two.series, "PANCREAS_0002", 5),
    ]
    assert found[0].problems == () and "broken.dcm is not DICOM" in found[1].problems[0]
    np.testing.assert_array_equal(read_series(tmp_path, one.series).data, volume())
    assert find_series(tmp_path / "PANCREAS_0001" / "study")[0].files == tuple(one.files)


def test_a_series_without_uid_is_called_by_its_folder(tmp_path: Path) -> None:
    def forget(number: int, data: Any) -> None:
        data.SeriesInstanceUID = data.SOPInstanceUID = data.StudyInstanceUID = ""

    write_series(tmp_path / "a", volume(), edit=forget)
    write_series(tmp_path / "b", volume(seed=1), edit=forget)
    names = [info.series for info in find_series(tmp_path)]
    assert names == [(tmp_path / name).as_posix() for name in "ab"]
    series = read_series(tmp_path, names[1])
    assert series.series == "" and all(file.sop for file in series.slices)
    np.testing.assert_array_equal(series.data, volume(seed=1))
