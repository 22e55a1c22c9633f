"""The command group ``unetq study``."""

from pathlib import Path
from typing import Annotated

import typer

from .shared import DataOption, command_line, tell

app = typer.Typer(help="Train many twins of one network and measure what bits do.", no_args_is_help=True)


@app.callback()
def _study() -> None: ...


@app.command()
def regularisation(
    config: Annotated[str, typer.Argument(help="study-em, study-phantom, or a YAML file like them.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="The study's folder.")],
    bits: Annotated[str, typer.Option(metavar="BITS,…", help="Widths; 32 is the float network.")] = "32,8,6,4,3,2",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each with seeds that follow the config's.")] = 3,
    arms: Annotated[
        str, typer.Option(metavar="ARM,…", help="weights (b/32), both (b/b), noise (unrounded, b/32).")
    ] = "weights,both,noise",
    data: DataOption = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE …", help="Any keys of the config, for all runs.")
    ] = None,
    measures: Annotated[
        list[str] | None, typer.Option("--measure", metavar="KEY=VALUE …", help="How runs are measured: probes=8, ….")
    ] = None,
    only: Annotated[str | None, typer.Option(metavar="PART", help="Do one part: train, measure or page.")] = None,
) -> None:
    """Do low bits regularise? Twins at every width: gap, sharpness, noise, robustness, a bound; one page.

    Writes DIR/runs, DIR/study.json, DIR/study.html and DIR/study.md. The same command goes on where it stopped.
    """
    from ..study.measure import parse_measures
    from ..study.plan import Grid, parse_arms, parse_bits
    from ..study.run import Study, parse_part, study

    asked = Study(
        config, Grid(parse_bits(bits), parse_arms(arms), seeds), out, tuple(settings or ()), data, command_line(),
        parse_measures(measures or ()),
    )  # fmt: skip
    outcome = study(asked, parse_part(only), tell)
    typer.echo(outcome.text)
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)
