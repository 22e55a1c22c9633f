"""Stored values to real ones: rescale, padding, polarity, types; and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_tree import NAME, SYNTAXES, write_series
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import Decoder
from pydicom.uid import UID
from test_dicom import needs_encoder, volume

from unetq.dicom import read_series
from unetq.errors import DataError


def test_a_fraction_as_slope_gives_float32(tmp_path: Path) -> None:
    stored = np.arange(5 * 8 * 6).reshape(5, 8, 6)
    write_series(tmp_path, stored * 0.5 - 10.25, slope=0.5, intercept=-10.25)
    data = read_series(tmp_path).data
    assert data.dtype == np.float32
    np.testing.assert_array_equal(data, (stored * 0.5 - 10.25).astype(np.float32))


def test_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    """As in positron emission tomography."""

    def edit(number: int, data: Any) -> None:
        data.RescaleSlope, data.RescaleIntercept = number + 1, 0

    write_series(tmp_path, np.full((3, 8, 6), 7), intercept=0, edit=edit)
    assert read_series(tmp_path).data[:, 0, 0].tolist() == [7, 14, 21]


def test_large_values_are_int32(tmp_path: Path) -> None:
    write_series(tmp_path, np.full((2, 8, 6), 60000), intercept=0)
    data = read_series(tmp_path).data
    assert data.dtype == np.int32 and data.max() == 60000


@pytest.mark.parametrize(("stated", "signed"), [(-2000, True), (63536, True), (65535, False)])
def test_padding_becomes_the_lowest_real_value(tmp_path: Path, stated: int, signed: bool) -> None:
    """Also where a file states a signed padding value as the unsigned number of the same bits."""
    values = np.random.default_rng(0).integers(-1000, 1000, (3, 8, 6))
    values[:, :2] = (stated - 65536 if signed and stated > 32767 else stated) - 1024

    def edit(number: int, data: Any) -> None:
        data.add_new("PixelPaddingValue", "US" if stated >= 0 else "SS", stated)

    write_series(tmp_path, values, signed=signed, edit=edit)
    data = read_series(tmp_path).data
    np.testing.assert_array_equal(data[:, 2:], values[:, 2:])
    assert (data[:, :2] == values[:, 2:].min()).all()


def test_padding_within_the_real_range_is_left(tmp_path: Path) -> None:
    def edit(number: int, data: Any) -> None:
        data.add_new("PixelPaddingValue", "US", 24)

    values = np.random.default_rng(0).integers(-1024, 1000, (3, 8, 6))
    values[:, 0, :2] = (-1024, -1000)  # one below the padding value, which itself stands for -1000
    write_series(tmp_path, values, edit=edit)
    np.testing.assert_array_equal(read_series(tmp_path).data, values)


@pytest.mark.parametrize("rescaled", [True, False])
def test_monochrome1(tmp_path: Path, rescaled: bool) -> None:
    """With a rescale the values mean what they mean; without, low is bright and is inverted, with a warning."""

    def edit(number: int, data: Any) -> None:
        data.PhotometricInterpretation = "MONOCHROME1"
        if not rescaled:
            del data.RescaleSlope, data.RescaleIntercept

    write_series(tmp_path, volume(), edit=edit)
    series = read_series(tmp_path)
    if rescaled:
        np.testing.assert_array_equal(series.data, volume())
        assert series.warnings == ()
    else:
        np.testing.assert_array_equal(series.data, 65535 - (volume().astype(int) + 1024))
        assert "5 images are MONOCHROME1" in series.warnings[0]


def test_unused_high_bits_are_no_part_of_a_value(tmp_path: Path) -> None:
    """Old files keep overlays in the four bits above twelve."""
    values = np.random.default_rng(0).integers(0, 4096, (2, 8, 6))

    def edit(number: int, data: Any) -> None:
        data.BitsStored, data.HighBit = 12, 11

    write_series(tmp_path, values + 0x8000, intercept=0, edit=edit)
    np.testing.assert_array_equal(read_series(tmp_path).data, values)


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "rle", "jpeg2000", "jpegls", "deflated", "big"])
@pytest.mark.parametrize("share", [0.98, 0.75, 0.05])
def test_truncated_files_are_refused(tmp_path: Path, syntax: str, share: float) -> None:
    needs_encoder(syntax)
    files = write_series(tmp_path, volume(), syntax=syntax).files
    cut(files[2], share)
    with pytest.raises(DataError, match=files[2].name) as caught:
        read_series(tmp_path)
    assert any(word in str(caught.value) for word in ("copy", "export"))


@pytest.mark.parametrize("multiframe", [False, True])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_random_damage_is_an_error_of_ours_or_none(tmp_path: Path, syntax: str, multiframe: bool) -> None:
    """Decoders in other languages may even panic, which is no Exception in Python."""
    needs_encoder(syntax)
    path = write_series(tmp_path, volume((2, 40, 36)), syntax=syntax, multiframe=multiframe).files[0]
    good = path.read_bytes()
    seed = 1000 * list(SYNTAXES).index(syntax) + multiframe
    rng = np.random.default_rng(seed)
    for attempt in range(12):
        content = bytearray(good)
        for place in rng.integers(128, len(good) if attempt % 3 else min(len(good), 1500), 1 + attempt % 5):
            content[place] = rng.integers(256)
        path.write_bytes(content)
        try:
            read_series(tmp_path)
        except DataError:
            continue
        except BaseException as error:
            pytest.fail(f"seed {seed}, attempt {attempt}: {type(error).__name__}: {error}")


def test_a_panicking_decoder_is_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Panic(BaseException): ...

    def panic(self: Dataset) -> None:
        raise Panic("index out of bounds")

    write_series(tmp_path, volume())
    monkeypatch.setattr(Dataset, "pixel_array", property(panic))
    with pytest.raises(DataError, match=r"cannot be decoded from .*index out of bounds.*cut short or damaged"):
        read_series(tmp_path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(b""), "has 0 bytes: the file is empty; copy or download it again"),
        (lambda path: path.write_bytes(b"\x89PNG" * 100), "is not DICOM .no 'DICM' at byte 128"),
        (lambda path: cut(path, 0.002), "is not DICOM|cannot be read|has no pixel data"),
    ],
)
def test_files_that_are_no_slices(tmp_path: Path, damage: Callable[[Path], object], words: str) -> None:
    damage(write_series(tmp_path, volume()).files[1])
    with pytest.raises(DataError, match=words):
        read_series(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.add_new("RescaleSlope", "DS", "0"), "RescaleSlope 0 .*is finite and not 0"),
        (lambda data: data.add_new("SamplesPerPixel", "US", 3), "has 3 values a pixel"),
        (lambda data: data.add_new("NumberOfFrames", "IS", "3"), "3 frames without a position for each"),
        (lambda data: data.add_new("ModalityLUTSequence", "SQ", []), "by a table"),
        (lambda data: data.add_new("Rows", "US", 77), "different|image sizes"),
        (lambda data: data.file_meta.add_new("TransferSyntaxUID", "UI", "1.2.3.4"), "transfer syntax|cannot be"),
    ],
)
def test_headers_that_cannot_be_used(tmp_path: Path, change: Callable[[Any], object], words: str) -> None:
    from pydicom import dcmread

    path = write_series(tmp_path, volume()).files[3]
    data = dcmread(path)
    change(data)
    data.save_as(path)
    with pytest.raises(DataError, match=words) as caught:
        read_series(tmp_path)
    assert NAME.partition("^")[0] not in str(caught.value)


def test_a_missing_codec_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_encoder("jpegls")
    write_series(tmp_path, volume(), syntax="jpegls")
    available = Decoder.is_available.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(
        Decoder, "is_available", property(lambda self: UID(SYNTAXES["jpegls"]) != self.UID and available(self))
    )
    words = r"JPEG-LS Lossless.*\(1\.2\.840\.10008\.1\.2\.4\.80\).*pip install 'unetq\[dicom\]'"
    with pytest.raises(DataError, match=words):
        read_series(tmp_path)


def test_a_name_is_never_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Not in messages, not in warnings of the DICOM library about odd values."""

    def edit(number: int, data: Any) -> None:
        data.PatientName = NAME
        data.add_new("PatientBirthDate", "DA", "Secret")  # no date: the library would quote it

    with disable_value_validation():
        write_series(tmp_path, volume(), edit=edit)
    series = read_series(tmp_path)
    told = capfd.readouterr()
    assert "Secret" not in told.out + told.err + repr(series)


@pytest.mark.parametrize("name", ["JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless", "RLELossless"])
def test_what_another_library_compressed(tmp_path: Path, name: str) -> None:
    """GDCM writes them; lossless JPEG is the kind that most archives hold."""
    gdcm = pytest.importorskip("gdcm", reason="the codecs of unetq[dicom] are not installed")
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    packed.mkdir()
    values = np.random.default_rng(0).integers(-1000, 1500, (3, 40, 36))
    write_series(plain, values)
    for path in plain.iterdir():
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(packed / path.name))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
    series = read_series(packed)
    np.testing.assert_array_equal(series.data, values)
