"""``study.json`` as the page reads it, and its runs laid out by arm, width and seed. See docs/STUDY.md."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...errors import CheckpointError
from ...experiment import FLOAT_BITS

Array = npt.NDArray[np.float64]
Arm = Literal["float", "weights", "both", "noise"]
ARMS: tuple[Arm, ...] = ("weights", "both", "noise")
TITLES: dict[str, str] = {
    "float": "float",
    "weights": "weights quantised",
    "both": "weights and activations quantised",
    "noise": "uniform noise in the weights, no rounding",
}
MEAN = "mean"
Number = Annotated[float, Field(allow_inf_nan=False)]
Dice = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Bits = Annotated[int, Field(ge=1, le=32)]
Count = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Splits(_Record):
    """The loss as trained, on whole slices that are not augmented."""

    train: Number
    validation: Number


class Scores(_Record):
    """Dice 0…1 by class, with their mean."""

    train: dict[str, Dice]
    validation: dict[str, Dice]


class Gap(_Record):
    """Positive where the network does better on what it was trained on."""

    loss: Number
    dice: Number


class Estimated(_Record):
    """A value that was sampled, with its standard error."""

    value: Number
    error: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class Eigenvalue(_Record):
    """The top one of the Hessian, and how far the iteration was from it."""

    value: Number
    residual: Number


class Sharpness(_Record):
    """Rises of the loss within a radius, and the Hessian; at the weights that the network computes with."""

    loss: Number
    rho: Number
    ascent: Number
    adaptive_rho: Number
    adaptive: Number
    trace: Estimated
    eigenvalue: Eigenvalue
    smoothed: Estimated | None = None
    weights: Count
    norm: Number


class Uniform(_Record):
    """The mean rise by uniform noise, its standard error, and the standard deviation of single draws."""

    mean: Number
    error: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
    draws: Count
    spread: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] | None = None


class Twin(_Record):
    """Rises of the loss at the same weights, clipped to their grids: by rounding, by noise of the same step, by the
    sum of s²/24 · tr H; ``clipping`` is what clipping them cost before."""

    clipping: Number | None = None
    rounding: Number
    uniform: Uniform
    predicted: Number
    predicted_spread: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] | None = None


class NoiseBound(_Record):
    """The bound of the network with uniform noise in its weights."""

    value: Number


class Bound(_Record):
    """Of the true loss, holding with probability 1 − confidence; at or above ``limit`` it says nothing."""

    value: Number
    limit: Number | None = None
    noise: NoiseBound | None = None
    empirical: Number
    samples: Count
    confidence: Number


class Run(_Record):
    """One trained network, measured."""

    name: str
    arm: Arm
    weight_bits: Bits
    act_bits: Bits
    seed: int
    loss: Splits
    dice: Scores
    gap: Gap
    sharpness: Sharpness | None = None
    twin: Twin | None = None
    robustness: dict[str, dict[str, Dice]] = {}
    bound: Bound | None = None


Get = Callable[[Run], float | None]


class Record(_Record):
    """``study.json``, schema 1."""

    schema_: Literal[1] = Field(alias="schema")
    unetq: str
    command: str
    config: dict[str, Any]
    settings: dict[str, Any] = {}
    runs: tuple[Run, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Grid:
    """One figure of one arm, of all seeds that have every width: ``low`` (seeds, widths) beside ``float`` (seeds,)."""

    seeds: tuple[int, ...]
    bits: tuple[int, ...]
    low: Array
    float: Array


@dataclass(frozen=True)
class Study:
    """The record, its runs by (arm, weight bits, seed)."""

    record: Record

    @cached_property
    def runs(self) -> dict[tuple[str, int, int], Run]:
        """By arm, weight bits and seed."""
        return {(run.arm, run.weight_bits, run.seed): run for run in self.record.runs}

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """Those with bits that were trained."""
        return tuple(arm for arm in ARMS if any(run.arm == arm for run in self.record.runs))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Of all runs, ascending."""
        return tuple(sorted({run.seed for run in self.record.runs}))

    @cached_property
    def distortions(self) -> tuple[str, ...]:
        """By name, in the order of the record."""
        return tuple(dict.fromkeys(name for run in self.record.runs for name in run.robustness))

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """What some other seed has and this one lacks, in words."""
        cells = dict.fromkeys((run.arm, run.weight_bits) for run in self.record.runs)
        return tuple(
            f"{arm if arm == 'float' else f'{arm} at {bits} bits'}, seed {seed}"
            for arm, bits in cells
            for seed in self.seeds
            if (arm, bits, seed) not in self.runs
        )

    def bits(self, arm: str) -> tuple[int, ...]:
        """The arm's widths, widest first."""
        return tuple(sorted({run.weight_bits for run in self.record.runs if run.arm == arm}, reverse=True))

    def values(self, arm: str, bits: int, get: Get) -> dict[int, float]:
        """A figure by seed, where it was measured."""
        found = {seed: get(run) for (a, b, seed), run in sorted(self.runs.items()) if (a, b) == (arm, bits)}
        return {seed: value for seed, value in found.items() if value is not None}

    def differences(self, arm: str, bits: int, get: Get) -> list[float]:
        """The arm at a width less float, of the seeds that have both."""
        low, reference = self.values(arm, bits, get), self.values("float", FLOAT_BITS, get)
        return [value - reference[seed] for seed, value in low.items() if seed in reference]

    def grid(self, arm: str, get: Get) -> Grid | None:
        """A figure of all widths and of float; None where no seed has it at all of them."""
        bits = self.bits(arm)
        reference = self.values("float", FLOAT_BITS, get)
        columns = [self.values(arm, width, get) for width in bits]
        seeds = tuple(seed for seed in reference if all(seed in column for column in columns))
        if not seeds or not bits:
            return None
        low = np.array([[column[seed] for column in columns] for seed in seeds])
        return Grid(seeds, bits, low, np.array([reference[seed] for seed in seeds]))

    def table(self, gets: tuple[Get, ...], arms: Sequence[str]) -> Array | None:
        """Several figures of all networks (arm and width), (figures, seeds, networks), of the seeds that have all.

        None where no seed has all, or there are fewer than two networks.
        """
        cells = list(dict.fromkeys((run.arm, run.weight_bits) for run in self.record.runs if run.arm in arms))
        columns = [[self.values(*cell, get) for cell in cells] for get in gets]
        seeds = [seed for seed in self.seeds if all(seed in values for column in columns for values in column)]
        if not seeds or len(cells) < 2:
            return None
        return np.array([[[values[seed] for values in column] for seed in seeds] for column in columns])


def read_study(folder: Path) -> Study:
    """The ``study.json`` of a study's folder.

    Raises:
        CheckpointError: it is missing, damaged, of another schema, or has one network twice.
    """
    path = folder / "study.json"
    again = "It is written by `unetq study regularisation`; run that again."
    if not path.is_file():
        raise CheckpointError(f"{folder} holds no study.json: it is not a study, or it was not measured yet. {again}")
    try:
        record = Record.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(f"{path}: {where}: {first['msg']}; schema 1 is read. {again}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}). {again}") from None
    seen: dict[tuple[str, int, int], str] = {}
    for run in record.runs:
        key = (run.arm, run.weight_bits, run.seed)
        if key in seen:
            raise CheckpointError(f"{path}: {seen[key]} and {run.name} are one network and one seed. {again}")
        seen[key] = run.name
    return Study(record)
