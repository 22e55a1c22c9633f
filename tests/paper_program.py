"""The paper's U-Net as a program with random weights: 64-128-256-256, 4,837,249 parameters, first and last at 8 bit."""

import numpy as np

from unetq.export.program import Conv, Epilogue, MaxPool, Op, Program, Quantize, TensorSpec, Upsample
from unetq.fixedpoint import Grid, fixed_point_grid

Array = np.ndarray


class _Net:
    def __init__(self, weight_bits: int, act_bits: int, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.weight_bits, self.grid = weight_bits, fixed_point_grid(act_bits, 0, False)
        self.tensors = [TensorSpec("input", 1, None)]
        self.ops: list[Op] = []

    def tensor(self, channels: int, grid: Grid | None) -> int:
        self.tensors.append(TensorSpec(f"t{len(self.tensors)}", channels, grid))
        return len(self.tensors) - 1

    def weight(self, shape: tuple[int, ...], bits: int) -> Array:
        """Bell-shaped codes over the whole range, as trained weights are."""
        reach = 1 << (bits - 1)
        return np.clip(np.rint(self.random.standard_normal(shape) * reach / 3), -reach, reach - 1).astype(np.int8)

    def conv(self, inputs: tuple[int, ...], channels: int, bits: int | None = None, last: bool = False) -> int:
        bits = bits or self.weight_bits
        total = sum(self.tensors[t].channels for t in inputs)
        weight = self.weight((channels, total, 1, 3, 3), bits)
        spread = float(weight.std()) * 12 * np.sqrt(9 * total)
        gain = np.full(channels, 12 / spread, np.float32)
        offset = (self.random.standard_normal(channels) * 4).astype(np.float32)
        slope = None if last else np.zeros(channels, np.float32)
        second = None if last else np.full(channels, 1.25, np.float32)
        shift = None if last else np.full(channels, 0.5, np.float32)
        output = self.tensor(channels, None if last else self.grid)
        scale = np.full(channels, 2.0**-4, np.float32)
        epilogue = Epilogue(gain, offset, slope, second, shift)
        name = f"conv{len(self.ops)}"
        pad = (0, 1, 1)
        self.ops.append(
            Conv(name, inputs, output, weight, bits, "twos_complement", scale, epilogue, pad_before=pad, pad_after=pad)
        )
        return output

    def pool(self, source: int) -> int:
        output = self.tensor(self.tensors[source].channels, self.grid)
        self.ops.append(MaxPool(f"pool{len(self.ops)}", (source,), output, (1, 2, 2), (1, 2, 2)))
        return output

    def up(self, source: int) -> int:
        channels = self.tensors[source].channels
        output = self.tensor(channels, self.grid)
        epilogue = Epilogue(np.full(channels, 1 / 16, np.float32), np.zeros(channels, np.float32))
        self.ops.append(Upsample(f"up{len(self.ops)}", (source,), output, "linear", (1, 2, 2), epilogue))
        return output


def paper_program(weight_bits: int = 4, act_bits: int = 6, seed: int = 0) -> Program:
    """The network for images that are multiples of 8."""
    net = _Net(weight_bits, act_bits, seed)
    x = net.tensor(1, fixed_point_grid(8, 5, True))
    net.ops.append(Quantize("quantize", (0,), x))
    skips = []
    for i, width in enumerate((64, 128, 256)):
        x = net.conv((net.conv((x,), width, 8 if i == 0 else None),), width)
        skips.append(x)
        x = net.pool(x)
    x = net.conv((net.conv((x,), 256),), 256)
    for width, skip in zip((256, 128, 64), reversed(skips), strict=True):
        x = net.conv((net.conv((skip, net.up(x)), width),), width)
    net.conv((x,), 1, 8, last=True)
    return Program(tuple(net.tensors), tuple(net.ops), 0, len(net.tensors) - 1, 2, (1, 8, 8))
