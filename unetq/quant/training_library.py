"""The training kernels of ``deploy/runtime/training``, as ctypes; found beside the runtime's library."""

import ctypes
import os
from ctypes import c_float, c_int, c_size_t, c_void_p
from functools import cache
from pathlib import Path

VERSION = 1
LIBRARY = Path(__file__).parent.parent / "_native" / "libunetq_training.so"
VARIABLE = "UNETQ_TRAINING_LIBRARY"
"""Another library's path, or "off" for torch's own operations."""

_SIGNATURES = {
    "uqt_version": (c_int, ()),
    "uqt_forward": (
        None,
        (c_void_p, c_void_p, c_int, c_size_t, c_size_t, c_void_p, c_void_p, c_float, c_float, c_size_t),
    ),
    "uqt_backward": (
        c_int,
        (c_void_p, c_void_p, c_void_p, c_void_p, c_int, c_size_t, c_size_t, c_void_p, c_float, c_float, c_size_t),
    ),
}  # fmt: skip


@cache
def load(path: str) -> tuple[ctypes.CDLL | None, str]:
    """The library at ``path`` (empty: the installed one) and why there is none, in words."""
    if path == "off":
        return None, f"switched off by {VARIABLE}=off"
    file = Path(path) if path else LIBRARY
    if not file.is_file():
        return None, f"{file} is missing; `make native` or installing the package compiles it"
    try:
        library = ctypes.CDLL(str(file))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
        found = library.uqt_version()
    except (OSError, AttributeError) as error:
        return None, f"{file} cannot be loaded ({error})"
    if found != VERSION:
        return None, f"{file} is version {found}, this program needs {VERSION}; compile it again with `make native`"
    return library, ""


def training_library() -> ctypes.CDLL | None:
    """The kernels; None where they were not compiled, and torch's operations do their work."""
    return load(os.environ.get(VARIABLE, ""))[0]


def kernels_in_use() -> str:
    """One line for logs: which implementation fake quantisation runs on the CPU, and why."""
    library, reason = load(os.environ.get(VARIABLE, ""))
    return "fused kernels" if library is not None else f"torch operations ({reason})"
