"""A thin Python face on the C++ runtime; imports no torch."""

import ctypes
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import native
from .errors import DeviceError
from .export.preprocessing import read_rule
from .export.program import ModelMeta
from .fixedpoint import F32

Progress = Callable[[int, int], bool]


@dataclass(frozen=True)
class Plan:
    """What one image of a size takes; all bytes.

    ``arena_bytes`` is everything ``run`` needs beside input and output; ``peak_tensor_bytes`` the largest sum of
    tensors alive at once in it, ``peak_work_bytes`` the largest working memory of one operation. ``tensor_bytes``
    and ``tensor_sizes`` (depth, height, width) are by tensor number (0 where no operation makes it).
    """

    arena_bytes: int
    peak_tensor_bytes: int
    peak_work_bytes: int
    input_size: tuple[int, int, int]
    output_size: tuple[int, int, int]
    tensor_sizes: tuple[tuple[int, int, int], ...]
    tensor_bytes: tuple[int, ...]


@dataclass
class _RunState:
    """What the call-backs of one run share: images finished, and the first exception one of them raised."""

    images_done: int = 0
    failure: BaseException | None = None


def available_isas() -> tuple[str, ...]:
    """The runtime's instruction sets that this processor has, from the least ("scalar") to the best.

    Raises:
        DeviceError: no library.
    """
    library = native.load_runtime()
    names: list[str] = []
    while (name := library.uq_available_isa(len(names))) is not None:
        names.append(name.decode())
    return tuple(names)


@dataclass(frozen=True)
class Operation:
    """An operation of a model: for a convolution also its scheme, micro-kernel, and why that scheme."""

    name: str
    kind: str
    scheme: str
    kernel: str
    reason: str


class Runtime:
    """An opened model file, ready to run.

    One instance serves one thread at a time: it keeps its arena between runs. Free it with ``close`` or ``with``.

    Args:
        path: a ``.uqm`` file; it is mapped and checked whole.
        isa: one of ``available_isas()``; by default $UNETQ_ISA, or else the best this processor has.
        threads: how many threads run an image together, 1 to 64; results do not depend on it.

    Raises:
        ModelFileError: the file is missing, damaged or of another version.
        DeviceError: no library, an instruction set that is unknown or not available, or a bad number of threads.
    """

    def __init__(self, path: str | Path, isa: str | None = None, threads: int = 1) -> None:
        self._library = native.load_runtime()
        self._model = ctypes.c_void_p()
        self._pool = ctypes.c_void_p()
        self._threads = threads
        if not 0 <= threads < 1 << 32:
            raise DeviceError(f"{threads} threads: a number from 1 to 64 is needed.")
        if threads != 1:
            native.check(self._library.uq_pool_open(threads, ctypes.byref(self._pool)))
        self._layouts: dict[tuple[int, int, int], ctypes.c_void_p] = {}
        self._arena: NDArray[np.uint8] | None = None
        encoded = isa.encode() if isa is not None else None
        native.check(self._library.uq_model_open(os.fsencode(path), encoded, ctypes.byref(self._model)), str(path))
        self._info = native.ModelInfo(struct_bytes=ctypes.sizeof(native.ModelInfo))
        native.check(self._library.uq_model_get_info(self._model, ctypes.byref(self._info)))
        self._names = [self._tensor_name(i) for i in range(self._info.tensor_count)]

    def close(self) -> None:
        """Free the model and its layouts; safe to call twice. Nothing else works afterwards."""
        for layout in self._layouts.values():
            self._library.uq_layout_free(layout)
        self._layouts, self._arena = {}, None
        if self._model:
            self._library.uq_model_close(self._model)
            self._model = ctypes.c_void_p()
        if self._pool:
            self._library.uq_pool_close(self._pool)
            self._pool = ctypes.c_void_p()

    def __enter__(self) -> "Runtime":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_model", None) is not None:
            self.close()

    def _require_open(self) -> None:
        if not self._model:
            raise DeviceError("this runtime is closed: its model was freed; open the file again.")

    def _tensor_name(self, index: int) -> str:
        info = native.TensorInfo(struct_bytes=ctypes.sizeof(native.TensorInfo))
        native.check(self._library.uq_model_get_tensor(self._model, index, ctypes.byref(info)))
        return str(info.name.decode())

    @property
    def isa(self) -> str:
        """The instruction set whose kernels were chosen."""
        self._require_open()
        return str(self._info.isa.decode())

    @property
    def spatial_rank(self) -> int:
        """2 or 3."""
        return int(self._info.spatial_rank)

    @property
    def input_channels(self) -> int:
        """Channels of an input image."""
        return int(self._info.input_channels)

    @property
    def output_channels(self) -> int:
        """Logits a pixel: 1 (class 1 where above 0) or one a class."""
        return int(self._info.output_channels)

    @property
    def input_multiple(self) -> tuple[int, ...]:
        """What each spatial axis must be a multiple of (``spatial_rank`` entries)."""
        return tuple(self._info.input_multiple)[3 - self.spatial_rank :]

    @property
    def fixed_size(self) -> tuple[int, ...] | None:
        """The one spatial size the model accepts (``spatial_rank`` entries), or None."""
        size = tuple(self._info.fixed_size)[3 - self.spatial_rank :]
        return size if all(size) else None

    @property
    def meta(self) -> ModelMeta:
        """Labels, preprocessing and provenance from the file."""
        self._require_open()
        names, values = [], []
        for i in range(self._info.label_count):
            name, value = ctypes.c_char_p(), ctypes.c_int32()
            native.check(self._library.uq_model_get_label(self._model, i, ctypes.byref(name), ctypes.byref(value)))
            names.append((name.value or b"").decode())
            values.append(value.value)
        rule = read_rule(native.preprocessing(self._info), self.spatial_rank)
        text = ctypes.string_at(self._info.provenance, self._info.provenance_bytes)
        return ModelMeta(self._info.name.decode(), tuple(names), tuple(values), rule, json.loads(text))

    def operations(self) -> list[Operation]:
        """What each operation of the model is, and how convolutions are computed here and why."""
        self._require_open()
        found = []
        for i in range(self._info.op_count):
            info = native.OpInfo(struct_bytes=ctypes.sizeof(native.OpInfo))
            native.check(self._library.uq_model_get_op(self._model, i, ctypes.byref(info)))
            texts = (info.name, info.kind, info.scheme, info.kernel, info.reason)
            found.append(Operation(*(text.decode(errors="replace") for text in texts)))
        return found

    def _layout(self, spatial: Sequence[int]) -> tuple[ctypes.c_void_p, native.LayoutInfo]:
        self._require_open()
        if len(spatial) != self.spatial_rank:
            raise DeviceError(
                f"image size {tuple(spatial)}: this model has {self.spatial_rank} axes; give one number each."
            )
        if any(not 0 < n < 1 << 32 for n in spatial):
            raise DeviceError(f"image size {tuple(spatial)}: each axis must be positive; use a real image.")
        depth, height, width = (1, *spatial) if self.spatial_rank == 2 else spatial
        size = (int(depth), int(height), int(width))
        if size not in self._layouts:
            layout = ctypes.c_void_p()
            native.check(self._library.uq_plan_threads(self._model, *size, self._threads, ctypes.byref(layout)))
            self._layouts[size] = layout
        info = native.LayoutInfo(struct_bytes=ctypes.sizeof(native.LayoutInfo))
        native.check(self._library.uq_layout_get_info(self._layouts[size], ctypes.byref(info)))
        return self._layouts[size], info

    def plan(self, spatial: Sequence[int]) -> Plan:
        """The memory one image of ``spatial`` size (H, W) or (D, H, W) takes, before anything is allocated for it.

        Raises:
            DeviceError: a size the model does not accept.
        """
        layout, info = self._layout(spatial)
        sizes, amounts = [], []
        for i in range(self._info.tensor_count):
            size, amount = native.Size(), ctypes.c_uint64()
            native.check(self._library.uq_layout_get_tensor(layout, i, size, ctypes.byref(amount)))
            sizes.append((size[0], size[1], size[2]))
            amounts.append(amount.value)
        return Plan(
            arena_bytes=info.arena_bytes,
            peak_tensor_bytes=info.peak_tensor_bytes,
            peak_work_bytes=info.peak_work_bytes,
            input_size=(info.input_size[0], info.input_size[1], info.input_size[2]),
            output_size=(info.output_size[0], info.output_size[1], info.output_size[2]),
            tensor_sizes=tuple(sizes),
            tensor_bytes=tuple(amounts),
        )

    def _aligned_arena(self, size: int) -> int:
        """The address of an aligned arena of at least ``size`` bytes, kept for the next run."""
        if self._arena is None or self._arena.size < size + native.ARENA_ALIGNMENT:
            self._arena = None
            self._arena = np.empty(size + native.ARENA_ALIGNMENT, dtype=np.uint8)
        address = self._arena.ctypes.data
        return -(-address // native.ARENA_ALIGNMENT) * native.ARENA_ALIGNMENT

    def run(
        self, x: NDArray[Any], trace: dict[str, NDArray[Any]] | None = None, progress: Progress | None = None
    ) -> F32:
        """Run a batch, image by image.

        Args:
            x: (N, C, H, W) or (N, C, D, H, W), converted to float32; finite.
            trace: a dict that receives every operation's tensor by name, (N, C, D, H, W) int16 codes or float32.
            progress: called with (work done, work in all); a false result cancels.

        Returns:
            float32 logits (N, K, …).

        Raises:
            DeviceError: a shape the model does not accept, NaN or infinity, or a cancelled run.
        """
        self._require_open()
        images = np.ascontiguousarray(x, dtype=np.float32)
        if images.ndim != self.spatial_rank + 2 or images.shape[1] != self.input_channels:
            axes = f"(N, {self.input_channels}, {'D, ' * (self.spatial_rank - 2)}H, W)"
            raise DeviceError(f"input of shape {images.shape}: this model takes {axes}; add or move axes.")
        layout, info = self._layout(images.shape[2:])
        arena = self._aligned_arena(info.arena_bytes)
        logits = np.empty(
            (len(images), self.output_channels, *tuple(info.output_size)[3 - self.spatial_rank :]), np.float32
        )
        traces: dict[str, list[NDArray[Any]]] = {}
        options, _buffer, state = self._options(info, traces if trace is not None else None, progress, len(images))
        for image, out in zip(images, logits, strict=True):
            status = self._library.uq_run(
                layout,
                arena,
                info.arena_bytes,
                image.ctypes.data,
                image.size,
                out.ctypes.data,
                out.size,
                ctypes.byref(options),
            )
            if state.failure is not None:
                raise state.failure
            native.check(status)
            state.images_done += 1
        if trace is not None:
            trace.update({name: np.stack(parts) for name, parts in traces.items()})
        return logits

    def _options(
        self,
        info: native.LayoutInfo,
        traces: dict[str, list[NDArray[Any]]] | None,
        progress: Progress | None,
        images: int,
    ) -> tuple[native.RunOptions, NDArray[np.float32] | None, "_RunState"]:
        """Options with the call-backs asked for, the trace buffer (to be kept alive), and what they share."""
        options = native.RunOptions(struct_bytes=ctypes.sizeof(native.RunOptions), pool=self._pool)
        state = _RunState()
        buffer = None
        if traces is not None:
            buffer = np.empty(max(info.trace_bytes // 4 + 1, 1), dtype=np.float32)

            def on_tensor(_: int | None, pointer: Any) -> None:
                try:
                    view = pointer.contents
                    shape = (view.channels, *view.size)
                    data = view.codes if view.codes else view.values
                    traces.setdefault(self._names[view.tensor], []).append(np.ctypeslib.as_array(data, shape).copy())
                except BaseException as error:  # C code is below: it is raised again when that has returned
                    state.failure = state.failure or error

            options.on_tensor = native.ON_TENSOR(on_tensor)
            options.trace_buffer, options.trace_buffer_bytes = buffer.ctypes.data, buffer.nbytes
        if progress is not None:

            def on_progress(_: int | None, done: int, total: int) -> int:
                try:
                    return 0 if progress(state.images_done * total + done, images * total) else 1
                except BaseException as error:  # as above
                    state.failure = state.failure or error
                    return 1

            options.on_progress = native.ON_PROGRESS(on_progress)
        return options, buffer, state
