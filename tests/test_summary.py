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


def entry(mean: float | None, undefined: int = 0, *, wide: bool = True) -> dict[str, Any]:
    low, high = (None, None) if mean is None or not wide else (mean - 0.01, mean + 0.01)
    return {"mean": mean, "low": low, "high": high, "cases": 3, "undefined": undefined}


def with_cases(**keys: Any) -> dict[str, Any]:
    found = metrics()
    cell = {"dice": entry(0.9), "iou": entry(0.8), "hd95_mm": entry(2.5, 1), "nsd": entry(None, 3)}
    cell["volume_error"] = entry(-0.125, wide=False)
    record = {
        "unit": "case", "distance_unit": "mm", "nsd_tolerance": 1.0, "cases": [{}, {}, {}],
        "summary": {"background": cell, "cell": cell}, "bootstrap": {"note": "few"},
    }  # fmt: skip
    split = found["splits"]["test"]
    for key in ("integer", "float_reference"):
        split[key] = split[key] | record
    pair = {"difference": -0.002, "low": -0.004, "high": 0.001, "p": 0.25, "test": "Wilcoxon", "n": 3, "note": "n = 3"}
    split["paired"] = {"background": pair, "cell": pair}
    return found | keys


def test_the_table_of_cases() -> None:
    lines = describe(with_cases(), "test").splitlines()
    head, integer, reference = (line for line in lines if line.startswith(("  mean over", "  cell  ")))
    assert head.split("  ")[1] == "mean over 3 cases" and "HD95 mm" in head and "NSD % at 1 mm" in head
    assert "90.00 [89.00, 91.00]" in integer and "2.50 [2.49, 2.51] (1 undefined)" in integer
    assert integer.endswith("-12.5") and " – " in integer
    assert "integer" in integer and "float32" in reference
    assert integer.index("90.00") == reference.index("90.00") == head.index("Dice %")
    assert not any(line.startswith("  background") for line in lines)
    assert "  cell: integer − float32 Dice -0.20 points [-0.40, +0.10], p = 0.25 (Wilcoxon, n = 3); n = 3" in lines
    assert "  note: few" in lines


def test_skipped_cases_are_told() -> None:
    items = [{"case": f"c{i}", "reason": "it is damaged."} for i in range(25)]
    text = describe(with_cases(skipped={"test": items[:2], "validation": items}), "test")
    assert "skipped 2:" in text and "c1: it is damaged." in text and "c2" not in text
    assert "… and 5 more" in describe(with_cases(skipped={"test": items}), "test")


def test_the_measured_process() -> None:
    found = metrics()
    latency = {"seconds": 0.0125, "runs": 5, "threads": 1, "isa": "avx2"}
    found["cost"] |= {"process_peak_bytes": 80_000_000, "process_base_bytes": 37_000_000, "latency": latency}
    found["cost"] |= {"float_process_peak_bytes": 300_000_000, "float_latency": latency}
    text = describe(found, "test")
    assert "its own process: peak 80.00 MB (37.00 MB before the model), 12.5 ms an image (median of 5" in text
    assert "packed in float32: peak 300.00 MB" in text
    found["cost"] |= {"process_peak_bytes": None, "latency": None, "footprint_note": "no library"}
    assert "process not measured: no library" in describe(found, "test")
