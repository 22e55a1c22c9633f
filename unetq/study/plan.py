"""What the study trains: one network and one schedule in several arms, at every width, from every seed.

    float     no quantiser; the same run for all arms
    weights   weights at b bits, activations in float32
    both      weights and activations at b bits
    noise     weights with uniform noise of the step that b bits have, and no rounding; activations in float32

Runs of one seed start from the same random weights and draw the same batches, so that they are pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..config import KNOWN_KEYS, load_experiment
from ..errors import ConfigError
from ..experiment import FLOAT_BITS, Experiment
from ..quant.methods import ACT_BITS, FAMILIES, WEIGHT_BITS
from ..sweep_plan import Planned

Arm = Literal["float", "weights", "both", "noise"]
ARMS: tuple[Arm, ...] = ("weights", "both", "noise")
"""Those with bits; "float" is what all are compared with."""
NOISE_KEY = "quant.noise.kind"


@dataclass(frozen=True)
class Grid:
    """What is varied: widths (1 to 8; 32 stands for the float arm), arms with bits, and how many seeds."""

    bits: tuple[int, ...] = (FLOAT_BITS, 8, 6, 4, 3, 2)
    arms: tuple[Arm, ...] = ARMS
    seeds: int = 3


@dataclass(frozen=True)
class StudyRun:
    """One run of the study: what is trained, and where it stands in it."""

    planned: Planned
    arm: Arm
    weight_bits: int
    act_bits: int
    seed: int

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.planned.name


def parse_bits(text: str) -> tuple[int, ...]:
    """``32,8,4`` as numbers, each once, the widest first.

    Raises:
        ConfigError: anything else than 1 to 8 and 32.
    """
    words = [word.strip() for word in text.split(",")]
    for word in words:
        if not word.isdecimal() or not (1 <= int(word) <= 8 or int(word) == FLOAT_BITS):
            raise ConfigError(f"--bits {text}: {word!r} is no width; write 1 to 8, or 32 for float, such as 32,8,4.")
    return tuple(sorted({int(word) for word in words}, reverse=True))


def parse_arms(text: str) -> tuple[Arm, ...]:
    """``weights,both`` as words, each once, in the order of ``ARMS``.

    Raises:
        ConfigError: another word.
    """
    words = {word.strip() for word in text.split(",")}
    if unknown := sorted(words - set(ARMS)):
        raise ConfigError(f"--arms {text}: {unknown[0]!r} is none; choose among {', '.join(ARMS)}.")
    return tuple(arm for arm in ARMS if arm in words)


def plan(
    config: str, grid: Grid, folder: Path, settings: Sequence[str] = (), data: Path | None = None
) -> tuple[StudyRun, ...]:
    """All runs, seed by seed: the float one, then each arm from wide to narrow. ``folder`` holds their folders.

    Raises:
        ConfigError: a config or setting that cannot be used or lets runs differ in more than bits, a method that does
            not exist at a width, or no runs at all.
    """
    if grid.seeds < 1:
        raise ConfigError(f"--seeds {grid.seeds}: a study has at least one; give 1 or more.")
    widths = [bits for bits in grid.bits if bits != FLOAT_BITS]
    cells: list[tuple[Arm, int, int]] = [("float", FLOAT_BITS, FLOAT_BITS)] if FLOAT_BITS in grid.bits else []
    for arm in grid.arms:
        cells += [(arm, bits, bits if arm == "both" else FLOAT_BITS) for bits in widths]
    if not cells:
        raise ConfigError("there is nothing to study: --bits names no width and --arms no arm; give both.")
    first = load_experiment(config, settings, _flags(FLOAT_BITS, FLOAT_BITS, data)).seed
    runs = []
    for seed in range(first, first + grid.seeds):
        for arm, weight, act in cells:
            planned = _planned(config, folder, settings, data, (arm, weight, act), seed)
            _check(planned.experiment, arm)
            runs.append(StudyRun(planned, arm, weight, act, seed))
    return tuple(runs)


def _flags(weight: int, act: int, data: Path | None) -> dict[str, Any]:
    flags: dict[str, Any] = {"quant": {"weight_bits": weight, "act_bits": act}}
    return flags if data is None else {**flags, "data": {"root": str(data)}}


def _planned(
    config: str, folder: Path, settings: Sequence[str], data: Path | None, cell: tuple[Arm, int, int], seed: int
) -> Planned:
    arm, weight, act = cell
    name = "float" if arm == "float" else f"w{weight}a{act}" + ("-noise" if arm == "noise" else "")
    name = f"{name}-s{seed}"
    given = [*settings, f"seed={seed}", *_noise(arm)]
    arguments = [config, "--out", str(folder / name), "--weight-bits", str(weight), "--act-bits", str(act)]
    arguments += [] if data is None else ["--data", str(data)]
    for setting in given:
        arguments += ["--set", setting]
    experiment = load_experiment(config, given, _flags(weight, act, data))
    return Planned(name, experiment, None, tuple(arguments))


def _noise(arm: Arm) -> tuple[str, ...]:
    if arm != "noise":
        return ()
    if NOISE_KEY not in KNOWN_KEYS:
        raise ConfigError(f"--arms noise: this version has no {NOISE_KEY}; choose weights,both.")
    return (f"{NOISE_KEY}=uniform",)


def _check(experiment: Experiment, arm: Arm) -> None:
    """That the float run and the low-bit ones have one schedule, and that their method exists at their widths.

    Raises:
        ConfigError: naming the key.
    """
    train, quant, noise = experiment.train, experiment.quant, experiment.quant.noise
    kind, first, last = "uniform" if arm == "noise" else "none", noise.first, noise.last
    rules: tuple[tuple[str, Any, Any, str], ...] = (
        ("train.from_scratch", train.from_scratch, True, "all runs start from random weights"),
        ("train.from_run", train.from_run, None, "all runs start from random weights"),
        ("train.quant_steps", train.quant_steps, train.float_steps, "all runs have as many steps (train.float_steps)"),
        ("train.quant_lr", train.quant_lr, train.lr, "all runs have one learning rate (train.lr)"),
        ("train.distill.logits", train.distill.logits, 0.0, "no run is taught by another"),
        ("train.distill.features", train.distill.features, 0.0, "no run is taught by another"),
        ("train.progressive", train.progressive, [], "a run has one width from start to end"),
        ("train.sharpness.method", train.sharpness.method, "none", "no run is pushed to a flat minimum"),
        ("train.early_stop_patience", train.early_stop_patience, 0, "all runs have as many steps"),
        ("quant.layers", quant.layers, [], "a run has one width for all layers"),
        (NOISE_KEY, noise.kind, kind, "the arm noise alone has noise; the others round"),
        ("quant.noise.tensors", noise.tensors, "weights", "activations of the arm noise are float"),
        ("quant.noise.first", 1.0 if first is None else first, 1.0, "noise is as large as a step from start to end"),
        ("quant.noise.last", 1.0 if last is None else last, 1.0, "noise is as large as a step from start to end"),
        ("quant.noise.until", noise.until, 1.0, "the arm noise never rounds"),
    )  # fmt: skip
    for key, value, wanted, rule in rules:
        if value != wanted:
            raise ConfigError(f"{key} = {value!r}: in a study {rule}; set it to {wanted!r}.")
    if train.validate_every < train.float_steps:
        raise ConfigError(
            f"train.validate_every = {train.validate_every} of {train.float_steps} steps: in a study the validation "
            f"slices choose no checkpoint, since the gap to them is measured; set it to {train.float_steps}."
        )
    _check_method(experiment)


def _check_method(experiment: Experiment) -> None:
    quant = experiment.quant
    families = FAMILIES[quant.method]
    for kind, method, bits, known in (
        ("weight", quant.weight_method or families[0], quant.weight_bits, WEIGHT_BITS),
        ("act", quant.act_method or families[1], quant.act_bits, ACT_BITS),
    ):
        low, high = known[method]
        if bits != FLOAT_BITS and not low <= bits <= high:
            raise ConfigError(
                f"quant.{kind}_bits = {bits}: the method {method} has {low} to {high} bits; leave {bits} out of "
                f"--bits, or set quant.{kind}_method."
            )
