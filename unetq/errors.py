"""Every error a user can meet, in one tree.

A message states the value that was found, the rule it breaks and the remedy. The command
line prints the message without a traceback and leaves with the class's ``exit_code``.
"""

from collections.abc import Iterable


class UnetqError(Exception):
    """Base of all errors raised on purpose by this package."""

    exit_code = 1


class ConfigError(UnetqError):
    """A configuration key, value or command-line flag that cannot be used."""

    exit_code = 2


class DataError(UnetqError):
    """An image, label or data set that is missing, damaged or contradicts itself."""

    exit_code = 3


class EmptySplitError(DataError):
    """A split without a usable case; cross-validation goes on where the other split has some.

    Attributes:
        reasons: (case, why it could not be used), of those that there were.
    """

    def __init__(self, message: str, reasons: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.reasons = tuple(reasons)


class ModelFileError(UnetqError):
    """A ``.uqm`` file that is damaged, of an unknown version, or not a model at all."""

    exit_code = 4


class CheckpointError(UnetqError):
    """A checkpoint or run folder that is missing, damaged or of another network."""

    exit_code = 4


class UnsupportedError(UnetqError):
    """A network, layer or bit-width that the integer program cannot represent."""

    exit_code = 5


class OutputError(UnetqError):
    """An output that could not be written; nothing that existed was changed."""

    exit_code = 6


class DeviceError(UnetqError):
    """The C++ runtime refused a call; the message is the runtime's own."""

    exit_code = 7


class ToolchainError(UnetqError):
    """A compiler that is missing, makes code for another machine, or failed; the message ends with its output."""

    exit_code = 9  # 8 is unetq-run's failed self-test


class BudgetError(UnetqError):
    """A budget that no choice of bits meets; the message says which constraint, and how near one comes."""

    exit_code = 10
