"""Run folders made by hand, as training and evaluation leave them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser_visit import Visit, started
from case_runs import write_case_run

from unetq.report import build

LABELS = ("membrane", "cell")
DIGEST = "5f" * 16
WEIGHTS, ACTIVATIONS = 19_348_996, 160 << 20


def membranes(seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A grey image and its truth (0 membrane, 1 cell): borders between the nearest of random points."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, size, (max(4, size * size // 700), 2))
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"), -1)
    distance = np.sqrt(((grid[:, :, None] - centres) ** 2).sum(-1))
    nearest = np.sort(distance, -1)
    truth = (nearest[..., 1] - nearest[..., 0] > 2.5).astype(np.uint8)
    image = np.clip(60 + 110 * truth + rng.normal(0, 18, truth.shape), 0, 255).astype(np.uint8)
    return image, truth


def flipped(truth: np.ndarray, share: float, seed: int) -> np.ndarray:
    """``truth`` with blocks of 2 x 2 pixels turned over."""
    small = np.random.default_rng(seed).random(((truth.shape[0] + 1) // 2, (truth.shape[1] + 1) // 2)) < share
    wrong = small.repeat(2, 0).repeat(2, 1)[: truth.shape[0], : truth.shape[1]]
    return np.where(wrong, 1 - truth, truth).astype(np.uint8)


def dice(truth: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    return {
        label: float(2 * np.sum((truth == k) & (prediction == k)) / (np.sum(truth == k) + np.sum(prediction == k)))
        for k, label in enumerate(LABELS)
    }


def evaluation(arithmetic: str, slices: dict[str, dict[str, float]]) -> dict[str, Any]:
    mean = {label: float(np.mean([score[label] for score in slices.values()])) for label in LABELS}
    return {
        "arithmetic": arithmetic,
        "volume_dice": mean,
        "mean_slice_dice": mean,
        "slices": [{"id": name, "volume": "em", "dice": score} for name, score in slices.items()],
        "empty_policy": "A class empty in truth and prediction of a slice scores 1 there.",
        "empty_slices": dict.fromkeys(LABELS, 0),
        "seconds": 12.5,
    }


def history(stages: dict[str, int]) -> str:
    lines = []
    for stage, steps in stages.items():
        rng = np.random.default_rng(3)
        start = 0.9 if stage == "float" else 0.35
        for step in range(1, steps + 1):
            loss = 0.25 + (start - 0.25) * float(np.exp(-4 * step / steps)) + float(rng.normal(0, 0.02))
            point: dict[str, Any] = {"stage": stage, "step": step, "loss": loss, "lr": 1e-3, "seconds": 0.5 * step}
            if step % max(1, steps // 8) == 0:
                point["dice"] = {"membrane": 0.80 - 0.2 * start / step**0.3, "cell": 0.96 - 0.1 * start / step**0.3}
            lines.append(json.dumps(point))
    return "\n".join(lines) + "\n"


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """``make_run(name, weight, act, error=…)`` writes a run folder below ``tmp_path`` and returns it."""
    return lambda name, *args, **options: write_run(tmp_path / name, *args, **options)


@pytest.fixture
def make_case_run(tmp_path: Path) -> Callable[..., Path]:
    """The same for runs of several cases at sites, as today's evaluation writes them; see ``case_runs``."""
    return lambda name, *args, **options: write_case_run(tmp_path / name, *args, **options)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as program:
        yield program


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of three runs of seven cases."""
    folder = tmp_path_factory.mktemp("browser")
    runs = [
        write_case_run(folder / "gm-float", 32, 32),
        write_case_run(folder / "gm-w4a6", 4, 6, error=0.3),
        write_case_run(folder / "gm-w2a2", 2, 2, error=0.6),
    ]
    return build(runs, folder / "report")


@pytest.fixture
def visit(browser: Any, report: Path) -> Iterator[Callable[..., Visit]]:
    """``visit(**options)`` opens the page; after the test it has said nothing and asked for nothing but itself."""
    visits: list[Visit] = []

    def start(**options: Any) -> Visit:
        visits.append(Visit(browser, report, **options))
        return visits[-1]

    yield start
    for each in visits:
        each.context.close()
        assert each.said == []
        asked = [address for address in each.asked if not address.startswith("data:")]
        assert asked == [report.as_uri()]


def write_run(
    folder: Path,
    weight: int = 4,
    act: int = 6,
    *,
    error: float = 0.02,
    reference: bool = True,
    size: int = 48,
    slices: int = 4,
    pictures: Callable[[int, int], tuple[np.ndarray, np.ndarray]] = membranes,
) -> Path:
    """A run of ``slices`` slices where ``error`` of the blocks of pixels are wrong (0.01 in float)."""
    low = weight != 32
    overlays = folder / "overlays" / "validation"
    overlays.mkdir(parents=True)
    mine, theirs = {}, {}
    for index in range(slices):
        name = f"em-{20 + index:03d}"
        image, truth = pictures(index, size)
        arrays = {"image": image, "truth": truth}
        float_prediction = flipped(truth, 0.01 * (1 + index), index)
        arrays["prediction"] = flipped(truth, error * (1 + index), 50 + index) if low else float_prediction
        if low:
            arrays["float_prediction"] = float_prediction
        np.savez_compressed(overlays / f"{name}.npz", **arrays)
        mine[name], theirs[name] = dice(truth, arrays["prediction"]), dice(truth, float_prediction)
    split: dict[str, Any] = (
        {"integer": evaluation("integer", mine)} if low else {"float": evaluation("float32", theirs)}
    )
    if low and reference:
        split["float_reference"] = evaluation("float32", theirs)
    metrics = {
        "schema": 1,
        "run": folder.name,
        "dataset": "em",
        "data_note": "synthetic membranes made for a test",
        "digests": {"validation": DIGEST},
        "notes": {"validation": "these slices also chose the checkpoint"},
        "network": {"name": "paper", "options": {"base": 64}, "parameters": 4_837_249},
        "bits": {"weight": weight, "act": act, "first": 8, "last": 8, "method": "fixed", "per_channel": True},
        "labels": LABELS,
        "seed": 7,
        "cost": {
            "input_size": [1, 512, 512],
            "weight_bytes": WEIGHTS * weight // 32,
            "float_weight_bytes": WEIGHTS,
            "peak_activation_bytes": ACTIVATIONS * act // 32,
            "float_peak_activation_bytes": ACTIVATIONS,
            "macs": 217_000_000_000,
            "bit_operations": 217_000_000_000 * weight * act,
            "model_file_bytes": WEIGHTS * weight // 32 + 40_000 if low else None,
            "arena_bytes": None,
        },
        "splits": {"validation": split},
    }
    facts = {
        "unetq": "0.1.0",
        "torch": "2.13.0",
        "python": "3.11.7",
        "platform": "Linux x86_64",
        "device": "cpu",
        "seed": 7,
        "command": ["unetq", "train", "em"],
        "started": "2026-01-01T10:00:00",
        "finished": "2026-01-01T10:20:00",
        "seconds": {"float": 850.0, "quant": 425.5},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "run.json").write_text(json.dumps(facts))
    (folder / "config.yaml").write_text("dataset: em\nseed: 7\ntrain:\n  steps: 200\n")
    (folder / "history.jsonl").write_text(history({"float": 200} | ({"quant": 100} if low else {})))
    return folder
