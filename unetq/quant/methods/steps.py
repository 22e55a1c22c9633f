"""First step sizes of the methods that learn them: least squared error on a sample."""

import numpy as np

from ...fixedpoint import F32

CANDIDATES = 48
NARROWEST = 0.05  # of the step that reaches the largest magnitude


def best_steps(values: F32, low: int, high: int) -> F32:
    """The step of least squared error for each row of ``values`` (rows, n); 1 for a row of zeros.

    Candidates fall geometrically from the step that represents the row's extremes without saturation, so that
    saturating rare outliers is weighed against a finer grid (LSQ+, arXiv 2004.09576, section 3.2, initialises so).
    """
    data = np.asarray(values, dtype=np.float64)
    reach = np.maximum(data.max(axis=1) / max(high, 1), -data.min(axis=1) / -low if low < 0 else 0.0)
    if low >= 0:
        reach = np.maximum(data.max(axis=1), 0.0) / max(high, 1)
    widest = np.where(reach > 0, reach, np.where(np.abs(data).max(axis=1) > 0, np.abs(data).max(axis=1), 1.0))
    best, choice = np.full(len(data), np.inf), widest.copy()
    for factor in np.geomspace(1.0, NARROWEST, CANDIDATES):
        step = (widest * factor)[:, None]
        error = np.square(np.clip(np.rint(data / step), low, high) * step - data).sum(axis=1)
        better = error < best
        best, choice = np.where(better, error, best), np.where(better, widest * factor, choice)
    return np.where(np.abs(data).max(axis=1) > 0, choice, 1.0).astype(np.float32)


def rows_of(weight: F32, channel_axis: int | None) -> F32:
    """``weight`` as (channels, n), or (1, n) without a channel axis."""
    if channel_axis is None:
        return np.ascontiguousarray(weight.reshape(1, -1))
    moved = np.moveaxis(weight, channel_axis, 0)
    return np.ascontiguousarray(moved.reshape(moved.shape[0], -1))


def step_shape(shape: tuple[int, ...], channel_axis: int | None) -> list[int]:
    """The shape of a step that broadcasts over a weight of ``shape``."""
    return [n if axis == channel_axis else 1 for axis, n in enumerate(shape)] if channel_axis is not None else []
