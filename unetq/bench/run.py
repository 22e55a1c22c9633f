"""``unetq bench``: measure, write the folder, say what came out."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..files import refuse_full_folder
from .contenders import parse_bits
from .measure import Request, Say, measure
from .output import write
from .result import to_json
from .table import text


def run(
    arguments: dict[str, Any],
    bits: str,
    only: str | None,
    out: Path | None,
    as_json: bool,
    words: Sequence[str],
    say: Say,
) -> str:
    """One benchmark as JSON or as text; ``out`` receives its folder. ``words`` are the command's, to be recorded.

    Raises:
        ConfigError: a value that cannot be used. OutputError: ``out`` cannot be written.
    """
    if out is not None:
        refuse_full_folder(out)
    command = shlex.join(["unetq", *_without_place(words)])
    bench = measure(Request(**arguments, bits=parse_bits(bits), only=only, command=command), say)
    if out is not None:
        write(bench, out)
        say(f"{out}: written")
    return to_json(bench).rstrip() if as_json else text(bench)


def _without_place(words: Sequence[str]) -> list[str]:
    """The command without ``-o DIR``: where the result lay says nothing about it, and is a path of this machine."""
    kept: list[str] = []
    skip = False
    for word in words:
        if not skip and word not in ("-o", "--out") and not word.startswith("--out="):
            kept.append(word)
        skip = not skip and word in ("-o", "--out")
    return kept
