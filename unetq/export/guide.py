"""README.txt of a bundle: what each file is, how to check, run and test it, what it takes, where it is from."""

import json
from dataclasses import dataclass
from typing import Any

from .elf import Elf
from .golden import Golden
from .preprocessing import in_words
from .program import ModelMeta, Preprocessing, Program
from .targets import Target

SELF_TEST = "self-test/"
COMPILE = "cc -std=c99 -O2 example.c libunetq.a -lm -pthread -o example"
FILES = {
    "model.uqm": "the network: weights at their bits, preprocessing, labels, provenance",
    "unetq-run": "the program: segments image files; static, needs no library and no Python",
    "libunetq.so": "the library",
    "libunetq.a": "the library, to link statically",
    "unetq.h": "its C99 header; every function, status and struct is described there",
    "example.c": "a small program that uses the library",
    SELF_TEST: "an input, and the logits that this network gives for it on every processor",
    "SHA256SUMS": "check sums of all files",
    "LICENSE": "Apache-2.0",
}


@dataclass(frozen=True)
class Memory:
    """Planned bytes of ``uq_run`` beside input and output, for one image size."""

    size: tuple[int, ...]
    arena_bytes: int


def _times(values: tuple[int, ...]) -> str:
    return " x ".join(map(str, values))


def library_needs(library: Elf) -> str:
    """What the shared library asks of the board, in words."""
    needed = ", ".join(library.needed) or "nothing"
    version = f", glibc {'.'.join(map(str, library.glibc))} or newer" if library.glibc else ""
    return f"{needed}{version}"


def _accepted(program: Program, context: int) -> str:
    skip = 3 - program.spatial_rank
    channels = program.tensors[program.input].channels // (2 * context + 1)
    if channels > 1:
        sizes = _times((program.fixed_size or program.input_multiple)[skip:])
        rule = "exactly" if program.fixed_size else "multiples of"
        return f"{channels} channels, {rule} {sizes}; image files hold one channel, so feed it through the library"
    if program.fixed_size is not None:
        return f"exactly {_times(program.fixed_size[skip:])}"
    return f"multiples of {_times(program.input_multiple[skip:])}; unetq-run extends other images and crops the mask"


def _geometry(rule: Preprocessing) -> str:
    if not rule.orientation and not any(rule.spacing):
        return ""
    flags = [name for name, asked in (("--axes", rule.orientation), ("--spacing", any(rule.spacing))) if asked]
    return f"\nOf images without geometry (TIFF, PNG, NumPy) it must be told: {' and '.join(flags)}, see --help."


def readme(
    target: Target,
    program: Program,
    meta: ModelMeta,
    golden: Golden | None,
    memory: list[Memory],
    library: Elf,
    isas: list[str],
    facts: dict[str, Any],
) -> str:
    """The whole text.

    ``golden`` is None for a model with float32 layers, which has no self-test; ``facts`` is what is recorded of the
    build beside the model's own provenance.
    """
    width, rule = max(map(len, FILES)) + 2, meta.preprocessing
    listed = {name: text for name, text in FILES.items() if golden is not None or name != SELF_TEST}
    files = "\n".join(f"  {name:<{width}}{text}" for name, text in listed.items())
    labels = ", ".join(f"{n} = {v}" for n, v in zip(meta.labels, meta.label_values, strict=True)) or "none"
    planned = "\n".join(f"  {_times(m.size):<16}{m.arena_bytes:>14,} bytes" for m in memory) or "  not planned here"
    return f"""\
{meta.name or "unetq model"} for {target.name}
{"=" * (len(meta.name or "unetq model") + 5 + len(target.name))}

{target.description}: {target.boards}.

Files
-----
{files}

Check, test, run
----------------
  sha256sum -c SHA256SUMS                  are the files whole?
  {_self_test(golden)}
  ./unetq-run model.uqm image.tif -o mask.tif     images: NIfTI (.nii, .nii.gz), TIFF, PNG, NumPy (.npy)
  ./unetq-run --help                       all options and exit codes

Images go in as they come from the scanner: the preprocessing ({in_words(rule)}) is in the model file.
Sizes: {_accepted(program, rule.context)}.{_geometry(rule)}
Labels in the mask: {labels}.

From your own program
---------------------
  {COMPILE}
{_start_example(program, golden)}

The library takes images that are preprocessed already, and only the sizes named above (uq_model_info tells both).
libunetq.so needs: {library_needs(library)}.

Memory and processors
---------------------
uq_run allocates nothing. It works in an arena of the caller, whose exact size uq_plan tells. With scalar kernels and
one thread:
{planned}
./unetq-run --memory tells it for this processor.
Instruction sets in the library and the program: {", ".join(isas)}.
The best that the processor has is chosen when a model is opened; UNETQ_ISA=NAME in the environment forces one.

Provenance
----------
{json.dumps({**facts, "model": meta.provenance}, indent=2, sort_keys=True)}

Not a medical device: a research tool. Licensed under Apache-2.0.
"""


def _self_test(golden: Golden | None) -> str:
    if golden is None:
        return "(no self-test: layers are kept in float32, whose sums may differ by 1e-5 of the range)"
    return "./unetq-run --self-test                  does this processor compute the same logits, to the last bit?"


def _start_example(program: Program, golden: Golden | None) -> str:
    if golden is None:
        return "  ./example model.uqm input.f32 DEPTH HEIGHT WIDTH"
    depth = 1 if program.spatial_rank == 2 else golden.input.shape[1]
    size = f"{depth} {golden.input.shape[-2]} {golden.input.shape[-1]}"
    cut = f"tail -c {golden.input.nbytes} self-test/input.npy > input.f32"
    return f"  {cut}\n  ./example model.uqm input.f32 {size}"
