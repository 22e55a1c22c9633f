"""The command line: parse, import what the command needs, make one call."""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from . import __version__
from .errors import UnetqError

app = typer.Typer(
    name="unetq",
    help="Train a U-Net in a few bits; run it, bit for bit the same, anywhere.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DataOption = Annotated[Path | None, typer.Option("--data", metavar="DIR", help="Folder of the data set.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON only.")]
OutOption = Annotated[Path, typer.Option("-o", "--out", help="Where to write.")]


def _quant_settings(settings: list[str] | None, command: str) -> dict[str, Any]:
    """Of a command that takes keys of the section quant and no others."""
    from .config import parse_settings
    from .errors import ConfigError

    given = parse_settings(settings or [])
    if others := set(given) - {"quant"}:
        raise ConfigError(f"--set {min(others)}…: {command} takes keys of the section quant only; drop it.")
    found: dict[str, Any] = given.get("quant", {})
    return found


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


@app.command()
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
    from . import config as configs
    from .errors import ConfigError

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
        from .runs import read_experiment

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

    from .loop import Interrupted
    from .progress import for_terminal
    from .train import train as run_training

    try:
        run_training(
            experiment, out, resume=resume, progress=for_terminal(), command=shlex.join(["unetq", *sys.argv[1:]])
        )
    except Interrupted as interrupted:
        typer.echo(str(interrupted), err=True)
        raise typer.Exit(130) from None
    if os.environ.get("LOCAL_RANK", "0") == "0":  # one of several processes speaks
        typer.echo(f"{out}: trained. Next: unetq evaluate {shlex.quote(str(out))}")


@app.command()
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
    from .sweep import Sweep, describe, parse_splits, preview
    from .sweep import sweep as run_sweep
    from .sweep_plan import Grid, parse_bits, parse_methods

    grid = Grid(parse_bits(bits), seeds, folds, parse_methods(method))
    asked = Sweep(
        config, grid, out or Path("sweeps") / Path(config).stem, tuple(settings or ()), data, parse_splits(split),
        shlex.join(["unetq", *sys.argv[1:]]),
    )  # fmt: skip
    if dry_run:
        typer.echo(preview(asked))
        return
    outcome = run_sweep(asked, lambda line: typer.echo(line, err=True))
    typer.echo(describe(asked, outcome))
    if outcome.exit_code:
        raise typer.Exit(outcome.exit_code)


@app.command()
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
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE …", help="Other keys of the section quant.")
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Quantise a trained float network in minutes, without labels or training."""
    from .ptq.network import Options
    from .ptq.run import describe
    from .ptq.run import ptq as quantise

    flags = {"weight_bits": weight_bits, "act_bits": act_bits, "method": method}
    options = Options(
        value_range, weight_range, percentile, equalize, bias_correction, adaround, bn_reestimate, foreground,
        iterations, seed,
    )  # fmt: skip
    record = quantise(
        checkpoint, out, {**flags, **_quant_settings(settings, "ptq")}, options, images=images or (), samples=samples,
        data=data, command=shlex.join(["unetq", *sys.argv[1:]]), tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    following = f"  Next: unetq evaluate {shlex.quote(str(out))}"
    typer.echo(json.dumps(record) if as_json else f"{describe(out, record)}\n{following}")


@app.command()
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
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE …", help="Other keys of the section quant.")
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Choose the bits of every layer inside a budget, and pack the best model; exit code 10 where none fits."""
    from .compress.options import Wishes, parse_widths
    from .compress.record import describe
    from .compress.run import compress as fit

    wishes = Wishes(max_dice_drop, target_size, max_memory, max_latency, min_dice or ())
    record = fit(
        checkpoint, out, wishes, effort=effort, widths=parse_widths(bits), by=by, seed=seed, samples=samples,
        settings=_quant_settings(settings, "compress"), data=data, command=shlex.join(["unetq", *sys.argv[1:]]),
        tell=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    typer.echo(json.dumps(record) if as_json else describe(out, record))


@app.command()
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
    from .onnx.session import is_onnx

    if is_onnx(run):
        from .onnx.evaluate import describe as tell
        from .onnx.evaluate import evaluate_onnx

        found = evaluate_onnx(run, split, data, config, against)
        typer.echo(json.dumps(found, indent=2) if as_json else tell(found))
        return
    if config is not None or against is not None:
        from .errors import ConfigError

        raise ConfigError("--config and --against are for .onnx files; a run knows its data. Leave them out.")
    from .evaluate import evaluate as score
    from .summary import describe

    metrics = score(run, split, "float" if in_float else "integer", data)
    typer.echo(json.dumps(metrics, indent=2) if as_json else describe(metrics, split))


@app.command()
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
    from .gate import describe
    from .gate import gate as judge

    found = judge(run, margin, classes or (), split, evaluate=evaluate_first, data=data)
    typer.echo(json.dumps(found, indent=2) if as_json else describe(found))
    if found["exit_code"]:
        raise typer.Exit(found["exit_code"])


@app.command()
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
    from .verify import describe
    from .verify import verify as compare

    found = compare(run, split, data, limit, lambda line: typer.echo(line, err=True))
    typer.echo(json.dumps(found, indent=2) if as_json else describe(found))
    if found["mismatches"] and not found["float_layers"]:
        raise typer.Exit(1)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder; with --target also a .uqm file.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Where to write; not needed with --onnx.")] = None,
    onnx: Annotated[
        Path | None, typer.Option("--onnx", metavar="FILE", help="Write a standard ONNX model (QDQ) instead.")
    ] = None,
    onnx_opset: Annotated[
        int | None, typer.Option("--onnx-opset", help="13 to 23; from 21, the default, weights have 4-bit types.")
    ] = None,
    onnx_norm_nodes: Annotated[
        bool, typer.Option("--onnx-norm-nodes", help="Norms as single nodes in float32: less exact, no float64.")
    ] = False,
    target: Annotated[
        str | None, typer.Option(metavar="NAME", help="aarch64-linux, armv7-linux or x86_64-linux: a device's folder.")
    ] = None,
    cxx: Annotated[
        str | None, typer.Option(metavar="COMMAND", help="Compiler for --target; by default zig (unetq[cross]).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Pack a run's best network into one .uqm file, with --target into a folder for a device, with --onnx for others.

    The folder holds the model, a static program, the library with its C header, an example, check sums and a self-test.
    """
    from .errors import ConfigError

    if onnx is not None and (out, target, cxx) == (None, None, None):
        from .onnx.run import export_onnx

        written = export_onnx(run, onnx, onnx_opset, onnx_norm_nodes)
        typer.echo(json.dumps(written) if as_json else f"{written['path']}: {written['bytes']} bytes")
        return
    if onnx is not None or onnx_opset is not None or onnx_norm_nodes or out is None:
        raise ConfigError(
            "one kind of output at a time: -o FILE.uqm, or -o FOLDER with --target, or --onnx FILE.onnx "
            "(with --onnx-opset if you like); give one of them."
        )
    if target is not None:
        from .export.bundle import bundle, describe
        from .progress import count_compiled

        found = bundle(run, target, out, cxx, count_compiled, lambda line: typer.echo(line, err=True))
        typer.echo(json.dumps(found) if as_json else describe(found))
        return
    if cxx is not None:
        raise ConfigError("--cxx names the compiler for a device, but no device is named; add --target aarch64-linux.")
    from .export.run import export as pack

    summary = pack(run, out)
    typer.echo(json.dumps(summary) if as_json else f"{summary['path']}: {summary['bytes']} bytes")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A .uqm file, or an .onnx file of ours.")],
    image: Annotated[Path, typer.Argument(help="TIFF, PNG, NIfTI, .npy, a DICOM folder, or a folder of these.")],
    out: OutOption,
    allow_small: Annotated[
        bool, typer.Option("--allow-small", help="Take images smaller than the network's stride.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads that run a slice together.")] = 1,
    axes: Annotated[
        str, typer.Option(metavar="CODE", help="Where rows, columns, slices increase to, if no header says: LAS.")
    ] = "",
    spacing: Annotated[
        str, typer.Option(metavar="S,R,C", help="mm of slices, rows, columns, if no header says: 3,0.5,0.5.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Segment an image, or with a folder as output every image of a folder; a mask has its image's geometry."""
    from . import predict_folder as many
    from .predict import describe, parse_spacing
    from .predict import predict as segment
    from .progress import count_slices

    lengths = parse_spacing(spacing)
    if many.is_folder_of_images(image, out):
        found = many.predict_folder(
            model, image, out, count_slices, lambda line: typer.echo(line, err=True), allow_small=allow_small,
            threads=threads, axes=axes, spacing=lengths,
        )  # fmt: skip
        typer.echo(json.dumps(found) if as_json else many.describe(found))
        if found["failed"]:
            raise typer.Exit(1)
        return
    summary = segment(
        model, image, out, count_slices, allow_small=allow_small, threads=threads, axes=axes, spacing=lengths
    )
    for warning in summary["warnings"]:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(json.dumps(summary) if as_json else describe(summary))


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the report.")],
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Number cases and persons, hide their names.")] = False,
) -> None:
    """Compare runs on one page."""
    from .report import build

    folders = [run for run in runs if run.name != "sweep.json"]  # it is among `sweeps/em/*`
    typer.echo(f"{build(folders, out, anonymous=anonymous)}: written")


@app.command()
def check(
    network: Annotated[str, typer.Argument(help="A network's name, module:Class, a shipped config or a YAML file.")],
    size: Annotated[str | None, typer.Option(metavar="PIXELS", help="64, 64x48 or 32x64x64; by default tried.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE …", help="Such as network.options.spatial_dims=3.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List what each layer of a network becomes, and all that is not supported; exit code 2 where anything is not."""
    from .check import check as look
    from .check import describe

    found = look(network, settings or [], size)
    typer.echo(json.dumps(found, indent=2) if as_json else describe(found))
    if not found["supported"]:
        raise typer.Exit(2)


@app.command()
def inspect(model: Annotated[Path, typer.Argument(help="A .uqm file.")], as_json: JsonOption = False) -> None:
    """List a model's layers, bits, bytes and planned memory."""
    from .inspect import describe
    from .inspect import inspect as look

    found = look(model)
    typer.echo(json.dumps(found, indent=2) if as_json else describe(found))


@app.command()
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
        from .bench.listing import describe, listing

        found = listing(Path(network) if network.endswith(".uqm") else None)
        typer.echo(json.dumps(found, indent=2) if as_json else describe(found))
        return
    from .bench.run import run

    arguments = {"network": network, "size": size, "cap": cap, "rounds": rounds, "times": times, "threads": threads}
    typer.echo(run(arguments, bits, only, out, as_json, sys.argv[1:], lambda line: typer.echo(line, err=True)))


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="A data set.")],
    dest: Annotated[Path | None, typer.Option("-o", "--out", help="Folder; by default data/NAME.")] = None,
) -> None:
    """Fetch a data set, or say how to get it."""
    from unetq_datasets.download import fetch

    folder = dest if dest is not None else Path("data") / name
    for path in fetch(name, folder, tell=lambda line: typer.echo(line, err=True)):
        typer.echo(str(path))


def _spread_settings(arguments: list[str]) -> list[str]:
    """``--set a=1 b=2`` as ``--set a=1 --set b=2``: what follows a setting and looks like one is one; so of images."""
    spread: list[str] = []
    for i, argument in enumerate(arguments):
        follows = len(spread) >= 2 and spread[-2] == "--set" and i > 0
        if follows and "=" in argument and not argument.startswith("-"):
            spread.append("--set")
        if len(spread) >= 2 and spread[-2] == "--images" and not argument.startswith("-"):
            spread.append("--images")
        spread.append(argument)
    return spread


def main() -> NoReturn:
    """Entry point: errors of this package become one line on stderr and their exit code."""
    try:
        app(_spread_settings(sys.argv[1:]))
    except UnetqError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


if __name__ == "__main__":
    main()
