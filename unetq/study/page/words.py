"""What the page says of its figures, computed: no sentence without a number from ``study.json``."""

from collections.abc import Sequence

from . import figures
from .claims import Claim
from .figures import EIGENVALUE, NORM, TRACE, Figure, compact, elsewhere, tick
from .findings import against_float, with_interval
from .record import TITLES, Study
from .statistics import LEVEL, VERDICTS, mean_of


def heading(study: Study) -> str:
    """The data and the network."""
    config = study.record.config
    network, data = (config.get(key, {}).get("name", "") for key in ("network", "data"))
    return f"What low bits do to training: {data or 'unnamed data'}, network {network or 'unnamed'}"


def conclusion(study: Study, claims: Sequence[Claim]) -> tuple[str, ...]:
    """The counts of verdicts, and what stands when all of them together may err with 5 %."""
    findings = [finding for claim in claims for finding in claim.findings]
    if not findings:
        return ("No claim could be tested: the study has no float run beside low-bit ones of the same seed.",)
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in VERDICTS}
    stand = sum(finding.stands for finding in findings)
    by_chance = LEVEL * sum(finding.p is not None for finding in findings)
    seeds = len(study.seeds)
    lines = [
        f"{len(findings)} findings from {seeds} seed{'' if seeds == 1 else 's'}: {counts['supported']} support a "
        f"claim, {counts['contradicted']} contradict one, {counts['undecided']} are undecided. Chance alone would "
        f"decide about {by_chance:.1f}; {stand} stand when all findings together may err with 5 % (Holm)."
    ]
    if seeds < 2:
        lines.append("1 seed has no interval: nothing but orders can be decided. Train 3 or more.")
    if study.missing:
        lines.append(f"Missing, and the seed left out of its means over widths: {'; '.join(study.missing)}.")
    return tuple(lines)


def verdict_text(claim: Claim) -> str:
    """``2 supported · 1 undecided``; "not tested" without findings."""
    counts = ((claim.count(verdict), verdict) for verdict in VERDICTS)
    return " · ".join(f"{count} {verdict}" for count, verdict in counts if count) or "not tested"


def facts(study: Study, part: str) -> tuple[str, ...]:
    """What is to be known beside the plots of a part, in figures."""
    found = {"gap": _gap, "sharpness": _sharpness, "twins": _twins, "robustness": _robustness, "bound": _bound}[part](
        study
    )
    return tuple(found)


def _float_mean(study: Study, figure: Figure) -> str:
    values = list(study.values("float", 32, figure.get).values())
    return with_interval(mean_of(values), figure.text) if values else "unknown"


def _range(values: Sequence[float], figure: Figure) -> str:
    low, high = figure.text(min(values)), figure.text(max(values))
    return low if low == high else f"{low} to {high}"


def _values(study: Study, figure: Figure) -> list[float]:
    return [value for run in study.record.runs if (value := figure.get(run)) is not None]


def _gap(study: Study) -> list[str]:
    lines = []
    if study.bits("float"):
        lines.append(
            f"Float's gap: {_float_mean(study, figures.LOSS_GAP)} of the loss, {_float_mean(study, figures.DICE_GAP)} "
            f"points of Dice; its validation Dice {_float_mean(study, figures.DICE)} %."
        )
    for arm in study.arms:
        changes = [(figure, against_float(study, arm, figure, -1)) for figure in (figures.LOSS_TRAIN, figures.LOSS)]
        if all(found is not None for _, found in changes):
            told = " and ".join(f"{figure.title} {found.estimate}" for figure, found in changes if found is not None)
            lines.append(f"{TITLES[arm]}: {told}, less float's, mean over widths: which of the two moved the gap.")
    return lines


def _sharpness(study: Study) -> list[str]:
    records = [run.sharpness for run in study.record.runs if run.sharpness is not None]
    if not records:
        return []
    lines = [
        f"ρ = {tick(records[0].rho)}, of the magnitude-aware rise {tick(records[0].adaptive_rho)}; "
        f"{records[0].weights:,} weights. Standard error of a trace, at most: "
        f"{compact(max(record.trace.error for record in records))}; relative residual of an eigenvalue, at most: "
        f"{compact(max(record.eigenvalue.residual for record in records))}."
    ]
    ranges = [(arm, *elsewhere(study, arm)) for arm in ("float", *study.arms) if study.bits(arm)]
    told = "; ".join(f"{TITLES[arm]} {compact(low)} to {compact(high)}" for arm, low, high in ranges)
    lines.append(
        "The loss that it is measured on (fixed crops, activations clipped to their grids, not rounded), over the "
        f"training loss: {told}."
    )
    negative = sum(record.trace.value <= 0 for record in records)
    if negative:
        lines.append(
            f"{negative} of {len(records)} traces are not positive: its axis is plain, its figures differences."
        )
    for arm in study.arms:
        beside = [(figure, against_float(study, arm, figure, -1)) for figure in (NORM, TRACE, EIGENVALUE)]
        told = ", ".join(f"{figure.title} {finding.estimate}" for figure, finding in beside if finding is not None)
        lines += [f"{TITLES[arm]}, against float's, mean over widths: {told}."] if told else []
    lines.append(
        "Rise, traces and eigenvalue change when a layer is scaled and its normalisation undoes it (Dinh et al. 2017, "
        "arXiv 1703.04933), so they compare networks only as far as their norms are alike; the magnitude-aware rise "
        "does not (Kwon et al. 2021, arXiv 2102.11600)."
    )
    return lines


def _twins(study: Study) -> list[str]:
    twins = [run.twin for run in study.record.runs if run.twin is not None]
    if not twins:
        return []
    errors = max(twin.uniform.error for twin in twins)
    return [
        f"{len(twins)} networks; {min(twin.uniform.draws for twin in twins)} draws of noise or more, standard error of "
        f"a mean rise at most {compact(errors)}. Solid: both alike; dashed: twice, and half."
    ]


def _robustness(study: Study) -> list[str]:
    if not study.distortions:
        return []
    count = max(len(scores) for run in study.record.runs for scores in run.robustness.values())
    return [
        f"{len(study.distortions)} distortions at {count} severities, drops averaged over severities. Float loses "
        f"{_float_mean(study, figures.DROP)} points over all of them."
    ]


def _bound(study: Study) -> list[str]:
    runs = [run for run in study.record.runs if run.bound is not None]
    if not runs:
        return []
    pairs = [(run.bound.value, run.loss.validation) for run in runs if run.bound is not None]
    above = sum(bound >= loss for bound, loss in pairs)
    lines = [f"The bound is {_range(_values(study, figures.BOUND), figures.BOUND)}, above the validation loss in "
             f"{above} of {len(pairs)} networks."]  # fmt: skip
    ratios = [bound / loss for bound, loss in pairs if loss > 0]
    if ratios:
        lines[0] += f" It is {compact(min(ratios))} to {compact(max(ratios))} times that loss."
    bounds = [run.bound for run in runs if run.bound is not None]
    limits = [(bound.value, bound.limit) for bound in bounds if bound.limit is not None]
    if limits:
        vacuous = sum(value >= limit for value, limit in limits)
        lines.append(
            f"It is vacuous in {vacuous} of {len(limits)} networks: at or above {tick(limits[0][1])}, the largest loss "
            "that it reckons with, it says nothing of a single network; whether it orders them can still be asked."
        )
    return lines
