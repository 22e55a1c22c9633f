"""What a terminal shows of ``metrics.json``."""

from typing import Any

import pytest

from unetq.summary import describe

BITS = {"weight": 4, "act": 6, "first": 8, "last": 8, "method": "fixed", "per_channel": True, "float_layers": []}


def metrics(**bits: Any) -> dict[str, Any]:
    scores = {"volume_dice": {"cell": 0.9}, "slices": [{}], "seconds": 1.0}
    cost = dict.fromkeys(
        ("weight_bytes", "float_weight_bytes", "peak_activation_bytes", "float_peak_activation_bytes"), 9
    )
    cost |= {"input_size": [1, 8, 8], "macs": 1, "bit_operations": 1, "model_file_bytes": None, "arena_bytes": None}
    return {
        "run": "r",
        "network": {"name": "paper"},
        "dataset": "em",
        "bits": BITS | bits,
        "cost": cost,
        "splits": {"test": {"integer": scores, "float_reference": scores}},
    }


def test_all_integer() -> None:
    text = describe(metrics(), "test")
    assert "integer (as shipped): Dice cell 90.00" in text and "1e-5" not in text


@pytest.mark.parametrize(
    ("bits", "names"),
    [
        ({"float_layers": ["encoder.0.*", "head"]}, "encoder.0.*, head"),
        ({"first": 32}, "the first layer"),
        ({"float_layers": ["mid"], "last": 32}, "mid, the last layer"),
        ({"weight": 32}, "every layer with 32-bit weights"),
        ({"act": 32}, "every layer with 32-bit activations"),
    ],
)
def test_float_layers_are_named(bits: dict[str, Any], names: str) -> None:
    text = describe(metrics(**bits), "test")
    assert "integer (as shipped)" not in text and "integer, in part (as shipped): Dice" in text
    assert f"float32 in it: {names}; these run in float32" in text and "1e-5 of the range" in text
