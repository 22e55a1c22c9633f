"""Which dots a plot of Dice against cost shows: one a low-bit configuration, one a float network."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

from .schema import Cost, Evaluation, Network
from .seeds import configurations_of
from .table import Group, Row
from .units import bytes_text, count_text, milliseconds, percent, three_digits

SAME = 5e-5  # Dice that print alike: a float network scored twice may differ in the last bits
FLOAT_SQUARED = 32 * 32
MIB = float(1 << 20)


@dataclass(frozen=True)
class Axis:
    """What Dice is drawn against.

    Attributes:
        key, title: for programs and for people.
        label: of the axis, with its unit.
        scale: what a value is divided by to be drawn.
        own: a row's value.
        reference: the value of the float network that a row was tuned from, by the row's costs.
        text: the value in words.
        tick: a tick, in drawn units, in words.
    """

    key: str
    title: str
    label: str
    scale: float
    own: Callable[[Row], float | None]
    reference: Callable[[Row], float | None]
    text: Callable[[float], str]
    tick: Callable[[float], str]


def _plain(value: float) -> str:
    return three_digits(value).removesuffix(".00").removesuffix(".0")


def _float_operations(cost: Cost) -> float | None:
    return None if cost.macs is None else float(cost.macs * FLOAT_SQUARED)


AXES = (
    Axis(
        "memory",
        "memory",
        "weights + peak activations (MiB, logarithmic)",
        MIB,
        lambda row: row.memory_bytes,
        lambda row: row.float_memory_bytes,
        lambda value: f"{bytes_text(value)} of weights and peak activations",
        _plain,
    ),
    Axis(
        "operations",
        "bit-operations",
        "bit-operations of one input (logarithmic)",
        1.0,
        lambda row: row.run.metrics.cost.bit_operations,
        lambda row: _float_operations(row.run.metrics.cost),
        lambda value: f"{count_text(value)} bit-operations",
        lambda value: count_text(value).replace(".00", "").replace(".0 ", " "),
    ),
    Axis(
        "latency",
        "latency",
        "latency of one input on the packed runtime (ms, logarithmic)",
        1e-3,
        lambda row: row.latency,
        lambda row: row.float_latency,
        lambda value: f"{milliseconds(value)} an input",
        _plain,
    ),
)


@dataclass(frozen=True)
class Dot:
    """One dot: where (``x`` in the axis's own unit, Dice 0…1), its name and tooltip, its range over seeds."""

    x: float
    dice: float
    name: str
    title: str
    is_float: bool
    low: float
    high: float


@dataclass
class _FloatNetwork:
    """A float network and who knows it: its own run, or the low-bit runs that were tuned from it."""

    network: Network
    evaluation: Evaluation
    own: Row | None
    tuned: list[Row]


def dots_of(group: Group, label: str, axis: Axis = AXES[0]) -> list[Dot]:
    """The dots of ``label``: the group's configurations in their order, then float networks without a run of their own.

    A low-bit run that was scored with its quantisers off only has no dot: that Dice is not had at that cost.
    """
    floats = _float_networks(group)
    dots: list[Dot] = []
    configurations = configurations_of(group)
    of = {row.run.name: configuration.name for configuration in configurations for row in configuration.rows}
    for configuration in configurations:
        rows = [row for row in configuration.rows if not row.is_float or any(entry.own is row for entry in floats)]
        scores = [score for row in rows if (score := row.dice(label)) is not None]
        x = axis.own(rows[0]) if rows else None
        if scores and x:
            dots.append(_dot(scores, x, configuration.name, rows[0].is_float, axis))
    foreign: dict[tuple[str, ...], list[_FloatNetwork]] = {}
    for entry in floats:  # those of several seeds are one dot: the same configurations were tuned from each
        if entry.own is None:
            users = sorted({of[row.run.name] for row in entry.tuned})
            foreign.setdefault((entry.network.model_dump_json(), *users), []).append(entry)
    for entries in foreign.values():
        scores = [score for entry in entries if (score := entry.evaluation.volume_dice.get(label)) is not None]
        x = axis.reference(entries[0].tuned[0])
        if not scores or not x:
            continue
        tuned = ", ".join(dict.fromkeys(of[row.run.name] for entry in entries for row in entry.tuned))
        name = "float32" if len(foreign) == 1 else f"float32 of {tuned}"
        dots.append(_dot(scores, x, name, True, axis))
    return dots


def _dot(scores: list[float], x: float, name: str, is_float: bool, axis: Axis) -> Dot:
    mean = sum(scores) / len(scores)
    spread = f", {percent(min(scores))}–{percent(max(scores))} over {len(scores)} runs" if len(scores) > 1 else ""
    title = f"{name}: Dice {percent(mean)} %{spread}, {axis.text(x)}"
    return Dot(x, mean, name, title, is_float, min(scores), max(scores))


def front(dots: list[Dot]) -> list[Dot]:
    """The dots that no other beats in both cost and Dice, cheapest first."""
    kept: list[Dot] = []
    for dot in sorted(dots, key=lambda dot: (dot.x, -dot.dice)):
        if not kept or dot.dice > kept[-1].dice:
            kept.append(dot)
    return kept


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
