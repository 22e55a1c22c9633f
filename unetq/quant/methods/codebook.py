"""k-means codebooks: Deep Compression (Han et al. 2016, arXiv 1510.00149, section 3).

One codebook a layer of ``2**bits`` centroids, at most 16, initialised linearly over [min, max] (the paper's best) and
moved by k-means; from then on each weight belongs to its centroid and only centroids learn: the gradient of one is
the sum of its members' gradients (eq. 3). They are stored in units of the layer's standard deviation, so that one
learning rate serves all layers. The levels in use are the multiples of ``max|c| / 127`` nearest to the
centroids, so that they are int8 and the runtime sums them exactly.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UnsupportedError
from .coded import CodedWeight
from .companding import histogram

MAX_BITS = 4
ROUNDS = 30  # of k-means, at most
LEVEL_LIMIT = 127


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, centroids: Tensor, levels: Tensor, members: Tensor) -> Tensor:
        ctx.save_for_backward(members)
        ctx.count = centroids.numel()
        return levels[members]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (members,) = ctx.saved_tensors
        return histogram(members, grads[0], ctx.count), None, None


class CodebookWeight(CodedWeight):
    """Weights shared among at most 16 levels a layer; ``bits`` 1 to 4.

    Raises:
        UnsupportedError: more than 4 bits.
    """

    kind = "codebook"
    members: Tensor
    spread: Tensor

    def __init__(self, bits: int, shape: Sequence[int]) -> None:
        if bits > MAX_BITS:
            raise UnsupportedError(f"codebook weights at {bits} bits: a codebook has at most 16 levels; use 4 or less.")
        super().__init__(bits, None)
        self.centroids = nn.Parameter(torch.zeros(1 << bits))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("members", torch.zeros(tuple(shape), dtype=torch.uint8))

    def _levels(self) -> tuple[Tensor, Tensor]:
        """The int8 levels of the centroids and their unit."""
        centroids = self.centroids.detach() * self.spread
        largest = centroids.abs().max()
        unit = torch.where(largest > 0, largest, 1.0) / LEVEL_LIMIT
        return (centroids / unit).round(), unit

    def encode(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Each weight's level and the unit; the weight's own values were used up by ``calibrate``."""
        levels, unit = self._levels()
        return levels[self.members.long()], unit

    def forward(self, weight: Tensor) -> Tensor:
        """Fake-quantised weight, same shape."""
        levels, unit = self._levels()
        result: Tensor = _Gather.apply(  # type: ignore[no-untyped-call]
            self.centroids * self.spread, levels * unit, self.members.long()
        )
        return result.to(weight.dtype)

    def calibrate(self, weight: Tensor) -> None:
        """k-means from centroids that are spread evenly over the weight's range."""
        values = weight.detach().float().reshape(-1)
        low, high = values.aminmax()
        centroids = torch.linspace(float(low), float(high), self.centroids.numel(), device=values.device)
        nearest = torch.zeros_like(values, dtype=torch.long)
        for _ in range(ROUNDS):
            before = nearest
            nearest = torch.bucketize(values, (centroids[1:] + centroids[:-1]) / 2)
            counts = torch.bincount(nearest, minlength=centroids.numel())
            sums = torch.zeros_like(centroids).index_add_(0, nearest, values)
            centroids = torch.where(counts > 0, sums / counts.clamp_min(1), centroids).sort().values
            if torch.equal(nearest, before):
                break
        with torch.no_grad():
            spread = values.std(correction=0)
            self.spread.copy_(torch.where(spread > 0, spread, torch.ones_like(spread)))
            self.centroids.copy_(centroids / self.spread)
            self.members.copy_(torch.bucketize(values, (centroids[1:] + centroids[:-1]) / 2).reshape(weight.shape))
