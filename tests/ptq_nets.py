"""Networks for the tests of single steps: trained-looking weights, uneven channels, non-trivial norms."""

import torch
from torch import Tensor, nn

from unetq.nets import PaperUNet
from unetq.ptq.steps import calibrate, observe
from unetq.quant.convert import quantize
from unetq.quant.network import QuantNet


def uneven(net: nn.Module, seed: int) -> nn.Module:
    """Spread the channels of convolutions and norms over two orders of magnitude, in place; evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
                module.weight.copy_(torch.exp(1.2 * torch.randn(module.weight.shape, generator=generator)))
                module.bias.copy_(0.3 * torch.randn(module.bias.shape, generator=generator))
            elif isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d) and module.bias is not None:
                module.bias.copy_(0.2 * torch.randn(module.bias.shape, generator=generator))
    return net.eval()


def settled(net: nn.Module, batches: list[Tensor]) -> nn.Module:
    """Give the norms the running statistics of ``batches``, as training would; evaluation mode."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        net.train()(torch.cat(batches))
    for norm in norms:
        norm.momentum = 0.1
    return net.eval()


def paper(order: str = "conv-relu-norm", seed: int = 0) -> nn.Module:
    """The paper's network with two levels."""
    torch.manual_seed(seed)
    return settled(uneven(PaperUNet(widths=(8, 12), order=order), seed), images(seed=seed + 50))


def images(seed: int = 1, batches: int = 2, size: int = 24) -> list[Tensor]:
    """Smooth random images, (3, 1, size, size) a batch."""
    generator = torch.Generator().manual_seed(seed)
    noise = [torch.randn(3, 1, size, size, generator=generator) for _ in range(batches)]
    return [torch.nn.functional.avg_pool2d(x, 3, 1, 1) * 2 for x in noise]


def low_bit(net: nn.Module, batches: list[Tensor], weight_bits: int = 4, act_bits: int = 6) -> QuantNet:
    """A calibrated twin."""
    q = quantize(net, weight_bits, act_bits, example_input=batches[0][:1]).eval()
    calibrate(q, observe(q, batches, [None] * len(batches), 0), "mse", "mse", 99.99)
    return q
