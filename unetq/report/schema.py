"""What ``metrics.json`` and ``history.jsonl`` of a run folder hold; anything else in them is ignored."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SIGNIFICANT = 0.05
BACKGROUND_NAMES = ("background", "bg", "none")
Score = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


def shown_labels(labels: tuple[str, ...]) -> tuple[str, ...]:
    """The classes worth a column: all but a background, whose Dice is high whatever a network does."""
    return labels[1:] if len(labels) > 1 and labels[0].lower() in BACKGROUND_NAMES else labels


class Network(_Model):
    """The network's registered name, its options (None: not recorded) and its number of parameters."""

    name: str
    options: dict[str, Any] | None = None
    parameters: Count


class Bits(_Model):
    """Widths of weights and activations (32 = float32), of the first and last layer, and the method.

    ``words`` name the widths where layers have some of their own.
    """

    weight: Annotated[int, Field(ge=1, le=32)]
    act: Annotated[int, Field(ge=1, le=32)]
    first: int | None = None
    last: int | None = None
    method: str | None = None
    per_channel: bool | None = None
    float_layers: tuple[str, ...] = ()
    words: str | None = None

    @property
    def is_mixed(self) -> bool:
        """Whether some layers of a quantised network stay in float32."""
        return not self.is_float and (32 in (self.first, self.last) or bool(self.float_layers))

    @property
    def is_float(self) -> bool:
        """Whether nothing in the network is quantised."""
        return self.weight == 32 and self.act == 32

    @property
    def short(self) -> str:
        """``W4A6``, ``W1–8 A6–8`` where layers differ, or ``float32`` where nothing is quantised."""
        return self.words or ("float32" if self.is_float else f"W{self.weight}A{self.act}")


class Latency(_Model):
    """Median seconds of one input on the packed runtime, of so many runs on so many threads of an instruction set."""

    seconds: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    runs: Count | None = None
    threads: Count | None = None
    isa: str = ""


class Cost(_Model):
    """Bytes and operations of one forward pass at ``input_size``; None where the run did not say."""

    input_size: tuple[Count, ...] = ()
    weight_bytes: Count | None = None
    float_weight_bytes: Count | None = None
    peak_activation_bytes: Count | None = None
    float_peak_activation_bytes: Count | None = None
    macs: Count | None = None
    bit_operations: Count | None = None
    model_file_bytes: Count | None = None
    arena_bytes: Count | None = None
    latency: Latency | None = None
    process_peak_bytes: Count | None = None
    process_base_bytes: Count | None = None
    float_model_file_bytes: Count | None = None
    float_arena_bytes: Count | None = None
    float_process_peak_bytes: Count | None = None
    float_latency: Latency | None = None


class SliceScore(_Model):
    """Dice of one slice, a class; None where the evaluation's policy left it out."""

    id: str
    volume: str
    dice: dict[str, Score | None]

    @property
    def mean(self) -> float | None:
        """Mean over the classes that have a score."""
        scores = [value for value in self.dice.values() if value is not None]
        return sum(scores) / len(scores) if scores else None


class CaseScore(_Model):
    """One case: its metrics a class (Dice, IoU and NSD 0…1, HD95 in mm, volumes in ml), None where undefined."""

    id: str
    volume: str = ""
    subject: str = ""
    site: str = ""
    slices: Count | None = None
    spacing_mm: tuple[Finite, ...] | None = None
    classes: dict[str, dict[str, Finite | None]] = {}
    scores: dict[str, Finite | None] = {}

    def value(self, label: str, metric: str = "dice") -> float | None:
        """One number of one class."""
        return self.classes.get(label, {}).get(metric)

    @property
    def mean(self) -> float | None:
        """Mean Dice over the classes that have one."""
        scores = [value for label in self.classes if (value := self.value(label)) is not None]
        return sum(scores) / len(scores) if scores else None


class Interval(_Model):
    """A mean over units with its 95 % bootstrap interval; ``undefined`` units are not in it."""

    mean: Finite | None = None
    low: Finite | None = None
    high: Finite | None = None
    cases: Count = 0
    undefined: Count = 0


class Paired(_Model):
    """Low-bit minus float over matched units: the mean, its 95 % interval, and the p-value of a paired test."""

    metric: str = "dice"
    difference: Finite | None = None
    low: Finite | None = None
    high: Finite | None = None
    p: Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)] | None = None
    test: str = ""
    n: Count = 0
    note: str = ""

    @property
    def stands_out(self) -> bool:
        """Whether the interval lies on one side of no difference, and the test agrees (p < 0.05) where there is one."""
        one_side = self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)
        return one_side and (self.p is None or self.p < SIGNIFICANT)


class Skipped(_Model):
    """A case that was left out, and why."""

    case: str
    reason: str = ""


class Evaluation(_Model):
    """One pass over a split in one arithmetic; what a run of an earlier version did not record is None or empty."""

    arithmetic: Literal["integer", "float32"]
    volume_dice: dict[str, Score | None]
    mean_slice_dice: dict[str, Score | None]
    slices: tuple[SliceScore, ...]
    empty_policy: str
    empty_slices: dict[str, int] = {}
    seconds: Finite | None = None
    unit: Literal["case", "slice"] | None = None
    cases: tuple[CaseScore, ...] = ()
    summary: dict[str, dict[str, Interval]] = {}
    score_summary: dict[str, Interval] = {}
    bootstrap: dict[str, Any] = {}
    distance_unit: Literal["mm", "pixels"] = "mm"
    nsd_tolerance: Finite | None = None
    by_site: dict[str, dict[str, dict[str, Finite | None]]] = {}
    volume_correlation: dict[str, Finite | None] = {}

    @property
    def units(self) -> tuple[CaseScore, ...]:
        """The rows of a table of cases: what the file lists, else its slices."""
        if self.cases and (self.unit != "slice" or len(self.cases) >= len(self.slices)):
            return self.cases
        return tuple(
            CaseScore(
                id=score.id,
                volume=score.volume,
                classes={label: {"dice": value} for label, value in score.dice.items()},
            )
            for score in self.slices
        )

    @property
    def unit_name(self) -> str:
        """What a row of ``units`` is: "case" or "slice"."""
        return self.unit or ("case" if self.cases else "slice")


class Split(_Model):
    """The evaluations of one split; ``float`` of a low-bit run is the same network, quantisers off."""

    integer: Evaluation | None = None
    float: Evaluation | None = None
    float_reference: Evaluation | None = None
    paired: dict[str, Paired] = {}

    @property
    def quoted(self) -> Evaluation | None:
        """The evaluation a table quotes: the integer one where there is one."""
        return self.integer or self.float


class Metrics(_Model):
    """``metrics.json``, schema 1.

    Attributes:
        data_note: a sentence about the data in general, for splits without a note of their own.
        digests: split -> hex digest of all its pixels and labels; a split without one is of unknown content.
        notes: split -> a sentence about that split alone.
        skipped: split -> the cases that were left out, and why.
    """

    schema_: Literal[1] = Field(alias="schema")
    dataset: str
    data_note: str = ""
    digests: dict[str, str] = {}
    notes: dict[str, str] = {}
    network: Network
    bits: Bits
    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    seed: int | None = None
    cost: Cost
    splits: dict[str, Split]
    skipped: dict[str, tuple[Skipped, ...]] = {}


class HistoryPoint(_Model):
    """One line of ``history.jsonl``."""

    stage: Literal["float", "quant"]
    step: Count
    loss: Finite | None = None
    lr: Finite | None = None
    seconds: Finite | None = None
    dice: dict[str, Score | None] | None = None
