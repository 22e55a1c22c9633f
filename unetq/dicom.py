"""DICOM series of CT and MR: found in a tree, read as one volume with its place in space.

A volume is (slices K, columns I, rows J), as a NIfTI file made of the series would be read: voxel (i, j, k) is
column i and row j of the picture, and k grows along the normal of the slices (the cross product of the directions
in which columns and rows grow). Files need no particular names; classic and enhanced multi-frame objects are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dicom_geometry import affine_of, check_alike, check_positions, normal_of, sort_along
from .dicom_headers import Frame, files_below, read_frames
from .dicom_pixels import read_planes
from .errors import DataError
from .geometry import axes_of


@dataclass(frozen=True)
class SliceFile:
    """Where a slice of a volume came from.

    Attributes:
        file: the DICOM file; ``frame``: index within it, 0 … ; ``frames``: how many it holds.
        sop, sop_class: UIDs of the instance ("" where the file states none at all).
        position: of the first pixel's centre, DICOM's LPS, mm; ``instance``: InstanceNumber or None.
    """

    file: Path
    frame: int
    frames: int
    sop: str
    sop_class: str
    position: tuple[float, ...]
    instance: int | None


@dataclass(frozen=True, eq=False)
class Series:
    """One volume.

    Attributes:
        data: (K, I, J) real values (Hounsfield units for CT): int16, int32 or float32.
        affine: (4, 4) float64, voxel (i, j, k) to RAS mm.
        spacing: mm of the axes of ``data``: between slices, columns, rows.
        axes: where i, j and k grow to, as ``unetq.geometry.axes_of``: "LPS" for a usual axial series.
        patient, study, series, reference: identifiers as stored, "" where the files leave them empty.
        modality: "CT", "MR", ….
        slices: one entry a slice, in the order of ``data``.
        warnings: sentences about what was left out or changed.
    """

    data: NDArray[Any]
    affine: NDArray[np.float64]
    spacing: tuple[float, float, float]
    axes: str
    patient: str
    study: str
    series: str
    reference: str
    modality: str
    slices: tuple[SliceFile, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class SeriesInfo:
    """A series found in a tree: ``series`` selects it in ``read_series`` (its UID, or its folder without one).

    ``images`` counts planes (frames); ``problems`` are messages about unusable files in the series' own folders.
    """

    series: str
    patient: str
    study: str
    modality: str
    files: tuple[Path, ...]
    images: int
    rows: int
    columns: int
    localizer: bool
    problems: tuple[str, ...] = ()


def find_series(folder: Path) -> list[SeriesInfo]:
    """All series below ``folder``, ordered by patient, first file and id; [] where there is no DICOM image.

    Raises:
        DataError: ``folder`` does not exist.
    """
    frames, problems = _scan(folder)
    groups: dict[str, list[Frame]] = {}
    for frame in frames:
        groups.setdefault(frame.group, []).append(frame)
    found = []
    for group, members in groups.items():
        files = tuple(dict.fromkeys(frame.file for frame in members))
        places = {file.parent for file in files}
        first = members[0]
        found.append(
            SeriesInfo(
                series=group,
                patient=first.patient,
                study=first.study,
                modality=first.modality,
                files=files,
                images=len(members),
                rows=first.rows,
                columns=first.columns,
                localizer=all(frame.is_localizer for frame in members),
                problems=tuple(str(error) for path, error in problems.items() if path.parent in places),
            )
        )
    return sorted(found, key=lambda info: (info.patient, info.files[0], info.series))


def read_series(folder: Path, series: str | None = None) -> Series:
    """Read the series in ``folder`` and below; with several, the one called ``series``.

    Localizers are left out with a warning, and so are copies of a slice with equal pixels.

    Args:
        folder: a folder, or a single DICOM file.
        series: a SeriesInstanceUID as ``find_series`` lists it; None where the folder holds one series only.

    Raises:
        DataError: nothing to read, several patients or series, a file that is empty, damaged or not DICOM, a missing
            slice, differing copies, a tilted stack, unequal distances, sizes or orientations, pixels that cannot be
            decoded. The message names file or slice, rule and remedy.
    """
    frames, problems = _scan(folder)
    frames, warnings = _choose(folder, frames, problems, series)
    where = f"series {frames[0].series} in {folder}" if frames[0].series else f"the series in {folder}"
    check_alike(frames, where)
    normal = normal_of(frames[0])
    frames = _without_copies(sort_along(frames, normal), where, warnings)
    distance = check_positions(frames, normal, where)
    if distance is None:
        distance = abs(frames[0].thickness or 0.0) or 1.0
        if not frames[0].thickness:
            warnings.append(f"{where} is a single slice of unknown thickness: 1 mm is assumed.")
    planes = read_planes(frames, lambda sentence: warnings.append(f"{where}: {sentence}"))
    affine = affine_of(frames[0], normal, distance)
    between_rows, between_columns = frames[0].spacing or (1.0, 1.0)
    return Series(
        data=np.stack([plane.T for plane in planes]),
        affine=affine,
        spacing=(distance, between_columns, between_rows),
        axes=axes_of(affine),
        patient=frames[0].patient,
        study=frames[0].study,
        series=frames[0].series,
        reference=frames[0].reference,
        modality=frames[0].modality,
        slices=tuple(
            SliceFile(
                frame.file, frame.number, frame.frames, frame.sop, frame.sop_class, frame.position or (), frame.instance
            )
            for frame in frames
        ),
        warnings=tuple(warnings),
    )


def _scan(folder: Path) -> tuple[list[Frame], dict[Path, DataError]]:
    """All image planes below ``folder`` and what is wrong with the files that could not be used."""
    folder = Path(folder)
    if not folder.exists():
        raise DataError(f"{folder} does not exist: a folder with a DICOM series is expected; check the path.")
    frames: list[Frame] = []
    problems: dict[Path, DataError] = {}
    for path in files_below(folder) if folder.is_dir() else [folder]:
        try:
            frames += read_frames(path)
        except DataError as error:
            problems[path] = error
    return frames, problems


def _choose(
    folder: Path, frames: list[Frame], problems: dict[Path, DataError], series: str | None
) -> tuple[list[Frame], list[str]]:
    """The planes of one series, localizers left out, and warnings."""
    if series is not None:
        chosen = [frame for frame in frames if frame.group == series]
        if not chosen and frames:
            known = ", ".join(sorted({frame.group for frame in frames})[:5])
            raise DataError(f"{folder} holds no series {series}; it holds {known}: name one of them.")
        frames = chosen
    for path, error in problems.items():
        if not frames or path.parent in {frame.file.parent for frame in frames}:
            raise error
    patients = sorted({frame.patient or "(none)" for frame in frames})
    if len(patients) > 1:
        raise DataError(
            f"{folder} holds images of {len(patients)} patients ({', '.join(patients[:5])}): a volume is of one; "
            "put each in a folder of its own, or name one series."
        )
    images = [frame for frame in frames if not frame.is_localizer]
    if not images:
        what = f"{len(frames)} localizer images only" if frames else "no DICOM image"
        raise DataError(f"{folder} holds {what}: a CT or MR series is expected; check the path.")
    warnings = []
    if len(images) < len(frames):
        warnings.append(f"{folder}: {len(frames) - len(images)} localizer images were left out.")
    groups: dict[str, int] = {}
    for frame in images:
        groups[frame.group] = groups.get(frame.group, 0) + 1
    if len(groups) > 1:
        listed = ", ".join(f"{group} ({count} images)" for group, count in sorted(groups.items())[:5])
        raise DataError(f"{folder} holds {len(groups)} series: {listed}; name the one to read.")
    return images, warnings


def _without_copies(places: Sequence[Sequence[Frame]], where: str, warnings: list[str]) -> list[Frame]:
    """One plane a position.

    Raises:
        DataError: planes at one position whose pixels differ.
    """
    dropped: list[str] = []
    for first, *others in places:
        for other in others:
            one, two = read_planes([first, other], lambda sentence: None)
            if not np.array_equal(one, two):
                several = sum(len(place) > 1 for place in places)
                raise DataError(
                    f"{where}: {first.name} and {other.name} lie at the same position and show different pixels "
                    f"({several} of {len(places)} positions have several images): phases, echoes or another "
                    "reconstruction; put each in a folder of its own."
                )
            dropped.append(other.name)
    if dropped:
        warnings.append(
            f"{where}: {len(dropped)} copies of slices (equal position and pixels) were left out, "
            f"the first is {dropped[0]}."
        )
    return [place[0] for place in places]
