"""What a choice of bits is to be compared with in the same budget: equal widths, and widths drawn at random."""

import random
from contextlib import suppress
from dataclasses import replace

from ..errors import ConfigError, UnsupportedError
from ..ptq.steps import q_size
from ..quant.placement import grid_quantizers, layer_name, weight_quantizers
from .planner import Planner
from .size import SizeModel
from .space import TENSOR, WEIGHT, Allocation, Space, Variable
from .workbench import Workbench

BEARS_ON = (("size", (WEIGHT,)), ("memory", (TENSOR,)), ("latency", (WEIGHT, TENSOR)))
"""Whose widths a limit has to do with."""
DRAWS = 20


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


def equal_within(bench: Workbench, planner: Planner) -> Allocation | None:
    """The widest equal widths inside all limits; None where none are.

    Widest: by the narrower of weights and activations, then by both. Those with the first and the last layer at 8 bits
    come before those of all layers alike.
    """
    kinds = {
        kind: {b for v, found in bench.space.choices.items() if v[0] == kind for b in found}
        for kind in (WEIGHT, TENSOR)
    }
    pairs = [(w, a) for w in kinds[WEIGHT] or {8} for a in kinds[TENSOR] or {8}]
    for weight_bits, act_bits in sorted(pairs, key=lambda pair: (min(pair), sum(pair), pair[1]), reverse=True):
        every = [bench.space.uniform(weight_bits, act_bits)]
        with suppress(ConfigError, UnsupportedError):  # widths that some layer may not have
            every.insert(0, ordinary(bench, weight_bits, act_bits))
        for found in every:
            if planner.exceeded(found) is None:
                return found
    return None


def uniform_above(space: Space, size: SizeModel, target: int) -> Allocation | None:
    """The narrowest equal widths of all weights whose file has more than ``target`` bytes; None where none has."""
    widths = sorted({bits for variable, found in space.choices.items() if variable[0] == WEIGHT for bits in found})
    every = (space.uniform(bits, 8) for bits in widths)
    return next((allocation for allocation in every if size.predict(allocation) > target), None)


def random_within(planner: Planner, seed: int) -> Allocation:
    """Widths drawn at random of what the limits bear on, then moved at random until the limits are used.

    A size bears on weights, a memory on activations (a little on weights too, which is left to chance), a latency on
    both; all else is at its widest.

    Raises:
        ConfigError: of ``DRAWS`` draws none could be brought inside the limits.
    """
    rng, choices = random.Random(seed), planner.space.choices
    free = [v for v in choices if any(v[0] in kinds and name in planner.budget.resources for name, kinds in BEARS_ON)]
    for _ in range(DRAWS):
        found = planner.space.nearest(8)
        for variable in free:
            found = found.having(variable, rng.choice(choices[variable]))
        inside = _narrowed(planner, found, free, rng)
        if inside is not None:
            return _grown(planner, inside, free, rng)
    raise ConfigError(f"of {DRAWS} random choices of bits none comes inside the limits: widen them.")


def _narrowed(planner: Planner, found: Allocation, free: list[Variable], rng: random.Random) -> Allocation | None:
    """``found`` with random widths that a limit bears on narrower, until all are met; None where none is left."""
    while (name := planner.exceeded(found)) is not None:
        kinds = dict(BEARS_ON)[name]
        wide = [v for v in free if v[0] in kinds and found[v] > planner.space.choices[v][0]]
        if not wide:
            return None
        variable = rng.choice(wide)
        found = found.having(variable, max(b for b in planner.space.choices[variable] if b < found[variable]))
    return found


def _grown(planner: Planner, found: Allocation, free: list[Variable], rng: random.Random) -> Allocation:
    """``found``, a random width the least bit wider that still fits, until none does."""
    changed = True
    while changed:  # what did not fit once may do so later: a plan is not monotonous
        growing, changed = list(free), False
        while growing:
            variable = rng.choice(growing)
            wider = [found.having(variable, b) for b in planner.space.choices[variable] if b > found[variable]]
            fitting = next((allocation for allocation in wider if planner.exceeded(allocation) is None), None)
            if fitting is None:
                growing.remove(variable)
            else:
                found, changed = fitting, True
    return found
