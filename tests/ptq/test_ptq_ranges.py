"""Step sizes against brute force: plain loops over every candidate."""

import math

import numpy as np
import pytest

from unetq.errors import ConfigError, DataError
from unetq.fixedpoint import dequantize, fixed_point_grid, quantize
from unetq.ptq.ranges import BINS, Levels, choose_steps, covering_step, divergence

SEED = 20


def rows(kind: str, count: int = 3, size: int = 400) -> np.ndarray:
    rng = np.random.default_rng([SEED, len(kind)])
    if kind == "relu":
        return np.maximum(rng.standard_normal((count, size)), 0) * [[0.3], [1.0], [17.0]]
    values = rng.standard_t(3, (count, size)) * [[0.02], [1.0], [5.0]]
    return np.minimum(values, 0.4) if kind == "one-sided" else values


def saturates(row: np.ndarray, step: float, levels: Levels) -> bool:
    codes = [round(v / step) for v in row]
    return max(codes) * step < max(row) - step / 2 or min(codes) < levels.low or max(codes) > levels.high


def plain_error(row: np.ndarray, step: float, levels: Levels) -> float:
    total = 0.0
    for v in row:
        code = min(max(round(v / step), levels.low), levels.high)
        total += (code * step - v) ** 2
    return total


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
@pytest.mark.parametrize("kind", ["relu", "signed", "one-sided"])
def test_minmax_is_the_smallest_power_of_two_that_saturates_nothing(kind: str, bits: int) -> None:
    grid = fixed_point_grid(bits, 0, signed=kind != "relu")
    levels = Levels(grid.low, grid.high)
    data = rows(kind)
    for row, step in zip(data, choose_steps(data, levels, "minmax"), strict=True):
        top, bottom = max(row) / step, min(row) / step
        assert math.log2(step).is_integer() and top <= grid.high and bottom >= grid.low
        assert max(row) / (step / 2) > grid.high or min(row) / (step / 2) < grid.low


def test_covering_of_float_steps_touches_the_range() -> None:
    levels = Levels(-8, 7, power_of_two=False)
    assert covering_step(np.array([-4.0]), np.array([1.4]), levels) == 0.5
    assert covering_step(np.array([-4.0]), np.array([7.0]), levels) == 1.0
    assert covering_step(np.array([-4.0]), np.array([7.0]), Levels(0, 7, power_of_two=False)) == 1.0
    assert covering_step(np.array([-4.0]), np.array([3.0]), Levels(-1, 1, binary=True, power_of_two=False)) == 4.0


def test_a_power_of_two_is_its_own_cover() -> None:
    assert choose_steps(np.array([[7 * 0.25]]), Levels(-8, 7), "minmax").tolist() == [0.25]
    assert choose_steps(np.array([[7 * 0.2500001]]), Levels(-8, 7), "minmax").tolist() == [0.5]


@pytest.mark.parametrize("percent", [75.0, 99.0, 100.0])
def test_percentile(percent: float) -> None:
    data = rows("signed")
    levels = Levels(-8, 7, power_of_two=False)
    for row, step in zip(data, choose_steps(data, levels, "percentile", percent), strict=True):
        ordered = np.sort(row)
        place = percent / 100 * (len(row) - 1)
        at = math.floor(place)
        nxt = min(at + 1, len(row) - 1)
        top = ordered[at] + (place - at) * (ordered[nxt] - ordered[at])
        flipped = -ordered[::-1]
        bottom = flipped[at] + (place - at) * (flipped[nxt] - flipped[at])
        assert step == pytest.approx(max(top / 7, bottom / 8), rel=1e-6)
    exact = choose_steps(data, Levels(-8, 7), "percentile", percent)
    assert (exact >= choose_steps(data, levels, "percentile", percent)).all() and np.log2(exact).tolist() == [
        round(v) for v in np.log2(exact)
    ]


def test_a_percentile_of_zeros_falls_back_to_the_range() -> None:
    data = np.zeros((1, 1000))
    data[0, 3] = 3.0
    assert choose_steps(data, Levels(0, 3), "percentile", 90.0).tolist() == [1.0]


@pytest.mark.parametrize("bits", [2, 4, 6])
@pytest.mark.parametrize("kind", ["relu", "signed", "one-sided"])
def test_least_squares_against_every_power_of_two(kind: str, bits: int) -> None:
    grid = fixed_point_grid(bits, 0, signed=kind != "relu")
    levels = Levels(grid.low, grid.high)
    data = rows(kind)
    for row, step in zip(data, choose_steps(data, levels, "mse"), strict=True):
        errors = {e: plain_error(row, 2.0**e, levels) for e in range(-14, 12)}
        assert errors[round(math.log2(step))] == pytest.approx(min(errors.values()), rel=1e-9)
        fraction = -round(math.log2(step))
        own = fixed_point_grid(bits, fraction, signed=kind != "relu")
        single = row.astype(np.float32)
        shipped = float(np.square(dequantize(quantize(single, own), own).astype(float) - single).sum())
        assert shipped == pytest.approx(min(errors.values()), rel=1e-4)


def test_least_squares_of_float_steps_against_every_hundredth() -> None:
    data = rows("signed")
    levels = Levels(-4, 3, power_of_two=False)
    for row, step in zip(data, choose_steps(data, levels, "mse"), strict=True):
        widest = max(max(row) / 3, -min(row) / 4)
        errors = [plain_error(row, widest * part / 100, levels) for part in range(3, 101)]
        assert plain_error(row, step, levels) == pytest.approx(min(errors), rel=1e-5)
        assert np.float32(step) == step


def test_binary_levels() -> None:
    data = rows("signed")
    levels = Levels(-1, 1, binary=True)
    for row, step in zip(data, choose_steps(data, levels, "mse"), strict=True):
        errors = {e: sum((math.copysign(2.0**e, v) - v) ** 2 for v in row) for e in range(-14, 12)}
        assert errors[round(math.log2(step))] == min(errors.values())


def plain_divergence(counts: list[float], bins: int, levels: int) -> float:
    head = [counts[i] if i < len(counts) else 0.0 for i in range(bins)]
    reference = list(head)
    reference[-1] += sum(counts[bins:])
    kept = [0.0] * bins
    for level in range(levels):
        members = [i for i in range(bins) if min(i * levels // bins, levels - 1) == level]
        filled = [i for i in members if reference[i] > 0]
        for i in filled:
            kept[i] = sum(head[m] for m in members) / len(filled)
    p_sum, q_sum = sum(reference), sum(kept)
    total = 0.0
    for p, q in zip(reference, kept, strict=True):
        if p > 0:
            total += p / p_sum * math.log((p / p_sum) / max(q / q_sum, 1e-12))
    return total


@pytest.mark.parametrize("power_of_two", [True, False])
@pytest.mark.parametrize("kind", ["relu", "signed"])
def test_kl_against_plain_loops(kind: str, power_of_two: bool) -> None:
    row = rows(kind, size=3000)[1]
    levels = Levels(0, 15, power_of_two=power_of_two) if kind == "relu" else Levels(-8, 7, power_of_two=power_of_two)
    step = choose_steps(row[None], levels, "kl")[0]
    magnitudes = [abs(v) for v in row if v != 0]
    width = max(magnitudes) / BINS
    counts = [0.0] * BINS
    for m in magnitudes:
        counts[min(int(m / width), BINS - 1)] += 1
    counts = np.histogram(magnitudes, bins=BINS, range=(0.0, max(magnitudes)))[0].astype(float).tolist()
    widest = covering_step(np.array([row.min()]), np.array([row.max()]), levels)[0]
    tried = [widest / 2**k for k in range(10)] if power_of_two else [widest * part / 100 for part in range(100, 2, -7)]
    reach = max(levels.high, -levels.low)
    found: dict[float, float] = {}
    for candidate in tried:
        bins = round(candidate * reach / width)
        if bins >= levels.count:
            found[candidate] = plain_divergence(counts, bins, levels.count)
            assert divergence(np.array(counts), bins, levels.count) == pytest.approx(found[candidate], rel=1e-9)
    chosen = plain_divergence(counts, round(float(step) * reach / width), levels.count)
    assert chosen <= min(found.values()) + 1e-9


def test_kl_cuts_off_a_lone_outlier() -> None:
    values = np.abs(np.random.default_rng(SEED).standard_normal(20000))
    values[0] = 60.0
    levels = Levels(0, 63)
    assert choose_steps(values[None], levels, "kl")[0] < choose_steps(values[None], levels, "minmax")[0]


def test_zeros_and_refusals() -> None:
    for rule in ("minmax", "percentile", "mse", "kl"):
        assert choose_steps(np.zeros((2, 5)), Levels(0, 3), rule).tolist() == [1.0, 1.0]
    with pytest.raises(ConfigError, match="range = 'max'"):
        choose_steps(np.zeros((1, 1)), Levels(0, 3), "max")
    with pytest.raises(ConfigError, match="percentile = 50"):
        choose_steps(np.zeros((1, 1)), Levels(0, 3), "percentile", 50.0)
    for bad in (np.zeros((1, 0)), np.array([[np.nan]]), np.zeros(3)):
        with pytest.raises(DataError, match="finite numbers"):
            choose_steps(bad, Levels(0, 3), "mse")
