"""Curvature of the loss in each layer's weights: the second source of sensitivity, from the float network alone.

The trace of a layer's Hessian H is Hutchinson's estimate (see ``unetq.curvature``). The loss that quantising a weight w
adds is then about::

    1/2 * trace(H) / n * |Q(w) - w|^2

with n values in w (Dong et al. 2020, HAWQ-V2, arXiv 1911.03852, eq. 6). It knows nothing of gradients, of layers that
act together, and of activations.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..curvature import hessian_products, random_signs
from ..losses import Loss
from ..quant.network import QuantNet
from ..quant.simulate import simulate
from .workbench import Workbench


def traces(
    q: QuantNet,
    parameters: Sequence[str],
    images: Sequence[Tensor],
    labels: Sequence[Tensor],
    loss: Loss,
    draws: int,
    seed: int,
) -> dict[str, float]:
    """The estimated trace of the Hessian of the mean loss in each of ``parameters``, by name.

    Args:
        q: its float network is used, by running statistics. parameters: names of weights there.
        images, labels: batches (N, C, H, W[, …]) float32 and (N, H, W[, …]) int64. loss: of logits and labels.
        draws: vectors of random signs for each batch; ``seed`` decides them.
    """
    weights = [q.tensor(name) for name in parameters]
    before = [weight.requires_grad for weight in weights]
    generator = torch.Generator().manual_seed(seed)
    sums = dict.fromkeys(parameters, 0.0)
    try:
        for weight in weights:
            weight.requires_grad_(True)
        for image, label in zip(images, labels, strict=True):
            value = loss(simulate(q, image, quantized=False, training=False), label)
            signs = (random_signs(weights, generator) for _ in range(draws))
            for vector, curved in hessian_products(value, weights, signs):
                for name, v, product in zip(parameters, vector, curved, strict=True):
                    sums[name] += float((v * product).sum())
    finally:
        for weight, wanted in zip(weights, before, strict=True):
            weight.requires_grad_(wanted)
    count = max(len(images) * draws, 1)
    return {name: value / count for name, value in sums.items()}


def weight_scores(bench: Workbench, found: dict[str, float]) -> dict[tuple[str, int], float]:
    """The loss that each width of each layer's weight adds, by (layer, width); ``found`` are traces by layer.

    A negative trace, which a few draws may give where curvature is small, counts as none.
    """
    scores: dict[tuple[str, int], float] = {}
    for (layer, bits), quantizer in bench.space.weights.items():
        weight = bench.weight(layer)
        with torch.no_grad():
            error = float((quantizer(weight) - weight).double().square().sum())
        scores[layer, bits] = 0.5 * max(found[layer], 0.0) / weight.numel() * error
    return scores
