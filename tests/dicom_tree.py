"""DICOM series written for tests: CT volumes in any transfer syntax, classic or enhanced multi-frame.

``write_series`` takes the volume as ``unetq.dicom.read_series`` gives it back, (K, I, J), and returns the affine
that the reader has to find. Everything is a function of the arguments; the patient's name is one that must never
be printed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID, generate_uid

NAME = "Secret^Person"  # must appear in no output
SYNTAXES = {
    "explicit": "1.2.840.10008.1.2.1",
    "implicit": "1.2.840.10008.1.2",
    "big": "1.2.840.10008.1.2.2",
    "deflated": "1.2.840.10008.1.2.1.99",
    "rle": "1.2.840.10008.1.2.5",
    "jpeg2000": "1.2.840.10008.1.2.4.90",
    "jpegls": "1.2.840.10008.1.2.4.80",
}
CT, ENHANCED_CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.4"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
Edit = Callable[[int, FileDataset], object]  # changes file number k before it is written


@dataclass(frozen=True)
class Written:
    """What ``write_series`` made: the files in the order of the slices, the RAS affine, the series' UID."""

    files: list[Path]
    affine: NDArray[np.float64]
    series: str


def write_series(
    folder: Path,
    volume_hu: NDArray[Any],
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    orientation: Sequence[float] = AXIAL,
    *,
    origin: Sequence[float] = (-100.0, -120.0, 40.0),
    syntax: str = "explicit",
    multiframe: bool = False,
    descending: bool = False,
    suffix: str = ".dcm",
    patient: str = "PANCREAS_0001",
    key: str = "1",
    modality: str = "CT",
    signed: bool = False,
    slope: float = 1.0,
    intercept: float = -1024.0,
    shift: Sequence[float] = (0.0, 0.0, 0.0),
    edit: Edit | None = None,
) -> Written:
    """Write one series.

    Args:
        folder: is made if need be.
        volume_hu: (K, I, J) real values; slice k's picture is ``volume_hu[k].T`` (JPEG 2000: sides of 32 or more).
        spacing: mm between slices, columns, rows, as ``Series.spacing``.
        orientation: directions in which columns and rows grow, LPS.
        origin: LPS position of voxel (0, 0, 0).
        syntax: a key of ``SYNTAXES``; ``signed``: of the stored pixels.
        descending: instance numbers and file names count against the normal.
        key: makes the UIDs of the series; ``shift``: LPS mm added a slice (a tilted gantry).
        edit: called with each file's number and data set before it is written; pixels are set by then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    along, down = np.array(orientation, dtype=float).reshape(2, 3)
    normal = np.cross(along, down)
    count = len(volume_hu)
    places = [np.array(origin) + k * (normal * spacing[0] + np.array(shift)) for k in range(count)]
    affine = np.eye(4)
    affine[:3, :3] = np.stack([along * spacing[1], down * spacing[2], normal * spacing[0]], axis=1)
    affine[:3, 3] = origin
    stored = np.rint((volume_hu.astype(float) - intercept) / slope).astype(np.int16 if signed else np.uint16)
    planes = [np.ascontiguousarray(plane.T) for plane in stored]
    uids = {name: generate_uid(entropy_srcs=[key, patient, name]) for name in ("study", "series", "reference")}
    files = []
    groups = [list(range(count))] if multiframe else [[k] for k in range(count)]
    for number, members in enumerate(groups):
        order = count - 1 - number if descending and not multiframe else number
        kind = (ENHANCED_CT if multiframe else CT) if modality == "CT" else MR
        data = _file(kind, f"{key}-{number}", SYNTAXES[syntax])
        data.PatientName, data.PatientID, data.Modality = NAME, patient, modality
        data.StudyInstanceUID, data.SeriesInstanceUID = uids["study"], uids["series"]
        data.FrameOfReferenceUID = uids["reference"]
        data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        data.InstanceNumber = order + 1
        frames = members[::-1] if descending else members
        if multiframe:
            _frame_groups(data, [places[k] for k in frames], orientation, spacing, slope, intercept)
        else:
            data.ImagePositionPatient = _texts(places[number])
            data.ImageOrientationPatient = _texts(orientation)
            data.PixelSpacing, data.SliceThickness = _texts((spacing[2], spacing[1])), f"{spacing[0]:.10g}"
            data.RescaleSlope, data.RescaleIntercept = f"{slope:.10g}", f"{intercept:.10g}"
        _pixels(data, [planes[k] for k in frames], signed)
        if edit is not None:
            edit(number, data)
        path = folder / f"{key}-{order + 1:03d}{suffix}"
        _save(path, data, syntax)
        files.append(path)
    return Written(files, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine, str(uids["series"]))


def _file(kind: str, key: str, syntax: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(kind)
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[key, "instance"])
    meta.TransferSyntaxUID = UID(syntax)
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.SpecificCharacterSet = "ISO_IR 100"
    return data


def _pixels(data: FileDataset, planes: list[NDArray[Any]], signed: bool) -> None:
    data.Rows, data.Columns = planes[0].shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelRepresentation = int(signed)
    data.PixelData = np.stack(planes).tobytes()
    data["PixelData"].VR = "OW"
    if len(planes) > 1:
        data.NumberOfFrames = len(planes)


def _frame_groups(
    data: FileDataset,
    places: list[NDArray[Any]],
    orientation: Sequence[float],
    spacing: Sequence[float],
    slope: float,
    intercept: float,
) -> None:
    shared, plane, measures, values = Dataset(), Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient = _texts(orientation)
    measures.PixelSpacing, measures.SliceThickness = _texts((spacing[2], spacing[1])), f"{spacing[0]:.10g}"
    values.RescaleSlope, values.RescaleIntercept, values.RescaleType = f"{slope:.10g}", f"{intercept:.10g}", "HU"
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = Items([plane]), Items([measures])
    shared.PixelValueTransformationSequence = Items([values])
    data.SharedFunctionalGroupsSequence = Items([shared])
    data.NumberOfFrames = len(places)
    groups = []
    for position in places:
        group, place = Dataset(), Dataset()
        place.ImagePositionPatient = _texts(position)
        group.PlanePositionSequence = Items([place])
        groups.append(group)
    data.PerFrameFunctionalGroupsSequence = Items(groups)


def _save(path: Path, data: FileDataset, syntax: str) -> None:
    uid = UID(SYNTAXES[syntax])
    if uid.is_encapsulated:
        data.file_meta.TransferSyntaxUID = UID(SYNTAXES["explicit"])
        data.compress(uid, generate_instance_uid=False)
    elif syntax == "big":
        data.PixelData = np.frombuffer(data.PixelData, dtype="<u2").astype(">u2").tobytes()
    data.set_original_encoding(syntax == "implicit", syntax != "big")
    data.save_as(path, enforce_file_format=True)


def _texts(numbers: Sequence[float] | NDArray[Any]) -> list[str]:
    """DICOM's decimal strings: at most 16 characters."""
    return [f"{float(number):.10g}" for number in numbers]
