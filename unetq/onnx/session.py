"""An ONNX model of ours in onnxruntime, with the face of ``unetq.Runtime``; imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DeviceError, ModelFileError
from ..export.program import ModelMeta
from ..fixedpoint import F32
from .metadata import KEY, OnnxMeta, from_text

SUFFIX = ".onnx"


@dataclass(frozen=True)
class OnnxPlan:
    """In the place of ``unetq.runtime.Plan``: onnxruntime does not tell its memory beforehand."""

    arena_bytes: None = None


def is_onnx(path: str | Path) -> bool:
    """True for a path that is to be opened here and not as a ``.uqm`` file: told by its ending."""
    return Path(path).suffix.lower() == SUFFIX


def _engine() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError(
            "onnxruntime is not installed, and ONNX models run in it; install it with `pip install unetq[onnx]`."
        ) from None
    return onnxruntime


def _reason(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


class OnnxModel:
    """An opened ONNX model, ready to run on the processor.

    Args:
        path: a file that ``unetq export --onnx`` wrote.
        threads: how many run an image together.

    Raises:
        ConfigError: onnxruntime is not installed.
        ModelFileError: missing, damaged, or without our metadata.
    """

    isa = "onnxruntime"

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        engine = _engine()
        self._path = str(path)
        try:
            with open(path, "rb") as handle:
                handle.read(1)
        except OSError as error:
            raise ModelFileError(
                f"{path}: cannot be read ({error.strerror or error}); name an existing ONNX file."
            ) from None
        options = engine.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4  # failures are raised; what it says beside them is noise
        try:
            self._session = engine.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own classes have no common base of their own
            raise ModelFileError(
                f"{path}: onnxruntime refuses it ({_reason(error)}); it is damaged or no ONNX model. Export again."
            ) from None
        properties = self._session.get_modelmeta().custom_metadata_map
        self._known = from_text(properties.get(KEY), self._path)
        self._check_ends()

    def _check_ends(self) -> None:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        rank = self._known.spatial_rank + 2
        fits = len(inputs) == len(outputs) == 1 and all(
            len(end.shape) == rank and end.type == "tensor(float)" and isinstance(end.shape[1], int)
            for end in (*inputs, *outputs)
        )
        if not fits:
            found = ", ".join(f"{end.name} {end.type} {end.shape}" for end in (*inputs, *outputs))
            raise ModelFileError(
                f"{self._path}: it takes and gives {found}; one float32 image and one map of logits with {rank} axes "
                "are needed. Export again."
            )
        self._input, self.input_channels = inputs[0].name, int(inputs[0].shape[1])
        self.output_channels = int(outputs[0].shape[1])
        classes = len(self.meta.labels)
        if self.output_channels != classes and (self.output_channels, classes) != (1, 2):
            raise ModelFileError(
                f"{self._path}: {self.output_channels} maps of logits for {classes} labels; export again."
            )

    @property
    def known(self) -> OnnxMeta:
        """All its metadata."""
        return self._known

    @property
    def meta(self) -> ModelMeta:
        """Labels, preprocessing and provenance."""
        return self._known.meta

    @property
    def spatial_rank(self) -> int:
        """2 or 3."""
        return self._known.spatial_rank

    @property
    def input_multiple(self) -> tuple[int, int, int]:
        """What depth, height and width must be multiples of."""
        return self._known.input_multiple

    @property
    def fixed_size(self) -> tuple[int, int, int] | None:
        """The only size accepted, or None."""
        return self._known.fixed_size

    def plan(self, spatial: Any) -> OnnxPlan:
        """Nothing is known beforehand."""
        return OnnxPlan()

    def run(self, x: NDArray[Any]) -> F32:
        """Float32 logits (N, K, …) of a batch (N, C, H, W) or (N, C, D, H, W), one image at a time.

        Raises:
            DeviceError: a shape the model does not accept, NaN or infinity, or onnxruntime fails.
        """
        images = np.ascontiguousarray(x, dtype=np.float32)
        rank = self.spatial_rank
        if images.ndim != rank + 2 or images.shape[1] != self.input_channels:
            axes = f"(N, {self.input_channels}, {'D, ' * (rank - 2)}H, W)"
            raise DeviceError(f"input of shape {images.shape}: this model takes {axes}; add or move axes.")
        spatial, multiple = images.shape[2:], self.input_multiple[3 - rank :]
        if self.fixed_size is not None and spatial != self.fixed_size[3 - rank :]:
            raise DeviceError(
                f"input size {spatial}: this model takes {self.fixed_size[3 - rank :]} only; pad or crop."
            )
        if self.fixed_size is None and any(n < 1 or n % m for n, m in zip(spatial, multiple, strict=True)):
            raise DeviceError(f"input size {spatial}: each axis must be a multiple of {multiple}; pad the image.")
        if not len(images) or not np.isfinite(images).all():
            raise DeviceError(
                "the input is empty or holds NaN or infinity; a model takes finite numbers. Clean it first."
            )
        try:
            parts = [self._session.run(None, {self._input: image[None]})[0] for image in images]
        except Exception as error:  # as above
            raise DeviceError(f"onnxruntime failed on an input of {images.shape}: {_reason(error)}") from None
        return np.concatenate(parts).astype(np.float32, copy=False)

    def close(self) -> None:
        """Let the session go."""
        self._session = None

    def __enter__(self) -> "OnnxModel":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
