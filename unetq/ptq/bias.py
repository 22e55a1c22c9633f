"""Empirical bias correction (Nagel et al. 2019, arXiv 1906.04721, section 4.2; Banner et al. 2018, arXiv 1810.05723).

Rounding weights and activations moves the mean of a layer's output channels. Layer by layer, with the layers
before already low-bit and corrected, ``E[float] - E[low bit]`` of each channel is added to the constant of that
channel: the BatchNorm's bias where one stands between the convolution and its activation, else the
convolution's. Where BatchNorm follows the activation (the paper's order), the non-linearity has made a new
shift of what was corrected before it; the bias of that BatchNorm takes it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..quant.nodes import Node
from .lockstep import Batches, Place
from .moments import channel_mean

IMAGE_NORMS = ("instance_norm", "group_norm")
Weights = Sequence[Tensor | None] | None


def _last_constant(nodes: list[Node]) -> str | None:
    return nodes[-1].parameters.get("bias") if nodes else None


class BiasCorrection:
    """A visitor for ``Lockstep``; ``record`` holds each layer's mean shift before and after, or why it was left out.

    ``weights`` are maps by which pixels count in the means; see ``foreground``.
    """

    def __init__(self, weights: Weights = None) -> None:
        self.weights = weights
        self.record: dict[str, dict[str, Any]] = {}

    def __call__(self, place: Place) -> None:
        block = place.block
        if "@" in block.key:
            self.record[block.key] = {"left_out": "its bias is used in more than one place and corrected at the first"}
            return
        if any(node.kind in IMAGE_NORMS for node in block.pre):
            self.record[block.key] = {"left_out": "a norm that measures each image takes any constant away"}
            return
        name = _last_constant(block.pre) if block.pre else block.parameters.get("bias")
        exact, coded = place.float_sums(), place.low_bit_sums()
        for node in block.pre:
            exact = place.norm(exact, node, reference=True)
            coded = place.norm(coded, node, reference=False)
        spans = self._span(exact)
        before = self._shift(exact, coded)
        if name is not None:
            coded = self._correct(place, name, coded, before)
        after = self._shift(exact, coded)
        entry: dict[str, Any] = {"shift_before": _size(before, spans), "shift_after": _size(after, spans)}
        if name is None:
            entry["left_out"] = "it has no bias, and no BatchNorm with one"
        last = _last_constant(block.post)
        if last is not None:
            exact, coded = place.activate(exact), place.activate(coded)
            for node in block.post:
                exact = place.norm(exact, node, reference=True)
                coded = place.norm(coded, node, reference=False)
            spans = self._span(exact)
            before = self._shift(exact, coded)
            coded = self._correct(place, last, coded, before)
            entry["norm_shift_before"] = _size(before, spans)
            entry["norm_shift_after"] = _size(self._shift(exact, coded), spans)
        self.record[block.key] = entry

    def _shift(self, exact: Batches, coded: Batches) -> Tensor:
        return channel_mean(exact, self.weights) - channel_mean(coded, self.weights)

    @staticmethod
    def _span(values: Batches) -> Tensor:
        return torch.stack([y.double().std(dim=(0, *range(2, y.ndim))) for y in values]).mean(0).clamp_min(1e-12)

    @staticmethod
    def _correct(place: Place, name: str, coded: Batches, shift: Tensor) -> Batches:
        parameter = place.twin.network.tensor(name).data
        parameter.add_(shift.to(parameter))
        return [y + shift.to(y).reshape(1, -1, *([1] * (y.ndim - 2))) for y in coded]


def _size(shift: Tensor, span: Tensor) -> float:
    """The root mean square of the channels' shifts, in standard deviations of the float channels."""
    return round(float((shift / span).square().mean().sqrt()), 6)
