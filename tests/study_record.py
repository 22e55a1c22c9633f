"""A ``study.json`` with known truths: what low bits do to the gap, the loss and so on is chosen, seeds add noise."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BITS = (8, 6, 4, 3, 2)
SEVERITIES = ("1", "2", "3")
Change = Callable[[str, int], float]


def none(arm: str, bits: int) -> float:
    """No difference to float."""
    return 0.0


def study_record(
    *,
    arms: tuple[str, ...] = ("weights", "both", "noise"),
    bits: tuple[int, ...] = BITS,
    seeds: int = 3,
    gap: Change = none,
    train_loss: Change = none,
    log_sharpness: Change = none,
    rounding_factor: Change = none,
    predicted_factor: Change = none,
    drop: Change = none,
    bound: Change = none,
    noise: float = 0.002,
) -> dict[str, Any]:
    """All arms; a change is added to float's figure, in its own units (of logarithms for ratios), by arm and bits."""
    rng = np.random.default_rng(7)
    runs = []
    for seed in range(seeds):
        for arm, width in [("float", 32), *((arm, width) for arm in arms for width in bits)]:

            def jitter() -> float:
                return float(noise * rng.standard_normal())

            train = 0.30 + train_loss(arm, width) + jitter()
            loss_gap = 0.10 + gap(arm, width) + jitter()
            dice = {"train": 0.96 - 0.2 * train_loss(arm, width), "validation": 0.93 - 0.2 * gap(arm, width)}
            dice = {split: min(value + jitter() / 10, 1.0) for split, value in dice.items()}
            flat = float(np.exp(log_sharpness(arm, width) + 10 * jitter()))
            uniform = 0.4 * 4.0 ** -float(width) * (1 + jitter())
            clean = dice["validation"]
            lost = 0.05 + drop(arm, width)
            runs.append(
                {
                    "name": f"{arm}-{width}-s{seed}", "arm": arm, "weight_bits": width,
                    "act_bits": width if arm == "both" else 32, "seed": seed,
                    "loss": {"train": train, "validation": train + loss_gap},
                    "dice": {split: {"cell": value, "mean": value} for split, value in dice.items()},
                    "gap": {"loss": loss_gap, "dice": dice["train"] - dice["validation"]},
                    "sharpness": {
                        "loss": train, "rho": 0.05, "ascent": 0.02 * flat, "adaptive_rho": 0.5, "adaptive": 0.03 * flat,
                        "trace": {"value": 120.0 * flat, "error": 3.0, "probes": 16},
                        "eigenvalue": {"value": 9.0 * flat, "residual": 0.01},
                        "smoothed": {"value": 90.0 * flat, "error": 2.0, "draws": 8, "scale": 0.001},
                        "weights": 7777, "norm": 20.0,
                    },
                    "twin": None if arm == "float" else {
                        "rounding": uniform * float(np.exp(rounding_factor(arm, width))),
                        "uniform": {"mean": uniform, "error": uniform / 50, "draws": 8, "spread": uniform / 2},
                        "predicted": uniform * float(np.exp(predicted_factor(arm, width))),
                        "predicted_spread": uniform / 2,
                    },
                    "robustness": {
                        kind: {step: clean - lost * size * int(step) / 2 + jitter() / 10 for step in SEVERITIES}
                        for kind, size in (("blur", 1.5), ("noise", 0.5))
                    },
                    "bound": {
                        "value": float(np.exp(1.0 + bound(arm, width) + jitter())), "empirical": train,
                        "sharpness": 0.1, "complexity": 2.0, "samples": 100, "confidence": 0.05,
                    },
                }
            )  # fmt: skip
    return {
        "schema": 1, "unetq": "0.1.0", "command": "unetq study regularisation study-em -o OUT",
        "config": {"data": {"name": "em"}, "network": {"name": "paper"}}, "settings": {"rho": 0.05}, "runs": runs,
    }  # fmt: skip


def write_study(folder: Path, record: dict[str, Any]) -> Path:
    """``study.json`` in ``folder``, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(record, allow_nan=False), encoding="utf-8")
    return folder
