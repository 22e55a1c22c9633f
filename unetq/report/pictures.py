"""Encoded pictures of the page, each kept once, and how a slice is cut and shrunk to what is worth showing."""

import base64
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Mask = NDArray[np.bool_]
Pixels = NDArray[np.uint8]
# One palette for all masks; told apart by lightness too, not by hue alone.
CLEAR, AGREE, MISSED, EXTRA, OTHER, EDGE = range(6)
PALETTE = ((0, 0, 0), (38, 166, 154), (224, 17, 95), (255, 193, 7), (126, 87, 194), (128, 255, 232))
ALPHA = bytes((0, 110, 215, 215, 190, 255))
LARGEST = 320  # pixels of a picture's longer side
MARGIN = 0.35  # of the foreground's longer side, around it
SMALLEST_MARGIN = 16


class Box(NamedTuple):
    """A rectangle of a slice: rows ``top`` to ``bottom``, columns ``left`` to ``right``, ends left out."""

    top: int
    left: int
    bottom: int
    right: int

    def union(self, other: "Box") -> "Box":
        """The smallest rectangle around both."""
        return Box(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )

    def grown(self, height: int, width: int) -> "Box":
        """With the margin around it, inside a slice of this size."""
        margin = max(round(MARGIN * max(self.bottom - self.top, self.right - self.left)), SMALLEST_MARGIN)
        return Box(
            max(self.top - margin, 0),
            max(self.left - margin, 0),
            min(self.bottom + margin, height),
            min(self.right + margin, width),
        )

    def cut(self, pixels: Pixels) -> Pixels:
        """That part of (H, W)."""
        return pixels[self.top : self.bottom, self.left : self.right]


def bounding_box(mask: Mask) -> Box | None:
    """The rectangle around what is True in (H, W) or any slice of (S, H, W); None where nothing is."""
    flat: Mask = np.asarray(mask.any(axis=0), np.bool_) if mask.ndim == 3 else mask
    rows, columns = np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0))
    if not rows.size:
        return None
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def shrunk_size(height: int, width: int) -> tuple[int, int]:
    """Height and width in proportion, the longer side at most ``LARGEST``."""
    factor = min(1.0, LARGEST / max(height, width))
    return max(round(height * factor), 1), max(round(width * factor), 1)


def shrink_image(image: Pixels) -> Pixels:
    """A grey image (H, W), each pixel the mean of those it stands for."""
    height, width = shrunk_size(*image.shape)
    if (height, width) == image.shape:
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))


def shrink_codes(codes: Pixels) -> Pixels:
    """Class indices or palette codes (H, W), each pixel what most of those it stands for are."""
    height, width = shrunk_size(*codes.shape)
    if (height, width) == codes.shape:
        return codes
    values = np.flatnonzero(np.bincount(codes.ravel(), minlength=1))
    shares = [
        np.asarray(
            Image.fromarray((codes == value).astype(np.uint8) * 255).resize((width, height), Image.Resampling.BOX)
        )
        for value in values
    ]
    return np.asarray(values[np.argmax(np.stack(shares), axis=0)], np.uint8)


@dataclass(frozen=True)
class Picture:
    """A ``data:`` address and the size that it is drawn at."""

    address: str
    width: float
    height: float


@dataclass
class Gallery:
    """All pictures of a page by key, each stored once however often it is shown.

    Attributes:
        limit: bytes that all pictures together should have at most.
        viewers: how many viewers are still to come.
        size: bytes of the pictures so far.
    """

    pictures: dict[str, Picture] = field(default_factory=dict)
    limit: int = 11_500_000
    viewers: int = 1
    size: int = 0

    @property
    def room(self) -> float:
        """Bytes for the pictures of the next viewer."""
        return max(self.limit - self.size, 0) / max(self.viewers, 1)

    def add_grey(self, image: Pixels, aspect: float = 1.0) -> str:
        """A grey image (H, W), as JPEG: it is there to be looked at, not measured.

        ``aspect`` is how many times taller than wide a pixel is.
        """
        return self._add("jpeg", image, aspect, lambda stream: Image.fromarray(image).save(stream, "JPEG", quality=80))

    def add_mask(self, codes: Pixels, aspect: float = 1.0) -> str:
        """Palette indices (H, W) as a transparent PNG."""

        def encode(stream: io.BytesIO) -> None:
            picture = Image.fromarray(codes, mode="P")
            picture.putpalette([channel for colour in PALETTE for channel in colour])
            picture.save(stream, "PNG", transparency=ALPHA, compress_level=6, bits=4)

        return self._add("png", codes, aspect, encode)

    def _add(self, kind: str, pixels: Pixels, aspect: float, encode: Callable[[io.BytesIO], object]) -> str:
        """The key of a picture, which is encoded when it is met first."""
        content = f"{kind} {pixels.shape} {aspect:.4f} ".encode() + pixels.tobytes()
        key = "p" + hashlib.sha256(content).hexdigest()[:12]
        if key not in self.pictures:
            stream = io.BytesIO()
            encode(stream)
            address = f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"
            self.size += len(address)
            self.pictures[key] = Picture(address, pixels.shape[1], pixels.shape[0] * aspect)
        return key


def is_drawn(classes: Pixels, drawn: tuple[int, ...]) -> Mask:
    """Where class indices, of any shape, are one of ``drawn``."""
    if len(drawn) == 1:
        return np.asarray(classes == drawn[0])
    table = np.zeros(256, np.bool_)
    table[list(drawn)] = True
    return np.asarray(table[classes])


def difference_codes(truth: Pixels, prediction: Pixels, drawn: tuple[int, ...]) -> Pixels:
    """Palette codes (H, W): agreement, missed, extra, or another drawn class than the true one."""
    expected, found = is_drawn(truth, drawn), is_drawn(prediction, drawn)
    codes = np.zeros(truth.shape, np.uint8)
    codes[expected & found] = OTHER
    codes[expected & found & (truth == prediction)] = AGREE
    codes[expected & ~found] = MISSED
    codes[found & ~expected] = EXTRA
    return codes


def outline(truth: Pixels, drawn: tuple[int, ...]) -> Pixels:
    """Drawn classes filled, their inner edge bright."""
    inside = is_drawn(truth, drawn)
    codes = np.where(inside, np.uint8(AGREE), np.uint8(CLEAR)).astype(np.uint8)
    codes[_edge(truth) & inside] = EDGE
    return codes


def _edge(truth: Pixels) -> Mask:
    """Pixels with a 4-neighbour of another class."""
    edge = np.zeros(truth.shape, np.bool_)
    down, right = truth[1:] != truth[:-1], truth[:, 1:] != truth[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return edge
