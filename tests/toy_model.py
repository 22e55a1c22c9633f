"""Networks of one convolution, whose masks can be worked out by hand, and the NumPy executor as a runtime."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetq.export.modelfile import load
from unetq.export.program import Conv, Epilogue, Program, Quantize, TensorSpec
from unetq.fixedpoint import fixed_point_grid

F32 = np.float32


def network(
    *, rank: int = 2, channels: int = 1, classes: int = 1, multiple: int = 8, fixed: Any = None,
    kernel: NDArray[Any] | None = None, fraction: int = 4, offset: float = 0.0,
) -> Program:  # fmt: skip
    """Quantise to 8 bits with ``fraction`` fractional ones, then one filter a class, a box if ``kernel`` is None.

    ``kernel`` is (classes, channels, kd, kh, kw) with odd sides, values -4 to 3; ``offset`` is added to every logit.
    """
    if kernel is None:
        kernel = np.ones((classes, channels, 3 if rank == 3 else 1, 3, 3), np.int8)
        kernel *= np.array([1, -1, 2, -2], np.int8)[:classes].reshape(-1, 1, 1, 1, 1)
    tensors = (
        TensorSpec("image", channels, None),
        TensorSpec("codes", channels, fixed_point_grid(8, fraction, True)),
        TensorSpec("logits", classes, None),
    )
    pad = tuple(side // 2 for side in kernel.shape[2:])
    epilogue = Epilogue(gain=np.full(classes, 2.0**-fraction, F32), offset=np.full(classes, offset, F32))
    conv = Conv(
        "filter", (1,), 2, kernel.astype(np.int8), 3, "twos_complement", np.ones(classes, F32), epilogue,
        pad_before=pad, pad_after=pad,  # type: ignore[arg-type]
    )  # fmt: skip
    depth = multiple if rank == 3 else 1
    return Program(tensors, (Quantize("in", (0,), 1), conv), 0, 2, rank, (depth, multiple, multiple), fixed)  # type: ignore[arg-type]


class NumpyRuntime:
    """The runtime's face over the NumPy executor."""

    isa = "numpy"

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.program, self.meta = load(path)
        self.spatial_rank = self.program.spatial_rank
        self.input_channels = self.program.tensors[self.program.input].channels
        self.input_multiple, self.fixed_size = self.program.input_multiple, self.program.fixed_size

    def run(self, x: np.ndarray) -> np.ndarray:
        return self.program.run(x)

    def plan(self, spatial: tuple[int, ...]) -> SimpleNamespace:
        return SimpleNamespace(arena_bytes=4 * int(np.prod(spatial)))

    def __enter__(self) -> "NumpyRuntime":
        return self

    def __exit__(self, *_: object) -> None: ...
