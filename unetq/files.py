"""Outputs are written whole or not at all: a temporary neighbour, then one rename."""

import json
import os
import shutil
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


def refuse_full_folder(path: str | os.PathLike[str]) -> None:
    """Stop before any work is done for a folder that could not be put in place.

    Raises:
        OutputError: ``path`` is a file or a folder with something in it, or its parent is missing.
    """
    target = Path(path)
    if target.is_dir():
        if any(target.iterdir()):
            raise OutputError(
                f"{target} is there and not empty; a folder is written whole or not at all, never into another. "
                "Remove it or choose another name."
            )
    elif target.exists() or target.is_symlink():
        raise OutputError(f"{target} is a file; a folder is to be written there. Choose another name.")
    if not target.absolute().parent.is_dir():
        raise OutputError(f"{target.absolute().parent} does not exist; make that folder, or choose another place.")


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; on success its files are flushed and it is renamed onto ``path``.

    On any failure the temporary folder is removed and ``path`` is untouched.

    Raises:
        OutputError: as ``refuse_full_folder``, or the place is not writable, or the disk is full.
    """
    refuse_full_folder(path)
    target = Path(path).resolve()
    temporary: Path | None = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with open(file, "rb") as handle:
                    os.fsync(handle.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o777 & ~mask)
        temporary.rename(target)  # onto an empty folder, too
        temporary = None
    except OSError as error:
        raise OutputError(
            f"cannot write {target}: {error.strerror or error}; a folder is written whole or not at all, "
            "so nothing was changed. Free some space or choose another place."
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


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
