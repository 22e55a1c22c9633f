"""Progressive bits: the low-bit stage as phases of falling width, such as 8, then 6, then its own 4.

Each phase takes over the weights that the one before ended with, chooses all step sizes anew from them and from
calibration images, and trains with a learning-rate schedule and an optimizer of its own. The steps of the stage
are shared evenly; what does not divide goes to the last phase, which has the experiment's own widths and alone
makes the run's checkpoints. (Idea: Zhuang et al. 2018, arXiv 1711.00205, section 3.2.)
"""

from dataclasses import dataclass
from itertools import pairwise

from .errors import ConfigError
from .experiment import FLOAT_BITS, Experiment
from .runs import QUANT


@dataclass(frozen=True)
class Phase:
    """``steps`` steps behind ``first`` earlier ones; ``bits`` None in the last phase, which has its own widths."""

    bits: int | None
    first: int
    steps: int

    @property
    def folder(self) -> str:
        """Where its checkpoints lie in the run's folder."""
        return QUANT if self.bits is None else f"{QUANT}/{self.bits}-bit"


def widened(experiment: Experiment, bits: int | None) -> Experiment:
    """``experiment`` with no width below ``bits`` (layers with settings of their own keep them); None: as it is."""
    if bits is None:
        return experiment
    names = ("weight_bits", "act_bits", "first_bits", "last_bits")
    wider = {name: max(bits, getattr(experiment.quant, name)) for name in names}
    return experiment.model_copy(update={"quant": experiment.quant.model_copy(update=wider)})


def phases(experiment: Experiment) -> tuple[Phase, ...]:
    """The phases of the low-bit stage, the last one with the experiment's own widths.

    Raises:
        ConfigError: ``train.progressive`` is not falling, holds a width that changes nothing, or the steps do not
            suffice for one a phase.
    """
    widths, steps = experiment.train.progressive, experiment.train.quant_steps
    own = [b for b in (experiment.quant.weight_bits, experiment.quant.act_bits) if b != FLOAT_BITS]
    if widths:
        told = f"train.progressive = {widths}"
        if not own:
            raise ConfigError(f"{told} with 32-bit weights and activations: no stage has low bits; leave it empty.")
        if any(not 1 <= width <= 8 for width in widths) or any(b >= a for a, b in pairwise(widths)):
            raise ConfigError(f"{told}: widths are 1 to 8 bits and fall from phase to phase; write it like [8, 6].")
        if widths[-1] <= min(own):
            raise ConfigError(
                f"{told} goes down to {widths[-1]} bits, and the run's own widths are not below that "
                f"(quant.weight_bits = {experiment.quant.weight_bits}, quant.act_bits = {experiment.quant.act_bits}); "
                "leave such widths out."
            )
        if steps <= len(widths):
            raise ConfigError(
                f"train.quant_steps = {steps} for {len(widths) + 1} phases ({told}): each needs a step; give more."
            )
    share = steps // (len(widths) + 1)
    early = [Phase(width, i * share, share) for i, width in enumerate(widths)]
    return (*early, Phase(None, len(widths) * share, steps - len(widths) * share))
