"""Fine-tuning of an allocation from the float network, by the ordinary training loop, resumable."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import config as configs
from ..loop import Interrupted
from ..runs import CONFIG
from ..train import train
from .source import Start

VALIDATIONS = 4
"""How often a fine-tuning is validated, to keep its best state."""


def tune(
    start: Start,
    layers: Sequence[Mapping[str, Any]],
    out: Path,
    steps: int,
    command: str = "",
    tell: Callable[[str], None] = lambda text: None,
) -> Path:
    """Train the low-bit stage of ``layers`` (``quant.layers``) for ``steps`` steps into ``out``; return it.

    A run that was interrupted in ``out`` goes on.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; the state is saved. As ``unetq.train.train`` for all else.
    """
    every = max(steps // VALIDATIONS, 1)
    values = configs.overlay(
        start.experiment(layers).model_dump(),
        {"train": {"quant_steps": steps, "validate_every": every, "progressive": []}},
    )
    experiment = configs.build(values, "compress")
    resume = (out / CONFIG).is_file()
    tell(f"{'going on with' if resume else 'beginning'} a fine-tuning of {steps} steps")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        return train(experiment, out, resume=resume, command=command)
    except Interrupted:
        tell("interrupted while fine-tuning; all is saved: the same command goes on")
        raise
