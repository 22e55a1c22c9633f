"""Slices put back into volumes, and what ``metrics.json`` says of each case, each class, each site.

The unit of every mean, interval and test is the case (a volume), because slices of one volume resemble each other.
Where a split is one volume of slices of no person (EM), the unit is the slice; intervals then speak of that volume
alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .boundaries import METHOD, mean_scores, membrane_class
from .experiment import EvaluationConfig
from .metrics import BACKGROUND, Counts, SliceScore, class_scores, correlation, mean_of
from .samples import Sample
from .statistics import CONFIDENCE, FEW, FEWEST, NO_INTERVAL, TOO_NARROW, describe_mean, paired
from .surface import distances

Mask = NDArray[np.uint8]
METRICS = ("dice", "iou", "hd95_mm", "nsd", "volume_ml", "true_volume_ml", "volume_error")
ONE_VOLUME = "all slices are of one volume: intervals and tests speak of that volume, not of other ones"


@dataclass(frozen=True)
class Unit:
    """A case, or a slice of a split's only volume: ``members`` are places in the list of samples, in slice order."""

    id: str
    volume: str
    subject: str
    site: str
    spacing: tuple[float, ...]
    members: tuple[int, ...]
    slices: tuple[int, ...]


def units(samples: Sequence[Sample]) -> tuple[str, list[Unit]]:
    """("case" or "slice", the units of a split in the order in which their first samples come)."""
    volumes: dict[str, list[int]] = {}
    for place, sample in enumerate(samples):
        volumes.setdefault(sample.volume, []).append(place)
    if len(volumes) == 1 and samples[0].image.ndim == 3 and not samples[0].subject:
        return "slice", [_unit(samples, [place], sample.id) for place, sample in enumerate(samples)]
    return "case", [_unit(samples, members, volume) for volume, members in volumes.items()]


def _unit(samples: Sequence[Sample], members: list[int], name: str) -> Unit:
    first = samples[members[0]]
    if first.image.ndim == 4:
        slices = [first.index + number for number in range(first.image.shape[1])]
    else:
        slices = [samples[place].index for place in members]
        if len(set(slices)) < len(slices):
            slices = list(range(len(members)))  # a loader that does not number slices gives them in order
        order = np.argsort(slices)
        members, slices = [members[i] for i in order], [slices[i] for i in order]
    subject = first.subject or first.volume
    return Unit(name, first.volume, subject, first.site, tuple(first.spacing), tuple(members), tuple(slices))


def stack(unit: Unit, planes: Sequence[NDArray[Any]]) -> NDArray[Any] | None:
    """The unit's planes as (slices, H, W), in slice order; None where they differ in size.

    Args:
        unit: whose ``members`` are taken.
        planes: an array for each sample of the split, (H, W), or (D, H, W) of a 3-D network.
    """
    found = [planes[place] for place in unit.members]
    if found[0].ndim == 3:
        return found[0]
    return np.stack(found) if len({plane.shape for plane in found}) == 1 else None


def _in_place(unit: Unit, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``mask`` (slices, H, W) with every slice at its number; slices without truth are empty, in both masks alike."""
    first, last = unit.slices[0], unit.slices[-1]
    if last - first + 1 == len(unit.slices):
        return mask
    placed = np.zeros((last - first + 1, *mask.shape[1:]), np.bool_)
    placed[np.asarray(unit.slices) - first] = mask
    return placed


@dataclass(frozen=True)
class Assessor:
    """Scores the masks of one split.

    Attributes:
        samples: all with labels.
        labels: a name a class.
        settings: the ``evaluation`` section.
        seed: of the bootstrap.
    """

    samples: Sequence[Sample]
    labels: Sequence[str]
    settings: EvaluationConfig
    seed: int

    def record(self, scores: Sequence[SliceScore], masks: Sequence[Mask]) -> dict[str, Any]:
        """What one arithmetic's record gains: cases, summaries, sites, volume correlation, and how they were made.

        Args:
            scores: pixel counts, a sample.
            masks: class indices, a sample, of its label's shape.
        """
        kind, members = units(self.samples)
        known = [bool(unit.spacing) for unit in members]
        counts = [reduce(add, [scores[place].counts for place in unit.members]) for unit in members]
        cases = [
            self._case(unit, count, masks, measured=has_spacing or not any(known))
            for unit, count, has_spacing in zip(members, counts, known, strict=True)
        ]
        notes = [ONE_VOLUME] if kind == "slice" and len(cases) > 1 else []
        persons = len({unit.subject for unit in members})
        if kind == "case" and persons < len(members):
            notes.append(f"{len(members)} cases of {persons} persons: those of one person count as independent")
        notes += [NO_INTERVAL] if len(cases) < FEWEST else [TOO_NARROW] if len(cases) < FEW else []
        if any(known) and not all(known):
            notes.append("cases without spacing have no distances and no volumes")
        return {
            "unit": kind,
            "distance_unit": "mm" if any(known) else "pixels",
            "nsd_tolerance": self.settings.nsd_tolerance_mm,
            "cases": cases,
            "summary": self._summary(cases),
            **self._boundaries(cases),
            "by_site": self._sites(cases),
            "volume_correlation": self._correlation(cases, counts, known),
            "bootstrap": {
                "samples": self.settings.bootstrap,
                "seed": self.seed,
                "method": "BCa",
                "confidence": CONFIDENCE,
                **({"note": "; ".join(notes)} if notes else {}),
            },
        }

    def _case(self, unit: Unit, counts: Counts, masks: Sequence[Mask], *, measured: bool) -> dict[str, Any]:
        classes = class_scores(counts, self.labels, unit.spacing, self.settings.empty)
        truth = stack(unit, [_label(sample) for sample in self.samples])
        prediction = stack(unit, masks)
        for index, label in enumerate(self.labels):
            classes[label] |= {"hd95_mm": None, "nsd": None}
            if not self.settings.hd95 or not measured or label == BACKGROUND or truth is None or prediction is None:
                continue
            mine, true = (_in_place(unit, values == index) for values in (prediction, truth))
            found = distances(mine, true, unit.spacing, self.settings.nsd_tolerance_mm, self.settings.empty)
            classes[label] |= {"hd95_mm": found.hd95, "nsd": found.nsd}
        membrane = membrane_class(self.labels)
        scores = None
        if membrane is not None and truth is not None and prediction is not None:
            scores = mean_scores(prediction, truth, membrane)
        return {
            "id": unit.id,
            "volume": unit.volume,
            "subject": unit.subject,
            "site": unit.site,
            "slices": len(unit.slices),
            "spacing_mm": list(unit.spacing) or None,
            "classes": {label: {name: values[name] for name in METRICS} for label, values in classes.items()},
            "scores": {} if scores is None else {"rand": scores.rand, "information": scores.information},
        }

    def _mean(self, values: Sequence[float | None]) -> dict[str, Any]:
        return describe_mean(values, self.settings.bootstrap, self.seed)

    def _summary(self, cases: Sequence[dict[str, Any]]) -> dict[str, Any]:
        return {
            label: {name: self._mean([case["classes"][label][name] for case in cases]) for name in METRICS}
            for label in self.labels
        }

    def _boundaries(self, cases: Sequence[dict[str, Any]]) -> dict[str, Any]:
        if membrane_class(self.labels) is None:
            return {}
        found = {name: self._mean([case["scores"].get(name) for case in cases]) for name in ("rand", "information")}
        return {"score_summary": found, "score_method": METHOD}

    def _sites(self, cases: Sequence[dict[str, Any]]) -> dict[str, Any]:
        sites = sorted({case["site"] for case in cases if case["site"]})
        return {
            site: {
                label: {
                    name: mean_of([case["classes"][label][name] for case in cases if case["site"] == site])
                    for name in METRICS
                }
                for label in self.labels
            }
            for site in sites
        }

    def _correlation(
        self, cases: Sequence[dict[str, Any]], counts: Sequence[Counts], known: Sequence[bool]
    ) -> dict[str, float | None]:
        """Pearson's r of predicted and true volume over cases: in ml, or in voxels where no spacing is known."""
        result: dict[str, float | None] = {}
        for index, label in enumerate(self.labels):
            if any(known):
                found = [case["classes"][label] for case in cases if case["spacing_mm"]]
                result[label] = correlation([c["volume_ml"] for c in found], [c["true_volume_ml"] for c in found])
            else:
                result[label] = correlation([c.predicted[index] for c in counts], [c.true[index] for c in counts])
        return result


def paired_dice(
    record: dict[str, Any], reference: dict[str, Any], labels: Sequence[str], settings: EvaluationConfig, seed: int
) -> dict[str, Any]:
    """Dice of two records, ``record`` minus ``reference``, over units that both have, by label."""
    other = {case["id"]: case["classes"] for case in reference["cases"]}
    result = {}
    for label in labels:
        pairs = [
            (case["classes"][label]["dice"], other[case["id"]][label]["dice"])
            for case in record["cases"]
            if case["id"] in other
        ]
        whole = [(a, b) for a, b in pairs if a is not None and b is not None]
        found = paired([a for a, _ in whole], [b for _, b in whole], settings.bootstrap, seed)
        result[label] = {"metric": "dice", **found}
    return result


def _label(sample: Sample) -> Mask:
    assert sample.label is not None  # evaluate() has refused samples without labels
    return sample.label
