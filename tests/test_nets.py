"""Networks by name."""

from importlib.util import find_spec

import pytest
import torch
from native_library import lacking

from unetq.errors import ConfigError
from unetq.nets import NETWORKS, build_network


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_keep_the_size(name: str) -> None:
    if name in ("plain_conv_unet", "residual_encoder_unet") and not find_spec("dynamic_network_architectures"):
        lacking("no dynamic-network-architectures: pip install 'unetq[nets]'")
    network = build_network(name, {"in_channels": 2, "out_channels": 3}).eval()
    assert network(torch.zeros(1, 2, 32, 64)).shape == (1, 3, 32, 64)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("papr", {}, "did you mean 'paper'"),
        ("paper", {"width": [1, 2]}, "did you mean 'widths'"),
        ("paper", {"widths": [4]}, "at least two"),
        ("paper", {"order": "relu-first"}, "conv-relu-norm"),
        ("unet", {"strides": [2]}, "refuses the options"),
        ("plain_conv_unet", {"norm": "layer"}, "choose one of instance, batch, group, none"),
        ("residual_encoder_unet", {"activation": "relu6"}, "choose one of leaky_relu"),
        ("plain_conv_unet", {"deep_supervision": 1}, "option 'deep_supervision'"),
        ("plain_conv_unet", {"spatial_dims": 4}, "2 or 3"),
    ],
)
def test_mistakes_are_explained(name: str, options: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_network(name, options)


@pytest.mark.parametrize("widths", ["abc", 3, {"a": 1}, [4, "x"], [True, 2], [4, 8.5], [0, 4], None])
def test_widths_are_refused_in_the_users_words(widths: object) -> None:
    with pytest.raises(ConfigError) as caught:
        build_network("paper", {"widths": widths})
    message = str(caught.value)
    assert message.startswith("widths = ") and "whole numbers from 1" in message
    assert not any(word in message for word in ("instance", "object", "NoneType", "True"))


@pytest.mark.parametrize(
    ("name", "options"),
    [("paper", {"in_channels": True}), ("unet", {"num_res_units": True}), ("paper", {"in_channels": 0})],
)
def test_numbers_are_numbers(name: str, options: dict) -> None:
    with pytest.raises(ConfigError, match=r"= (true|0)( of network|: a number)"):
        build_network(name, options)


@pytest.mark.parametrize(("name", "options"), [("zzz", {}), ("paper", {"zzz": 1}), ("paper", {"width": 1})])
def test_what_is_known_is_listed_in_whole_sentences(name: str, options: dict) -> None:
    with pytest.raises(ConfigError) as caught:
        build_network(name, options)
    message = str(caught.value)
    assert "nown: " in message and "; It" not in message and "; Choose" not in message
