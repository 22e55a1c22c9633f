"""What ``metrics.json`` and ``history.jsonl`` of a run folder hold; anything else in them is ignored."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Score = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Network(_Model):
    """The network's registered name, its options (None: not recorded) and its number of parameters."""

    name: str
    options: dict[str, Any] | None = None
    parameters: Count


class Bits(_Model):
    """Widths of weights and activations (32 = float32), of the first and last layer, and the method."""

    weight: Annotated[int, Field(ge=1, le=32)]
    act: Annotated[int, Field(ge=1, le=32)]
    first: int | None = None
    last: int | None = None
    method: str | None = None
    per_channel: bool | None = None
    float_layers: tuple[str, ...] = ()

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
        """``W4A6``, or ``float32`` where nothing is quantised."""
        return "float32" if self.is_float else f"W{self.weight}A{self.act}"


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


class Evaluation(_Model):
    """One pass over a split in one arithmetic."""

    arithmetic: Literal["integer", "float32"]
    volume_dice: dict[str, Score | None]
    mean_slice_dice: dict[str, Score | None]
    slices: tuple[SliceScore, ...]
    empty_policy: str
    empty_slices: dict[str, int] = {}
    seconds: Finite | None = None


class Split(_Model):
    """The evaluations of one split; ``float`` of a low-bit run is the same network, quantisers off."""

    integer: Evaluation | None = None
    float: Evaluation | None = None
    float_reference: Evaluation | None = None

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


class HistoryPoint(_Model):
    """One line of ``history.jsonl``."""

    stage: Literal["float", "quant"]
    step: Count
    loss: Finite | None = None
    lr: Finite | None = None
    seconds: Finite | None = None
    dice: dict[str, Score | None] | None = None
