"""A network whose widths can be changed in a moment, run as the packed file that they would give."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..export.lower import lower
from ..export.modelfile import encode
from ..export.program import ModelMeta, Program
from ..preprocess import padded_size
from ..ptq.network import Options
from ..ptq.steps import calibrate, calibrate_grid, calibrate_weight, observe
from ..quant.network import QuantNet, _grid_slot, _slot
from ..quant.placement import layer_name
from ..quant.quantizer import WeightCodes
from ..runtime import Runtime
from .space import WEIGHT, Allocation, Space, find_space

Meta = Callable[[Allocation], ModelMeta]


class Workbench:
    """Holds a quantiser for every variable and width, calibrated once, and puts those of an allocation in place.

    The ranges are those of ``unetq ptq`` with the same images and options, so that a program made here is that of
    the run which is written in the end, bit for bit.

    Args:
        q: the network's twin at 8 bits, not calibrated; changed in place.
        widths: 1 to 8, those to choose from.
        images: batches (N, C, H, W[, …]) to choose ranges on; ``options`` as of ``ptq``, only its ranges.
        weights: maps of pixels' weights a batch, or None.
        multiple: what a side of the input must be a multiple of.

    Raises:
        DataError: no images, or NaN in what the network makes of them. ConfigError, UnsupportedError: see
            ``find_space``.
    """

    def __init__(
        self,
        q: QuantNet,
        widths: Sequence[int],
        images: Sequence[Tensor],
        options: Options,
        weights: Sequence[Tensor] | None,
        multiple: int,
    ) -> None:
        self.q = q.eval()
        self.space: Space = find_space(q, widths)
        maps: Sequence[Tensor | None] = list(weights) if weights is not None else [None] * len(images)
        observer = observe(q, images, maps, options.seed)
        calibrate(q, observer, options.range, options.weight_range, options.percentile)
        self._parameter = {layer_name(b): b.parameters["weight"] for b in q.blocks() if b.kind == "conv"}
        for (name, _), weight in self.space.weights.items():
            calibrate_weight(weight, q.tensor(self._parameter[name]), options.weight_range, options.percentile)
        for (name, _), grid in self.space.grids.items():
            calibrate_grid(grid, observer.groups[name], options.range, options.percentile)
        crop = tuple(images[0].shape[2:])
        self._example = torch.zeros(1, q.in_channels, *padded_size(crop, (multiple,) * len(crop)))

    def apply(self, allocation: Allocation) -> None:
        """Put the quantisers of ``allocation`` in place."""
        for (kind, name), bits in allocation.bits.items():
            if kind == WEIGHT:
                _put(self.q.weight_quantizers, _slot(self._parameter[name]), self.space.weights[name, bits])
            else:
                _put(self.q.grids, _grid_slot(name), self.space.grids[name, bits])

    def parameter(self, layer: str) -> str:
        """The name of a layer's weight in the network."""
        return self._parameter[layer]

    def weight(self, layer: str) -> Tensor:
        """A layer's weight, float32 in torch's layout."""
        return self.q.tensor(self._parameter[layer]).detach().float().cpu()

    def codes(self, layer: str, bits: int) -> WeightCodes:
        """The integers of a layer's weight at a width, in torch's layout."""
        return self.space.weights[layer, bits].codes(np.ascontiguousarray(self.weight(layer).numpy()))

    def program(self, allocation: Allocation) -> Program:
        """The integer program of ``allocation``, as ``unetq export`` would lower it."""
        self.apply(allocation)
        return lower(self.q, self._example)


def _put(modules: nn.ModuleDict, slot: str, module: nn.Module) -> None:
    modules[slot] = module


class Packed:
    """A program as its packed file in the runtime, for as long as it is open (``with``)."""

    def __init__(self, program: Program, meta: ModelMeta | None = None) -> None:
        self.program = program
        self.data = encode(program, meta or ModelMeta())
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name) / "model.uqm"
        path.write_bytes(self.data)
        try:
            self.runtime = Runtime(path)
        except BaseException:
            self._folder.cleanup()
            raise

    def __enter__(self) -> "Packed":
        return self

    def __exit__(self, *_: object) -> None:
        self.runtime.close()
        self._folder.cleanup()

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W[, …]) float32 to logits."""
        return torch.from_numpy(self.runtime.run(x.detach().cpu().numpy()))

    def arena_bytes(self, size: Sequence[int]) -> int:
        """What one image of ``size``, (H, W) or (D, H, W) network pixels, takes as planned by the runtime."""
        return self.runtime.plan(tuple(size)).arena_bytes
