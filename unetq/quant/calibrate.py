"""Choosing fraction bits before training: weights from themselves, activations from images."""

from collections.abc import Iterable

import torch
from torch import Tensor

from ..errors import DataError
from .blocks import Block
from .findings import ConstantChannels, weight_findings
from .network import QuantNet
from .simulate import simulate

SAMPLES_PER_BATCH = 32768


class _Sampler:
    """Keeps a bounded sample of every grid group's values, extremes always included."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.parts: dict[str, list[Tensor]] = {}
        self.constant = ConstantChannels()

    def __call__(self, block: Block, values: Tensor) -> None:
        self.constant(block, values)
        flat = values.detach().float().reshape(-1)
        low, high = flat.aminmax()
        if not (torch.isfinite(low) and torch.isfinite(high)):
            raise DataError(
                f"layer {block.key} makes NaN or infinity in float already; "
                "repair the network or its checkpoint before quantising."
            )
        index = torch.randint(flat.numel(), (min(SAMPLES_PER_BATCH, flat.numel()),), generator=self.generator)
        sample = torch.cat([flat[index.to(flat.device)], low.reshape(1), high.reshape(1)])
        self.parts.setdefault(block.group, []).append(sample.cpu())


def calibrate(q: QuantNet, batches: Iterable[Tensor], seed: int = 0) -> list[str]:
    """Choose every step size of ``q``: least squared error on its weights and on the tensors ``batches`` make.

    Args:
        q: the result of ``unetq.quantize``; changed in place. Its float forward is used, running statistics.
        batches: float tensors (N, C, H, W[, D]), preprocessed as for training; a handful suffices.
        seed: of the sampling of activation values.

    Returns:
        What is suspicious, a sentence each: dead layers, constant channels, tensors that became 0.

    Raises:
        DataError: no batch, images of one value only, or NaN or infinity in a batch or in what the network makes of it.
    """
    for block in q.blocks():
        quantizer = q.weight_quantizer(block) if block.kind == "conv" else None
        if quantizer is not None:
            weight = q.tensor(block.parameters["weight"])
            if not torch.isfinite(weight).all():
                raise DataError(f"the weight of layer {block.key} holds NaN or infinity; repair the checkpoint first.")
            quantizer.calibrate(weight)
    sampler = _Sampler(seed)
    count, lowest, highest = 0, float("inf"), float("-inf")
    with torch.no_grad(), torch.autocast(q.device.type, enabled=False):
        for batch in batches:
            if not isinstance(batch, Tensor) or batch.numel() == 0:
                found = f"shape {tuple(batch.shape)}" if isinstance(batch, Tensor) else f"a {type(batch).__name__}"
                raise DataError(f"a calibration batch is {found}; give float tensors (N, C, H, W[, D]), N at least 1.")
            if not torch.isfinite(batch).all():
                raise DataError("a calibration batch holds NaN or infinity; clean the images first.")
            lowest, highest = min(lowest, float(batch.min())), max(highest, float(batch.max()))
            simulate(q, batch.to(q.device).float(), quantized=False, training=False, observe=sampler)
            count += 1
    if count == 0:
        raise DataError("calibration got 0 batches; give it at least one batch of preprocessed images.")
    if lowest == highest:
        raise DataError(
            f"every pixel of the calibration images is {lowest:g}; ranges cannot be chosen from that. Give real images."
        )
    for group, parts in sampler.parts.items():
        grid = q.grid_quantizer(group)
        assert grid is not None
        grid.calibrate(torch.cat(parts).numpy())
    q.calibrated.fill_(True)  # type: ignore[operator]  # a registered buffer
    return weight_findings(q) + sampler.constant.findings(q)
