"""Commands that train: one run, or a sweep of runs."""

import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from .shared import DataOption, command_line, tell


def train(
    config: Annotated[
        str | None, typer.Argument(help="A shipped config (em, phantom, …) or a YAML file; optional with --resume.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The run's folder; by default runs/CONFIG-wXaY.")] = None,
    weight_bits: Annotated[int | None, typer.Option(help="1 to 8, or 32 for float.")] = None,
    act_bits: Annotated[int | None, typer.Option(help="1 to 8, or 32 for float.")] = None,
    data: DataOption = None,
    fold: Annotated[int | None, typer.Option(min=0, help="Cross-validation: this fold validates; see --folds.")] = None,
    folds: Annotated[
        int | None, typer.Option(min=0, help="How many folds; 0 is one for each subject (data.by).")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE …", help="Any keys of the config.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
) -> None:
    """Train: float first, then in a few bits from it."""
    from .. import config as configs
    from ..errors import ConfigError

    overrides: dict[str, Any] = {}
    flags = {"weight_bits": weight_bits, "act_bits": act_bits}
    if any(bits is not None for bits in flags.values()):
        overrides["quant"] = {key: bits for key, bits in flags.items() if bits is not None}
    places = {"root": None if data is None else str(data), "fold": fold, "folds": folds}
    if any(value is not None for value in places.values()):
        overrides["data"] = {key: value for key, value in places.items() if value is not None}
    if config is not None:
        experiment = configs.load_experiment(config, settings or [], overrides)
    elif resume and out is not None:
        from ..runs import read_experiment

        values = configs.overlay(read_experiment(out).model_dump(), configs.parse_settings(settings or []))
        experiment = configs.build(configs.overlay(values, overrides))
    else:
        raise ConfigError(
            "no config was given; name one, such as `unetq train em`, or resume a run with --resume --out RUN."
        )
    if folds is not None and experiment.data.fold is None:
        raise ConfigError(f"--folds {folds} without --fold: a run trains one fold; add --fold 0, or `unetq sweep` all.")
    if out is None:
        bits = experiment.quant
        suffix = "float" if bits.is_float else f"w{bits.weight_bits}a{bits.act_bits}"
        number = "" if experiment.data.fold is None else f"-f{experiment.data.fold}"
        out = Path("runs") / f"{Path(config or 'run').stem}-{suffix}{number}"

    from ..loop import Interrupted
    from ..progress import for_terminal
    from ..train import train as run_training

    try:
        run_training(experiment, out, resume=resume, progress=for_terminal(), command=command_line())
    except Interrupted as interrupted:
        typer.echo(str(interrupted), err=True)
        raise typer.Exit(130) from None
    if os.environ.get("LOCAL_RANK", "0") == "0":  # one of several processes speaks
        typer.echo(f"{out}: trained. Next: unetq evaluate {shlex.quote(str(out))}")


def sweep(
    config: Annotated[str, typer.Argument(help="A shipped config (em, gm, nih, phantom, …) or a YAML file.")],
    bits: Annotated[str, typer.Option(metavar="W/A,…", help="Bits of weights and activations.")] = "32/32,8/8,4/6,2/2",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each with seeds that follow the config's.")] = 1,
    folds: Annotated[
        int | None, typer.Option(min=0, help="Every fold of as many; 0 is one for each subject (data.by).")
    ] = None,
    method: Annotated[str | None, typer.Option(metavar="NAME,…", help="Quantisers; by default the config's.")] = None,
    split: Annotated[str, typer.Option(metavar="NAME,…", help="What is evaluated: validation,test.")] = "validation",
    data: DataOption = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE …", help="Any keys of the config, for all runs.")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The folder; by default sweeps/CONFIG.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the runs, with their commands.")] = False,
) -> None:
    """Train and evaluate a run of every width, method, seed and fold; the same command goes on where it stopped.

    Low-bit runs start from the float run of their seed and fold. What is done is not done again, what fails is named.
    """
    from ..sweep import Sweep, describe, parse_splits, preview
    from ..sweep import sweep as run_sweep
    from ..sweep_plan import Grid, parse_bits, parse_methods

    grid = Grid(parse_bits(bits), seeds, folds, parse_methods(method))
    asked = Sweep(
        config, grid, out or Path("sweeps") / Path(config).stem, tuple(settings or ()), data, parse_splits(split),
        command_line(),
    )  # fmt: skip
    if dry_run:
        typer.echo(preview(asked))
        return
    outcome = run_sweep(asked, tell)
    typer.echo(describe(asked, outcome))
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)
