"""The command line: parse, import what the command needs, make one call. A file holds a group of commands."""

import sys
from typing import Annotated, NoReturn

import typer

from .. import __version__
from ..errors import UnetqError
from . import judging, reducing, shipping, showing, studying, training
from .shared import spread_settings

app = typer.Typer(
    name="unetq",
    help="Train a U-Net in a few bits; run it, bit for bit the same, anywhere.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"unetq {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None: ...


for _command in (  # in the order of the help
    training.train, training.sweep, reducing.ptq, reducing.compress, judging.evaluate, judging.gate, judging.verify,
    shipping.export, shipping.predict, showing.report, showing.check, showing.inspect, showing.bench, showing.download,
):  # fmt: skip
    app.command()(_command)
app.add_typer(studying.app, name="study")


def main() -> NoReturn:
    """Entry point: errors of this package become one line on stderr and their exit code."""
    try:
        app(spread_settings(sys.argv[1:]))
    except UnetqError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)
