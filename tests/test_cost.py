"""Costs by hand, and the paper's network by its published numbers."""

import numpy as np
import pytest
import torch

from unetq import calibrate, lower, quantize
from unetq.cost import cost
from unetq.errors import DataError
from unetq.export.program import Conv, Epilogue, MaxPool, Program, Quantize, TensorSpec
from unetq.fixedpoint import fixed_point_grid
from unetq.nets import build_network, count_parameters


def epilogue(channels: int) -> Epilogue:
    return Epilogue(np.ones(channels, np.float32), np.zeros(channels, np.float32))


def conv(name: str, inputs: tuple[int, ...], output: int, shape: tuple[int, int, int, int], bits: int) -> Conv:
    weight = np.zeros((shape[0], shape[1], 1, *shape[2:]), np.int8)
    pad = (0, shape[2] // 2, shape[3] // 2)
    return Conv(
        name,
        inputs,
        output,
        weight,
        bits,
        "twos_complement",
        np.ones(1, np.float32),
        epilogue(shape[0]),
        pad_before=pad,
        pad_after=pad,
    )


def hand_made() -> Program:
    g4, g6 = fixed_point_grid(4, 0, False), fixed_point_grid(6, 0, False)
    tensors = (
        TensorSpec("x", 1, None),
        TensorSpec("q", 1, g4),
        TensorSpec("a", 3, g6),
        TensorSpec("p", 3, g6),
        TensorSpec("y", 1, None),
    )
    ops = (
        Quantize("quantize", (0,), 1),
        conv("a", (1,), 2, (3, 1, 3, 3), 3),
        MaxPool("p", (2,), 3, (1, 1, 1), (1, 1, 1)),
        conv("y", (2, 3), 4, (1, 6, 1, 1), 8),  # a concatenation folded into the convolution
    )
    return Program(tensors, ops, 0, 4, 2, (1, 2, 2))


def test_by_hand() -> None:
    found = cost(hand_made(), (4, 6))
    a, y = found.layers[1], found.layers[3]
    # Three rows of 9 weights at 3 bits are 27 bits, 4 bytes each; three gains and offsets of 4 bytes.
    assert a.weight_bytes == 3 * 4 + 4 * 6 and a.float_weight_bytes == 27 * 4 + 4 * 6
    assert a.macs == 24 * 27 and a.bit_operations == 24 * 27 * 3 * 4
    assert y.macs == 24 * 6 and y.bit_operations == 24 * 6 * 8 * 6
    assert found.weight_bytes == 36 + (6 + 8) and found.macs == a.macs + y.macs
    x_bytes, q_bytes, a_bytes, y_bytes = 24 * 4, 12, 24 * 3 * 6 // 8, 24 * 4
    # `a` lives until the folded concatenation reads it; the input is gone after quantisation.
    assert [layer.live_bytes for layer in found.layers] == [
        x_bytes + q_bytes,
        q_bytes + a_bytes,
        2 * a_bytes,
        2 * a_bytes + y_bytes,
    ]
    assert found.peak_activation_bytes == 2 * a_bytes + y_bytes
    assert found.float_peak_activation_bytes == 24 * 4 * (3 + 3 + 1)
    assert found.summary()["input_size"] == [1, 4, 6]
    assert cost(hand_made(), (4, 6), parameters=40).float_weight_bytes == 160


def test_odd_bits_round_up_a_tensor() -> None:
    found = cost(hand_made(), (2, 2))
    assert found.layers[1].output_bytes == 9 and found.layers[0].output_bytes == 2


def test_sizes_that_are_refused() -> None:
    with pytest.raises(DataError, match="multiple"):
        cost(hand_made(), (3, 4))
    with pytest.raises(DataError, match="multiple"):
        cost(hand_made(), (4, 4, 4, 4))


def test_transposed_convolution_counts_input_positions() -> None:
    up = Conv(
        "up",
        (1,),
        2,
        np.zeros((2, 1, 1, 2, 2), np.int8),
        4,
        "twos_complement",
        np.ones(1, np.float32),
        epilogue(2),
        stride=(1, 2, 2),
        transposed=True,
    )
    tensors = (TensorSpec("x", 1, None), TensorSpec("q", 1, fixed_point_grid(4, 0, False)), TensorSpec("y", 2, None))
    found = cost(Program(tensors, (Quantize("q", (0,), 1), up), 0, 2, 2, (1, 1, 1)), (5, 7))
    assert found.layers[1].output_size == (1, 10, 14)
    assert found.macs == 5 * 7 * 8


def test_the_papers_network() -> None:
    net = build_network("paper")
    q = quantize(net, 4, 6, example_input=torch.zeros(1, 1, 32, 32))
    calibrate(q, [torch.randn(1, 1, 32, 32)])
    found = cost(lower(q, torch.zeros(1, 1, 32, 32)), (512, 512), count_parameters(net))
    assert found.float_weight_bytes == 4 * 4_837_249
    convolutions = 4_837_249 - sum(
        m.weight.numel() + m.bias.numel() for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)
    )
    weights = convolutions - sum(m.bias.numel() for m in net.modules() if isinstance(m, torch.nn.Conv2d))
    # Everything at 4 bits but the first 3x3 and the last 1x1 convolution, which have 8.
    expected = (weights - 576 - 64) / 2 + 576 + 64
    packed = found.weight_bytes - sum(
        4 * 4 * layer.channels for layer in found.layers if layer.kind == "Conv" and layer.name != "head"
    )
    assert abs(packed - expected) < 0.01 * expected
    assert found.weight_bytes < 2_600_000
    # 3x3 convolutions at four resolutions, by their widths.
    pairs = [
        (1, 64, 0),
        (64, 64, 0),
        (64, 128, 1),
        (128, 128, 1),
        (128, 256, 2),
        (256, 256, 2),
        (256, 256, 3),
        (256, 256, 3),
    ]
    pairs += [(512, 256, 2), (256, 256, 2), (384, 128, 1), (128, 128, 1), (192, 64, 0), (64, 64, 0)]
    macs = sum(9 * i * o * 512 * 512 // 4**level for i, o, level in pairs) + 64 * 512 * 512
    assert found.macs == macs
    assert found.peak_activation_bytes < found.float_peak_activation_bytes / 4
