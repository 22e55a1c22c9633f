"""Run folders of several cases (volumes at sites), as evaluation leaves them: made by hand, small, without training."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

LABELS = ("background", "grey matter")
SPACING = [5.0, 0.5, 0.5]
DIGEST = "c3" * 16
WEIGHTS, ACTIVATIONS, MACS = 1_600_000, 40 << 20, 9_000_000_000
METRICS = ("dice", "iou", "hd95_mm", "nsd", "volume_ml", "true_volume_ml", "volume_error")
MIXED = {"method": "BCa", "samples": 2000, "seed": 7, "confidence": 0.95}


def case_names(count: int) -> list[str]:
    return [f"sub-{number:02d}" for number in range(1, count + 1)]


def volume(case: int, slices: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A grey volume with a butterfly of foreground that grows and shrinks over the slices: (S, H, W) twice."""
    rng = np.random.default_rng(case)
    y, x = np.mgrid[:size, :size] / size - 0.5
    image, truth = [], []
    for number in range(slices):
        reach = 0.10 + 0.05 * np.sin(np.pi * (number + 1) / (slices + 1)) + 0.004 * case
        inside = (np.abs(x) < reach) & (np.abs(y) < reach * (0.25 + 2 * np.abs(x)))
        truth.append(inside)
        cord = x**2 + y**2 < 0.06
        image.append(np.clip(40 + 70 * cord + 60 * inside + rng.normal(0, 12, inside.shape), 0, 255))
    return np.stack(image).astype(np.uint8), np.stack(truth).astype(np.uint8)


def worsened(truth: np.ndarray, share: float, seed: int) -> np.ndarray:
    """``truth`` with a share of the pixels around its border turned over."""
    rng = np.random.default_rng(seed)
    near = np.zeros(truth.shape, bool)
    for axis in (1, 2):
        for shift in (-1, 1):
            near |= np.roll(truth, shift, axis) != truth
    return np.where(near & (rng.random(truth.shape) < share), 1 - truth, truth).astype(np.uint8)


def _class(truth: np.ndarray, found: np.ndarray, worst: float) -> dict[str, float | None]:
    both, total = float(np.sum(truth & found)), float(np.sum(truth) + np.sum(found))
    dice = 2 * both / total if total else 1.0
    ml = float(np.prod(SPACING)) / 1000
    return {
        "dice": dice,
        "iou": dice / (2 - dice),
        "hd95_mm": round(worst * (1 - dice), 4),
        "nsd": 1 - (1 - dice) / 3,
        "volume_ml": ml * float(np.sum(found)),
        "true_volume_ml": ml * float(np.sum(truth)),
        "volume_error": float(np.sum(found)) / max(float(np.sum(truth)), 1.0) - 1,
    }


def _evaluation(arithmetic: str, cases: list[dict[str, Any]], slices: list[dict[str, Any]]) -> dict[str, Any]:
    def mean(label: str, metric: str, site: str | None = None) -> float:
        chosen = [case for case in cases if site in (None, case["site"])]
        return float(np.mean([case["classes"][label][metric] for case in chosen]))

    sites = sorted({case["site"] for case in cases if case["site"]})
    dice = {label: mean(label, "dice") for label in LABELS}
    return {
        "arithmetic": arithmetic,
        "volume_dice": dice,
        "mean_slice_dice": dice,
        "slices": slices,
        "empty_policy": "A class empty in truth and prediction of a case scores 1 there.",
        "empty_slices": dict.fromkeys(LABELS, 0),
        "seconds": 3.5,
        "unit": "case",
        "distance_unit": "mm",
        "nsd_tolerance": 1.0,
        "cases": cases,
        "summary": {
            label: {
                metric: {
                    "mean": mean(label, metric),
                    "low": mean(label, metric) - 0.011,
                    "high": mean(label, metric) + 0.009,
                    "cases": len(cases),
                    "undefined": 0,
                }
                for metric in METRICS
            }
            for label in LABELS
        },
        "by_site": {site: {label: {m: mean(label, m, site) for m in METRICS} for label in LABELS} for site in sites},
        "volume_correlation": {"background": None, "grey matter": 0.97},
        "bootstrap": MIXED,
    }


def layers(weight: int, act: int, count: int = 6) -> dict[str, Any]:
    """``layers.json`` of a network of ``count`` convolutions."""
    top = (1 << (weight - 1)) - 1
    codes = np.arange(-top - 1, top + 1)
    bell = np.rint(9000 * np.exp(-((codes / max(top, 1)) ** 2) * 3)).astype(int)
    ramp = np.rint(5000 / (1 + np.arange(1 << act))).astype(int)
    found = []
    for number in range(count):
        found.append(
            {
                "name": f"encoder.{number}.0",
                "kind": "convolution",
                "weight_bits": weight,
                "act_bits": act,
                "weight": {
                    "kind": "twos_complement",
                    "codes": [-top - 1, top],
                    "scale": [0.01, 0.03],
                    "range": [-0.2, 0.21],
                    "seen": [-top - 1, top],
                    "saturated": 0.02 * number,
                    "zero": 0.1,
                    "histogram": {"low": -top - 1, "counts": bell.tolist()},
                },
                "activation": {
                    "signed": False,
                    "codes": [0, (1 << act) - 1],
                    "scale": [0.05, 0.05],
                    "range": [0.0, 0.05 * ((1 << act) - 1)],
                    "seen": [0, (1 << act) - 1],
                    "saturated": 0.001,
                    "zero": 0.4,
                    "histogram": {"low": 0, "counts": ramp.tolist()},
                },
            }
        )
    found.append(
        {"name": "head", "kind": "convolution", "weight_bits": 8, "act_bits": 32, "weight": None, "activation": None}
    )
    return {"schema": 1, "activations": {"images": 2, "size": [64, 64]}, "layers": found}


def write_case_run(
    folder: Path,
    weight: int = 4,
    act: int = 6,
    *,
    error: float = 0.25,
    seed: int = 7,
    cases: int = 7,
    slices: int = 5,
    size: int = 64,
    fold: int | None = None,
    digest: str = DIGEST,
    dataset: str = "gm",
    sites: tuple[str, ...] = ("Montréal", "Zürich"),
    skipped: bool = True,
) -> Path:
    """A run of ``cases`` volumes; ``error`` of the border is wrong (0.15 in float). 32 bits: a float run."""
    low = weight != 32
    overlays = folder / "overlays" / "validation"
    overlays.mkdir(parents=True)
    records: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {"mine": ([], []), "float": ([], [])}
    for index, name in enumerate(case_names(cases)):
        image, truth = volume(index, slices, size)
        reference = worsened(truth, 0.15 + 0.02 * index, index)
        mine = worsened(truth, error + 0.02 * index, 1000 * seed + index) if low else reference
        arrays = {
            "image": image,
            "truth": truth,
            "prediction": mine,
            "slices": np.arange(3, 3 + slices, dtype=np.int32),
        }
        np.savez_compressed(
            overlays / f"{name}.npz",
            **(arrays | ({"float_prediction": reference} if low else {})),  # type: ignore[arg-type]
        )
        for key, found in (("mine", mine), ("float", reference)):
            whole = [_class(truth == k, found == k, 20.0) for k in range(2)]
            records[key][0].append(
                {
                    "id": name,
                    "volume": name,
                    "subject": name,
                    "site": sites[index % len(sites)] if sites else "",
                    "slices": slices,
                    "spacing_mm": SPACING,
                    "classes": dict(zip(LABELS, whole, strict=True)),
                    "scores": {},
                }
            )
            for number in range(slices):
                scores = [_class(truth[number] == k, found[number] == k, 20.0)["dice"] for k in range(2)]
                records[key][1].append(
                    {"id": f"{name}-{3 + number:03d}", "volume": name, "dice": dict(zip(LABELS, scores, strict=True))}
                )
    own = _evaluation("integer" if low else "float32", *records["mine"])
    split: dict[str, Any] = {"integer" if low else "float": own}
    if low:
        split["float_reference"] = _evaluation("float32", *records["float"])
        split["paired"] = {label: _paired(own, split["float_reference"], label) for label in LABELS}
    latency = {"runs": 9, "threads": 1, "isa": "avx2"}
    metrics = {
        "schema": 1,
        "run": folder.name,
        "dataset": dataset,
        "data_note": "synthetic cords made for a test",
        "digests": {"validation": digest},
        "network": {"name": "unet", "options": {}, "parameters": WEIGHTS // 4},
        "bits": {"weight": weight, "act": act, "first": 8, "last": 8, "method": "fixed", "per_channel": True},
        "labels": LABELS,
        "seed": seed,
        "cost": {
            "input_size": [1, size, size],
            "weight_bytes": WEIGHTS * weight // 32,
            "float_weight_bytes": WEIGHTS,
            "peak_activation_bytes": ACTIVATIONS * act // 32,
            "float_peak_activation_bytes": ACTIVATIONS,
            "macs": MACS,
            "bit_operations": MACS * weight * act,
            "model_file_bytes": WEIGHTS * weight // 32 + 20_000,
            "arena_bytes": ACTIVATIONS * act // 32 + 90_000,
            "latency": {"seconds": 0.1 if not low else 0.02 + 0.002 * weight, **latency},
            "process_peak_bytes": (30 << 20) + ACTIVATIONS * act // 32,
            "process_base_bytes": 28 << 20,
            **(
                {
                    "float_model_file_bytes": WEIGHTS + 20_000,
                    "float_arena_bytes": ACTIVATIONS + 90_000,
                    "float_process_peak_bytes": (30 << 20) + ACTIVATIONS,
                    "float_latency": {"seconds": 0.1, **latency},
                }
                if low
                else {}
            ),
        },
        "splits": {"validation": split},
        "skipped": {"validation": [{"case": "sub-99", "reason": "The mask lies on another grid."}]} if skipped else {},
    }
    data: dict[str, Any] = {"name": dataset, "root": str(folder.parent)}
    config = {"data": data | ({} if fold is None else {"folds": 3, "fold": fold}), "seed": seed}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "config.yaml").write_text(json.dumps(config, indent=1))  # JSON is YAML
    (folder / "run.json").write_text(json.dumps({"unetq": "0.1.0", "finished": "2026-01-01T10:20:00", "seed": seed}))
    (folder / "history.jsonl").write_text(
        "".join(json.dumps({"stage": "quant", "step": step, "loss": 1 / step}) + "\n" for step in range(1, 40))
    )
    if low:
        (folder / "layers.json").write_text(json.dumps(layers(weight, act)))
    return folder


def _paired(mine: dict[str, Any], theirs: dict[str, Any], label: str) -> dict[str, Any]:
    changes = [
        one["classes"][label]["dice"] - two["classes"][label]["dice"]
        for one, two in zip(mine["cases"], theirs["cases"], strict=True)
    ]
    mean = float(np.mean(changes))
    spread = 0.003
    return {
        "metric": "dice", "difference": mean, "low": mean - spread, "high": mean + spread,
        "p": 0.016, "test": "Wilcoxon signed-rank", "n": len(changes),
    }  # fmt: skip


def split_of(run: Path) -> dict[str, Any]:
    """The validation split of a run's metrics."""
    found: dict[str, Any] = json.loads((run / "metrics.json").read_text())["splits"]["validation"]
    return found


def edit(run: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """``run`` with its metrics changed."""
    metrics = json.loads((run / "metrics.json").read_text())
    change(metrics)
    (run / "metrics.json").write_text(json.dumps(metrics))
    return run
