"""DICOM series in; NIfTI in their place or DICOM segmentations out. Read back by SimpleITK and pydicom."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from dicom_tree import NAME, write_series
from native_library import ensure_library
from numpy.typing import NDArray
from test_predict_geometry import kernel, scene, voxels
from toy_model import NumpyRuntime, network

from unetq.errors import ConfigError, DataError
from unetq.export.modelfile import save
from unetq.export.program import ModelMeta, Preprocessing
from unetq.imageio import read_image
from unetq.predict import predict

OBLIQUE = (0.96, 0.28, 0.0, -0.28, 0.96, 0.0)
WINDOW = Preprocessing("window", -150.0, 250.0, orientation="PLS")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("unetq.predict.Runtime", NumpyRuntime)
    meta = ModelMeta("toy", ("body", "liver", "spleen"), (0, 5, 9), WINDOW)
    three = np.concatenate([kernel(2), -kernel(2), np.roll(kernel(2), 1, axis=-1)]).clip(-4, 3)
    save(network(multiple=4, classes=3, kernel=three), tmp_path / "model.uqm", meta)
    return tmp_path / "model.uqm"


def series(folder: Path, **options: Any) -> NDArray[Any]:
    """A series of the scene as HU, (K, I, J) and so (slices, columns, rows)."""
    volume = scene().astype(np.int16)
    write_series(folder, volume, (2.5, 0.8, 0.9), **options)
    return volume


@pytest.mark.parametrize(
    "options", [{}, {"orientation": OBLIQUE}, {"descending": True}, {"multiframe": True}], ids=lambda o: str(list(o))
)
def test_a_series_gets_a_nifti_mask_in_its_place(model: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    sitk = pytest.importorskip("SimpleITK")
    series(tmp_path / "ct", **options)
    summary = predict(model, tmp_path / "ct", tmp_path / "m.nii.gz")
    assert summary["format"] == "dicom" and summary["axes"] == "LPS" and summary["slices"] == 7
    image = read_image(tmp_path / "ct")
    stack = nibabel.Nifti1Image(np.moveaxis(image.data, 0, 2), image.affine)
    nibabel.save(stack, tmp_path / "same.nii.gz")
    predict(model, tmp_path / "same.nii.gz", tmp_path / "n.nii.gz")
    np.testing.assert_array_equal(voxels(tmp_path / "m.nii.gz"), voxels(tmp_path / "n.nii.gz"))
    if "multiframe" in options:
        return
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "ct")))
    other, mask = reader.Execute(), sitk.ReadImage(str(tmp_path / "m.nii.gz"))
    assert mask.GetPixelID() == sitk.sitkUInt8
    for name in ("GetSize", "GetOrigin", "GetDirection", "GetSpacing"):
        np.testing.assert_allclose(getattr(mask, name)(), getattr(other, name)(), atol=1e-4)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(other), image.data.transpose(0, 2, 1))


@pytest.mark.parametrize("options", [{}, {"descending": True}, {"multiframe": True}], ids=lambda o: str(list(o)))
def test_a_series_gets_a_segmentation_that_refers_to_it(model: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    highdicom = pytest.importorskip("highdicom")
    series(tmp_path / "ct", **options)
    predict(model, tmp_path / "ct", tmp_path / "m.nii.gz")
    predict(model, tmp_path / "ct", tmp_path / "m.dcm")
    expected = np.moveaxis(voxels(tmp_path / "m.nii.gz"), 2, 0)
    assert set(np.unique(expected)) == {0, 5, 9}
    seg = highdicom.seg.segread(tmp_path / "m.dcm")
    names = [seg.get_segment_description(number).segment_label for number in seg.segment_numbers]
    assert names == ["liver", "spleen"]
    whole = seg.get_volume()  # (slices, rows, columns, segments) in its own affine, LPS
    for number, value in enumerate((5, 9)):
        inside = np.argwhere(np.asarray(whole.array)[..., number] > 0)
        places = np.c_[inside, np.ones(len(inside))] @ whole.affine.T
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ nibabel.load(tmp_path / "m.nii.gz").affine
        slices, columns, rows = np.nonzero(expected == value)
        wanted = np.c_[columns, rows, slices, np.ones(len(slices))] @ affine.T
        assert len(places) == len(wanted)
        np.testing.assert_allclose(
            places[np.lexsort(places.round(2).T)], wanted[np.lexsort(wanted.round(2).T)], atol=1e-3
        )
    sources = {uid[2] for uid in seg.get_source_image_uids()}
    files = list((tmp_path / "ct").iterdir())
    assert sources <= {pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in files} and sources


def test_no_name_of_a_person_is_written_and_the_same_mask_is_the_same_object(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")

    def doctors(_: int, header: Any) -> None:
        header.ReferringPhysicianName = header.OperatorsName = "Other^Person"

    series(tmp_path / "ct", edit=doctors)
    for name in ("a.dcm", "b.dcm"):
        predict(model, tmp_path / "ct", tmp_path / name)
    one, two = (pydicom.dcmread(tmp_path / name) for name in ("a.dcm", "b.dcm"))
    assert one.PatientID == "PANCREAS_0001" and one.SOPInstanceUID == two.SOPInstanceUID
    for text in (NAME, "Other^Person"):
        assert text.encode() not in (tmp_path / "a.dcm").read_bytes()
    assert one.PatientName == "" and one.Modality == "SEG"


def test_an_empty_mask_is_a_segmentation_too(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    series(tmp_path / "ct")
    save(network(multiple=4, offset=-100.0), model, ModelMeta("toy", ("body", "liver"), (0, 1), WINDOW))
    assert predict(model, tmp_path / "ct", tmp_path / "m.dcm")["pixels"]["liver"] == 0
    assert not pydicom.dcmread(tmp_path / "m.dcm").pixel_array.any()


def test_a_series_without_uids_cannot_be_referred_to(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("highdicom")

    def empty(_: int, header: Any) -> None:
        header.StudyInstanceUID = header.SeriesInstanceUID = ""

    series(tmp_path / "ct", edit=empty)
    with pytest.raises(ConfigError, match=r"no study and no series UID.*\.nii\.gz"):
        predict(model, tmp_path / "ct", tmp_path / "m.dcm")
    assert not (tmp_path / "m.dcm").exists()
    predict(model, tmp_path / "ct", tmp_path / "m.nii.gz")


def test_where_a_mask_of_a_series_may_go(model: Path, tmp_path: Path) -> None:
    series(tmp_path / "ct")
    with pytest.raises(ConfigError, match=r"m\.tif.*DICOM series.*\.nii, \.nii\.gz, \.dcm"):
        predict(model, tmp_path / "ct", tmp_path / "m.tif")
    np.save(tmp_path / "a.npy", scene())
    with pytest.raises(ConfigError, match=r"m\.dcm.*position in space"):
        predict(model, tmp_path / "a.npy", tmp_path / "m.dcm")


def test_a_series_with_a_gap_writes_nothing(model: Path, tmp_path: Path) -> None:
    series(tmp_path / "ct")
    sorted((tmp_path / "ct").iterdir())[3].unlink()
    with pytest.raises(DataError, match="missing between"):
        predict(model, tmp_path / "ct", tmp_path / "m.nii.gz")
    assert not (tmp_path / "m.nii.gz").exists()


# ------------------------------------------------------------------------------------------ real data, real runtime


@pytest.fixture
def real_model(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network for CT at 3 mm, bright where the mean of 3 x 3 pixels is above 50 HU (0.5 of the window)."""
    ensure_library(tmp_path_factory.mktemp("library"))
    rule = Preprocessing("window", -150.0, 250.0, orientation="PLS", spacing=(3.0, 3.0))
    program = network(multiple=8, kernel=np.ones((1, 1, 1, 3, 3), np.int8), fraction=7, offset=-4.5)
    save(program, tmp_path / "ct.uqm", ModelMeta("soft", ("other", "soft"), (0, 1), rule))
    return tmp_path / "ct.uqm"


def assert_same_grid(image: Any, mask: Any) -> None:
    assert image.GetSize() == mask.GetSize()
    for name in ("GetOrigin", "GetDirection", "GetSpacing"):
        np.testing.assert_allclose(getattr(image, name)(), getattr(mask, name)(), atol=1e-3)


def test_the_real_ct_volume(real_data: Callable[[str], Path], real_model: Path, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    source = real_data("ct") / "example_ct.nii.gz"
    summary = predict(real_model, source, tmp_path / "m.nii.gz")
    image, mask = sitk.ReadImage(str(source)), sitk.ReadImage(str(tmp_path / "m.nii.gz"))
    assert_same_grid(image, mask)
    hu, found = sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(mask) > 0
    assert summary["axes"] == "RAS" and summary["network_size"] == [101, 122] and 0.01 < found.mean() < 0.9
    assert hu[found].mean() > 40 > hu[~found].mean()
    assert found[hu > 150].mean() > 0.9 and found[hu < -200].mean() < 0.01


def test_the_real_dicom_series(real_data: Callable[[str], Path], real_model: Path, tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    pytest.importorskip("openjpeg")
    folder = real_data("ct") / "example_ct_dicom"
    summary = predict(real_model, folder, tmp_path / "m.nii.gz")
    files = sorted(
        folder.iterdir(), key=lambda path: pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient[2]
    )
    image, mask = sitk.ReadImage([str(path) for path in files]), sitk.ReadImage(str(tmp_path / "m.nii.gz"))
    assert_same_grid(image, mask)
    hu, found = sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(mask) > 0
    np.testing.assert_array_equal(hu.transpose(0, 2, 1), read_image(folder).data)
    assert summary["slices"] == 20 and summary["size"] == [512, 512]
    assert hu[found].mean() > 40 > hu[~found].mean() and found[hu < -400].mean() < 0.01
    pytest.importorskip("highdicom")
    with pytest.raises(ConfigError, match=r"UID.*\.nii\.gz"):
        predict(real_model, folder, tmp_path / "m.dcm")
