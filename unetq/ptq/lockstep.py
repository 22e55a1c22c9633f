"""The float network and its low-bit twin, executed block by block beside each other on the same images.

A step that changes a layer (rounding, bias, running statistics) sees the layer's inputs as the layers
before it, already changed, make them; each block is run once, whatever the number of steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..quant.blocks import Block
from ..quant.network import QuantNet
from ..quant.nodes import Node
from ..quant.simulate import _Simulation, move

Batches = list[Tensor]


@dataclass
class Place:
    """One block on its way: its inputs in float and in low bits, a tensor a batch."""

    block: Block
    source: Batches
    inputs: Batches
    twin: "Lockstep"

    def sums(self, network: QuantNet, inputs: Batches, quantized: bool) -> Batches:
        """What the block accumulates, its bias included, before any norm."""
        simulation = self.twin.simulation(network, quantized)
        return [simulation.accumulate([x], self.block) for x in inputs]

    def float_sums(self) -> Batches:
        """The float network's accumulators."""
        return self.sums(self.twin.reference, self.source, quantized=False)

    def low_bit_sums(self) -> Batches:
        """The low-bit network's accumulators, with its weights as they are now."""
        return self.sums(self.twin.network, self.inputs, quantized=True)

    def norm(self, values: Batches, node: Node, *, reference: bool) -> Batches:
        """A norm of the block by running statistics."""
        simulation = self.twin.simulation(self.twin.reference if reference else self.twin.network, not reference)
        return [simulation.norm(y, node) for y in values]

    def activate(self, values: Batches) -> Batches:
        """The block's activation, if it has one."""
        act = self.block.act
        if act is None:
            return values
        simulation = self.twin.simulation(self.twin.network, True)
        return [simulation.activate(y, act) for y in values]


Visit = Callable[[Place], None]


class Lockstep:
    """Runs both networks.

    Args:
        reference: the float network, as ``QuantNet`` with its quantisers unused.
        network: the calibrated low-bit one; the visitors change it in place.
        images: batches (N, C, H, W), all of one size.
    """

    def __init__(self, reference: QuantNet, network: QuantNet, images: Sequence[Tensor]) -> None:
        self.reference, self.network, self.images = reference, network, list(images)
        self.rank = self.images[0].ndim - 2

    def simulation(self, network: QuantNet, quantized: bool) -> _Simulation:
        """What executes one block of ``network``."""
        return _Simulation(network, self.rank, quantized, False)

    @torch.no_grad()
    def run(self, visit: Visit) -> None:
        """Call ``visit`` at every convolution, in order; what it changed counts for all that follow."""
        graph = self.network.network(tuple(self.images[0].shape[2:]))
        last_use = {source: i for i, b in enumerate(graph.blocks) for source in b.inputs}
        exact: dict[str, Batches] = {}
        coded: dict[str, Batches] = {}
        for i, block in enumerate(graph.blocks):
            if block.kind == "conv":
                visit(Place(block, exact[block.inputs[0]], coded[block.inputs[0]], self))
            exact[block.key] = self._block(block, self.reference, exact, quantized=False)
            coded[block.key] = self._block(block, self.network, coded, quantized=True)
            for source in set(block.inputs):
                if last_use[source] == i:
                    del exact[source], coded[source]

    def _block(self, block: Block, network: QuantNet, values: dict[str, Batches], *, quantized: bool) -> Batches:
        simulation = self.simulation(network, quantized)
        grid = network.grid_quantizer(block.group) if quantized else None
        made: Batches = []
        for number, image in enumerate(self.images):
            inputs = [values[source][number] for source in block.inputs]
            if block.kind == "dropout":
                made.append(inputs[0])
                continue
            if block.keeps_grid:
                made.append(move(inputs, block, self.rank))
                continue
            y = image if block.kind == "input" else simulation.run(inputs, block)
            made.append(y if grid is None else grid(y))
        return made
