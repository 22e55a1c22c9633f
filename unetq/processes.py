"""Where a run computes: device, precision, and the processes that share its batches."""

import gc
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from lightning_fabric import Fabric
from torch import distributed

from .errors import ConfigError
from .experiment import TrainConfig


def build_fabric(config: TrainConfig) -> Fabric:
    """Device, precision and processes.

    Raises:
        ConfigError: an accelerator, a number of devices or a strategy that this machine does not have.
    """
    strategy = "ddp" if config.strategy == "auto" and config.devices > 1 else config.strategy
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces the precision we asked for
    precision = "bf16-mixed" if config.precision == "bf16" else "32-true"
    try:
        return Fabric(accelerator=config.accelerator, devices=config.devices, strategy=strategy, precision=precision)  # type: ignore[arg-type]
    except (ValueError, RuntimeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"train.accelerator = {config.accelerator}, train.devices = {config.devices}, "
            f"train.strategy = {config.strategy}: "
            f"{reason} Use values that this machine has, such as train.accelerator=cpu train.devices=1."
        ) from None


@contextmanager
def launched(fabric: Fabric) -> Iterator[None]:
    """Within, the processes of ``fabric`` run together; afterwards their connection is closed.

    One left open keeps threads (gloo's) that abort an interpreter which ends before them. And whatever was wrapped
    within must be gone before it is closed: the last to hold the connection ends its threads, and a wrapper does so
    with the interpreter's lock in hand, for which such a thread may be waiting (pytorch issue 190489). So call a
    function within, and keep nothing wrapped outside of it; what an error on its way out still holds is let go here.
    """
    connected = distributed.is_available() and distributed.is_initialized()
    handled = sys.exc_info()[1]
    fabric.launch()
    closes = not connected and distributed.is_available() and distributed.is_initialized()
    try:
        yield
    except BaseException as error:
        if closes:
            _let_go(error, handled)
        raise
    finally:
        if closes and distributed.is_initialized():
            gc.collect()
            distributed.destroy_process_group()


def _let_go(error: BaseException, handled: BaseException | None) -> None:
    """Clear the frames that ``error`` and what led to it hold, but those of ``handled``: they are the caller's."""
    seen, rest = {id(handled)}, [error]
    while rest:
        held = rest.pop()
        if id(held) in seen:
            continue
        seen.add(id(held))
        traceback.clear_frames(held.__traceback__)
        rest += [e for e in (held.__cause__, held.__context__, *getattr(held, "exceptions", ())) if e is not None]
