"""NIH Pancreas-CT (TCIA): abdominal CT of 80 patients in the portal-venous phase, the pancreas outlined by hand.

A folder holds, at any depth, a folder a patient with the DICOM series as TCIA's tools lay it out, or a converted
volume, and the labels:

    PANCREAS_0001/<study>/<series>/*.dcm   or   PANCREAS_0001.nii.gz
    label0001.nii.gz

or single slices, ``img_000.npy`` with ``mask_000.npy`` (in ``slices`` or directly), where the option ``cases`` says
whose they are. Patients 25 and 70 were withdrawn as copies of patient 2 and are never used.

The split is by patient: 1-52 train, 53-63 validate, 64-82 test; the options ``validation`` and ``test`` name others
by number, all who are in neither train. Cross-validation (``data.folds``) divides those who train and validate.
``slices: pancreas`` leaves training slices without pancreas out, as the published experiments do; what is validated
and tested is always the whole volume, never a part chosen by the truth. ``flip``: see ``_nih_label``.

All volumes of a split are held in memory as 16-bit integers, about 0.13 GB a patient.

Intensities: the window of -160 to 240 HU is the abdominal soft-tissue window (level 40, width 400) that radiology reads
this region in. Pictures are turned upright (rows to the back, columns to the patient's left).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetq.cases import Case, Cases, Skipped, reasons
from unetq.data import DatasetSpec
from unetq.dicom import SeriesInfo, find_series, read_series
from unetq.errors import ConfigError, DataError, EmptySplitError
from unetq.export.program import Preprocessing
from unetq.geometry import orient, oriented_spacing
from unetq.nifti import read_nifti

from ._nih_label import FLIPS, Scan, place_label
from ._nih_layout import KNOWN, PATIENT, WITHDRAWN, Patient, find_patients, name_of, the_one
from ._nih_slices import read_slices, slices_of_cases

Sides = Callable[[int], str]
UPRIGHT = "PLS"
SLICES = ("all", "pancreas")
DEFAULTS: dict[str, Any] = {
    "flip": "auto",
    "slices": "all",
    "validation": list(range(53, 64)),
    "test": [number for number in range(64, 83) if number not in WITHDRAWN],
    "cases": [],
}
LAYOUT = (
    "Put TCIA's tree there (PANCREAS_0001/**/ with DICOM files, or PANCREAS_0001.nii.gz) and label0001.nii.gz …, "
    "anywhere below; or slices img_000.npy with mask_000.npy and the option cases."
)
CITATION = (
    "Roth H, Farag A, Turkbey EB, Lu L, Liu J, Summers RM (2016). Data From Pancreas-CT. The Cancer Imaging Archive. "
    "https://doi.org/10.7937/K9/TCIA.2016.tNB1kqBU. Licence: CC BY 3.0, with TCIA's data usage policy."
)


def _load(root: Path | None, split: str, options: Mapping[str, Any]) -> Cases:
    if root is None:
        raise DataError(f"the pancreas data need a folder. {LAYOUT}")
    sides = _sides(options)
    skipped: list[Skipped] = []
    cases: list[Case] = []
    if options["cases"]:
        for number, slices in slices_of_cases(options["cases"]).items():
            if sides(number) == split:
                try:
                    cases.append(read_slices(root, number, slices))
                except DataError as error:
                    skipped.append(Skipped(f"nih-{number:04d}", str(error)))
        return _some(Cases(cases, tuple(skipped)), root, split)
    patients = find_patients(root)
    if not patients:
        raise DataError(f"{root} holds nothing of Pancreas-CT. {LAYOUT}")
    skipped += _absent(patients, split, sides, root)
    for number, patient in patients.items():
        if sides(number) != split:
            continue
        if number in WITHDRAWN:
            skipped.append(Skipped(f"nih-{number:04d}", "TCIA withdrew this patient as a copy of patient 2."))
            continue
        try:
            case, notes = _read(patient, options, split)
        except DataError as error:
            skipped.append(Skipped(f"nih-{number:04d}", str(error)))
            continue
        cases.append(case)
        skipped += [Skipped(case.id, note) for note in notes]
    return _some(Cases(cases, tuple(skipped)), root, split)


def _some(found: Cases, root: Path, split: str) -> Cases:
    if not found.cases:
        first = "; ".join(f"{item.case}: {item.reason}" for item in found.skipped[:3])
        raise EmptySplitError(
            f"no patient of the {split} split in {root} can be used ({first or 'none is there'}). "
            "data.options.validation and data.options.test say who is in which split.",
            reasons(found.skipped),
        )
    return found


def _absent(patients: Mapping[int, Patient], split: str, sides: Sides, root: Path) -> list[Skipped]:
    """One entry for all patients of the split that are not in the folder."""
    gone = [name_of(number) for number in KNOWN if number not in patients and sides(number) == split]
    if not gone:
        return []
    others = f" and {len(gone) - 1} more up to {gone[-1]}" if len(gone) > 1 else ""
    return [Skipped(gone[0] + others, f"not in {root}; `unetq download nih` fetches them.")]


def _read(patient: Patient, options: Mapping[str, Any], split: str) -> tuple[Case, list[str]]:
    """One case and what is to be said about it.

    Raises:
        DataError: it cannot be used; the message says why.
    """
    label_path = the_one(patient.labels, f"label label{patient.number:04d}.nii.gz")
    if patient.folders:
        scan, notes = _read_dicom(patient, label_path)
    else:
        path = the_one(patient.volumes, f"image (a folder {patient.name} with DICOM files, or {patient.name}.nii.gz)")
        data, _, place = read_nifti(path)
        if not place.axes:
            raise DataError(f"{path.name} does not say how it lies in space; convert the DICOM series again.")
        scan, notes = Scan(data, place.affine, place.axes, place.spacing), list(place.warnings)
    label, note = place_label(label_path, scan, options["flip"])
    image, axes, spacing = scan.data, scan.axes, scan.spacing
    if axes[2] not in "SI":  # slices are axial: one flag each says whether there is pancreas in it
        image, label = (orient(array, axes, UPRIGHT) for array in (image, label))
        axes, spacing = UPRIGHT, oriented_spacing(spacing, axes, UPRIGHT)
    with_pancreas: NDArray[np.bool_] = np.asarray(label.any(axis=(1, 2)))
    chosen = with_pancreas if split == "train" and options["slices"] == "pancreas" else None
    case = Case(
        f"nih-{patient.number:04d}", image, label, tuple(spacing), axes, patient.name, labelled=chosen
    )  # fmt: skip
    return case, [*notes, *([note] if note else [])]


def _read_dicom(patient: Patient, label_path: Path) -> tuple[Scan, list[str]]:
    folder = the_one(patient.folders, "folder")
    found = [info for info in find_series(folder) if not info.localizer]
    notes = []
    info = found[0] if found else None
    if len(found) > 1:
        info = _matching(found, label_path)
        notes.append(f"of its {len(found)} series, {info.series} was taken: it has as many slices as the label.")
    series = read_series(folder, info.series if info else None)
    stated = PATIENT.fullmatch(series.patient)
    if stated and int(stated[1]) != patient.number:
        raise DataError(
            f"its DICOM files are of patient {series.patient} and lie in the folder {folder.name}: patients are mixed "
            "up; move them to a folder of their name."
        )
    return Scan(series.data, series.affine, series.axes, series.spacing), [*notes, *series.warnings]


def _matching(found: Sequence[SeriesInfo], label_path: Path) -> SeriesInfo:
    slices = len(read_nifti(label_path)[0])
    fitting = [info for info in found if info.images == slices]
    if len(fitting) != 1:
        listed = ", ".join(f"{info.series} ({info.images} slices)" for info in found[:4])
        raise DataError(
            f"it has {len(found)} series ({listed}) and {len(fitting)} of them have the {slices} slices of its label: "
            "one is expected; move the others out."
        )
    return fitting[0]


def _sides(options: Mapping[str, Any]) -> Sides:
    """A function from a patient's number to its split.

    Raises:
        ConfigError: an entry that is no number. DataError: a patient on two sides.
    """
    lists: dict[str, set[int]] = {}
    for key in ("validation", "test"):
        for entry in options[key]:
            if isinstance(entry, bool) or not isinstance(entry, int) or entry < 1:
                raise ConfigError(
                    f"option {key} has the entry {entry!r}: it lists patients by number, such as 64; correct it."
                )
        lists[key] = set(options[key])
    if both := sorted(lists["validation"] & lists["test"]):
        raise DataError(
            f"patient {both[0]} would be in validation and in test: no patient may be on two sides; remove one entry "
            "of data.options.validation or data.options.test."
        )
    return lambda number: next((name for name, members in lists.items() if number in members), "train")


def _configure(spec: DatasetSpec, options: Mapping[str, Any]) -> DatasetSpec:
    for key, known in (("flip", FLIPS), ("slices", SLICES)):
        if options[key] not in known:
            raise ConfigError(
                f"option {key} = {options[key]!r}: the pancreas data have {', '.join(known)}; choose one."
            )
    return replace(spec)


DATASET = DatasetSpec(
    name="nih",
    labels=("background", "pancreas"),
    label_values=(0, 1),
    preprocessing=Preprocessing("window", low=-160.0, high=240.0, orientation=UPRIGHT),
    loader=_load,
    defaults=DEFAULTS,
    configure=_configure,
    layout=LAYOUT,
    test_apart=True,  # by the patients' numbers; a copy under another number is found when the test split is scored
    citation=CITATION,
)
