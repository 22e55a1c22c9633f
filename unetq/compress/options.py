"""What the command line says, as numbers: the budget's words, the widths, and how much effort is spent."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ConfigError
from .budget import Budget, parse_bytes, parse_min_dice, parse_seconds

DEFAULT_WIDTHS = (1, 2, 3, 4, 5, 6, 8)


@dataclass(frozen=True)
class Effort:
    """How much is spent: crops, sizes tried, moves of ``polish``; steps of fine-tuning (0: none), how many runs of it,
    and by how many points a floor may be missed before it."""

    samples: int
    steps: int
    polish: int
    tuning: int = 0
    attempts: int = 0
    slack: float = 0.0


EFFORTS = {
    "minutes": Effort(samples=8, steps=7, polish=24),
    "hour": Effort(samples=16, steps=8, polish=60, tuning=400, attempts=2, slack=5.0),
    "hours": Effort(samples=32, steps=10, polish=200, tuning=1500, attempts=4, slack=10.0),
}


@dataclass(frozen=True)
class Wishes:
    """The command line's words; see ``Budget``."""

    max_dice_drop: float | None = None
    target_size: str | None = None
    max_memory: str | None = None
    max_latency: str | None = None
    min_dice: Sequence[str] = ()

    def budget(self, labels: Sequence[str]) -> Budget:
        """As numbers.

        Raises:
            ConfigError: naming the word that cannot be used.
        """
        return Budget(
            None if self.target_size is None else parse_bytes(self.target_size, "--target-size"),
            None if self.max_memory is None else parse_bytes(self.max_memory, "--max-memory"),
            None if self.max_latency is None else parse_seconds(self.max_latency, "--max-latency"),
            self.max_dice_drop,
            parse_min_dice(self.min_dice, labels),
        )


def parse_widths(text: str) -> tuple[int, ...]:
    """``2,3,4,8`` to numbers.

    Raises:
        ConfigError: anything else than numbers and commas.
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--bits {text!r}: numbers from 1 to 8 with commas between, such as 2,3,4,8.") from None
