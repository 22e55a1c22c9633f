"""Distillation: the float network teaches its low-bit twin.

Two terms, each with a weight, are added to the loss. With logits s of the student and t of the teacher, T the
temperature and p = softmax (sigmoid for one channel):

    logits:    T**2 * KL(p(t / T) || p(s / T)), mean over pixels     (Hinton et al. 2015, arXiv 1503.02531)
    features:  mean over blocks of  sum((f_s - f_t)**2) / sum(f_t**2)    (after Romero et al. 2014, arXiv 1412.6550)

Features are what a block makes before it is quantised, so that a student equal to its teacher costs nothing. The
teacher runs with its running statistics, without gradient, and is never changed.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from fnmatch import fnmatchcase

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import ConfigError
from .experiment import DistillConfig, Experiment
from .quant.blocks import Block
from .quant.network import QuantNet
from .quant.simulate import simulate

_TINY = 1e-12
_MOVES = ("max_pool", "upsample_linear", "upsample_nearest", "cat")


def check_distillation(experiment: Experiment) -> None:
    """Refuse a teacher that there is not.

    Raises:
        ConfigError: no low-bit stage, or no float network.
    """
    train = experiment.train
    if not train.distill.is_on:
        return
    told = f"train.distill (logits {train.distill.logits}, features {train.distill.features})"
    if experiment.quant.is_float:
        raise ConfigError(
            f"{told} with 32-bit weights and activations: there is no low-bit stage to teach; "
            "set quant.weight_bits, or both weights to 0."
        )
    if train.from_scratch and train.from_run is None:
        raise ConfigError(
            f"{told} with train.from_scratch: the run has no float network to teach; name one in train.from_run."
        )


def logits_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """The logits term for (N, C, …) logits, a scalar; 0 where both are equal, and differentiable in ``student``."""
    s, t = student.float() / temperature, teacher.float() / temperature
    if s.shape[1] == 1:
        s, t = torch.cat([s, torch.zeros_like(s)], dim=1), torch.cat([t, torch.zeros_like(t)], dim=1)
    target = F.log_softmax(t, dim=1)
    divergence = F.kl_div(F.log_softmax(s, dim=1), target, reduction="none", log_target=True).sum(1)
    return divergence.mean() * temperature**2


def features_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """The features term for as many tensors of equal shapes, a scalar."""
    terms = []
    for s, t in zip(student, teacher, strict=True):
        t = t.float()
        terms.append((s.float() - t).square().sum() / t.square().sum().clamp_min(_TINY))
    return torch.stack(terms).mean()


def feature_blocks(q: QuantNet, patterns: Sequence[str]) -> tuple[str, ...]:
    """Keys of the blocks whose values are features, in order of execution.

    Raises:
        ConfigError: a pattern that names no convolution whose output is quantised.
    """
    blocks = q.blocks()
    own = [b for b in blocks if b.kind == "conv" and q.grid_quantizer(b.group) is not None]
    if not patterns:
        moving = {source for b in blocks if b.kind in _MOVES for source in b.inputs}
        ends = [b.key for b in own if b.key in moving]
        return tuple(ends or [b.key for b in own])
    for pattern in patterns:
        if not any(fnmatchcase(b.key, pattern) for b in own):
            raise ConfigError(
                f"train.distill.blocks: {pattern!r} names no layer with a quantised output; "
                f"there are {', '.join(b.key for b in own) or 'none'}."
            )
    return tuple(b.key for b in own if any(fnmatchcase(b.key, p) for p in patterns))


class Distiller:
    """What a training step adds to its loss; called after the student's forward with images and logits.

    Args:
        teacher: the float network as a ``QuantNet`` of the student's settings; frozen here.
        student: in training; its ``observe`` is taken.
        autocast: makes the context in which the teacher runs, the student's own.

    Raises:
        ConfigError: patterns that name no layer.
    """

    def __init__(
        self,
        teacher: QuantNet,
        student: QuantNet,
        config: DistillConfig,
        autocast: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self.teacher, self.config, self.autocast = teacher.eval().requires_grad_(False), config, autocast
        self.blocks = feature_blocks(student, config.blocks) if config.features else ()
        self._student: dict[str, Tensor] = {}
        if self.blocks:
            student.observe = self._keep

    def _keep(self, block: Block, values: Tensor) -> None:
        if block.key in self.blocks:
            self._student[block.key] = values

    def __call__(self, images: Tensor, logits: Tensor) -> Tensor:
        """The weighted terms, a scalar. ``images`` (N, C, H, W) made ``logits`` in the student's last forward."""
        seen: dict[str, Tensor] = {}

        def keep(block: Block, values: Tensor) -> None:
            if block.key in self.blocks:
                seen[block.key] = values

        with torch.no_grad(), self.autocast():
            target = simulate(self.teacher, images, quantized=False, training=False, observe=keep)
        own, self._student = self._student, {}
        total = torch.zeros((), device=logits.device)
        if self.config.logits:
            total = total + self.config.logits * logits_loss(logits, target, self.config.temperature)
        if self.blocks:
            term = features_loss([own[key] for key in self.blocks], [seen[key] for key in self.blocks])
            total = total + self.config.features * term
        return total
