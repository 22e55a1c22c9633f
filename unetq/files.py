"""Outputs are written whole or not at all: a temporary neighbour, then one rename."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from .errors import OutputError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is flushed and renamed onto ``path``.

    The temporary name keeps the suffixes of ``path`` so that writers which look at the
    extension behave. On any failure the temporary file is removed and ``path`` is untouched.

    Raises:
        OutputError: the folder is missing, not writable, or the disk is full.
    """
    target = Path(path)
    suffixes = "".join(target.suffixes)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=suffixes, dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        descriptor = os.open(temporary, os.O_RDWR)
        try:
            os.fsync(descriptor)
            mask = os.umask(0)
            os.umask(mask)
            os.fchmod(descriptor, 0o666 & ~mask)
        finally:
            os.close(descriptor)
        temporary.replace(target)
        temporary = None
    except OSError as error:
        raise OutputError(
            f"cannot write {target}: {error.strerror or error}; an output is written whole or not at all, "
            "so nothing was changed. Free some space or choose another place."
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_with(path: str | os.PathLike[str], writer: Callable[[BinaryIO], object]) -> None:
    """Open a temporary neighbour of ``path`` for binary writing, call ``writer`` on it, rename."""
    with atomic_path(path) as temporary, open(temporary, "wb") as handle:
        writer(handle)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all."""
    write_with(path, lambda handle: handle.write(data))


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON (no NaN or infinity) to ``path``, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")
