"""What the headers of DICOM files say: one ``Frame`` an image plane, classic or multi-frame.

Attributes are those of DICOM PS3.3 (2024): C.7.6.2 Image Plane, C.7.6.16 Multi-frame Functional Groups,
C.11.1 Modality LUT. Names of persons are never read.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileDataset

from .errors import DataError

Vector = tuple[float, ...]
OTHER_SUFFIXES = frozenset((
    ".txt", ".csv", ".tsv", ".json", ".xml", ".html", ".htm", ".pdf", ".md", ".md5", ".log", ".yaml", ".yml", ".nii",
    ".gz", ".npy", ".npz", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".mha", ".mhd", ".nrrd", ".zip", ".tcia", ".xlsx",
    ".docx", ".part", ".py", ".bvec", ".bval",
))  # fmt: skip
OTHER_NAMES = frozenset({"license", "licence", "readme", "dicomdir", "changes", "thumbs.db", "checksums"})
NOT_IMAGES = frozenset({"SEG", "SR", "PR", "KO", "RTSTRUCT", "RTPLAN", "RTRECORD", "REG", "DOC", "FID", "AU"})
SCOUTS = frozenset({"LOCALIZER", "LOCALISER", "SCOUT", "TOPOGRAM"})


@dataclass(frozen=True)
class Frame:
    """One image plane as its header describes it; lengths in mm, directions and positions in DICOM's LPS.

    Attributes:
        file: where it lies; ``number``: its index within the file, 0 … ; ``frames``: how many the file has.
        sop, sop_class: UIDs of the instance; where the header leaves them empty, those of the file's meta header.
        patient, study, series, reference: identifiers as stored, "" where empty.
        modality: "CT", "MR", …; ``kind``: the values of ImageType.
        instance: InstanceNumber (of the file), or None.
        rows, columns: pixels; ``position``: of the first pixel's centre; ``orientation``: direction in which the
            column index grows, then that of the row index; ``spacing``: between rows, between columns. None where
            the header does not say.
        thickness: SpacingBetweenSlices, else SliceThickness, else None.
        slope, intercept: of the rescale to real values; None where there is none.
    """

    file: Path
    number: int
    frames: int
    sop: str
    sop_class: str
    patient: str
    study: str
    series: str
    reference: str
    modality: str
    kind: tuple[str, ...]
    instance: int | None
    rows: int
    columns: int
    position: Vector | None
    orientation: Vector | None
    spacing: Vector | None
    thickness: float | None
    slope: float | None
    intercept: float | None

    @property
    def name(self) -> str:
        """The file's name, with the frame's number where it holds several."""
        return f"{self.file.name} frame {self.number + 1}" if self.frames > 1 else self.file.name

    @property
    def is_localizer(self) -> bool:
        return bool(SCOUTS & set(self.kind))

    @property
    def group(self) -> str:
        """What tells series apart: the series' UID, or its folder where that is empty."""
        return self.series or self.file.parent.as_posix()


@contextmanager
def quiet() -> Iterator[None]:
    """No remarks of the DICOM library on odd values: they may quote what identifies a person."""
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield


def files_below(folder: Path) -> list[Path]:
    """All files of a tree that may be DICOM, sorted: hidden ones and known other kinds are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.suffix.lower() not in OTHER_SUFFIXES
        and path.stem.lower() not in OTHER_NAMES
    )


def open_file(path: Path, *, pixels: bool = True) -> FileDataset:
    """The data set of one file.

    Raises:
        DataError: not readable, empty, not DICOM, or cut short within the header.
    """
    try:
        with open(path, "rb") as handle:
            head = handle.read(132)
    except OSError as error:
        raise DataError(f"{path} cannot be opened ({error.strerror}); check its permissions.") from error
    if not head:
        raise DataError(f"{path} has 0 bytes: the file is empty; copy or download it again.")
    bare = head[:2] in (b"\x02\x00", b"\x08\x00") and head[2:4] < b"\xff\xff"  # old files without the preamble
    if head[128:] != b"DICM" and not bare:
        raise DataError(
            f"{path} is not DICOM (no 'DICM' at byte 128): every file of a series' folder is an image of it; "
            "copy it again, or move it out if it is something else."
        )
    try:
        with quiet():
            return pydicom.dcmread(path, stop_before_pixels=not pixels, force=bare)
    except Exception as error:  # the parser meets arbitrary bytes; whatever it raises means "damaged"
        raise DataError(
            f"{path} cannot be read as DICOM ({type(error).__name__}): it must be whole; copy or download it again."
        ) from error


def read_frames(path: Path) -> list[Frame]:
    """The image planes of one file; none where it is no image (a report, a segmentation).

    Raises:
        DataError: as ``open_file``, or attributes that contradict the standard.
    """
    header = open_file(path, pixels=False)
    with quiet():
        try:
            return list(_frames(path, header))
        except DataError:
            raise
        except Exception as error:
            raise DataError(
                f"{path} has a header that cannot be understood ({type(error).__name__}: {error}): an image states "
                "its size, position and orientation as DICOM asks; export it again."
            ) from error


def _frames(path: Path, header: Dataset) -> Iterator[Frame]:
    modality = _text(header, "Modality")
    if modality in NOT_IMAGES:
        return
    if not header.get("Rows") or not header.get("Columns"):
        raise DataError(
            f"{path} states no image size (modality {modality or 'not stated'}): the header is cut short, or it is no "
            "image; copy or download it again, or move it out of the folder."
        )
    if int(header.get("SamplesPerPixel") or 1) != 1:
        raise DataError(
            f"{path} has {header.SamplesPerPixel} values a pixel (colour) and grey is expected: "
            "a screenshot is no slice; move it out of the folder."
        )
    count = max(int(header.get("NumberOfFrames") or 1), 1)
    groups = list(header.get("PerFrameFunctionalGroupsSequence") or [])
    if groups and len(groups) != count:
        raise DataError(
            f"{path} states {count} frames and describes {len(groups)} of them: both must be equal; export it again."
        )
    if count > 1 and not groups:
        raise DataError(
            f"{path} has {count} frames without a position for each (no PerFrameFunctionalGroupsSequence): the place "
            "of every frame in space is needed; export it as one file a slice, or as an enhanced multi-frame object."
        )
    shared = next(iter(header.get("SharedFunctionalGroupsSequence") or []), Dataset())
    meta = getattr(header, "file_meta", None) or Dataset()
    instance = header.get("InstanceNumber")
    for number in range(count):
        own = groups[number] if groups else Dataset()

        def find(sequence: str, name: str, own: Dataset = own) -> Any:
            for place in (own, shared):
                item = next(iter(place.get(sequence) or []), None)
                if item is not None and item.get(name) is not None:
                    return item.get(name)
            return header.get(name)

        yield Frame(
            file=path,
            number=number,
            frames=count,
            sop=_text(header, "SOPInstanceUID") or _text(meta, "MediaStorageSOPInstanceUID"),
            sop_class=_text(header, "SOPClassUID") or _text(meta, "MediaStorageSOPClassUID"),
            patient=_text(header, "PatientID"),
            study=_text(header, "StudyInstanceUID"),
            series=_text(header, "SeriesInstanceUID"),
            reference=_text(header, "FrameOfReferenceUID"),
            modality=modality,
            kind=_kind(header, own),
            instance=None if instance in (None, "") else int(str(instance)),
            rows=int(header.Rows),
            columns=int(header.Columns),
            position=_vector(find("PlanePositionSequence", "ImagePositionPatient"), 3),
            orientation=_vector(find("PlaneOrientationSequence", "ImageOrientationPatient"), 6),
            spacing=_vector(find("PixelMeasuresSequence", "PixelSpacing"), 2),
            thickness=_number(find("PixelMeasuresSequence", "SpacingBetweenSlices"))
            or _number(find("PixelMeasuresSequence", "SliceThickness")),
            slope=_number(find("PixelValueTransformationSequence", "RescaleSlope")),
            intercept=_number(find("PixelValueTransformationSequence", "RescaleIntercept")),
        )


def _kind(header: Dataset, own: Dataset) -> tuple[str, ...]:
    values: list[str] = []
    kinds = ("CTImageFrameTypeSequence", "MRImageFrameTypeSequence")
    frame_types = [next(iter(own.get(name) or []), Dataset()).get("FrameType") for name in kinds]
    for value in (header.get("ImageType"), *frame_types):
        values += [value] if isinstance(value, str) else [str(part) for part in value or ()]
    return tuple(value.strip().upper() for value in values)


def _text(header: Dataset, name: str) -> str:
    value = header.get(name)
    return "" if value is None else str(value).strip()


def _number(value: Any) -> float | None:
    return None if value is None or value == "" else float(value)


def _vector(value: Any, length: int) -> Vector | None:
    if value is None or value == "":
        return None
    numbers = tuple(float(part) for part in value)
    return numbers if len(numbers) == length else None
