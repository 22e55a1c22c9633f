"""SAQ's three cases (Liu et al. 2021, arXiv 2111.12273): which gradient points uphill, and where it is followed.

With Q the weight quantiser and epsilon(v) = rho * g / ||g||, g the gradient of the loss at v:

    case 1:  L(Q(w) + epsilon(w))       the perturbation does not match what it is added to
    case 2:  L(Q(w + epsilon(w)))       rounding may swallow it; this is SAM around a quantised network
    case 3:  L(Q(w) + epsilon(Q(w)))    the paper's best: both at the quantised weights

Biases, norms and weights without a quantiser take part at their one value, and the norm is one, over all places.
"""

from dataclasses import dataclass
from typing import Literal

Case = Literal[1, 2, 3]


@dataclass(frozen=True)
class Sides:
    """Whether the gradient is read, and whether the step is added, behind the quantiser."""

    read_behind: bool
    add_behind: bool


CASES: dict[Case, Sides] = {
    1: Sides(read_behind=False, add_behind=True),
    2: Sides(read_behind=False, add_behind=False),
    3: Sides(read_behind=True, add_behind=True),
}
