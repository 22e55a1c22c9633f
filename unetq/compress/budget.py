"""What a user asks of a compressed model, read from words, and what is refused at once."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import BudgetError, ConfigError

BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
SECONDS = {"US": 1e-6, "MS": 1e-3, "S": 1.0}
_QUANTITY = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]*)\s*")


def _quantity(text: str, what: str, units: Mapping[str, float], example: str) -> float:
    match = _QUANTITY.fullmatch(text)
    unit = match.group(2).upper() if match else ""
    if match is None or unit not in units:
        listed = ", ".join(name.replace("IB", "iB") if name in BYTES else name.lower() for name in units)
        raise ConfigError(f"{what} {text!r}: a number and a unit are needed ({listed}), such as {example}.")
    value = float(match.group(1)) * units[unit]
    if value <= 0:
        raise ConfigError(f"{what} {text!r}: it is above 0; write {example}, for example.")
    if not math.isfinite(value):
        raise ConfigError(f"{what} {text[:12]!r}…: it is too large for a number; write {example}, or leave it out.")
    return value


def parse_bytes(text: str, what: str) -> int:
    """``1.5MB`` (10^6), ``800KB``, ``16MiB`` (2^20), ``123456B`` to whole bytes, rounded down.

    Raises:
        ConfigError: no number, an unknown unit, or nothing left.
    """
    found = math.floor(_quantity(text, what, BYTES, "1.5MB") + 1e-6)
    if found < 1:
        raise ConfigError(f"{what} {text!r}: that is less than a byte; write 1.5MB, for example.")
    return found


def parse_seconds(text: str, what: str) -> float:
    """``200ms``, ``1.5s``, ``800us`` to seconds.

    Raises:
        ConfigError: no number, or an unknown unit.
    """
    return _quantity(text, what, SECONDS, "200ms")


def parse_min_dice(texts: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
    """``class=0.8`` … to a floor for each class, in 0…1.

    Raises:
        ConfigError: no such class, a class twice, or no number from 0 to 1.
    """
    floors: dict[str, float] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        if not equals or name not in labels:
            raise ConfigError(f"--min-dice {text!r}: write CLASS=DICE with a class of {', '.join(labels)}.")
        if name in floors:
            raise ConfigError(f"--min-dice names {name!r} twice; give one floor a class.")
        try:
            floors[name] = float(value)
        except ValueError:
            floors[name] = math.nan
        if not 0.0 <= floors[name] <= 1.0:
            raise ConfigError(f"--min-dice {text!r}: Dice is a number from 0 to 1, such as {name}=0.8.")
    return floors


@dataclass(frozen=True)
class Budget:
    """Limits; None where there is none.

    Attributes:
        size: bytes of the packed file. memory: bytes of the planned arena of one image. latency: seconds an image.
        max_dice_drop: points (0…100) by which the mean validation Dice may lie below float's.
        min_dice: floors of the validation Dice, 0…1, by class.
    """

    size: int | None = None
    memory: int | None = None
    latency: float | None = None
    max_dice_drop: float | None = None
    min_dice: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        drop = self.max_dice_drop
        if drop is not None and not 0.0 <= drop <= 100.0:
            raise ConfigError(f"--max-dice-drop {drop}: it is in points of Dice, 0 to 100; 0.5 is usual.")
        if not self.resources and not self.has_floor:
            raise ConfigError(
                "no budget was given: name at least one of --max-dice-drop, --min-dice, --target-size, --max-memory "
                "and --max-latency."
            )

    @property
    def resources(self) -> dict[str, float]:
        """The limits on what a model takes, by name: ``size``, ``memory``, ``latency``."""
        every = {"size": self.size, "memory": self.memory, "latency": self.latency}
        return {name: float(value) for name, value in every.items() if value is not None}

    @property
    def has_floor(self) -> bool:
        """True where the Dice is bounded."""
        return self.max_dice_drop is not None or bool(self.min_dice)

    @property
    def is_for_smallest(self) -> bool:
        """True where the file is to be as small as the floors allow, False where it is to be as good as it can."""
        return self.has_floor and self.size is None

    def check_reachable(self, reference: Mapping[str, float]) -> None:
        """Refuse floors above what the float network itself reaches.

        Args:
            reference: its Dice by class, 0…1.

        Raises:
            BudgetError: naming the class and both numbers.
        """
        for name, floor in self.min_dice.items():
            if reference[name] < floor:
                raise BudgetError(
                    f"--min-dice {name}={floor:g}: the float network itself reaches {reference[name]:.4f} on the "
                    "validation split; lower the floor or train a better one."
                )

    def shortfall(self, dice: Mapping[str, float], mean: float, reference: float) -> dict[str, float]:
        """By how much Dice (0…1) misses each floor; empty where all are met.

        Args:
            dice: by class. mean: the run's headline. reference: the float network's headline.
        """
        missing = {f"min-dice {name}": floor - dice[name] for name, floor in self.min_dice.items()}
        if self.max_dice_drop is not None:
            missing["max-dice-drop"] = (reference - mean) - self.max_dice_drop / 100.0
        return {name: value for name, value in missing.items() if value > 1e-9}

    def record(self) -> dict[str, Any]:
        """As ``compress.json`` holds it."""
        return {
            "target_size_bytes": self.size,
            "max_memory_bytes": self.memory,
            "max_latency_seconds": self.latency,
            "max_dice_drop_points": self.max_dice_drop,
            "min_dice": dict(self.min_dice),
        }
