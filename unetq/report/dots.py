"""Which dots a plot of Dice against memory shows: one a low-bit run, one a float network."""

from dataclasses import dataclass
from itertools import chain

from .schema import Evaluation, Network
from .table import Group, Row, memory_note
from .units import bytes_text, percent

SAME = 5e-5  # Dice that print alike: a float network scored twice may differ in the last bits


@dataclass(frozen=True)
class Dot:
    """One dot: where, its name and tooltip, and whether it is a float network."""

    memory: float
    dice: float
    name: str
    title: str
    is_float: bool


@dataclass
class _FloatNetwork:
    """A float network and who knows it: its own run, or the low-bit runs that were tuned from it."""

    network: Network
    evaluation: Evaluation
    own: Row | None
    tuned: list[Row]


def dots_of(group: Group, label: str) -> list[Dot]:
    """The dots of ``label``: those of the group's rows in their order, then float networks without a run of their own.

    A low-bit run that was scored with its quantisers off only has no dot: that Dice is not had at that memory.
    """
    floats = _float_networks(group)
    dots: list[Dot] = []
    for row in group.rows:
        score, memory = row.dice(label), row.memory_bytes
        hidden = row.is_float and not any(entry.own is row for entry in floats)
        if score is None or not memory or hidden:
            continue
        title = f"{row.run.name}: Dice {percent(score)} %, {memory_note(row)}"
        dots.append(Dot(memory, score, group.row_label(row), title, row.is_float))
    lonely = len(floats) == 1
    for entry in floats:
        if entry.own is not None:
            continue
        score, memory = entry.evaluation.volume_dice.get(label), entry.tuned[0].float_memory_bytes
        if score is None or not memory:
            continue
        users = ", ".join(group.row_label(row) for row in entry.tuned)
        name = "float32" if lonely else f"float32 of {users}"
        title = f"float reference of {users}: Dice {percent(score)} %, {bytes_text(memory)}"
        dots.append(Dot(memory, score, name, title, True))
    return dots


def _float_networks(group: Group) -> list[_FloatNetwork]:
    """Every float network of the group once, runs of their own first."""
    found: list[_FloatNetwork] = []
    own = ((row.evaluation, row, True) for row in group.rows if row.is_float and not row.is_unquantised)
    tuned = ((row.reference, row, False) for row in group.rows if row.reference is not None)
    for evaluation, row, is_own in chain(own, tuned):
        if evaluation is None:
            continue
        network = row.run.metrics.network
        known = next(
            (entry for entry in found if entry.network == network and _alike(entry.evaluation, evaluation)), None
        )
        if known is None:
            found.append(_FloatNetwork(network, evaluation, row if is_own else None, [] if is_own else [row]))
        elif not is_own:
            known.tuned.append(row)
    return found


def _alike(one: Evaluation, two: Evaluation) -> bool:
    """Whether two evaluations are of one network: the same Dice on every slice, as far as it prints."""
    mine = {(score.id, label): value for score in one.slices for label, value in score.dice.items()}
    theirs = {(score.id, label): value for score in two.slices for label, value in score.dice.items()}
    return mine.keys() == theirs.keys() and all(
        value == theirs[key] or (value is not None and (other := theirs[key]) is not None and abs(value - other) < SAME)
        for key, value in mine.items()
    )
