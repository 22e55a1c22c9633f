"""Networks by name."""

import pytest
import torch

from unetq.errors import ConfigError
from unetq.nets import build_network


@pytest.mark.parametrize("name", ["paper", "unet", "basic_unet"])
def test_networks_keep_the_size(name: str) -> None:
    network = build_network(name, {"in_channels": 2, "out_channels": 3}).eval()
    assert network(torch.zeros(1, 2, 32, 48)).shape == (1, 3, 32, 48)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("papr", {}, "did you mean 'paper'"),
        ("paper", {"width": [1, 2]}, "did you mean 'widths'"),
        ("paper", {"widths": [4]}, "at least two"),
        ("paper", {"order": "relu-first"}, "conv-relu-norm"),
        ("unet", {"strides": [2]}, "refuses the options"),
    ],
)
def test_mistakes_are_explained(name: str, options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_network(name, options)
