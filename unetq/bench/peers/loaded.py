"""What an engine hands to its worker when its network is ready."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...fixedpoint import F32


@dataclass(frozen=True)
class Loaded:
    """A network that is ready to run.

    Attributes:
        run: (1, C, …) float32 to (1, K, …) float32 logits; what is timed.
        version: of the engine.
        settings: the configuration that was chosen, in words.
        facts: anything else worth recording, as JSON takes it.
    """

    run: Callable[[F32], F32]
    version: str
    settings: str
    facts: dict[str, Any] = field(default_factory=dict)
