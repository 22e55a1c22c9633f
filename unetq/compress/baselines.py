"""What a choice of bits is to be compared with at the same size: equal widths, and widths drawn at random."""

import random
from dataclasses import replace

from ..errors import ConfigError
from ..ptq.steps import q_size
from ..quant.placement import grid_quantizers, layer_name, weight_quantizers
from .size import SizeModel
from .space import TENSOR, WEIGHT, Allocation, Space
from .workbench import Workbench


def ordinary(bench: Workbench, weight_bits: int, act_bits: int) -> Allocation:
    """The widths that ``unetq train --weight-bits … --act-bits …`` gives: the first and the last layer at 8 bits.

    Raises:
        ConfigError: widths that are not among those to choose from.
    """
    q = bench.q
    network = q.network(q_size(q))
    settings = replace(q.settings, weight_bits=weight_bits, act_bits=act_bits, layers=())
    weights = weight_quantizers(network, settings, q.tensor)
    grids = grid_quantizers(network, settings)
    layers = {
        layer_name(b): weights[b.parameters["weight"]].bits
        for b in network.blocks
        if b.kind == "conv"
        if b.parameters["weight"] in weights
    }
    found = {(WEIGHT, name): bits for name, bits in layers.items()} | {(TENSOR, n): g.bits for n, g in grids.items()}
    for variable, widths in bench.space.choices.items():
        if found[variable] not in widths:
            raise ConfigError(f"{variable[1]}: {found[variable]} bits are not among {list(widths)}; give more --bits.")
    return Allocation({variable: found[variable] for variable in bench.space.choices})


def equal_within(bench: Workbench, size: SizeModel, target: int) -> Allocation | None:
    """The widest equal widths of at most ``target`` bytes: with first and last layer at 8 bits where one fits so."""
    for bits in reversed(_weight_widths(bench.space)):
        try:
            found = ordinary(bench, bits, 8)
        except ConfigError:  # 8 bits are not to choose from
            break
        if size.predict(found) <= target:
            return found
    return uniform_within(bench.space, size, target)


def uniform_above(space: Space, size: SizeModel, target: int) -> Allocation | None:
    """The narrowest equal widths of all weights whose file has more than ``target`` bytes; None where none has."""
    every = (space.uniform(bits, 8) for bits in _weight_widths(space))
    return next((allocation for allocation in every if size.predict(allocation) > target), None)


def uniform_within(space: Space, size: SizeModel, target: int) -> Allocation | None:
    """The widest equal widths of all weights whose file has at most ``target`` bytes; None where none has.

    Activations are at their widest: they take nothing in a file.
    """
    fitting = [a for bits in _weight_widths(space) if size.predict(a := space.uniform(bits, 8)) <= target]
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


def _weight_widths(space: Space) -> list[int]:
    return sorted({bits for variable, found in space.choices.items() if variable[0] == WEIGHT for bits in found})
