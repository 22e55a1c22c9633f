"""A connection is opened and closed many times around a step of training.

A thread of gloo's lets a step's last message go only with the interpreter's lock, late where cores are few. Here the
lock is given up by nobody who does not wait, so that a closing which needs that thread at once waits for ever.
"""

import faulthandler
import gc
import sys

import torch
from lightning_fabric import Fabric
from torch import distributed, nn

from unetq.processes import launched

TIMES = 24


class Knot:
    """Holds a wrapped network in a cycle, as trainers do."""

    def __init__(self, wrapped: nn.Module) -> None:
        self.wrapped, self.itself = wrapped, self


def step(fabric: Fabric, fails: bool) -> None:
    """One step; what it wrapped is kept by a cycle, or by the frame of an error."""
    wrapped = fabric.setup_module(nn.Linear(2_000, 100))
    fabric.backward(wrapped(torch.ones(4, 2_000)).sum())
    if fails:
        raise KeyError("inner")
    Knot(wrapped)


def take(fabric: Fabric, number: int) -> None:
    """A step that ends well, or with its error as the context of another, or as its cause alone."""
    reason: KeyError | None = None
    try:
        step(fabric, fails=number % 3 > 0)
    except KeyError as error:
        if number % 3 == 1:
            raise ValueError("on purpose")  # noqa: B904  # so that it is the context
        reason = error
    if reason is not None:
        raise ValueError("on purpose") from reason


def wrapped_alive() -> bool:
    """Whether some wrapped network is left, which may hold the connection."""
    return any(isinstance(thing, nn.parallel.DistributedDataParallel) for thing in gc.get_objects())


def main() -> None:
    """Close the connection after steps, of which some fail."""
    faulthandler.dump_traceback_later(200, exit=True)
    sys.setswitchinterval(1_000)
    for number in range(TIMES):
        fabric = Fabric(accelerator="cpu", devices=1, strategy="ddp", precision="32-true")
        try:
            with launched(fabric):
                assert distributed.is_initialized()
                take(fabric, number)
        except ValueError as error:
            assert str(error) == "on purpose" and not wrapped_alive()
        else:
            assert number % 3 == 0 and not wrapped_alive()
        assert not distributed.is_initialized()


if __name__ == "__main__":
    main()
