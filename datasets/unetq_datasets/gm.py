"""Grey matter of the spinal cord on axial MRI: the 2017 challenge's layout, or BIDS with manual masks.

The challenge (Prados et al. 2017) has 4 sites, 10 labelled subjects each, 4 raters:

    site1-sc01-image.nii.gz  site1-sc01-mask-r1.nii.gz … -r4.nii.gz     1 grey matter, 2 white matter

in one folder or in folders below it. ``consensus`` joins the raters: "majority", "staple", or one of "r1" … "r4".
BIDS has one rater:

    participants.tsv                                                    participant_id … Site
    sub-9418/anat/sub-9418_run-1_T2starw.nii.gz                         any contrast by the option ``contrast``
    derivatives/labels/sub-9418/anat/sub-9418_run-1_T2starw_gmseg-manual.nii.gz    grey matter
    derivatives/labels/sub-9418/anat/sub-9418_run-1_T2starw_seg-manual.nii.gz      the whole cord

Which of them a folder holds is found by itself. ``structure`` "gm" has two classes, "gm+wm" a third, the white
matter: the raters' own, or the cord without its grey matter. Every run is a case. A person's sessions stay together,
also where they are named as participants (sub-10062Ses1, sub-10062Ses2). Slices on which nobody drew the cord have
no truth and are left out. ``axes`` is how files lie that do not say. For the splits see ``_gm_splits``; leaving sites
out is ``data.by: site``.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from unetq.cases import Case, Cases, Skipped, reasons
from unetq.data import DatasetSpec
from unetq.errors import ConfigError, DataError, EmptySplitError
from unetq.export.program import Preprocessing
from unetq.geometry import check_axes

from ._gm_layout import find_scans
from ._gm_read import read_scan
from ._gm_splits import scans_of

CONSENSUS = ("majority", "staple", "r1", "r2", "r3", "r4")
STRUCTURES = {"gm": ("background", "grey matter"), "gm+wm": ("background", "grey matter", "white matter")}
DEFAULTS: dict[str, Any] = {
    "structure": "gm",
    "consensus": "majority",
    "contrast": "T2starw",
    "axes": "",
    "validation": [],
    "test": [],
}
LAYOUT = (
    "Put the challenge's siteS-scNN-image.nii.gz and siteS-scNN-mask-rR.nii.gz there, or a BIDS folder: "
    "sub-*/anat/*_T2starw.nii.gz with derivatives/labels/sub-*/anat/*_T2starw_gmseg-manual.nii.gz (and _seg-manual)."
)
CITATION = (
    "Challenge: Prados F, et al. (2017). Spinal cord grey matter segmentation challenge. NeuroImage 152: 312-329; its "
    "data are given on registration. BIDS: the data of https://github.com/sct-pipeline/gm-challenge, CC0 1.0."
)


def _load(root: Path | None, split: str, options: Mapping[str, Any]) -> Cases:
    if root is None:
        raise DataError(f"the grey matter data need a folder. {LAYOUT}")
    found = find_scans(root, options["contrast"], LAYOUT)
    cases: list[Case] = []
    skipped: list[Skipped] = list(found.skipped)
    for scan in scans_of(found.scans, split, options, root):
        try:
            case, left_out = read_scan(scan, options)
        except DataError as error:
            skipped.append(Skipped(scan.id, str(error).replace(f"{root}/", "")))  # no path of this machine in results
            continue
        cases.append(case)
        skipped.extend(left_out)
    if not cases:
        first = "; ".join(f"{item.case}: {item.reason}" for item in skipped[:3])
        raise EmptySplitError(
            f"no case of the {split} split in {root} can be used ({len(skipped)} skipped). {first}", reasons(skipped)
        )
    return Cases(cases, tuple(skipped))


def _configure(spec: DatasetSpec, options: Mapping[str, Any]) -> DatasetSpec:
    for key, known in (("structure", tuple(STRUCTURES)), ("consensus", CONSENSUS)):
        if options[key] not in known:
            raise ConfigError(
                f"option {key} = {options[key]!r}: the grey matter data have {', '.join(known)}; choose one."
            )
    if not options["contrast"] or not options["contrast"].isalnum():
        raise ConfigError(
            f"option contrast = {options['contrast']!r}: it is a BIDS suffix such as T2starw; correct it."
        )
    if options["axes"]:
        check_axes(options["axes"], "option axes =")
    labels = STRUCTURES[options["structure"]]
    return replace(spec, labels=labels, label_values=tuple(range(len(labels))))


DATASET = DatasetSpec(
    name="gm",
    labels=STRUCTURES["gm"],
    label_values=(0, 1),
    preprocessing=Preprocessing("zscore", over="volume", orientation="RAS", spacing=(0.5, 0.5)),
    loader=_load,
    defaults=DEFAULTS,
    configure=_configure,
    layout=LAYOUT,
    citation=CITATION,
)
