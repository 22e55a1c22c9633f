"""The experiment, typed: every key with its default and its range."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from .sections import FLOAT_BITS as FLOAT_BITS
from .sections import Bits, Crop, Orientation, Precision, Section


class PreprocessingConfig(Section):
    """What differs from the data set's own rule, key by key; see ``unetq.export.program.Preprocessing``."""

    normalize: Literal["none", "zscore", "window"] | None = None
    low: float | None = None
    high: float | None = None
    over: Literal["image", "volume"] | None = None
    orientation: Orientation | None = None
    spacing: list[Annotated[float, Field(ge=0.0, le=1000.0)]] | None = None
    context: int | None = Field(default=None, ge=0, le=16)
    window: list[Annotated[int, Field(ge=1, le=65536)]] | None = None
    overlap: float | None = Field(default=None, ge=0.0, le=0.9)


class DataConfig(Section):
    """Which data set, where it lies (None: found by the rules of ``unetq.data``), and its own options.

    ``dimensions`` is 2 for slices, 3 for volumes. ``fold`` is the one of ``folds`` that validates: the groups
    ("subject", "site", or blocks of "slice") of the training and validation splits are divided anew; ``folds`` 0 means
    one each group. Without ``fold`` the data set's own splits hold.
    """

    name: str = "em"
    root: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    dimensions: Literal[2, 3] = 2
    folds: int = Field(default=0, ge=0)
    fold: int | None = Field(default=None, ge=0)
    by: Literal["subject", "site", "slice"] = "subject"
    preprocessing: PreprocessingConfig | None = None


class NetworkConfig(Section):
    """A network of ``unetq.nets`` by name, with its constructor's keyword arguments."""

    name: str = "paper"
    options: dict[str, Any] = Field(default_factory=dict)


Method = Literal[
    "fixed", "paper", "lsq", "lsq+", "pact", "dorefa", "bnn", "xnor", "twn", "ttq", "ternarynet", "codebook", "lcq"
]
WeightMethod = Literal["fixed", "paper", "lsq", "lsq+", "dorefa", "bnn", "xnor", "twn", "ttq", "codebook", "lcq"]
ActMethod = Literal["fixed", "paper", "lsq", "lsq+", "pact", "dorefa", "ternary"]


class LayerConfig(Section):
    """What differs in the convolutions that match ``pattern``; see ``unetq.quant.settings.LayerSettings``."""

    pattern: str
    weight_bits: Bits | None = None
    act_bits: Bits | None = None
    weight_method: WeightMethod | None = None
    act_method: ActMethod | None = None


def _check_span(span: list[float]) -> list[float]:
    if len(span) != 2 or not 0.0 <= span[0] <= span[1] <= 1.0:
        raise ValueError("two shares of the low-bit steps, the first not above the second, say when; write [0.0, 0.8]")
    return span


class NoiseConfig(Section):
    """Noise in place of rounding while the low-bit stage trains; see ``unetq.quant.noise``.

    ``kind``: "uniform" adds uniform noise of a step's width instead of rounding, "quant_noise" rounds a random share,
    "tempering" adds noise as large as the rounding error to what is rounded. Its strength (for "quant_noise" the
    share) goes from ``first`` to ``last``, by default 1 to 1, 0.5 to 1 and 1 to 0, over the span ``anneal`` of the
    steps, in the ``shape`` given (by default "exponential" for "tempering", else "linear"). From the fraction
    ``until`` on there is no noise, only rounding. ``tensors`` are what has noise; ``blocks`` are what "quant_noise"
    draws for as one.
    """

    kind: Literal["none", "uniform", "quant_noise", "tempering"] = "none"
    tensors: Literal["weights", "activations", "both"] = "weights"
    first: float | None = Field(default=None, ge=0.0, le=1.0)
    last: float | None = Field(default=None, ge=0.0, le=1.0)
    anneal: Annotated[list[float], AfterValidator(_check_span)] = Field(default_factory=lambda: [0.0, 0.8])
    shape: Literal["linear", "cosine", "exponential"] | None = None
    blocks: Literal["element", "kernel", "channel"] = "element"
    until: float = Field(default=1.0, ge=0.0, le=1.0)


class QuantConfig(Section):
    """Bits and methods. 32 bits mean float; with weights and activations both at 32 there is no low-bit stage.

    ``float_layers`` are module-name patterns kept in float32; ``calibration_batches`` training batches set
    the first step sizes; these are refined by training when ``refine_step_sizes``, and frozen after the
    fraction ``freeze_after`` of the low-bit steps. ``method`` is a family, ``weight_method`` and ``act_method``
    replace its halves; ``layers`` are settings of single layers; ``noise`` is what training does instead of plain
    rounding; for the rest see ``unetq.quant.settings``.
    """

    weight_bits: Bits = 4
    act_bits: Bits = 6
    method: Method = "fixed"
    weight_method: WeightMethod | None = None
    act_method: ActMethod | None = None
    group_size: int = Field(default=0, ge=0, le=65536)
    zero_point: bool = False
    dynamic: bool = False
    layers: list[LayerConfig] = Field(default_factory=list)
    per_channel: bool = True
    first_bits: Bits = 8
    last_bits: Bits = 8
    float_layers: list[str] = Field(default_factory=list)
    calibration_batches: int = Field(default=8, ge=1)
    refine_step_sizes: bool = True
    freeze_after: float = Field(default=0.5, ge=0.0, le=1.0)
    noise: NoiseConfig = NoiseConfig()

    @property
    def is_float(self) -> bool:
        """True when nothing is quantised."""
        narrow = (self.weight_bits, self.act_bits) != (FLOAT_BITS, FLOAT_BITS)
        return not narrow and not any(layer.weight_bits or layer.act_bits for layer in self.layers)

    @property
    def title(self) -> str:
        """The methods in words: the family, and whatever a run sets beside it."""
        halves = (("weights", self.weight_method), ("activations", self.act_method))
        parts = [self.method, *(f"{name} {half}" for half, name in halves if name)]
        parts += [f"groups of {self.group_size}"] if self.group_size else []
        parts += ["zero-points"] if self.zero_point else []
        parts += ["dynamic ranges"] if self.dynamic else []
        parts += ["single layers"] if self.layers else []
        parts += [f"{self.noise.kind} training"] if self.noise.kind != "none" else []
        return ", ".join(parts)


class LossConfig(Section):
    """Weights of the two terms of the loss: soft Dice and cross-entropy (binary for one logit channel)."""

    dice: float = Field(default=1.0, ge=0.0)
    ce: float = Field(default=1.0, ge=0.0)


class DistillConfig(Section):
    """Teaching of the low-bit stage by the run's own float network; see ``unetq.distill``.

    ``logits`` and ``features`` weigh the two terms that are added to the loss, 0 is off; ``temperature`` softens
    the logits. ``blocks`` are patterns of the layers whose outputs are features; none means the last layer before
    every change of resolution.
    """

    logits: float = Field(default=0.0, ge=0.0)
    features: float = Field(default=0.0, ge=0.0)
    temperature: float = Field(default=2.0, gt=0.0)
    blocks: list[str] = Field(default_factory=list)

    @property
    def is_on(self) -> bool:
        """True where a term has weight."""
        return self.logits > 0.0 or self.features > 0.0


class SharpnessConfig(Section):
    """Steps towards flat minima; see ``unetq.sharpness``.

    ``method``: "sam" moves the weights in front of their quantisers, "saq" as its ``case`` says (3: at the quantised
    weights), "esam" and "looksam" are cheaper ways to the same. ``rho`` is the length of the move over all weights
    together. "esam" moves a share ``beta`` of the tensors, finds where to on a share ``ascent`` of the images and takes
    the second gradient on a share ``gamma`` of them; "looksam" looks uphill in every ``every``-th step and weighs what
    it reuses in between by ``alpha``. ``stages``: where it is done; in float all cases are SAM.
    """

    method: Literal["none", "sam", "saq", "esam", "looksam"] = "none"
    rho: float = Field(default=0.3, gt=0.0, le=100.0)
    case: Literal[1, 2, 3] = 3
    beta: float = Field(default=0.5, gt=0.0, le=1.0)
    gamma: float = Field(default=0.5, gt=0.0, le=1.0)
    ascent: float = Field(default=0.5, gt=0.0, le=1.0)
    every: int = Field(default=5, ge=1)
    alpha: float = Field(default=0.7, ge=0.0)
    stages: Literal["quant", "float", "both"] = "quant"


class TrainConfig(Section):
    """Both stages: ``float_steps`` in float, then ``quant_steps`` of low-bit fine-tuning from its best state.

    ``from_run`` (a run folder, or a float checkpoint) replaces the float stage; ``from_scratch`` trains the
    low-bit network from random weights (with ``distill``, ``from_run`` then names the teacher only). ``batch`` is a
    process's own; ``crop`` is the side of a square or cube in network pixels, or a list of one entry an axis;
    ``foreground`` is the share of crops that are centred on a pixel of a random foreground class.
    ``warmup`` is in steps; ``schedule`` "step" is x0.1 every fifth of a stage. ``early_stop_patience`` counts
    validations without a better Dice, 0 is never. ``distill`` has the float network teach the low-bit stage;
    ``progressive`` are widths that it goes through before its own, such as [8, 6] (``unetq.progressive``).
    ``sharpness`` makes steps look for flat minima (``unetq.sharpness``).
    """

    float_steps: int = Field(default=1200, ge=1)
    quant_steps: int = Field(default=600, ge=1)
    batch: int = Field(default=4, ge=1)
    crop: Crop = 192
    foreground: float = Field(default=0.0, ge=0.0, le=1.0)
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = Field(default=1e-3, gt=0.0)
    quant_lr: float = Field(default=2e-4, gt=0.0)
    step_size_lr: float = Field(default=1e-2, ge=0.0)
    weight_decay: float = Field(default=1e-4, ge=0.0)
    warmup: int = Field(default=20, ge=0)
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    loss: LossConfig = LossConfig()
    precision: Precision = "bf16"
    channels_last: bool = True
    augment: bool = True
    validate_every: int = Field(default=150, ge=1)
    checkpoint_every: int = Field(default=50, ge=1)
    early_stop_patience: int = Field(default=0, ge=0)
    from_run: str | None = None
    from_scratch: bool = False
    distill: DistillConfig = DistillConfig()
    progressive: list[int] = Field(default_factory=list)
    sharpness: SharpnessConfig = SharpnessConfig()
    accelerator: str = "auto"
    devices: int = Field(default=1, ge=1)
    strategy: str = "auto"
    threads: int | None = Field(default=None, ge=1)


class EvaluationConfig(Section):
    """How masks are scored.

    ``empty``: a class that is in neither truth nor prediction of a slice or case scores "one" there, or is left out
    of the means ("skip"). ``nsd_tolerance_mm`` is what surface Dice accepts (pixels where the spacing is not known);
    ``bootstrap`` is the number of resamples behind an interval; ``hd95`` false leaves both surface distances out.
    """

    empty: Literal["one", "skip"] = "one"
    nsd_tolerance_mm: float = Field(default=1.0, ge=0.0)
    bootstrap: int = Field(default=2000, ge=100, le=100_000)
    hd95: bool = True


class Experiment(Section):
    """Everything that decides a run's result."""

    data: DataConfig = DataConfig()
    network: NetworkConfig = NetworkConfig()
    quant: QuantConfig = QuantConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    seed: int = Field(default=0, ge=0, lt=2**31)

    @property
    def crop_size(self) -> tuple[int, ...]:
        """The training crop, an entry a spatial axis of the network."""
        crop = self.train.crop
        return tuple(crop) if isinstance(crop, list) else (crop,) * self.data.dimensions
