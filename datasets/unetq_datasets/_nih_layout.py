"""What a folder of NIH Pancreas-CT holds: for each patient its DICOM folder or volume, and its label."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from unetq.errors import DataError

KNOWN = tuple(number for number in range(1, 83) if number not in (25, 70))
WITHDRAWN = (25, 70)
PATIENT = re.compile(r"pancreas[_-]?(\d{4})", re.IGNORECASE)
VOLUME = re.compile(r"(?:pancreas|image|img)[_-]?(\d{4})(?:_0000)?\.nii(?:\.gz)?", re.IGNORECASE)
LABEL = re.compile(r"label[_-]?(\d{4})\.nii(?:\.gz)?", re.IGNORECASE)


@dataclass
class Patient:
    """One patient's files; several of a kind are a contradiction that ``the_one`` names."""

    number: int
    folders: list[Path] = field(default_factory=list)
    volumes: list[Path] = field(default_factory=list)
    labels: list[Path] = field(default_factory=list)

    @property
    def name(self) -> str:
        return name_of(self.number)


def name_of(number: int) -> str:
    """The collection's own patient id: PANCREAS_0001."""
    return f"PANCREAS_{number:04d}"


def find_patients(root: Path) -> dict[int, Patient]:
    """All patients below ``root``, by number: folders called PANCREAS_NNNN, volumes and labels by their names.

    Hidden files and folders are passed over. A patient's own folder is one of DICOM files unless it holds volumes or
    labels only.
    """
    patients: dict[int, Patient] = {}

    def patient(number: str) -> Patient:
        return patients.setdefault(int(number), Patient(int(number)))

    def take(file: Path) -> bool:
        if match := LABEL.fullmatch(file.name):
            patient(match[1]).labels.append(file)
        elif match := VOLUME.fullmatch(file.name):
            patient(match[1]).volumes.append(file)
        return match is not None

    for place, folders, files in os.walk(root):
        inner = []
        for folder in sorted(folders):
            if match := PATIENT.fullmatch(folder):
                entries = [entry for entry in sorted((Path(place) / folder).iterdir()) if entry.name[0] != "."]
                taken = [entry.is_file() and take(entry) for entry in entries]
                if not taken or not all(taken):
                    patient(match[1]).folders.append(Path(place) / folder)
            elif not folder.startswith("."):
                inner.append(folder)
        folders[:] = inner
        for file in sorted(files):
            take(Path(place) / file)
    return dict(sorted(patients.items()))


def the_one(found: list[Path], what: str) -> Path:
    """The only entry.

    Raises:
        DataError: none or several.
    """
    if not found:
        raise DataError(f"its {what} is not there; download it, or leave the patient out.")
    if len(found) > 1:
        listed = " and ".join(str(path) for path in found[:3])
        raise DataError(f"it has {len(found)} times a {what} ({listed}): one is expected; remove the others.")
    return found[0]
