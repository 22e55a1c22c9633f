"""What the paper published, beside what was measured here; and what differs, said."""

from dataclasses import dataclass

from .table import Group

SOURCE = "AskariHemmat et al. 2019, arXiv 1908.01073"
WEIGHT, ACT = 4, 6
# Dice points against float32 at 4-bit weights and 6-bit activations, of the paper's abstract.
POINTS = {"em": -2.21, "gm": -0.57, "nih": -2.09}
NAMES = {"em": "EM membranes", "gm": "spinal cord grey matter", "nih": "NIH pancreas"}
DIFFERS = (
    "Not the same experiment: the paper's quantiser has more levels than its bits (a sign of its own, a fraction that "
    "rounds up to 1) and its first block and last layer stay in float32; its split is another, and so are its cases."
)
OWN_WAYS = {
    "em": "Its code decides at a probability of 0.999; augmented copies of a slice fall on both sides of its split.",
    "gm": "Its data are the 2017 challenge's; its code averages Dice over slices, where a rightly empty one scores 0.",
    "nih": "Its code crops around the true pancreas, and slices of one patient can fall on both sides of its split.",
}


@dataclass(frozen=True)
class Published:
    """The paper's change on a data set and the rows of ours at the same widths."""

    dataset: str
    points: float
    rows: tuple[tuple[str, tuple[tuple[str, float | None], ...]], ...]


def published(group: Group) -> Published | None:
    """For a group of one of the paper's data sets: its published change, and ours a run and class, 0…1."""
    if group.dataset not in POINTS:
        return None
    rows = [
        (row.run.name, tuple((label, row.change(label)) for label in group.shown))
        for row in group.rows
        if (row.run.metrics.bits.weight, row.run.metrics.bits.act) == (WEIGHT, ACT) and not row.is_float
    ]
    return Published(group.dataset, POINTS[group.dataset], tuple(rows)) if rows else None
