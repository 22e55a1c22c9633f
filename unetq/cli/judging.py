"""Commands that say how good a run is, and whether every path gives the same bits."""

import json
from pathlib import Path
from typing import Annotated

import typer

from .shared import DataOption, JsonOption, tell


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder, or an .onnx file of one.")],
    split: Annotated[str, typer.Option(help="validation or test.")] = "validation",
    as_json: JsonOption = False,
    in_float: Annotated[bool, typer.Option("--float", help="Quantisers off, in float32; labelled so.")] = False,
    data: DataOption = None,
    config: Annotated[
        str | None, typer.Option(help="Of an .onnx file: a config whose data are scored; by default those it names.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="UQM", help="Of an .onnx file: count the pixels that agree with this model.")
    ] = None,
) -> None:
    """Score a run in the integer arithmetic that ships; writes metrics.json. An .onnx file is only scored."""
    from ..onnx.session import is_onnx

    if is_onnx(run):
        from ..onnx.evaluate import describe as describe_onnx
        from ..onnx.evaluate import evaluate_onnx

        found = evaluate_onnx(run, split, data, config, against)
        typer.echo(json.dumps(found, indent=2) if as_json else describe_onnx(found))
        return
    if config is not None or against is not None:
        from ..errors import ConfigError

        raise ConfigError("--config and --against are for .onnx files; a run knows its data. Leave them out.")
    from ..evaluate import evaluate as score
    from ..summary import describe

    metrics = score(run, split, "float" if in_float else "integer", data)
    typer.echo(json.dumps(metrics, indent=2) if as_json else describe(metrics, split))


def gate(
    run: Annotated[Path, typer.Argument(help="An evaluated low-bit run.")],
    margin: Annotated[float, typer.Option(help="Points of Dice that may be lost, such as 0.5.")],
    classes: Annotated[
        list[str] | None, typer.Option("--class", metavar="NAME", help="Judge only these; by default all.")
    ] = None,
    split: Annotated[str, typer.Option(help="validation or test.")] = "validation",
    evaluate_first: Annotated[bool, typer.Option("--evaluate", help="Score the run first.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Is the low-bit network no worse than its float one by more than a margin? For CI.

    Exit code 0: pass; 1: fail; 2: cannot tell (too few cases, or the interval spans the margin). A wrong flag leaves
    with 2, unusable data with 3, a missing or damaged evaluation with 4.
    """
    from ..gate import describe
    from ..gate import gate as judge

    found = judge(run, margin, classes or (), split, evaluate=evaluate_first, data=data)
    typer.echo(json.dumps(found, indent=2) if as_json else describe(found))
    if found["exit_code"]:
        raise typer.Exit(found["exit_code"])


def verify(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "validation",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first slices.")] = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Compare torch, NumPy and every C++ path on a run's slices, tensor by tensor; exit code 1 on a mismatch.

    A run that keeps layers in float32 is not bound to be exact: its differences are only told.
    """
    from ..verify import describe
    from ..verify import verify as compare

    found = compare(run, split, data, limit, tell)
    typer.echo(json.dumps(found, indent=2) if as_json else describe(found))
    if found["mismatches"] and not found["float_layers"]:
        raise typer.Exit(1)
