"""Commands that show what is there: runs, networks, models, speeds, data sets."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from .shared import JsonOption, tell


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the report.")],
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Number cases and persons, hide their names.")] = False,
) -> None:
    """Compare runs on one page."""
    from ..report import build

    folders = [run for run in runs if run.name != "sweep.json"]  # it is among `sweeps/em/*`
    typer.echo(f"{build(folders, out, anonymous=anonymous)}: written")


def check(
    network: Annotated[str, typer.Argument(help="A network's name, module:Class, a shipped config or a YAML file.")],
    size: Annotated[str | None, typer.Option(metavar="PIXELS", help="64, 64x48 or 32x64x64; by default tried.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE …", help="Such as network.options.spatial_dims=3.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List what each layer of a network becomes, and all that is not supported; exit code 2 where anything is not."""
    from ..check import check as look
    from ..check import describe

    found = look(network, settings or [], size)
    typer.echo(json.dumps(found, indent=2) if as_json else describe(found))
    if not found["supported"]:
        raise typer.Exit(2)


def inspect(model: Annotated[Path, typer.Argument(help="A .uqm file.")], as_json: JsonOption = False) -> None:
    """List a model's layers, bits, bytes and planned memory."""
    from ..inspect import describe
    from ..inspect import inspect as look

    found = look(model)
    typer.echo(json.dumps(found, indent=2) if as_json else describe(found))


def bench(
    network: Annotated[str, typer.Option(help="s, l, a run folder or a .uqm file.")] = "s",
    size: Annotated[int | None, typer.Option(min=1, help="Pixels an axis; by default 208 (64 in 3-D).")] = None,
    cap: Annotated[str, typer.Option(help="none, avx512vnni, avxvnni or avx2, for all who can be held.")] = "none",
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; medians of them.")] = 15,
    times: Annotated[int, typer.Option(min=1, help="Timed runs of each in a round; the best counts.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of everybody.")] = 1,
    bits: Annotated[str, typer.Option(help="Ours for s and l: w4a6,w2a2,…")] = "w4a6",
    only: Annotated[str | None, typer.Option(help="Names or their beginnings: unetq,openvino,…")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="New folder: bench.json, table.md, plots.")] = None,
    as_json: JsonOption = False,
    as_list: Annotated[
        bool, typer.Option("--list", help="Only what is there: instruction sets, peers, a .uqm file's kernels.")
    ] = False,
) -> None:
    """Time ours against other inference engines on this machine, interleaved, one process each."""
    if as_list:
        from ..bench.listing import describe, listing

        found = listing(Path(network) if network.endswith(".uqm") else None)
        typer.echo(json.dumps(found, indent=2) if as_json else describe(found))
        return
    from ..bench.run import run

    arguments = {"network": network, "size": size, "cap": cap, "rounds": rounds, "times": times, "threads": threads}
    typer.echo(run(arguments, bits, only, out, as_json, sys.argv[1:], tell))


def download(
    name: Annotated[str, typer.Argument(help="A data set.")],
    dest: Annotated[Path | None, typer.Option("-o", "--out", help="Folder; by default data/NAME.")] = None,
) -> None:
    """Fetch a data set, or say how to get it."""
    from unetq_datasets.download import fetch

    folder = dest if dest is not None else Path("data") / name
    for path in fetch(name, folder, tell=tell):
        typer.echo(str(path))
