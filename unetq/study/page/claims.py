"""What the literature claims of low bits, each put to the study's own figures. See ``statistics`` for the rules."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from . import figures
from .figures import HERE, compact, elsewhere, is_here
from .findings import Finding, against_float, ordered, predicts, trend, with_interval, within_draws
from .record import TITLES, Study
from .statistics import Verdict, holm, mean_of, p_of, sign_verdict, within_verdict

QREG = "QReg, AskariHemmat et al. 2022, arXiv 2206.12372"
QGEN = "QGen, AskariHemmat et al. 2024, arXiv 2404.11769"
SAQ = "SAQ, Liu et al. 2021, arXiv 2111.12273"
MARGIN = 0.005
"""Half a point of Dice: less is no loss."""
SHARE = 0.2
"""Gaps that differ by less than this share of float's are called alike."""


@dataclass(frozen=True)
class Claim:
    """A sentence of the literature, the rule it is held against, and what was found; no finding: nothing to test."""

    key: str
    sentence: str
    source: str
    rule: str
    findings: tuple[Finding, ...]

    def count(self, verdict: Verdict) -> int:
        """How many findings have this verdict."""
        return sum(finding.verdict == verdict for finding in self.findings)


def claims_of(study: Study) -> tuple[Claim, ...]:
    """All claims, in the order of the page."""
    found = [make(study) for make in CLAIMS]
    stands = iter(holm([finding.p for claim in found for finding in claim.findings]))
    return tuple(
        replace(
            claim,
            findings=tuple(
                replace(finding, stands=next(stands) and finding.verdict != "undecided") for finding in claim.findings
            ),
        )
        for claim in found
    )


def _present(findings: Iterable[Finding | None]) -> tuple[Finding, ...]:
    return tuple(finding for finding in findings if finding is not None)


def _smaller_gap(study: Study) -> Claim:
    found = [trend(study, arm, figure, -1) for arm in study.arms for figure in (figures.LOSS_GAP, figures.DICE_GAP)]
    return Claim(
        "gap", "The lower the bits, the smaller the gap between training and validation.", f"{QREG}; {QGEN}",
        "The change of the gap with each halving of the bits (slope over −log₂, float at 32): below 0 supports.",
        _present(found),
    )  # fmt: skip


def _better(study: Study) -> Claim:
    found = [
        against_float(study, arm, figure, sign)
        for arm in study.arms
        for figure, sign in ((figures.LOSS, -1), (figures.DICE, 1))
    ]
    return Claim(
        "better", "Low bits regularise: the networks do better on validation data, not only worse on training data.",
        QREG, "Validation loss below float's, Dice above it, supports.", _present(found),
    )  # fmt: skip


def _eight(study: Study) -> Claim:
    found: list[Finding | None] = []
    for arm in study.arms:
        gaps = study.differences(arm, 8, figures.LOSS_GAP.get)
        dice = study.differences(arm, 8, figures.DICE.get)
        for figure, values, claimed, limit, words in (
            (figures.LOSS_GAP, gaps, -1, 0.0, "gap of the loss at 8 bits less float's"),
            (figures.DICE, dice, 1, -MARGIN, "validation Dice at 8 bits less float's, against −0.50 points"),
        ):
            if values:
                mean = mean_of(values)
                verdict, p = sign_verdict(mean, claimed, limit), p_of(mean, limit)
                text = with_interval(mean, figure.difference)
                found.append(Finding(TITLES[arm], words, text, p, mean.seeds, verdict))
    return Claim(
        "eight", "8 bits are a reliable regulariser and cost nothing.", QREG,
        f"A gap below float's supports; so does validation Dice above float's less {100 * MARGIN:g} points.",
        _present(found),
    )  # fmt: skip


def _flatter(study: Study) -> Claim:
    found: list[Finding | None] = []
    for arm in study.arms:
        low, high = elsewhere(study, arm)
        for figure in figures.JUDGED:
            finding = against_float(study, arm, figure, -1)
            if finding is not None and not is_here(low, high):
                why = f"not judged: the loss there is ×{compact(low)} to ×{compact(high)} of the training loss"
                finding = replace(finding, what=f"{finding.what}; {why}", p=None, verdict="undecided")
            found.append(finding)
    return Claim(
        "flatter", "Quantised networks lie in flatter minima than float ones.",
        f"{QGEN}; {SAQ} starts from the opposite",
        "A sharpness below float's supports (a ratio below 1 where all values are positive). It is measured with "
        f"activations not rounded: where that moves the loss by more than a factor of {HERE:g}, nothing is judged.",
        _present(found),
    )  # fmt: skip


def _sharper_gap(study: Study) -> Claim:
    arms = ("float", *(arm for arm in study.arms if is_here(*elsewhere(study, arm))))
    return Claim(
        "sharper", "The sharper the minimum, the larger the gap.", QGEN,
        "A positive rank correlation with the gap of the loss supports, where p < 0.05 by permutation; arms whose "
        "sharpness is not judged are left out.",
        _present(ordered(study, figure, figures.LOSS_GAP, arms=arms) for figure in figures.JUDGED),
    )  # fmt: skip


def _uniform(study: Study) -> Claim:
    what = "|rise by rounding − mean rise by noise| / spread of single draws of noise"
    found = [within_draws(study, arm, figures.OFF_NOISE, what) for arm in study.arms]
    found.append(ordered(study, figures.UNIFORM, figures.ROUNDING))
    return Claim(
        "uniform", "Uniform noise of the same variance raises the loss as rounding does.", QREG,
        "Rounding is one draw where the model speaks of a mean: within 2 spreads of noise's draws supports, since of "
        "normal draws one in twenty is beyond; so does a positive rank correlation.",
        _present(found),
    )  # fmt: skip


def _trace(study: Study) -> Claim:
    what = "|rise by rounding − Σ s²/24 · tr H| / spread predicted, |g·s| / √12"
    found = [predicts(study, arm, figures.PREDICTED, figures.UNIFORM) for arm in study.arms]
    found += [within_draws(study, arm, figures.OFF_PREDICTED, what) for arm in study.arms]
    found.append(ordered(study, figures.PREDICTED, figures.UNIFORM))
    return Claim(
        "trace", "s²/24 · tr H predicts the rise of the loss.", QREG,
        "Less than a factor of 2 from the mean rise by uniform noise, by |a − b| / (|a| + |b|), supports; so does a "
        "rise by rounding within 2 spreads, and a positive rank correlation with noise.",
        _present(found),
    )  # fmt: skip


def _noise(study: Study) -> Claim:
    found: list[Finding | None] = []
    noise, weights = (study.grid(arm, figures.LOSS_GAP.get) for arm in ("noise", "weights"))
    if noise is not None and weights is not None and noise.bits == weights.bits:
        seeds = [seed for seed in noise.seeds if seed in weights.seeds]
        rows = [noise.low[noise.seeds.index(seed)] - weights.low[weights.seeds.index(seed)] for seed in seeds]
        margin = SHARE * abs(float(noise.float.mean()))
        if seeds and margin > 0:
            mean = mean_of(np.array(rows).mean(axis=1))
            verdict, p = within_verdict(mean, margin)
            text = figures.LOSS_GAP.difference
            parts = [(bits, mean_of([row[place] for row in rows])) for place, bits in enumerate(noise.bits)]
            found.append(
                Finding(
                    "noise less rounding of weights",
                    f"{figures.LOSS_GAP.title}, mean over widths, against ±{figures.compact(margin)}",
                    with_interval(mean, text), p, mean.seeds, verdict,
                    tuple((f"{bits} bits", with_interval(part, text)) for bits, part in parts),
                )
            )  # fmt: skip
    return Claim(
        "noise", "Training with uniform noise in the weights regularises as training with rounded weights does.", QREG,
        f"Gaps alike within {100 * SHARE:g} % of float's support.", _present(found),
    )  # fmt: skip


def _robust(study: Study) -> Claim:
    found = []
    for arm in study.arms:
        finding = against_float(study, arm, figures.DROP, -1)
        if finding is None:
            continue
        parts = []
        for name in study.distortions:
            grid = study.grid(arm, figures.drop_of(name).get)
            if grid is not None:
                mean = mean_of((grid.low - grid.float[:, None]).mean(axis=1))
                parts.append((name.replace("_", " "), with_interval(mean, figures.DROP.difference)))
        found.append(replace(finding, parts=tuple(parts)))
        found += _present([against_float(study, arm, figures.DISTORTED, 1)])
    return Claim(
        "robust", "Quantised networks are more robust to distorted inputs.", QGEN,
        "Dice lost to distortion (mean over kinds and severities) below what float loses supports; so does more Dice "
        "than float's on distorted images, since a network that finds little has little to lose.", tuple(found),
    )  # fmt: skip


def _bound(study: Study) -> Claim:
    return Claim(
        "bound", "The bound orders the networks as the gap does.", QGEN,
        "A positive rank correlation supports, where p < 0.05 by permutation.",
        _present(
            ordered(study, bound, of)
            for bound in (figures.BOUND, figures.NOISE_BOUND)
            for of in (figures.LOSS_GAP, figures.LOSS)
        ),
    )  # fmt: skip


CLAIMS: tuple[Callable[[Study], Claim], ...] = (
    _smaller_gap, _better, _eight, _flatter, _sharper_gap, _uniform, _trace, _noise, _robust, _bound,
)  # fmt: skip
