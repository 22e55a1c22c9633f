"""Who trains in ``unetq.bench.training``: the float network, its low-bit twins, and other toolkits'."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..nets import build_network
from ..quant.calibrate import calibrate
from ..quant.convert import quantize
from ..quant.training_library import VARIABLE

FLOAT, FLOAT32 = "float", "float32"
ONLY_BITS = {"bnn": 1, "xnor": 1, "twn": 2, "ttq": 2}
"""Weight widths of the methods that have just one."""
Step = Callable[[], None]


@dataclass(frozen=True)
class Work:
    """What every step does: network, images (N, 1, size, size), and the widths of the low-bit ones."""

    network: str
    size: int
    batch: int
    weight_bits: int
    act_bits: int
    seed: int

    def images(self) -> Tensor:
        """Seeded noise."""
        return torch.randn(self.batch, 1, self.size, self.size, generator=torch.Generator().manual_seed(self.seed))

    def labels(self) -> Tensor:
        """Seeded masks (N, size, size), half of each class."""
        generator = torch.Generator().manual_seed(self.seed + 1)
        return (torch.rand(self.batch, self.size, self.size, generator=generator) > 0.5).long()

    def net(self) -> nn.Module:
        """The float network, the same weights every time."""
        torch.manual_seed(self.seed)
        return build_network(self.network, {})


@dataclass(frozen=True)
class Trainer:
    """A network to be trained: ``base`` is the float one that its step is compared with, ``autocast`` bf16 or not."""

    name: str
    what: str
    build: Callable[[Work], nn.Module]
    base: str = FLOAT
    autocast: bool = True
    kernels: bool = True


def _ours(method: str, *, frozen: bool = False) -> Callable[[Work], nn.Module]:
    def build(work: Work) -> nn.Module:
        images = work.images()
        bits = ONLY_BITS.get(method, work.weight_bits)
        q = quantize(work.net(), bits, work.act_bits, method=method, example_input=images[:1])
        calibrate(q, [images[:1]])
        if frozen:
            q.freeze_step_sizes()
        return q

    return build


def _brevitas(work: Work) -> nn.Module:
    """Brevitas' layers at our places: every convolution, and behind every tensor that we quantise."""
    import brevitas.nn as qnn
    from brevitas.quant import Int8ActPerTensorFloat, Int8WeightPerChannelFloat

    def grid(bits: int) -> nn.Module:
        # The scale is learned; two steps of statistics instead of 300, so that the learned phase is timed.
        made: nn.Module = qnn.QuantIdentity(act_quant=Int8ActPerTensorFloat, bit_width=bits, collect_stats_steps=2)
        return made

    def convert(module: nn.Module, path: str) -> None:
        for name, child in list(module.named_children()):
            full = f"{path}.{name}".lstrip(".")
            if isinstance(child, nn.Conv2d):
                bits = 8 if full in ("encoder.0.0", "head") else work.weight_bits
                layer: Any = qnn.QuantConv2d(
                    child.in_channels, child.out_channels, child.kernel_size, padding=child.padding,
                    weight_quant=Int8WeightPerChannelFloat, weight_bit_width=bits,
                )  # fmt: skip
                layer.load_state_dict(child.state_dict(), strict=False)
                before = [grid(8)] if full == "encoder.0.0" else []
                setattr(module, name, nn.Sequential(*before, layer))
            elif isinstance(child, nn.BatchNorm2d | nn.Upsample) and full != "encoder.3.5":
                setattr(module, name, nn.Sequential(child, grid(work.act_bits)))
            else:
                convert(child, full)

    net = work.net()
    convert(net, "")
    return net


def _torchao(work: Work) -> nn.Module:
    """torchao's quantisation-aware training of an exported network (PT2E), its x86 default: 8 bits."""
    from torchao.quantization.pt2e import move_exported_model_to_train
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    exported = torch.export.export(work.net().train(), (work.images(),)).module()
    config = x86.get_default_x86_inductor_quantization_config(is_qat=True)
    prepared: nn.Module = prepare_qat_pt2e(exported, x86.X86InductorQuantizer().set_global(config))
    move_exported_model_to_train(prepared)
    prepared.train = lambda mode=True: prepared  # type: ignore[method-assign]  # exported modules refuse it
    return prepared


TRAINERS = (
    Trainer(FLOAT, "the float network, bf16 autocast", Work.net),
    *(
        Trainer(name, f"unetq, method {name}", _ours(name))
        for name in ("fixed", "lsq", "lsq+", "pact", "dorefa", "bnn", "xnor", "twn", "ttq", "codebook", "lcq")
    ),
    Trainer("fixed-frozen", "unetq, method fixed, step sizes no longer refined", _ours("fixed", frozen=True)),
    Trainer("fixed-torch", "unetq, method fixed, without its compiled kernels", _ours("fixed"), kernels=False),
    Trainer("brevitas", "Brevitas, learned scales, same widths and places", _brevitas),
    Trainer(FLOAT32, "the float network, float32", Work.net, base=FLOAT32, autocast=False),
    Trainer("torchao", "torchao PT2E QAT, 8 bits; knows no bf16", _torchao, base=FLOAT32, autocast=False),
)
"""In the order of the table. torchao quantises convolutions in its PT2E flow only, and fails under bf16 autocast."""


def make_step(trainer: Trainer, work: Work) -> Step:
    """One optimizer step of ``trainer``: forward, Dice + cross-entropy, backward, AdamW; channels-last.

    Raises:
        ImportError: a toolkit is not installed. Whatever a toolkit raises about the network.
    """
    from ..experiment import LossConfig
    from ..losses import build_loss

    network = trainer.build(work).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]  # torch's stub lacks it
    images, labels = work.images().to(memory_format=torch.channels_last), work.labels()
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-5)
    loss = build_loss(1, LossConfig())

    def step() -> None:
        before = os.environ.get(VARIABLE)
        if not trainer.kernels:
            os.environ[VARIABLE] = "off"
        try:
            with torch.autocast("cpu", torch.bfloat16, enabled=trainer.autocast):
                logits = network(images)
            value = loss(logits, labels)
            optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        finally:
            if not trainer.kernels:
                os.environ.pop(VARIABLE)
                if before is not None:
                    os.environ[VARIABLE] = before

    return step
