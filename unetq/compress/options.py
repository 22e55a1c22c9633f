"""What the command line says, as numbers: the budget's words, the widths, and how much effort is spent."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ConfigError
from .budget import Budget, parse_bytes, parse_min_dice, parse_seconds

DEFAULT_WIDTHS = (1, 2, 3, 4, 5, 6, 8)


@dataclass(frozen=True)
class Effort:
    """How much is spent.

    Attributes:
        samples: crops. steps: sizes tried before fine-tuning. polish: moves of ``polish``.
        tuning: steps of a fine-tuning, 0 for none. attempts: how many of them, each of other widths.
        last: steps of one more, longer, for the widths that came out; 0 for none.
        slack: points by which a floor may be missed before fine-tuning.
        seconds: once something keeps the budget, no fine-tuning is begun that would probably end later than this.
    """

    samples: int
    steps: int
    polish: int
    tuning: int = 0
    attempts: int = 0
    last: int = 0
    slack: float = 0.0
    seconds: float = 0.0


EFFORTS = {
    "minutes": Effort(samples=8, steps=7, polish=24),
    "hour": Effort(16, steps=8, polish=60, tuning=400, attempts=4, last=800, slack=2.0, seconds=3600.0),
    "hours": Effort(32, steps=10, polish=200, tuning=1500, attempts=6, last=4000, slack=3.0, seconds=6 * 3600.0),
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
