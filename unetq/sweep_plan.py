"""What a sweep runs: every width, method, seed and fold, and the float runs that the low-bit ones start from.

A run of a sweep is one that ``unetq train`` makes from its ``arguments``; nothing else decides its result.
"""

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .config import EVALUATION, build, differences, may_differ, overlay, parse_settings, read_config
from .data import DatasetSpec, find_root, resolve_dataset
from .errors import CheckpointError, ConfigError, EmptySplitError
from .experiment import FLOAT_BITS, DataConfig, Experiment
from .folds import Fold
from .samples import Sample

FLOAT_RUN = "float"
LOW_BIT_ONLY = ("quant.", "train.quant_", "train.step_size_lr", "train.distill", "train.progressive")
"""Beginnings of the keys that decide nothing in a float run."""

Standing = Literal["new", "resume", "evaluate", "done"]


@dataclass(frozen=True)
class Grid:
    """What is varied.

    Attributes:
        bits: pairs of weight and activation bits; 32/32 is float.
        seeds: how many, from the config's on.
        folds: how many, 0 for one each group (``data.by``); None for what the config says.
        methods: names of quantisers; none for the config's own.
    """

    bits: tuple[tuple[int, int], ...]
    seeds: int = 1
    folds: int | None = None
    methods: tuple[str, ...] = ()


@dataclass(frozen=True)
class Planned:
    """One run: its folder's name, its experiment, the name of the float run it starts from, and its command."""

    name: str
    experiment: Experiment
    source: str | None
    arguments: tuple[str, ...] = field(repr=False)

    @property
    def command(self) -> str:
        """The same run by hand."""
        return shlex.join(["unetq", "train", *self.arguments])


def parse_bits(text: str) -> tuple[tuple[int, int], ...]:
    """``32/32,8/8,4/6`` as pairs of weight and activation bits, each once.

    Raises:
        ConfigError: anything else; the message names it.
    """
    pairs: dict[tuple[int, int], None] = {}
    for part in text.split(","):
        weight, slash, act = part.strip().partition("/")
        if not (slash and weight.isdecimal() and act.isdecimal()):
            raise ConfigError(
                f"--bits {text}: {part.strip()!r} is no pair of WEIGHT/ACTIVATION bits; write it like 4/6."
            )
        pairs[int(weight), int(act)] = None
    for pair in pairs:
        if not all(1 <= bits <= 8 or bits == FLOAT_BITS for bits in pair):
            raise ConfigError(f"--bits {pair[0]}/{pair[1]}: bits are 1 to 8, or 32 for float; choose one of these.")
    return tuple(pairs)


def parse_methods(text: str | None) -> tuple[str, ...]:
    """``lsq,pact`` as words, each once; none for None."""
    return tuple(dict.fromkeys(word.strip() for word in (text or "").split(",") if word.strip()))


def plan(
    config: str, grid: Grid, out: Path, settings: Sequence[str] = (), data: Path | None = None
) -> tuple[Planned, ...]:
    """All runs in the order in which they are made: of each seed and fold the float run, then the low-bit ones.

    Raises:
        ConfigError: a config, setting, method or number that cannot be used.
        DataError: the groups that folds are to be of cannot be counted.
    """
    if grid.seeds < 1:
        raise ConfigError(f"--seeds {grid.seeds}: a sweep has at least one; give 1 or more.")
    if grid.folds is not None and (grid.folds < 0 or grid.folds == 1):
        raise ConfigError(f"--folds {grid.folds}: one fold divides nothing; give 2 or more, or 0 for one each group.")
    planner = _Planner(config, read_config(config), tuple(settings), data, out)
    folds: Sequence[int | None] = (None,)
    if grid.folds is not None:
        folds = range(grid.folds or count_folds(planner.base.data, Fold(0, 0, planner.base.data.by), data))
    runs: dict[str, Planned] = {}
    for index in range(grid.seeds):
        for fold in folds:
            place = _Place(planner.base.seed + index, fold, grid.folds or 0)
            source = None
            if (FLOAT_BITS, FLOAT_BITS) in grid.bits or planner.needs_float:
                first = planner.float_run(place)
                runs[first.name] = first
                source = first.name if planner.needs_float else None
            for bits in grid.bits:
                for method in grid.methods or (None,):
                    if bits != (FLOAT_BITS, FLOAT_BITS):
                        run = planner.low_bit_run(place, bits, method, source)
                        runs[run.name] = run
    return tuple(runs.values())


@dataclass(frozen=True)
class _Place:
    seed: int
    fold: int | None
    folds: int

    @property
    def suffix(self) -> str:
        return f"s{self.seed}" if self.fold is None else f"s{self.seed}-f{self.fold}"


class _Planner:
    def __init__(
        self, config: str, values: Mapping[str, Any], settings: tuple[str, ...], data: Path | None, out: Path
    ) -> None:
        self.config, self.values, self.settings, self.data, self.out = config, values, settings, data, out
        self.base = self._experiment({}, ())
        train = self.base.train
        self.needs_float = train.from_run is None and (not train.from_scratch or train.distill.is_on)

    def float_run(self, place: _Place) -> Planned:
        """32/32 bits, without what only a low-bit stage can have."""
        train, extra = self.base.train, []
        if train.from_run is not None:
            extra.append("train.from_run=null")
        if train.from_scratch:
            extra.append("train.from_scratch=false")
        if train.distill.is_on:
            extra += ["train.distill.logits=0.0", "train.distill.features=0.0"]
        if train.progressive:
            extra.append("train.progressive=[]")
        if self.base.quant.layers:
            extra.append("quant.layers=[]")
        return self._run(f"{FLOAT_RUN}-{place.suffix}", place, (FLOAT_BITS, FLOAT_BITS), extra, None)

    def low_bit_run(self, place: _Place, bits: tuple[int, int], method: str | None, source: str | None) -> Planned:
        """A run that starts from the float run ``source``, or from what the config says."""
        extra = [] if method is None else [f"quant.method={method}"]
        if source is not None:
            extra.append(f"train.from_run={json.dumps(str(self.out / source), ensure_ascii=False)}")
        parts = [f"w{bits[0]}a{bits[1]}", *([method] if method else []), place.suffix]
        return self._run("-".join(parts), place, bits, extra, source)

    def _run(
        self, name: str, place: _Place, bits: tuple[int, int], extra: Sequence[str], source: str | None
    ) -> Planned:
        settings = [*self.settings, f"seed={place.seed}", *extra]
        flags: dict[str, Any] = {"quant": {"weight_bits": bits[0], "act_bits": bits[1]}}
        arguments = [self.config, "--out", str(self.out / name)]
        arguments += ["--weight-bits", str(bits[0]), "--act-bits", str(bits[1])]
        if place.fold is not None:
            flags["data"] = {"folds": place.folds, "fold": place.fold}
            arguments += ["--folds", str(place.folds), "--fold", str(place.fold)]
        if self.data is not None:
            flags.setdefault("data", {})["root"] = str(self.data)
            arguments += ["--data", str(self.data)]
        for setting in settings:
            arguments += ["--set", setting]
        return Planned(name, self._experiment(flags, settings), source, tuple(arguments))

    def _experiment(self, flags: Mapping[str, Any], settings: Sequence[str]) -> Experiment:
        """As ``unetq train`` builds it from ``arguments``."""
        values = overlay(overlay(self.values, parse_settings(settings or self.settings)), flags)
        return build(values, f"config {self.config!r}")


def find_data(data: DataConfig, folder: Path | None = None) -> tuple[DatasetSpec, Path | None]:
    """The data set and its folder, ``folder`` before ``data.root``.

    Raises:
        ConfigError, DataError: there is no such data set or folder, which no run of a sweep could make good.
    """
    spec = resolve_dataset(data.name, data.options)
    return spec, find_root(spec, folder or (Path(data.root) if data.root else None))


def count_folds(data: DataConfig, fold: Fold, folder: Path | None = None) -> int:
    """How many folds the training and validation splits give; reads both.

    Raises:
        ConfigError: ``fold`` is none of them, or there are fewer groups than folds. DataError: as ``find_data``.
    """
    spec, root = find_data(data, folder)
    samples: list[Sample] = []
    for split in ("train", "validation"):
        try:  # as slices, since the data set's own preprocessing may fit these only
            samples += spec.load(root, split, data.options)
        except EmptySplitError:
            if split == "validation" and not samples:
                raise
    if data.dimensions == 3:
        samples = list({sample.volume: sample for sample in samples}.values())
    return fold.checked(fold.groups(samples))


def standing(folder: Path, planned: Planned, splits: Sequence[str]) -> Standing:
    """How far the run in ``folder`` is; it is done when it is finished and evaluated on all ``splits`` as planned.

    Raises:
        ConfigError: the run was made by another config; the message names the keys.
        CheckpointError: its config is damaged.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        return "new"
    try:
        there = build(read_config(str(path)), str(path))
    except ConfigError as error:
        raise CheckpointError(f"{path} is damaged ({error}) Remove {folder} to have it trained again.") from None
    finished = bool(read_object(folder / "run.json").get("finished"))
    changed = {
        key: pair for key, pair in differences(there, planned.experiment).items()
        if not _may_differ(key, pair, finished and planned.experiment.quant.is_float)
    }  # fmt: skip
    if changed:
        listed = "; ".join(f"{key} was {old!r}, now {new!r}" for key, (old, new) in changed.items())
        raise ConfigError(
            f"{folder} was made by another config: {listed}. Set it back, or choose another -o for the new sweep."
        )
    if not finished:
        return "resume"
    metrics = read_object(folder / "metrics.json")
    stage = "float" if planned.experiment.quant.is_float else "quant"
    checkpoint, best = metrics.get("checkpoint"), folder / stage / "best.safetensors"
    arithmetic = "float" if planned.experiment.quant.is_float else "integer"
    scored = metrics.get("splits")
    fresh = isinstance(checkpoint, dict) and best.is_file() and checkpoint.get("sha256") == _sha256(best)
    whole = isinstance(scored, dict) and all(arithmetic in (scored.get(split) or {}) for split in splits)
    by = metrics.get(EVALUATION, there.evaluation.model_dump())
    so = by == there.evaluation.model_dump() == planned.experiment.evaluation.model_dump()
    return "done" if fresh and whole and so else "evaluate"


def _may_differ(key: str, pair: tuple[Any, Any], finished_float: bool) -> bool:
    if may_differ(key) or (key == "train.from_run" and None not in pair):
        return True  # the float network was copied into the run, so that its old place is of no matter
    return finished_float and key.startswith(LOW_BIT_ONLY)


def _sha256(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object, empty where it is missing or damaged: it is written anew then."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
