"""What a network sees at once, and what makes it fit to be trained or measured on."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .moments import Moments
from .preprocess import network_size

if TYPE_CHECKING:
    from .cases import Skipped
    from .export.program import Preprocessing


@dataclass(frozen=True, eq=False)
class Sample:
    """One slice, or one volume of a 3-D network: oriented as the network wants it, not resampled, not normalised.

    Attributes:
        id: unique within the data set, stable between runs ("em-021").
        volume: the volume it belongs to; volume Dice pools the slices of one.
        image: (C, H, W) or (C, D, H, W) raw intensities, any real type, finite.
        label: (H, W) or (D, H, W) uint8 class indices, or None where there is no truth.
        spacing: mm (slice, row, column); () where it is not known.
        subject: the person it was taken of; "" stands for the volume itself.
        site: where it was taken; "" where not known.
        index: its slice number in the volume, or that of its first slice.
        moments: mean and standard deviation of the volume, for ``Preprocessing.over`` "volume" of a 2-D network.
    """

    id: str
    volume: str
    image: NDArray[Any]
    label: NDArray[np.uint8] | None
    spacing: tuple[float, ...] = ()
    subject: str = ""
    site: str = ""
    index: int = 0
    moments: Moments | None = None


class Samples(list[Sample]):
    """The samples of a split, with the cases that were left out of it and why."""

    def __init__(self, samples: Iterable[Sample] = (), skipped: "Sequence[Skipped]" = ()) -> None:
        super().__init__(samples)
        self.skipped = tuple(skipped)


def check_samples(samples: Sequence[Sample], classes: int, *, where: str = "", slices_of_volumes: bool = False) -> None:
    """Refuse samples that no network should be trained or measured on.

    With ``slices_of_volumes`` single constant slices pass, as the first and last ones of a scan often are.

    Raises:
        DataError: no samples, a repeated id, wrong shapes, NaN or infinite pixels, a constant image, or a class
            index outside ``0 … classes - 1``.
    """
    if not samples:
        raise DataError(f"no samples{where}: a split has at least one; check the folder and the options.")
    seen: set[str] = set()
    for sample in samples:
        if sample.id in seen:
            raise DataError(f"slice {sample.id} comes twice{where}: ids are unique; remove the copy.")
        seen.add(sample.id)
        _check_image(sample, where)
        if not slices_of_volumes:
            _check_content(sample, where)
        _check_label(sample, classes, where)


def check_size(
    samples: Sequence[Sample], preprocessing: "Preprocessing", min_size: int | Sequence[int], where: str = ""
) -> None:
    """Refuse samples that are smaller than the network's stride once they are resampled.

    Args:
        samples: any.
        preprocessing: its ``spacing`` decides the size that the network sees.
        min_size: the stride, one number or an entry for each spatial axis.
        where: "in FOLDER", for the message.

    Raises:
        DataError: naming the first such sample, or one that cannot be resampled.
    """
    for sample in samples:
        stored = sample.image.shape[1:]
        size = network_size(stored, sample.spacing, preprocessing)
        sides = (min_size,) * len(size) if isinstance(min_size, int) else tuple(min_size)
        if any(have < want for have, want in zip(size, sides, strict=True)):
            resampled = "" if size == stored else f" once resampled from {_size(stored)}"
            raise DataError(
                f"slice {sample.id}{where} is {_size(size)} pixels{resampled}, smaller than the network's stride "
                f"{_size(sides)}: each side needs at least that; use larger images or a network with fewer levels."
            )


def digest(sample: Sample) -> str:
    """``IMAGE-LABEL``: a hash of the pixels and one of the label, each with shape and type.

    Equal slices have equal digests in any folder, under any id and in either byte order; slices whose
    ``image_part`` is equal show a network the same pixels, whatever their labels.
    """
    return f"{_hash(sample.image)}-{'none' if sample.label is None else _hash(sample.label)}"


def image_part(slice_digest: str) -> str:
    """The part of a ``digest`` that stands for the pixels."""
    return slice_digest.partition("-")[0]


def digest_all(samples: Iterable[Sample]) -> str:
    """One digest of a split: its slices in their order."""
    return hashlib.blake2b("\n".join(map(digest, samples)).encode(), digest_size=16).hexdigest()


def _hash(values: NDArray[Any]) -> str:
    plain = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    head = f"{plain.dtype.str} {values.shape} ".encode()
    return hashlib.blake2b(head + plain.tobytes(), digest_size=16).hexdigest()


def check_no_leak(splits: Mapping[str, Iterable[Sample]]) -> None:
    """Refuse splits that share a slice (by its id, or by the same pixels under another id) or a subject.

    Raises:
        DataError: naming both slices and both splits.
    """
    owner: dict[str, tuple[str, str]] = {}
    for split, samples in splits.items():
        for sample in samples:
            subject = [f"subject {sample.subject}"] if sample.subject else []
            for key in (f"id {sample.id}", f"pixels {_hash(sample.image)}", *subject):
                other, other_id = owner.setdefault(key, (split, sample.id))
                if other == split:
                    continue
                if key.startswith("subject"):
                    raise DataError(
                        f"{key} is in {split} (slice {sample.id}) and in {other} (slice {other_id}): "
                        "no person may be on two sides of a split; move all of its cases to one."
                    )
                raise DataError(
                    f"slice {sample.id} of {split} is also in {other} (there {other_id}): "
                    "no slice may be on two sides of a split; remove one copy."
                )


def _check_image(sample: Sample, where: str) -> None:
    image = sample.image
    if image.ndim not in (3, 4) or 0 in image.shape:
        raise DataError(
            f"slice {sample.id}{where} has shape {image.shape}: an image is (channels, height, width), "
            "with a depth before the height in 3-D."
        )
    if image.dtype.kind not in "uif":
        raise DataError(f"slice {sample.id}{where} has type {image.dtype}: pixels are real numbers; convert it.")
    if image.dtype.kind == "f":
        bad = int(image.size - np.count_nonzero(np.isfinite(image)))
        if bad:
            raise DataError(
                f"slice {sample.id}{where} has {bad} pixels that are NaN or infinite: "
                "intensities must be finite; repair or remove the slice."
            )


def _check_content(sample: Sample, where: str) -> None:
    image = sample.image
    first = image[(slice(None), *[slice(0, 1)] * (image.ndim - 1))]
    if (image == first).all():
        raise DataError(
            f"slice {sample.id}{where} is constant (every pixel is {first.flat[0]}): "
            "an image must carry something to segment; replace or remove the slice."
        )


def _check_label(sample: Sample, classes: int, where: str) -> None:
    label = sample.label
    if label is None:
        return
    if label.shape != sample.image.shape[1:]:
        raise DataError(
            f"slice {sample.id}{where}: the label is {_size(label.shape)}, the image {_size(sample.image.shape[1:])} "
            "pixels: they must be equal; export both from the same stack."
        )
    if label.dtype != np.uint8 or int(label.max()) >= classes:
        raise DataError(
            f"slice {sample.id}{where}: labels are uint8 class indices 0 to {classes - 1}, "
            f"not {label.dtype} up to {label.max()}; map the stored values to classes first."
        )


def _size(shape: Sequence[int]) -> str:
    return " x ".join(str(length) for length in shape)
