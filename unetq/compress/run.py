"""``unetq compress``: from a trained float network to the best packed low-bit model inside a budget."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..errors import ConfigError
from ..ptq.network import Options
from ..ptq.run import check_out
from .deliver import Delivery
from .job import Job
from .options import DEFAULT_WIDTHS, EFFORTS, Wishes
from .search import Tell
from .sensitivity import SOURCES
from .source import open_start
from .space import check_widths

SCHEMA = 1


def compress(
    source: Path,
    out: Path,
    wishes: Wishes,
    *,
    effort: str = "minutes",
    widths: Sequence[int] = DEFAULT_WIDTHS,
    by: str = "divergence",
    seed: int = 0,
    samples: int | None = None,
    settings: Mapping[str, Any] | None = None,
    data: Path | None = None,
    command: str = "",
    tell: Tell = lambda text: None,
) -> dict[str, Any]:
    """Choose bits inside a budget and write the run folder ``out`` with ``model.uqm`` and ``compress.json``.

    What is measured is kept in ``OUT.work`` until ``out`` is written, so that an interrupted call goes on, and one
    with another budget starts from what is known.

    Args:
        source: a run folder, or a float checkpoint. wishes: the budget. effort: "minutes", "hour" or "hours".
        widths: to choose from, 1 to 8. by: what sensitivity is: "divergence", "loss" or "hessian".
        seed: of all that is drawn. samples: crops, by default those of the effort.
        settings: other keys of the config's section ``quant``. data: folder of the data set.
        command: for ``run.json``. tell: called with a line of progress.

    Returns:
        What ``compress.json`` holds.

    Raises:
        BudgetError: a budget that cannot be met; the message has the nearest point. ``out`` is not written.
        CheckpointError, ConfigError, DataError, OutputError, UnsupportedError: before anything is measured.
        DeviceError: no library to pack and run with.
    """
    if effort not in EFFORTS:
        raise ConfigError(f"effort = {effort!r}: choose one of {', '.join(EFFORTS)}.")
    if by not in SOURCES:
        raise ConfigError(f"sensitivity by {by!r}: choose one of {', '.join(SOURCES)}.")
    check_widths(widths)
    level = EFFORTS[effort]
    check_out(out)
    start = open_start(source, settings or {}, Options(seed=seed), level.samples if samples is None else samples, data)
    budget = wishes.budget(start.spec.labels)
    job = Job(start, budget, level, out, tuple(widths), by, tell)
    with job.held:
        search, chosen = job.choose()
        record: dict[str, Any] = {
            "schema": SCHEMA,
            "unetq": __version__,
            "source": {"checkpoint": str(start.checkpoint.path), "sha256": job.identity["checkpoint"]},
            "budget": budget.record(),
            "effort": effort,
            "by": by,
            "widths": job.identity["widths"],
            "image": list(start.size),
            "float": {"mean_dice": job.reference.mean, "dice": dict(job.reference.dice)},
            "tried": search.tried,
            "scores": {
                f"{kind} {name}": {str(bits): score for bits, score in sorted(values.items())}
                for (kind, name), values in job.table.items()
            },
            "sensitivity": job.kept.sensitivity,
        }
        return Delivery(job, source, data, command).deliver(search, chosen, record)
