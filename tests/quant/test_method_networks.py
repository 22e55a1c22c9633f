"""Whole networks with every family: exact on all executors, close to the training graph, and worth training."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from unetq_datasets.phantom import make

import unetq
from unetq.errors import ConfigError
from unetq.nets import build_network
from unetq.quant.methods import FAMILIES
from unetq.quant.settings import LayerSettings
from unetq.quant.simulate import simulate
from unetq.runtime import Runtime, available_isas

ONE_BIT, TWO_BIT = ("bnn", "xnor"), ("twn", "ttq", "ternarynet")


def _arguments(family: str, bits: int = 4) -> dict[str, Any]:
    weight = 1 if family in ONE_BIT else 2 if family in TWO_BIT else bits
    return {"method": family, "weight_bits": weight, "act_bits": 2 if family == "ternarynet" else bits}


VARIANTS: dict[str, dict[str, Any]] = {
    **{f"{family}, {bits} bits": _arguments(family, bits) for family in FAMILIES for bits in (4, 2)},
    "lsq in groups": {"method": "lsq", "weight_bits": 4, "act_bits": 4, "group_size": 4},
    "mx": {"method": "fixed", "weight_bits": 4, "act_bits": 6, "group_size": 8},
    "zero-points": {"method": "lsq", "weight_bits": 4, "act_bits": 4, "zero_point": True},
    "dynamic": {"method": "lsq", "weight_bits": 4, "act_bits": 4, "dynamic": True},
    "one step a tensor": {"method": "lsq", "weight_bits": 3, "act_bits": 3, "per_channel": False},
    "dorefa, 7 bits": {"method": "dorefa", "weight_bits": 7, "act_bits": 6},
    "mixed": {
        "method": "lsq",
        "weight_bits": 4,
        "act_bits": 4,
        "layers": [
            LayerSettings("encoder.1.*", weight_bits=1, weight_method="xnor", act_bits=2),
            LayerSettings("decoder.*", weight_method="lcq", act_method="pact"),
        ],
    },
}


def _images(count: int, size: int, first: int = 0) -> tuple[Tensor, Tensor]:
    pairs = [make("membranes", 0, first + i, size) for i in range(count)]
    images = torch.stack([torch.from_numpy(np.asarray(image, dtype=np.float32)) for image, _ in pairs])[:, None]
    images = (images - images.mean((1, 2, 3), keepdim=True)) / images.std((1, 2, 3), keepdim=True)
    return images, torch.stack([torch.from_numpy(mask.astype(np.float32)) for _, mask in pairs])[:, None]


def _dice(logits: Tensor, masks: Tensor) -> float:
    decided = (logits > 0).float()
    return float(2 * (decided * masks).sum() / (decided.sum() + masks.sum()))


def _fit(net: nn.Module, images: Tensor, masks: Tensor, steps: int, lr: float) -> None:
    net.train()
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=lr)
    for step in range(steps):
        if isinstance(net, unetq.QuantNet):
            net.set_progress(step / steps)
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(net(images), masks).backward()
        optimizer.step()
    net.eval()


@cache
def _trained() -> nn.Module:
    torch.manual_seed(0)
    net = build_network("paper", {"widths": [8, 16, 16]})
    _fit(net, *_images(4, 64), steps=60, lr=1e-2)
    return net


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_executors_agree_and_the_training_graph_is_near(variant: str, tmp_path: Path) -> None:
    images, _ = _images(2, 64, first=10)
    q = unetq.quantize(_trained(), example_input=images[:1], **VARIANTS[variant])
    unetq.calibrate(q, [images])
    q.eval()
    logits = q(images).numpy()
    program = unetq.lower(q, images)
    np.testing.assert_array_equal(logits, program.run(images.numpy()))
    program.save(tmp_path / "m.uqm")
    for isa in available_isas():
        np.testing.assert_array_equal(logits, Runtime(tmp_path / "m.uqm", isa).run(images.numpy()), err_msg=isa)
    with torch.no_grad():
        trained = simulate(q, images, quantized=True, training=False).numpy()
    assert ((trained > 0) != (logits > 0)).sum() <= max(1, logits.size // 10_000)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fit_improves_dice(family: str) -> None:
    images, masks = _images(4, 64)
    torch.manual_seed(0)
    q = unetq.quantize(copy.deepcopy(_trained()), example_input=images[:1], **_arguments(family, bits=2))
    unetq.calibrate(q, [images])
    before = _dice(q.eval()(images), masks)
    _fit(q, images, masks, steps=25, lr={"dorefa": 5e-3, "ternarynet": 2e-3}.get(family, 1e-2))
    assert _dice(q(images), masks) > min(before + 0.002, 0.995), before


def test_state_travels_with_its_settings() -> None:
    images, _ = _images(1, 64)
    q = unetq.quantize(_trained(), example_input=images, **VARIANTS["mixed"])
    unetq.calibrate(q, [images])
    twin = unetq.quantize(_trained(), example_input=images, **VARIANTS["mixed"])
    twin.load_state_dict(q.state_dict())
    assert torch.equal(q.eval()(images), twin.eval()(images))


def test_findings_name_the_layers() -> None:
    images, _ = _images(1, 64)
    net = copy.deepcopy(_trained())
    with torch.no_grad():
        net.get_parameter("encoder.1.0.weight").zero_()
        net.get_parameter("encoder.2.0.weight")[3].zero_()
    found = unetq.calibrate(unetq.quantize(net, example_input=images), [images])
    text = "\n".join(found)
    assert "layer encoder.1.0: all its weight codes are 0" in text
    assert "layer encoder.2.0: output channels 3 of" in text
    assert "constant on all calibration images" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": "twn", "weight_bits": 4}, ("twn weights have 2 bit", "encoder.0.3")),
        ({"method": "none"}, ("method = 'none'", "lsq")),
        ({"method": "pact", "zero_point": True}, ("no zero-point", "lsq+")),
        ({"method": "lcq", "group_size": 4}, ("group_size = 4", "lsq")),
        ({"layers": [LayerSettings("nowhere.*", weight_bits=2)]}, ("nowhere.*", "encoder.0.0")),
        ({"group_size": -1}, ("group_size = -1", "0 for no groups")),
    ],
)
def test_refusals(arguments: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        unetq.quantize(_trained(), **arguments)
    for word in words:
        assert word in str(caught.value)
