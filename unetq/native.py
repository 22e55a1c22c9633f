"""The C header as ctypes: structs, signatures, and where the compiled library is found."""

import ctypes
import os
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_int16, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

from .errors import DeviceError, ModelFileError

API_VERSION = 4
ARENA_ALIGNMENT = 64
LIBRARY = Path(__file__).parent / "_native" / "libunetq.so"
MODEL_FILE_STATUS = (2, 3, 4)  # UQ_CANNOT_READ, UQ_DAMAGED, UQ_VERSION

Size = c_uint32 * 3


class ModelInfo(ctypes.Structure):
    """uq_model_info."""

    _fields_ = [
        ("struct_bytes", c_size_t),
        ("name", c_char_p),
        ("isa", c_char_p),
        ("file_bytes", c_uint64),
        ("weight_bytes", c_uint64),
        ("spatial_rank", c_uint32),
        ("input_channels", c_uint32),
        ("output_channels", c_uint32),
        ("input_multiple", Size),
        ("fixed_size", Size),
        ("tensor_count", c_uint32),
        ("op_count", c_uint32),
        ("label_count", c_uint32),
        ("normalize", c_uint32),
        ("window_low", c_double),
        ("window_high", c_double),
        ("provenance", c_void_p),
        ("provenance_bytes", c_uint64),
        ("orientation", c_char_p),
        ("spacing", c_double * 3),
        ("context", c_uint32),
        ("over_volume", c_uint32),
        ("window", Size),
        ("overlap", c_double),
    ]


def preprocessing(info: ModelInfo) -> dict[str, Any]:
    """The fields that say how an image becomes the input, by their names in a model file's program record."""
    return {
        "normalize": info.normalize,
        "low": info.window_low,
        "high": info.window_high,
        "orientation": info.orientation or b"",
        "context": info.context,
        "spacing": tuple(info.spacing),
        "window": tuple(info.window),
        "over": info.over_volume,
        "overlap": info.overlap,
    }


class TensorInfo(ctypes.Structure):
    """uq_tensor_info."""

    _fields_ = [
        ("struct_bytes", c_size_t),
        ("name", c_char_p),
        ("channels", c_uint32),
        ("bits", c_uint32),
        ("is_signed", c_uint32),
        ("scale", c_float),
        ("zero_point", c_int32),
        ("is_dynamic", c_uint32),
    ]


class LayoutInfo(ctypes.Structure):
    """uq_layout_info."""

    _fields_ = [
        ("struct_bytes", c_size_t),
        ("arena_bytes", c_uint64),
        ("peak_tensor_bytes", c_uint64),
        ("peak_work_bytes", c_uint64),
        ("trace_bytes", c_uint64),
        ("work_units", c_uint64),
        ("input_count", c_uint64),
        ("output_count", c_uint64),
        ("input_size", Size),
        ("output_size", Size),
    ]


class TensorView(ctypes.Structure):
    """uq_tensor_view."""

    _fields_ = [
        ("op", c_uint32),
        ("tensor", c_uint32),
        ("channels", c_uint32),
        ("size", Size),
        ("codes", POINTER(c_int16)),
        ("values", POINTER(c_float)),
    ]


ON_TENSOR = ctypes.CFUNCTYPE(None, c_void_p, POINTER(TensorView))
ON_PROGRESS = ctypes.CFUNCTYPE(c_int, c_void_p, c_uint64, c_uint64)


class RunOptions(ctypes.Structure):
    """uq_run_options."""

    _fields_ = [
        ("struct_bytes", c_size_t),
        ("user", c_void_p),
        ("on_tensor", ON_TENSOR),
        ("trace_buffer", c_void_p),
        ("trace_buffer_bytes", c_uint64),
        ("on_progress", ON_PROGRESS),
        ("pool", c_void_p),
    ]


class OpInfo(ctypes.Structure):
    """uq_op_info."""

    _fields_ = [
        ("struct_bytes", c_size_t),
        ("name", c_char_p),
        ("kind", c_char_p),
        ("scheme", c_char_p),
        ("kernel", c_char_p),
        ("reason", c_char_p),
    ]


_SIGNATURES = {
    "uq_model_open": (c_char_p, c_char_p, POINTER(c_void_p)),
    "uq_model_open_memory": (c_void_p, c_size_t, c_char_p, POINTER(c_void_p)),
    "uq_model_get_info": (c_void_p, POINTER(ModelInfo)),
    "uq_model_get_label": (c_void_p, c_uint32, POINTER(c_char_p), POINTER(c_int32)),
    "uq_model_get_tensor": (c_void_p, c_uint32, POINTER(TensorInfo)),
    "uq_model_get_op": (c_void_p, c_uint32, POINTER(OpInfo)),
    "uq_plan": (c_void_p, c_uint32, c_uint32, c_uint32, POINTER(c_void_p)),
    "uq_plan_threads": (c_void_p, c_uint32, c_uint32, c_uint32, c_uint32, POINTER(c_void_p)),
    "uq_pool_open": (c_uint32, POINTER(c_void_p)),
    "uq_layout_get_info": (c_void_p, POINTER(LayoutInfo)),
    "uq_layout_get_tensor": (c_void_p, c_uint32, POINTER(c_uint32), POINTER(c_uint64)),
    "uq_run": (c_void_p, c_void_p, c_uint64, c_void_p, c_uint64, c_void_p, c_uint64, POINTER(RunOptions)),
}


def runtime_path() -> Path:
    """Where the library is looked for: $UNETQ_LIBRARY, or else beside this package."""
    return Path(os.environ.get("UNETQ_LIBRARY") or LIBRARY)


def _declare(library: ctypes.CDLL) -> None:
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, c_int
    for name in ("uq_model_close", "uq_layout_free", "uq_pool_close"):
        getattr(library, name).argtypes, getattr(library, name).restype = (c_void_p,), None
    library.uq_available_isa.argtypes, library.uq_available_isa.restype = (c_uint32,), c_char_p
    library.uq_last_detail.restype = library.uq_status_text.restype = c_char_p


@cache
def _load(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
        version = int(library.uq_api_version())
        if version == API_VERSION:
            _declare(library)
    except (OSError, AttributeError) as error:
        raise DeviceError(
            f"{path}: the C++ runtime is missing or cannot be loaded ({error}); build it with `make native` in the "
            f"source tree, or `make -C deploy/runtime OUT={path}`, or name another one in UNETQ_LIBRARY."
        ) from error
    if version != API_VERSION:
        raise DeviceError(
            f"{path}: API version {version}, this unetq needs {API_VERSION}; build it again with `make native`."
        )
    return library


def load_runtime() -> ctypes.CDLL:
    """The loaded library with its signatures.

    Raises:
        DeviceError: it is not there, cannot be loaded, or has another API version.
    """
    return _load(runtime_path())


def check(status: int, where: str = "") -> None:
    """Raise the runtime's own sentence when ``status`` is not UQ_OK.

    Raises:
        ModelFileError: the file cannot be read, is damaged or of another version.
        DeviceError: any other refusal.
    """
    if status == 0:
        return
    detail = load_runtime().uq_last_detail().decode(errors="replace")
    message = f"{where}: {detail}" if where and not detail.startswith(where) else detail
    raise (ModelFileError if status in MODEL_FILE_STATUS else DeviceError)(message)
