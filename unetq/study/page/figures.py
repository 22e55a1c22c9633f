"""The figures of a run that the page draws, tables and judges: how to get one, what it is called, how it is written."""

import math
from dataclasses import dataclass

from .record import MEAN, Get, Run, Study

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def signed(value: float, digits: int) -> str:
    """``+0.012``, ``−0.012``, ``±0``."""
    rounded = round(value, digits)
    return "±0" if rounded == 0 else f"{rounded:+.{digits}f}".replace("-", "−")


def compact(value: float, digits: int = 3) -> str:
    """So many digits, the exponent written out: ``0.0312``, ``2.50·10⁻⁵``."""
    text = f"{value:#.{digits}g}"
    if "e" not in text:
        return text.removesuffix(".").replace("-", "−")
    mantissa, exponent = text.split("e")
    return f"{mantissa.removesuffix('.')}·10{str(int(exponent)).translate(SUPERSCRIPT)}".replace("-", "−")


def tick(value: float) -> str:
    """A round number: ``0.02``, ``10⁻⁵``."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:g}".replace("-", "−")
    mantissa, exponent = f"{value:.3e}".split("e")
    number = f"{float(mantissa):g}"
    power = f"10{str(int(exponent)).translate(SUPERSCRIPT)}"
    return power if number == "1" else f"{number}·{power}".replace("-", "−")


@dataclass(frozen=True)
class Figure:
    """One number of a run.

    Attributes:
        key, title: for programs and for people.
        get: the number, None where it was not measured.
        scale: what it is multiplied by to be shown (100: points of Dice).
        digits: decimals of a difference.
        log: whether it is compared as a ratio and drawn on a logarithmic axis, where all values are positive.
    """

    key: str
    title: str
    get: Get
    scale: float = 1.0
    digits: int = 4
    log: bool = False

    @property
    def change(self) -> str:
        """What a difference of it is called."""
        return self.title.replace("(%)", "(points)")

    def text(self, value: float | None) -> str:
        """A value as it stands in a table."""
        if value is None:
            return "–"
        shown = self.scale * value
        return (
            compact(shown)
            if self.log or self.scale == 1.0
            else signed(shown, 2).removeprefix("+").replace("±0", "0.00")
        )

    def difference(self, value: float) -> str:
        """A difference, signed."""
        shown = self.scale * value
        if self.scale == 1.0 and abs(shown) >= 1:
            return ("+" if shown > 0 else "") + compact(shown, 4)
        if shown and round(shown, self.digits) == 0:
            return ("+" if shown > 0 else "−") + compact(abs(shown), 1)
        return signed(shown, self.digits)


def factor(value: float) -> str:
    """The logarithm of a ratio as ``×1.23``."""
    if not -700 < value < 700:
        return "×∞" if value > 0 else "×0"
    return f"×{compact(math.exp(value))}"


def drop(run: Run, distortion: str | None = None) -> float | None:
    """Dice lost on distorted validation slices, mean over the severities of one distortion, or of all of them."""
    names = run.robustness if distortion is None else [distortion]
    drops = [
        run.dice.validation[MEAN] - sum(scores.values()) / len(scores)
        for name in names
        if (scores := run.robustness.get(name))
    ]
    return sum(drops) / len(drops) if drops else None


def _less(value: float, other: float | None) -> float | None:
    return None if other is None else value - other


def _off(value: float, mean: float, spread: float | None) -> float | None:
    return abs(value - mean) / spread if spread else None


def drop_of(distortion: str) -> Figure:
    """The same as a figure of its own."""
    return Figure(
        f"drop-{distortion}",
        f"{distortion.replace('_', ' ')}: Dice lost (points)",
        lambda run: drop(run, distortion),
        100,
        2,
    )


LOSS_TRAIN = Figure("loss-train", "training loss", lambda run: run.loss.train)
LOSS = Figure("loss", "validation loss", lambda run: run.loss.validation)
LOSS_GAP = Figure("gap-loss", "gap of the loss", lambda run: run.gap.loss)
DICE_TRAIN = Figure("dice-train", "training Dice (%)", lambda run: run.dice.train[MEAN], 100, 2)
DICE = Figure("dice", "validation Dice (%)", lambda run: run.dice.validation[MEAN], 100, 2)
DICE_GAP = Figure("gap-dice", "gap of Dice (points)", lambda run: run.gap.dice, 100, 2)
ASCENT = Figure("ascent", "rise within ρ (SAM)", lambda run: run.sharpness.ascent if run.sharpness else None, log=True)
ADAPTIVE = Figure(
    "adaptive", "rise within ρ·|w| (ASAM)", lambda run: run.sharpness.adaptive if run.sharpness else None, log=True
)
TRACE = Figure(
    "trace", "trace of the Hessian", lambda run: run.sharpness.trace.value if run.sharpness else None, log=True
)
EIGENVALUE = Figure(
    "eigenvalue", "top eigenvalue", lambda run: run.sharpness.eigenvalue.value if run.sharpness else None, log=True
)
SMOOTHED = Figure(
    "smoothed",
    "trace over finite moves",
    lambda run: run.sharpness.smoothed.value if run.sharpness and run.sharpness.smoothed else None,
    log=True,
)
NORM = Figure("norm", "norm of the weights", lambda run: run.sharpness.norm if run.sharpness else None, log=True)
JUDGED = (ASCENT, ADAPTIVE, SMOOTHED)
"""What finite moves see. Trace and eigenvalue are told beside: a channel of next to no variance makes them large at a
point, although no move of any use sees it."""
SHARPNESS = (*JUDGED, TRACE, EIGENVALUE, NORM)
ROUNDING = Figure("rounding", "rise by rounding", lambda run: run.twin.rounding if run.twin else None, log=True)
UNIFORM = Figure("uniform", "rise by uniform noise", lambda run: run.twin.uniform.mean if run.twin else None, log=True)
CLIPPING = Figure("clipping", "rise by clipping to the grid", lambda run: run.twin.clipping if run.twin else None)
SPREAD = Figure("spread", "spread of single draws", lambda run: run.twin.uniform.spread if run.twin else None, log=True)
OFF_NOISE = Figure(
    "off-noise",
    "rounding off the mean of noise, in spreads of its draws",
    lambda run: _off(run.twin.rounding, run.twin.uniform.mean, run.twin.uniform.spread) if run.twin else None,
)
OFF_PREDICTED = Figure(
    "off-predicted",
    "rounding off Σ s²/24 · tr H, in spreads predicted",
    lambda run: _off(run.twin.rounding, run.twin.predicted, run.twin.predicted_spread) if run.twin else None,
)
PREDICTED = Figure("predicted", "Σ s²/24 · tr H", lambda run: run.twin.predicted if run.twin else None, log=True)
DROP = Figure("drop", "Dice lost, all distortions (points)", drop, 100, 2)
DISTORTED = Figure(
    "distorted", "Dice on distorted images (%)", lambda run: _less(run.dice.validation[MEAN], drop(run)), 100, 2
)
BOUND = Figure("bound", "bound of the loss", lambda run: run.bound.value if run.bound else None, log=True)
NOISE_BOUND = Figure(
    "noise-bound",
    "bound of the loss with noise",
    lambda run: run.bound.noise.value if run.bound and run.bound.noise else None,
    log=True,
)
HERE = 2.0
"""Sharpness is of the network where the loss it is measured on is the training loss within this factor."""


def elsewhere(study: Study, arm: str) -> tuple[float, float]:
    """The least and the greatest of the loss that sharpness is measured on over the training loss; (1, 1) of none."""
    runs = [run for run in study.record.runs if run.arm == arm]
    ratios = [run.sharpness.loss / run.loss.train for run in runs if run.sharpness is not None and run.loss.train > 0]
    return (min(ratios), max(ratios)) if ratios else (1.0, 1.0)


def is_here(low: float, high: float) -> bool:
    """Whether all of them lie within the factor."""
    return low >= 1 / HERE and high <= HERE


LOW_ONLY = (ROUNDING, UNIFORM, PREDICTED, NOISE_BOUND)
"""Those that float has none of."""
ALL = (
    LOSS_TRAIN, LOSS, LOSS_GAP, DICE_TRAIN, DICE, DICE_GAP, *SHARPNESS, CLIPPING, ROUNDING, UNIFORM, SPREAD, PREDICTED,
    DISTORTED, DROP, BOUND, NOISE_BOUND,
)  # fmt: skip
