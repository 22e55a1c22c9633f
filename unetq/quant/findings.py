"""What is suspicious in a calibrated network, layer by layer: weights and tensors that say nothing any more."""

import numpy as np
from torch import Tensor

from .blocks import Block
from .network import QuantNet
from .placement import layer_name

SHOWN = 5  # channels named in one sentence


def _listed(channels: list[int]) -> str:
    text = ", ".join(str(c) for c in channels[:SHOWN])
    return f"{text} and {len(channels) - SHOWN} more" if len(channels) > SHOWN else text


def weight_findings(q: QuantNet) -> list[str]:
    """A sentence for each layer with output channels whose weight codes are all 0, dead layers first."""
    dead: list[str] = []
    silent: list[str] = []
    for block in q.blocks():
        quantizer = q.weight_quantizer(block) if block.kind == "conv" else None
        if quantizer is None or "@" in block.key:
            continue
        codes = quantizer.codes(q.tensor(block.parameters["weight"]).detach().float().cpu().numpy()).codes
        if not codes.any():
            dead.append(
                f"layer {layer_name(block)}: all its weight codes are 0, so its output is constant; give it more "
                "bits (quant.layers) or train the float network anew."
            )
            continue
        axis = 1 if block.attributes["transposed"] else 0
        rows = np.moveaxis(codes, axis, 0).reshape(codes.shape[axis], -1)
        channels = np.flatnonzero(~rows.any(axis=1)).tolist()
        if channels and not (block.attributes["transposed"] and block.attributes["groups"] > 1):
            silent.append(
                f"layer {layer_name(block)}: output channels {_listed(channels)} of {len(rows)} have weight codes of 0 "
                "only and are constant."
            )
    return dead + silent


class ConstantChannels:
    """Collects, over calibration batches, the channels of every tensor that never change."""

    def __init__(self) -> None:
        self.low: dict[str, Tensor] = {}
        self.high: dict[str, Tensor] = {}

    def __call__(self, block: Block, values: Tensor) -> None:
        """Take note of ``values`` (N, C, …) of a block."""
        low, high = values.detach().float().transpose(0, 1).flatten(1).aminmax(dim=1)
        if block.key in self.low:
            low, high = low.minimum(self.low[block.key]), high.maximum(self.high[block.key])
        self.low[block.key], self.high[block.key] = low, high

    def findings(self, q: QuantNet) -> list[str]:
        """A sentence for each tensor with constant channels, or whose values all become the code 0."""
        found: list[str] = []
        for block in q.blocks():
            if block.key not in self.low:
                continue
            low, high = self.low[block.key], self.high[block.key]
            quantizer = q.grid_quantizer(block.group)
            name = "the image" if block.kind == "input" else f"the output of {block.key}"
            if quantizer is not None and not quantizer.grid().dynamic:
                grid = quantizer.grid()
                reach = max(abs(float(low.min())), abs(float(high.max())))
                if reach * float(grid.inverse_scale) <= 0.5:
                    found.append(
                        f"tensor {block.group}: {name} becomes code 0 everywhere (largest value {reach:.3g}, step "
                        f"{grid.scale:.3g}); give it more bits or look at the network's normalisation."
                    )
                    continue
            channels = (low == high).nonzero().flatten().tolist()
            if channels and block.kind != "input":
                found.append(
                    f"layer {block.key}: output channels {_listed(channels)} of {low.numel()} are constant on all "
                    "calibration images."
                )
        return found
