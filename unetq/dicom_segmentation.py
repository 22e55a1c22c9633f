"""Masks of a DICOM series as a DICOM segmentation object (PS3.3 A.51), written by highdicom.

Every label but the one of value 0 becomes a segment; the frames refer to the images of the series by their UIDs.
Names and birth dates of persons are not copied: ids tell whose series it is. The UIDs of the object follow from
series, labels and mask, so that the same prediction is the same object.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, DataError
from .files import atomic_path

if TYPE_CHECKING:
    from .dicom import Series

SERIES_NUMBER = 9000  # away from the numbers that scanners give
STRUCTURE, TISSUE = ("123037004", "Anatomical Structure"), ("85756007", "Tissue")  # SNOMED CT, of every segment


def check_series(output: Path, series: "Series") -> None:
    """Refuse a series that a segmentation cannot refer to; asked before any computing.

    Raises:
        ConfigError: highdicom is not installed, or the series' files leave UIDs empty.
    """
    _highdicom(output)
    uids = {"study": series.study, "series": series.series, "frame of reference": series.reference}
    lacking = [name for name, uid in uids.items() if not uid]
    if any(not item.sop or not item.sop_class for item in series.slices):
        lacking.append("image")
    if lacking:
        raise ConfigError(
            f"output {output}: the series has no {' and no '.join(lacking)} UID, and a segmentation refers to its "
            "images by them; write the mask as NIfTI (.nii.gz), or restore the UIDs."
        )


def write_segmentation(
    output: Path, masks: NDArray[np.uint8], series: "Series", labels: Sequence[tuple[str, int]]
) -> None:
    """Write label values (slices, columns, rows) of ``series`` as binary segments, whole or not at all.

    Raises:
        ConfigError: as ``check_series``, or no label has a value above 0.
        DataError: the series' headers lack what the object has to repeat.
        OutputError: the file cannot be written.
    """
    check_series(output, series)
    highdicom = _highdicom(output)
    from .dicom_headers import quiet

    shown = [(name, value) for name, value in labels if value != 0]
    if not shown:
        raise ConfigError(f"output {output}: no label has a value above 0, so nothing can be a segment; use .nii.gz.")
    lookup = np.zeros(256, dtype=np.uint8)
    for number, (_, value) in enumerate(shown, start=1):
        lookup[value] = number
    frames = lookup[masks.transpose(0, 2, 1)]  # pictures: (rows, columns)
    sources, frames = _sources(series, frames)
    base = hashlib.sha256(repr((series.series, shown, frames.shape)).encode() + frames.tobytes()).hexdigest()
    try:
        with quiet():
            segmentation = highdicom.seg.Segmentation(
                source_images=sources,
                pixel_array=frames,
                segmentation_type="BINARY",
                segment_descriptions=[_segment(highdicom, i, name) for i, (name, _) in enumerate(shown, start=1)],
                series_instance_uid=_uid(base, "series"),
                series_number=SERIES_NUMBER,
                sop_instance_uid=_uid(base, "instance"),
                instance_number=1,
                manufacturer="unetq",
                manufacturer_model_name="unetq predict",
                software_versions=_version(),
                device_serial_number="0",
                content_description="Segmentation",
                content_label="SEGMENTATION",
                omit_empty_frames=bool(frames.any()),
            )
    except Exception as error:  # what a header may lack is open-ended
        raise DataError(
            f"output {output}: the series' headers do not hold what a DICOM segmentation repeats "
            f"({type(error).__name__}: {error}); write the mask as NIfTI (.nii.gz)."
        ) from error
    with atomic_path(output) as temporary, quiet():
        segmentation.save_as(temporary)


def _sources(series: "Series", frames: NDArray[np.uint8]) -> tuple[list[Any], NDArray[np.uint8]]:
    """The headers of the images, and the pictures in their order: a multi-frame file's own order of frames."""
    from .dicom_headers import open_file

    files = list(dict.fromkeys(item.file for item in series.slices))
    headers = [_without_person(open_file(file, pixels=False)) for file in files]
    if len(files) == len(series.slices) and all(item.frames == 1 for item in series.slices):
        return headers, frames
    if len(files) > 1:
        raise DataError(
            f"the series lies in {len(files)} multi-frame files, and a segmentation refers to one; "
            "write the mask as NIfTI (.nii.gz)."
        )
    ordered = np.zeros((series.slices[0].frames, *frames.shape[1:]), dtype=np.uint8)
    for item, frame in zip(series.slices, frames, strict=True):
        ordered[item.frame] = frame
    return headers, ordered


def _without_person(header: Any) -> Any:
    for element in header:
        if element.VR == "PN":
            element.value = ""
    header.PatientName = ""
    header.PatientBirthDate = ""
    for name in ("PatientID", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"):
        if name not in header:  # may be empty, must be there
            setattr(header, name, "")
    return header


def _segment(highdicom: Any, number: int, name: str) -> Any:
    coded = highdicom.sr.CodedConcept
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="unetq", version=_version(), family=coded("123110", "DCM", "Artificial Intelligence")
    )
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=coded(STRUCTURE[0], "SCT", STRUCTURE[1]),
        segmented_property_type=coded(TISSUE[0], "SCT", TISSUE[1]),
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
    )


def _uid(base: str, what: str) -> str:
    """A UID below 2.25 (ITU-T X.667) from a digest."""
    return f"2.25.{int(hashlib.sha256(f'{base} {what}'.encode()).hexdigest()[:32], 16)}"


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("unetq")
    except PackageNotFoundError:  # a source tree on the path
        return "0"


def _highdicom(output: Path) -> Any:
    try:
        import highdicom
    except ImportError as error:
        raise ConfigError(
            f"output {output}: DICOM segmentations are written with highdicom, which is not installed; "
            "`pip install 'unetq[dicom]'`, or write NIfTI (.nii.gz)."
        ) from error
    return highdicom
