"""Proof on real images: every executor computes the same codes, tensor by tensor, and the same logits."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .batches import network_inputs
from .export.lower import lower
from .export.program import Conv, Program
from .runs import dataset_of, load_split, open_run
from .runtime import Runtime, available_isas
from .scoring import input_multiple

Array = NDArray[Any]
LOGITS = "logits"


@dataclass
class Comparison:
    """What one executor was compared on, against torch's evaluation: counts of values, first mismatches by name.

    ``deviation`` is the largest difference of a float32 tensor, as a share of that tensor's range.
    """

    executor: str
    slices: int = 0
    tensors: int = 0
    values: int = 0
    mismatches: int = 0
    deviation: float = 0.0
    first: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, name: str, expected: Array, found: Array) -> None:
        """Count one tensor; arrays of different shape differ in every value."""
        self.tensors += 1
        self.values += expected.size
        wrong = expected.size if expected.shape != found.shape else int(np.count_nonzero(~(expected == found)))
        self.mismatches += wrong
        if wrong and expected.shape == found.shape and not np.issubdtype(found.dtype, np.integer):
            span = max(float(np.ptp(expected)), 1e-30)
            self.deviation = max(self.deviation, float(np.abs(expected - found).max()) / span)
        if wrong and len(self.first) < 5:
            self.first.append(f"{name}: {wrong} of {expected.size}")


def _float_layers(program: Program) -> list[str]:
    """Convolutions in which a float32 weight or input takes part."""
    convolutions = [op for op in program.ops if isinstance(op, Conv)]
    return [c.name for c in convolutions if c.weight_kind == "float32" or program.tensors[c.inputs[0]].grid is None]


def _with_depth(array: Array) -> Array:
    return array[:, :, None] if array.ndim == 4 else array


def verify(
    run_folder: Path,
    split: str = "validation",
    data: Path | None = None,
    limit: int | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Compare all executors on the whole slices of a split of a run's data.

    Torch evaluation is the reference; the NumPy executor and the C++ runtime on every instruction set of
    this machine must give equal codes for every tensor and equal logits. A run that keeps layers in float32
    is outside that contract: what differs is counted, and ``float_layers`` names them.

    Args:
        run_folder: a trained run. split, data: as for ``unetq evaluate``. limit: only the first slices.
        tell: called with a line of progress now and then.

    Returns:
        {"run", "split", "float_layers": names, "executors": [Comparison as a dict, …], "mismatches": total}.
    """
    run = open_run(run_folder)
    _, preprocessing = dataset_of(run.experiment)
    quantized, checkpoint = run.quantized()
    samples = load_split(run.experiment, split, data)[:limit]
    multiple = input_multiple(quantized.net, int(checkpoint.info["input"][0]))
    float_layers: list[str] = []
    comparisons = {name: Comparison(name) for name in ("numpy", *available_isas())}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.uqm"
        saved = False
        for sample, image in network_inputs(samples, preprocessing, multiple):
            program = lower(quantized, image)
            float_layers = _float_layers(program)
            if not saved:
                program.save(path)
                saved = True
            expected: dict[str, torch.Tensor] = {}
            logits = quantized.integer_forward(image, expected).numpy()
            for name, comparison in comparisons.items():
                began = time.monotonic()
                traced: dict[str, Array] = {}
                if name == "numpy":
                    found = program.run(image.numpy(), traced)
                else:
                    found = Runtime(path, isa=name).run(image.numpy(), traced)
                comparison.seconds = round(comparison.seconds + time.monotonic() - began, 3)
                comparison.slices += 1
                comparison.add(LOGITS, logits, found)
                for tensor, codes in traced.items():
                    comparison.add(tensor, _with_depth(expected[tensor].numpy()), codes)
                tell(f"{sample.id}: {name}, {comparison.mismatches} mismatches in {comparison.values:,} values so far")
    executors = [asdict(c) for c in comparisons.values()]
    return {
        "run": run.name,
        "split": split,
        "float_layers": float_layers,
        "executors": executors,
        "mismatches": sum(c.mismatches for c in comparisons.values()),
    }


def describe(found: dict[str, Any]) -> str:
    """The result for people, a line an executor."""
    lines = [f"{found['run']}, {found['split']}: against torch evaluation"]
    for e in found["executors"]:
        more = f"; first {', '.join(e['first'])}" if e["first"] else ""
        lines.append(
            f"  {e['executor']:8} {e['mismatches']} mismatches in {e['values']:,} values, {e['tensors']} tensors, "
            f"{e['slices']} slices, {e['seconds']:.1f} s{more}"
        )
    if found["float_layers"]:
        worst = max(e["deviation"] for e in found["executors"])
        lines.append(
            f"  float32 layers ({', '.join(found['float_layers'])}) are not bound to be exact; "
            f"the largest deviation of a float tensor is {worst:.1e} of its range"
        )
    return "\n".join(lines)
