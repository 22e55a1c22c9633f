"""``layers.json`` of a run folder: each layer's bits, ranges, saturation and code histograms, drawn small."""

from typing import Annotated, Literal

from markupsafe import Markup
from pydantic import Field

from .schema import Count, Finite, Score, _Model
from .units import scale_text

WIDTH, HEIGHT = 132, 30
MOST_BARS = 64
WARN = 0.05  # a larger share of codes at the ends is pointed at


class Histogram(_Model):
    """``counts[i]`` codes of value ``low + i``."""

    low: int
    counts: Annotated[tuple[Count, ...], Field(min_length=1, max_length=4096)]


class Side(_Model):
    """A layer's weights or activations.

    Attributes:
        codes, seen: lowest and highest code of the format, and met.
        scale, range: step sizes (least, greatest) and real values that the codes stand for; None where unknown.
        saturated, zero: shares of codes at the ends of the format (None: says nothing), and of the value 0.
    """

    codes: tuple[int, int]
    seen: tuple[int, int]
    scale: tuple[Finite, Finite] | None = None
    range: tuple[Finite, Finite] | None = None
    saturated: Score | None = None
    zero: Score | None = None
    histogram: Histogram
    kind: str = ""

    @property
    def is_saturated(self) -> bool:
        """Whether enough codes lie at the ends to look at."""
        return self.saturated is not None and self.saturated > WARN

    @property
    def scale_text(self) -> str:
        """One step size, or the least and the greatest."""
        if self.scale is None:
            return "found at run time"
        low, high = self.scale
        return scale_text(low) if low == high else f"{scale_text(low)} … {scale_text(high)}"

    @property
    def range_text(self) -> str:
        """The real values of the lowest and the highest code."""
        return "" if self.range is None else f"{scale_text(self.range[0])} … {scale_text(self.range[1])}"

    @property
    def picture(self) -> Markup:
        """The histogram as a small SVG."""
        return histogram_svg(self.histogram)


class Layer(_Model):
    """One operation; a side that is float32 is None."""

    name: str
    kind: str
    weight_bits: Annotated[int, Field(ge=1, le=32)] | None = None
    act_bits: Annotated[int, Field(ge=1, le=32)] | None = None
    weight: Side | None = None
    activation: Side | None = None


class Traced(_Model):
    """How many images the activations were seen on, of what size."""

    images: Count = 0
    size: tuple[Count, ...] = ()


class Layers(_Model):
    """``layers.json``, schema 1."""

    schema_: Literal[1] = Field(alias="schema", default=1)
    activations: Traced = Traced()
    layers: tuple[Layer, ...] = ()


def histogram_svg(histogram: Histogram) -> Markup:
    """Bars of equal width, as one path; the codes of a wide format are added up to at most ``MOST_BARS`` bars."""
    counts = _merged(histogram.counts)
    largest, total = max(counts) or 1, sum(counts)
    low, high = histogram.low, histogram.low + len(histogram.counts) - 1
    mode = histogram.low + max(range(len(histogram.counts)), key=histogram.counts.__getitem__)
    step = WIDTH / len(counts)
    path = []
    for index, count in enumerate(counts):
        if count:
            tall = max(round((HEIGHT - 1) * count / largest, 1), 0.7)
            path.append(f"M{index * step:.4g} {HEIGHT}v-{tall:g}h{step * 0.88:.3g}v{tall:g}z")
    words = (
        f"codes {low} to {high}, most often {mode} ({100 * max(histogram.counts) / total:.0f} %)" if total else "empty"
    )
    return Markup('<svg class="histogram" viewBox="0 0 {} {}" role="img" aria-label="{}"><path d="{}"/></svg>').format(
        WIDTH, HEIGHT, words.replace("-", "−"), "".join(path)
    )


def _merged(counts: tuple[int, ...]) -> list[int]:
    width = -(-len(counts) // MOST_BARS)
    return [sum(counts[start : start + width]) for start in range(0, len(counts), width)]
