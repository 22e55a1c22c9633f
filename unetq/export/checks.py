"""Small checks that the rules of model files are written in; each failure names place, value and rule."""

from typing import Any, NoReturn

import numpy as np

from ..errors import UnsupportedError
from ..fixedpoint import Grid
from .records import MAX_EXTENT

AXES = ("depth", "height", "width")


def fail(where: str, text: str) -> NoReturn:
    """Raise ``UnsupportedError``: what is wrong, and where."""
    raise UnsupportedError(f"{where}: {text}")


def require(condition: bool, where: str, text: str) -> None:
    """Fail unless ``condition`` holds."""
    if not condition:
        fail(where, text)


def triple(where: str, name: str, value: tuple[int, ...], low: int, neutral: int | None) -> None:
    """Three sizes within ``low`` … MAX_EXTENT; ``neutral`` is what a 2-D program has in depth."""
    require(len(value) == 3, where, f"{name} = {value}: three entries are needed (depth, height, width).")
    for axis, entry in zip(AXES, value, strict=True):
        require(low <= entry <= MAX_EXTENT, where, f"{name} in {axis} = {entry}: allowed are {low} to {MAX_EXTENT}.")
    if neutral is not None:
        require(value[0] == neutral, where, f"{name} in depth = {value[0]}: a 2-D program has {neutral} there.")


def per_channel(where: str, name: str, values: Any, channels: int) -> None:
    """A float32 array with one finite number a channel."""
    array = np.asarray(values)
    require(
        array.shape == (channels,),
        where,
        f"{name} has shape {array.shape}: one number a channel ({channels}) is needed.",
    )
    require(
        bool(np.isfinite(array).all()), where, f"{name} is not finite: NaN and infinity are not allowed; re-calibrate."
    )


def same_codes(a: Grid | None, b: Grid | None) -> bool:
    """Whether codes of the two grids mean the same values (None is float32); how they are made may differ."""
    if a is None or b is None:
        return a is None and b is None
    meanings = [(g.bits, g.signed, g.scale, g.zero_point, g.dynamic) for g in (a, b)]
    return meanings[0] == meanings[1]
