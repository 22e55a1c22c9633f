"""What several commands use: options, the words of the command itself, messages on stderr."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

DataOption = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Folder of the data set.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON only.")]
OutOption = Annotated[Path, typer.Option("-o", "--out", help="Where to write.")]
QuantOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE …", help="Other keys of the section quant.")
]


def command_line() -> str:
    """The command as it was typed, for the records."""
    return shlex.join(["unetq", *sys.argv[1:]])


def tell(line: str) -> None:
    """A line for the person who waits: on stderr, so that stdout stays the answer."""
    typer.echo(line, err=True)


def quant_settings(settings: list[str] | None, command: str) -> dict[str, Any]:
    """What ``--set`` says to a command that takes keys of the section quant and no others.

    Raises:
        ConfigError: a key of another section.
    """
    from ..config import parse_settings
    from ..errors import ConfigError

    given = parse_settings(settings or [])
    if others := set(given) - {"quant"}:
        raise ConfigError(f"--set {min(others)}…: {command} takes keys of the section quant only; drop it.")
    found: dict[str, Any] = given.get("quant", {})
    return found


SETTINGS = ("--set", "--measure", "--min-dice")


def spread_settings(arguments: list[str]) -> list[str]:
    """``--set a=1 b=2`` as ``--set a=1 --set b=2``: what follows a setting and looks like one is one; so of images."""
    spread: list[str] = []
    for argument in arguments:
        before = spread[-2] if len(spread) >= 2 else ""
        goes_on = "=" in argument if before in SETTINGS else before == "--images"
        if goes_on and not argument.startswith("-"):
            spread.append(before)
        spread.append(argument)
    return spread
