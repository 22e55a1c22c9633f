"""A float run on the phantom, and ``compress`` of it with few crops and widths."""

from pathlib import Path
from typing import Any

from small_runs import small

from unetq.compress.options import Wishes
from unetq.compress.run import compress
from unetq.train import train

WIDTHS = (2, 4, 8)


def float_run(folder: Path) -> Path:
    """A float run that has learned the phantom a little."""
    experiment = small(
        quant={"weight_bits": 32, "act_bits": 32}, train={"float_steps": 120, "lr": 5e-3, "validate_every": 120}
    )
    return train(experiment, folder / "run")


def fit(source: Path, out: Path, **options: Any) -> dict[str, Any]:
    """``compress`` with 2 crops and ``WIDTHS``; options of the budget and others alike."""
    wishes = Wishes(**{k: options.pop(k) for k in list(options) if k in Wishes.__dataclass_fields__})
    return compress(source, out, wishes, **{"samples": 2, "widths": WIDTHS, **options})
