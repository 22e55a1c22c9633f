"""The number formats against exact rational arithmetic."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetq.errors import ConfigError
from unetq.fixedpoint import Grid, dequantize, fixed_point_grid, quantize, saturate


def half_even(value: Fraction) -> int:
    low = floor(value)
    rest = value - low
    if rest != Fraction(1, 2):
        return low + (rest > Fraction(1, 2))
    return low + (low % 2)


@given(
    value=st.floats(-(2.0**20), 2.0**20, width=32),
    bits=st.integers(1, 8),
    fraction=st.integers(-12, 12),
    signed=st.booleans(),
)
def test_fixed_point_equals_rational_arithmetic(value: float, bits: int, fraction: int, signed: bool) -> None:
    grid = fixed_point_grid(bits, fraction, signed)
    low = -(2 ** (bits - 1)) if signed else 0
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    expected = min(max(half_even(Fraction(value) * Fraction(2) ** fraction), low), high)
    assert quantize(np.array([value], np.float32), grid)[0] == expected


@given(value=st.floats(-1e4, 1e4, width=32), bits=st.integers(1, 8), signed=st.booleans())
def test_truncating_grids_are_sign_and_magnitude(value: float, bits: int, signed: bool) -> None:
    grid = Grid(bits=bits, signed=signed, scale=1.0, rounding="toward_zero")
    largest = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    expected = min(max(int(value), -largest if signed else 0), largest)
    assert quantize(np.array([value], np.float32), grid)[0] == expected


def test_zero_point_shifts_codes_and_keeps_zero_exact() -> None:
    grid = Grid(bits=4, signed=False, scale=0.5, zero_point=3)
    codes = quantize(np.array([-9.0, -1.5, 0.0, 0.25, 0.75, 99.0], np.float32), grid)
    assert codes.tolist() == [0, 0, 3, 3, 5, 15]
    assert dequantize(codes, grid)[2] == 0.0


def test_every_code_survives_the_round_trip() -> None:
    for bits in range(1, 9):
        for signed in (False, True):
            grid = fixed_point_grid(bits, 3, signed)
            codes = np.arange(grid.low, grid.high + 1)
            assert len(codes) == 2**bits
            np.testing.assert_array_equal(quantize(dequantize(codes, grid), grid), codes)


def test_saturation_sends_nan_to_the_lowest_code() -> None:
    np.testing.assert_array_equal(saturate(np.array([np.nan, np.inf, -np.inf], np.float32), -3, 5), [-3, 5, -3])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"bits": 0, "signed": True, "scale": 1.0}, "bits = 0"),
        ({"bits": 9, "signed": True, "scale": 1.0}, "bits = 9"),
        ({"bits": 4, "signed": True, "scale": 0.0}, "scale = 0.0"),
        ({"bits": 4, "signed": True, "scale": float("nan")}, "scale = nan"),
        ({"bits": 4, "signed": True, "scale": 0.1}, "float32"),
        ({"bits": 4, "signed": True, "scale": 1.0, "zero_point": 8}, "zero-point = 8"),
    ],
)
def test_impossible_grids_are_refused(arguments: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Grid(**arguments)
    with pytest.raises(ConfigError, match="fraction bits = 65"):
        fixed_point_grid(4, 65, True)
