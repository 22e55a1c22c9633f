"""What each width of each layer and tensor costs in quality: measured, one at a time, on the packed network.

All variables are at their widest and one at a narrower width; the network runs as the packed file would. Measured on
labelled crops of the training split are

- ``divergence``: how far the class probabilities q move from the float network's p: mean Kullback-Leibler divergence
  KL(p | q) of a pixel, plus the soft Dice distance 1 - 2 sum pq / (sum p^2 + sum q^2), in which a rare foreground
  counts as much as a common one. It is 0 for equal networks, smooth, and needs no labels;
- ``loss``: the training loss; ``dice``: the mean Dice of the masks over classes, background left out.

Scores are what a width adds over the widest, and never fall as widths narrow: a narrower width that by chance measures
better counts as its neighbour.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, DataError
from ..losses import Loss
from ..metrics import SliceScore, count, headline, volume_dice
from ..preprocess import decide
from .space import WEIGHT, Allocation, Space, Variable
from .workbench import Packed, Workbench

SOURCES = ("divergence", "loss", "hessian")
TINY = 1e-12
Table = dict[Variable, dict[int, float]]


@dataclass(frozen=True)
class Measured:
    """On all crops: see the module. ``dice`` is 0…1."""

    loss: float
    dice: float
    divergence: float


def probabilities(logits: Tensor) -> Tensor:
    """(N, K, …) logits to class probabilities (N, max(K, 2), …), float64; one logit is a sigmoid against class 1."""
    values = logits.double()
    if values.shape[1] == 1:
        one = torch.sigmoid(values)
        return torch.cat([1.0 - one, one], dim=1)
    return torch.softmax(values, dim=1)


def divergence(p: Tensor, q: Tensor) -> float:
    """How far probabilities ``q`` are from ``p``, both (N, K, …): mean KL of a pixel plus the soft Dice distance."""
    ratio = (p.clamp_min(TINY) / q.clamp_min(TINY)).log()
    axes = (0, *range(2, p.ndim))
    overlap = 2.0 * (p * q).sum(axes) / (p.square().sum(axes) + q.square().sum(axes)).clamp_min(TINY)
    return float((p * ratio).sum(1).mean()) + float((1.0 - overlap).mean())


class Crops:
    """Labelled crops and what the float network makes of them.

    Args:
        images: (N, C, H, W[, …]) float32. labels: (N, H, W[, …]) int64. names: of the classes.
        reference: the float network. loss: of logits and labels.

    Raises:
        DataError: no crops.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, names: Sequence[str], reference: Callable[[Tensor], Tensor], loss: Loss
    ) -> None:
        if not len(images):
            raise DataError("no crops to measure sensitivity on: at least one is needed; give more --samples.")
        self.images, self.labels, self.loss, self._names = images, labels, loss, names
        with torch.no_grad():
            logits = torch.cat([reference(image[None]) for image in images])
        self._float = probabilities(logits)
        self.in_float = self._judge(logits)

    def measure(self, forward: Callable[[Tensor], Tensor]) -> Measured:
        """All numbers of a network that takes images and gives logits."""
        with torch.no_grad():
            return self._judge(torch.cat([forward(image[None]) for image in self.images]))

    def _judge(self, logits: Tensor) -> Measured:
        scores = []
        for i, (found, label) in enumerate(zip(logits, self.labels, strict=True)):
            mask = decide(np.asarray(found.float().cpu().numpy()))
            counts = count(mask, label.numpy().astype(np.uint8), len(self._names))
            scores.append(SliceScore(str(i), "crops", counts))
        loss = float(self.loss(logits, self.labels))
        return Measured(
            loss, headline(volume_dice(scores, self._names)), divergence(self._float, probabilities(logits))
        )


def order(space: Space) -> list[tuple[Variable, int]]:
    """Every variable with each width but its widest: what is to be measured."""
    return [(variable, bits) for variable, widths in space.choices.items() for bits in widths[:-1]]


def name_of(variable: Variable, bits: int) -> str:
    """``weight LAYER BITS``: the key of a measurement in ``compress.json``."""
    return f"{variable[0]} {variable[1]} {bits}"


def measure(
    bench: Workbench,
    crops: Crops,
    known: dict[str, dict[str, float]],
    keep: Callable[[], None] = lambda: None,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, dict[str, float]]:
    """Measure what ``known`` does not have yet, and return it complete: by ``name_of``, and ``"widest"``.

    ``keep`` is called after each measurement, so that an interrupted one can go on.
    """
    widest = bench.space.nearest(8)
    waiting: list[tuple[str, Allocation]] = [("widest", widest)]
    waiting += [(name_of(v, bits), widest.having(v, bits)) for v, bits in order(bench.space)]
    waiting = [(name, allocation) for name, allocation in waiting if name not in known]
    for i, (name, allocation) in enumerate(waiting):
        if i % 20 == 0:
            tell(f"sensitivity: {i} of {len(waiting)}")
        with Packed(bench.program(allocation)) as packed:
            known[name] = asdict(crops.measure(packed))
        keep()
    return known


def scores(space: Space, known: Mapping[str, Mapping[str, float]], source: str) -> Table:
    """The score of each width, 0 for the widest, from measurements of ``source`` "divergence" or "loss".

    Raises:
        ConfigError: another source.
    """
    if source not in SOURCES[:2]:
        raise ConfigError(f"sensitivity by {source!r}: choose one of {', '.join(SOURCES)}.")
    base = known["widest"][source]
    table: Table = {v: {widths[-1]: 0.0} for v, widths in space.choices.items()}
    for variable, bits in order(space):
        table[variable][bits] = known[name_of(variable, bits)][source] - base
    return {variable: never_falling(values) for variable, values in table.items()}


def with_hessian(table: Table, weights: Mapping[tuple[str, int], float]) -> Table:
    """``table`` (by "loss", whose unit it is) with the scores of weights replaced by those of ``hessian``."""
    replaced: Table = {}
    for (kind, name), values in table.items():
        if kind == WEIGHT:
            widest = weights[name, max(values)]
            values = never_falling({bits: weights[name, bits] - widest for bits in values})
        replaced[kind, name] = values
    return replaced


def never_falling(values: Mapping[int, float]) -> dict[int, float]:
    """Scores by width with what measures better than a wider one, or than 0, raised to it."""
    highest, found = 0.0, {}
    for bits in _widest_first(values):
        highest = max(highest, values[bits])
        found[bits] = highest
    return found


def _widest_first(widths: Iterable[int]) -> list[int]:
    return sorted(widths, reverse=True)
