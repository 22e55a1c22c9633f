"""What a choice of bits is to be compared with at the same size: equal widths, and widths drawn at random."""

import random

from ..errors import ConfigError
from .size import SizeModel
from .space import WEIGHT, Allocation, Space


def uniform_within(space: Space, size: SizeModel, target: int) -> Allocation | None:
    """The widest equal widths of all weights whose file has at most ``target`` bytes; None where none has.

    Activations are at their widest: they take nothing in a file.
    """
    widths = sorted({bits for variable, found in space.choices.items() if variable[0] == WEIGHT for bits in found})
    fitting = [space.uniform(bits, 8) for bits in widths if size.predict(space.uniform(bits, 8)) <= target]
    return fitting[-1] if fitting else None


def random_within(space: Space, size: SizeModel, target: int, seed: int) -> Allocation:
    """Weights' widths drawn at random, then moved at random until the file is full: at most ``target`` bytes.

    Raises:
        ConfigError: even the narrowest widths take more.
    """
    rng = random.Random(seed)
    weights = [variable for variable in space.choices if variable[0] == WEIGHT]
    found = space.nearest(8)
    for variable in weights:
        found = found.having(variable, rng.choice(space.choices[variable]))
    while size.predict(found) > target:
        wide = [v for v in weights if found[v] > space.choices[v][0]]
        if not wide:
            raise ConfigError(f"{target} bytes: the narrowest widths take {size.predict(found)}; name a larger size.")
        variable = rng.choice(wide)
        widths = space.choices[variable]
        found = found.having(variable, widths[widths.index(found[variable]) - 1])
    while True:
        wider = [found.having(v, w) for v in weights for w in _next(space.choices[v], found[v])]
        wider = [allocation for allocation in wider if size.predict(allocation) <= target]
        if not wider:
            return found
        found = rng.choice(wider)


def _next(widths: tuple[int, ...], bits: int) -> tuple[int, ...]:
    place = widths.index(bits) + 1
    return widths[place : place + 1]
