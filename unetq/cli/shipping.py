"""Commands that pack a network and run it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from .shared import JsonOption, OutOption, tell


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
    from ..errors import ConfigError

    if onnx is not None and (out, target, cxx) == (None, None, None):
        from ..onnx.run import export_onnx

        written = export_onnx(run, onnx, onnx_opset, onnx_norm_nodes)
        typer.echo(json.dumps(written) if as_json else f"{written['path']}: {written['bytes']} bytes")
        return
    if onnx is not None or onnx_opset is not None or onnx_norm_nodes or out is None:
        raise ConfigError(
            "one kind of output at a time: -o FILE.uqm, or -o FOLDER with --target, or --onnx FILE.onnx "
            "(with --onnx-opset if you like); give one of them."
        )
    if target is not None:
        from ..export.bundle import bundle, describe
        from ..progress import count_compiled

        found = bundle(run, target, out, cxx, count_compiled, tell)
        typer.echo(json.dumps(found) if as_json else describe(found))
        return
    if cxx is not None:
        raise ConfigError("--cxx names the compiler for a device, but no device is named; add --target aarch64-linux.")
    from ..export.run import export as pack

    summary = pack(run, out)
    typer.echo(json.dumps(summary) if as_json else f"{summary['path']}: {summary['bytes']} bytes")


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
    from .. import predict_folder as many
    from ..predict import describe, parse_spacing
    from ..predict import predict as segment
    from ..progress import count_slices

    lengths = parse_spacing(spacing)
    if many.is_folder_of_images(image, out):
        found = many.predict_folder(
            model, image, out, count_slices, tell, allow_small=allow_small, threads=threads, axes=axes, spacing=lengths
        )
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
