"""Commands that make a trained network smaller without training it from the start."""

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from .shared import DataOption, JsonOption, QuantOption, command_line, quant_settings, tell


def ptq(
    checkpoint: Annotated[Path, typer.Argument(help="A run folder, or its float checkpoint.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="RUN", help="The new run's folder.")],
    weight_bits: Annotated[int, typer.Option(help="1 to 8, or 32 for float.")] = 8,
    act_bits: Annotated[int, typer.Option(help="1 to 8, or 32 for float.")] = 8,
    images: Annotated[
        list[Path] | None,
        typer.Option(help="Files or folders (TIFF, PNG, NIfTI, npy) …; by default the run's own training slices."),
    ] = None,
    method: Annotated[str, typer.Option(help="fixed, paper, lsq, …")] = "fixed",
    value_range: Annotated[str, typer.Option("--range", help="Of activations: minmax, percentile, mse or kl.")] = "mse",
    weight_range: Annotated[str, typer.Option(help="Of weights: minmax, percentile, mse or kl.")] = "mse",
    percentile: Annotated[float, typer.Option(help="For the range percentile.")] = 99.99,
    equalize: Annotated[bool, typer.Option("--equalize", help="Cross-layer equalisation first.")] = False,
    bias_correction: Annotated[bool, typer.Option("--bias-correction", help="Mean shifts taken back.")] = False,
    adaround: Annotated[bool, typer.Option("--adaround", help="Rounding learned layer by layer.")] = False,
    bn_reestimate: Annotated[bool, typer.Option("--bn-reestimate", help="BatchNorm statistics measured anew.")] = False,
    foreground: Annotated[bool, typer.Option("--foreground", help="Rare predicted classes count as others.")] = False,
    samples: Annotated[int, typer.Option(min=1, help="Crops to calibrate on.")] = 16,
    iterations: Annotated[int, typer.Option(min=1, help="Of AdaRound, a layer.")] = 500,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    settings: QuantOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Quantise a trained float network in minutes, without labels or training."""
    from ..ptq.network import Options
    from ..ptq.run import describe
    from ..ptq.run import ptq as quantise

    flags = {"weight_bits": weight_bits, "act_bits": act_bits, "method": method}
    options = Options(
        value_range, weight_range, percentile, equalize, bias_correction, adaround, bn_reestimate, foreground,
        iterations, seed,
    )  # fmt: skip
    record = quantise(
        checkpoint, out, {**flags, **quant_settings(settings, "ptq")}, options, images=images or (), samples=samples,
        data=data, command=command_line(), tell=tell,
    )  # fmt: skip
    following = f"  Next: unetq evaluate {shlex.quote(str(out))}"
    typer.echo(json.dumps(record) if as_json else f"{describe(out, record)}\n{following}")


def compress(
    checkpoint: Annotated[Path, typer.Argument(help="A run folder, or its float checkpoint.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="RUN", help="The new run's folder.")],
    max_dice_drop: Annotated[float | None, typer.Option(help="Points of validation Dice below float: 0.5, …")] = None,
    target_size: Annotated[str | None, typer.Option(help="Of the packed file: 1.5MB, 800KB, …")] = None,
    max_memory: Annotated[str | None, typer.Option(help="Of one image, planned: 16MB, …")] = None,
    max_latency: Annotated[str | None, typer.Option(help="Of one image on this machine, one thread: 200ms, …")] = None,
    min_dice: Annotated[list[str] | None, typer.Option(metavar="CLASS=DICE …", help="Floors by class, 0 to 1.")] = None,
    effort: Annotated[str, typer.Option(help="minutes (no training), hour or hours.")] = "minutes",
    bits: Annotated[str, typer.Option(help="Widths to choose from.")] = "1,2,3,4,5,6,8",
    by: Annotated[str, typer.Option(help="Sensitivity: divergence, loss or hessian.")] = "divergence",
    samples: Annotated[int | None, typer.Option(min=1, help="Crops to measure on; by default the effort's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all that is drawn.")] = 0,
    settings: QuantOption = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose the bits of every layer inside a budget, and pack the best model; exit code 10 where none fits."""
    from ..compress.options import Wishes, parse_widths
    from ..compress.record import describe
    from ..compress.run import compress as fit

    wishes = Wishes(max_dice_drop, target_size, max_memory, max_latency, min_dice or ())
    record = fit(
        checkpoint, out, wishes, effort=effort, widths=parse_widths(bits), by=by, seed=seed, samples=samples,
        settings=quant_settings(settings, "compress"), data=data, command=command_line(), tell=tell,
    )  # fmt: skip
    typer.echo(json.dumps(record) if as_json else describe(out, record))
