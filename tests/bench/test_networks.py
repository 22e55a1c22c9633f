"""Networks S and L: their size, live activations, the same again."""

import json
from pathlib import Path

import pytest
import torch

from unetq.bench import networks
from unetq.bench.images import images
from unetq.bench.job import Job


@pytest.mark.parametrize(
    ("name", "parameters", "macs"), [("s", 4_836_737, 24_748_392_448), ("l", 1_978_433, 3_264_528_384)]
)
def test_size(name: str, parameters: int, macs: int, tmp_path: Path) -> None:
    """Multiply-accumulates grow with the area: at 32 x 32 they are a (32/208)^2 part of the published figure."""
    job = Job(tmp_path, name, 1, (32, 32))
    net = networks.float_network(job)
    x = torch.from_numpy(job.input())
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert networks.multiply_accumulates(net, x) * 208 * 208 == macs * 32 * 32
    live: list[float] = []
    for module in net.modules():
        if isinstance(module, torch.nn.ReLU):
            module.register_forward_hook(lambda _, __, y: live.append(float((y > 0).float().mean())))
    with torch.no_grad():
        first = net(x)
        assert torch.equal(networks.float_network(job)(x), first), "the same job gives the same network"
    assert len(live) >= 14 and all(0.2 < share < 0.8 for share in live)
    assert float(first.std()) > 0.01


def test_images_repeat_and_are_standardised() -> None:
    a = images(2, 1, (24, 32), seed=3)
    assert (a == images(2, 1, (24, 32), seed=3)).all() and (a != images(2, 1, (24, 32), seed=4)).any()
    assert abs(a.mean()) < 1e-5 and abs(a.std() - 1) < 1e-3 and a.dtype.name == "float32"


def test_jobs_go_both_ways(tmp_path: Path) -> None:
    job = Job(tmp_path, "l", 2, (8, 16, 16), threads=2, cap="avx2", seed=7, option="w2a2")
    assert Job.from_json(job.to_json()) == job and json.loads(job.to_json())["size"] == [8, 16, 16]
