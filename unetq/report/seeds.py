"""Runs that differ in their seed only, gathered: what a configuration gives, and how far its seeds spread."""

from collections.abc import Callable
from dataclasses import dataclass

from .settings import configuration_key
from .table import Group, Row


@dataclass(frozen=True)
class Range:
    """A number over seeds: mean, smallest, largest, and how many."""

    mean: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Configuration:
    """Rows of one group that share everything but the seed, in the group's order."""

    name: str
    rows: tuple[Row, ...]

    @property
    def first(self) -> Row:
        """The row whose sizes and bits stand for all."""
        return self.rows[0]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, ascending; a run that did not record one is not among them."""
        return tuple(sorted(seed for row in self.rows if (seed := row.run.metrics.seed) is not None))

    def dice(self, label: str) -> Range | None:
        """Volume Dice of a class, 0…1."""
        return self._range(lambda row: row.dice(label))

    def change(self, label: str) -> Range | None:
        """Change against float, 0…1; negative is a loss."""
        return self._range(lambda row: row.change(label))

    def _range(self, value: Callable[[Row], float | None]) -> Range | None:
        values = [found for row in self.rows if (found := value(row)) is not None]
        return Range(sum(values) / len(values), min(values), max(values), len(values)) if values else None


def configurations_of(group: Group) -> list[Configuration]:
    """The group's configurations, in order of their first run.

    Two runs of one seed are never one configuration: something that no file tells must differ.
    """
    keyed: dict[str, list[Row]] = {}
    for row in group.rows:
        key = configuration_key(row.run) + f"/{row.is_float}"
        while any(other.run.metrics.seed == row.run.metrics.seed for other in keyed.get(key, ())):
            key += "+"
        keyed.setdefault(key, []).append(row)
    return [Configuration(_name(group, rows, list(keyed.values())), tuple(rows)) for rows in keyed.values()]


def _name(group: Group, rows: list[Row], all_rows: list[list[Row]]) -> str:
    """``W4A6`` where only one configuration has these bits, else what its runs are called."""
    short = rows[0].run.metrics.bits.short
    if sum(other[0].run.metrics.bits.short == short for other in all_rows) == 1:
        return short
    names = [row.run.name for row in rows]
    if len(names) == 1:
        return names[0]
    common = names[0]
    for name in names[1:]:
        common = common[: next((i for i, (a, b) in enumerate(zip(common, name, strict=False)) if a != b), len(name))]
    common = common.rstrip("-_./0123456789 ").removesuffix("seed").removesuffix("-s").rstrip("-_./ ")
    return common or names[0]
