"""``compress.json`` of a run folder: the budget, every choice of bits that was tried, and the one that came out."""

import json
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from .schema import Count, Finite, Score, _Model
from .units import bytes_text, milliseconds, percent

Amount = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Width = Annotated[int, Field(ge=1, le=32)]


class Bits(_Model):
    """Widths of weights by layer, and of activations by the operation that makes them."""

    weight: dict[str, Width]
    tensor: dict[str, Width]

    @property
    def key(self) -> str:
        """Equal for equal widths."""
        return json.dumps([self.weight, self.tensor], sort_keys=True)

    @property
    def short(self) -> str:
        """``W1–4 A8``: the least and the greatest widths."""
        return f"W{_span(list(self.weight.values()))} A{_span(list(self.tensor.values()))}"


class Budget(_Model):
    """Limits; None where there is none."""

    target_size_bytes: Amount | None = None
    max_memory_bytes: Amount | None = None
    max_latency_seconds: Amount | None = None
    max_dice_drop_points: Finite | None = None
    min_dice: dict[str, Score] = Field(default_factory=dict)


class Takes(_Model):
    """Bytes of the file and of the arena, seconds an image."""

    size: Amount
    memory: Amount | None = None
    latency: Amount | None = None


class Tried(Takes):
    """A choice of bits before fine-tuning; ``kept``: inside the budget as it is then."""

    mean_dice: Score
    bits: Bits
    kept: bool


class Tuned(Takes):
    """A choice of bits after fine-tuning; ``missing`` names the limits and floors that it misses."""

    mean_dice: Score
    bits: Bits
    steps: Count
    missing: tuple[str, ...] = ()


class Chosen(_Model):
    """What came out, as predicted and as the file shows it; ``uniform``: bytes at equal widths."""

    bits: Bits
    predicted: Takes
    measured: Takes
    mean_dice: Score
    fine_tuned_steps: Count = 0
    uniform: dict[str, Count] = Field(default_factory=dict)


class InFloat(_Model):
    """The float network's Dice on the validation split."""

    mean_dice: Score


@dataclass(frozen=True)
class Point:
    """One choice of bits: bytes, Dice before and after fine-tuning (None: not tried so), and what is to be told."""

    takes: Takes
    bits: Bits
    before: float | None
    after: float | None
    steps: int
    inside: bool
    is_chosen: bool

    @property
    def title(self) -> str:
        """In words."""
        told = [f"{bytes_text(self.takes.size)}, {self.bits.short}"]
        if self.before is not None:
            told.append(f"Dice {percent(self.before)} %")
        if self.after is not None:
            told.append(f"{percent(self.after)} % after {self.steps} steps")
        return ": ".join([told[0], ", ".join(told[1:])]) + ("; chosen" if self.is_chosen else "")


class Compressed(_Model):
    """``compress.json``, schema 1."""

    schema_: Literal[1] = Field(alias="schema", default=1)
    budget: Budget
    effort: str
    by: str
    seconds: Finite
    unproven_choices: int = 0
    float_: InFloat = Field(alias="float")
    tried: tuple[Tried, ...]
    tuning: tuple[Tuned, ...] = ()
    chosen: Chosen

    @property
    def points(self) -> tuple[Point, ...]:
        """All that was tried, the smallest first; a choice that was fine-tuned several times, so often."""
        before = {point.bits.key: point for point in self.tried}
        tuned = [
            Point(
                t, t.bits, before[t.bits.key].mean_dice if t.bits.key in before else None, t.mean_dice, t.steps,
                not t.missing, self._is_chosen(t),
            )
            for t in self.tuning
        ]  # fmt: skip
        known = {point.bits.key for point in tuned}
        finished = any(point.is_chosen for point in tuned)
        others = [
            Point(p, p.bits, p.mean_dice, None, 0, p.kept, not finished and key == self.chosen.bits.key)
            for key, p in before.items()
            if key not in known or (not finished and key == self.chosen.bits.key)
        ]
        return tuple(sorted([*tuned, *others], key=lambda p: (p.takes.size, p.steps)))

    def _is_chosen(self, tuned: Tuned) -> bool:
        return tuned.bits.key == self.chosen.bits.key and tuned.mean_dice == self.chosen.mean_dice

    @property
    def floor(self) -> float | None:
        """The mean Dice that a drop allows; None where it is not limited."""
        drop = self.budget.max_dice_drop_points
        return None if drop is None else self.float_.mean_dice - drop / 100.0

    @property
    def limits(self) -> list[str]:
        """The budget in words."""
        budget = self.budget
        told = []
        if budget.max_dice_drop_points is not None:
            told.append(f"mean Dice at most {budget.max_dice_drop_points:g} points below float")
        told += [f"Dice of {name} at least {percent(floor)} %" for name, floor in budget.min_dice.items()]
        if budget.target_size_bytes is not None:
            told.append(f"file at most {bytes_text(budget.target_size_bytes)}")
        if budget.max_memory_bytes is not None:
            told.append(f"memory at most {bytes_text(budget.max_memory_bytes)}")
        if budget.max_latency_seconds is not None:
            told.append(f"at most {milliseconds(budget.max_latency_seconds)} an image")
        return told

    @property
    def costs(self) -> list[tuple[str, str, str]]:
        """Name, predicted and measured of what the file takes."""
        told, found = self.chosen.predicted, self.chosen.measured
        rows = [("file", bytes_text(told.size), bytes_text(found.size))]
        rows.append(("memory", bytes_text(told.memory), bytes_text(found.memory)))
        if found.latency is not None:
            rows.append(("latency", milliseconds(told.latency), milliseconds(found.latency)))
        return rows


def _span(widths: list[int]) -> str:
    if not widths:
        return "–"
    return f"{min(widths)}" if min(widths) == max(widths) else f"{min(widths)}–{max(widths)}"
