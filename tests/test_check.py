"""``unetq check``: every layer, everything that is not supported, exit codes."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from unetq.check import check, describe
from unetq.cli import app
from unetq.errors import ConfigError

OWN = """
import torch
import torch.nn.functional as F
from torch import nn


class Good(nn.Module):
    def __init__(self, in_channels=1, width=4):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, width, 3, padding=1)
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x):
        return torch.softmax(self.head(F.silu(self.conv(x))), 1)


class Bad(Good):
    def forward(self, x):
        y = torch.sqrt(self.conv(x))
        y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=True)
        return self.head(torch.flip(y, (2,)))


def factory():
    return Good()
"""
SMALL = ["network.options.channels=[4, 6]", "network.options.strides=[2]", "network.options.num_res_units=0"]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a user's own module, as the working directory."""
    (tmp_path / "mynets.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mynets", raising=False)
    return tmp_path


def test_every_layer_is_listed_with_what_it_becomes() -> None:
    found = check("unet", SMALL, "16x12")
    assert found["supported"] and not found["problems"] and found["input"] == [1, 1, 16, 12]
    assert found["input_multiple"] == [2, 2] and found["fixed_size"] is None
    first, *_, last = found["layers"]
    assert first["becomes"] == "quantised image" and first["codes"] == "8-bit signed"
    assert last["output"] == [1, 16, 12] and last["codes"] == "float32"
    conv = found["layers"][1]
    assert conv["layer"] == "model.0.conv" and conv["operations"] == ["conv2d", "instance_norm", "prelu"]
    assert conv["becomes"] == "convolution 3x3 stride 2x2, weights 8-bit + instance norm + slope"
    text = describe(found)
    assert all(row["layer"] in text for row in found["layers"]) and "multiples of [2, 2]" in text


def test_a_fixed_size_is_told() -> None:
    found = check("basic_unet", ["network.options.features=[2, 2, 2, 2, 2, 2]"], "35")
    assert found["fixed_size"] == [35, 35] and "exactly [35, 35]" in describe(found)


def test_another_output_size_is_told() -> None:
    found = check("unet", SMALL, "15")
    assert found["notes"] == ["The output is [16, 16] for an input of [15, 15]: a mask would not lie on its image."]


def test_a_network_of_ones_own_and_its_dropped_end(own: Path) -> None:
    found = check("mynets:Good", ["network.options.width=3"], "8")
    assert found["supported"] and "softmax at the end" in found["notes"][0]
    assert "table silu" in [row["becomes"] for row in found["layers"]]


def test_all_problems_are_listed_with_place_and_remedy(own: Path) -> None:
    found = check("mynets:Bad", [], "8")
    assert not found["supported"]
    assert [p["operation"].split(".")[1] for p in found["problems"]] == ["sqrt", "upsample_bilinear2d", "flip"]
    assert "y = torch.sqrt(self.conv(x))" in found["problems"][0]["source"]
    assert "align_corners=False" in found["problems"][1]["remedy"]
    assert [row["becomes"] for row in found["layers"]][:2] == ["input", "convolution"]
    assert "3 things to change" in describe(found)


def test_exit_codes_and_json(own: Path) -> None:
    runner = CliRunner()
    good = runner.invoke(app, ["check", "mynets:Good", "--size", "8", "--json"])
    assert good.exit_code == 0 and json.loads(good.stdout)["supported"]
    bad = runner.invoke(app, ["check", "mynets:Bad", "--size", "8"])
    assert bad.exit_code == 2 and "2. operation aten.upsample_bilinear2d" in bad.stdout


def test_what_cannot_be_traced_is_a_problem_too() -> None:
    found = check("unet", ["network.options.channels=[4, 6, 8]", "network.options.strides=[2, 2]"], "18")
    assert not found["supported"] and "cannot be traced" in found["problems"][0]["remedy"]


@pytest.mark.parametrize(
    ("network", "settings", "size", "words"),
    [
        ("unett", [], None, "'unett' does not exist"),
        ("unet", ["network.options.chanels=[4]"], None, "did you mean 'channels'"),
        ("unet", [], "8x8x8", "2 spatial axes"),
        ("unet", [], "8,8", "give pixels an axis"),
        ("mynets:factory", [], None, "is no class of torch.nn.Module; module mynets has Bad, Good"),
        ("mynets:Godd", [], None, "does not exist; module mynets has Bad, Good"),
        ("nothere:Net", [], None, "cannot be imported"),
        ("os:system('x')", [], None, "named as module:Class"),
    ],
)
def test_mistakes_are_explained(own: Path, network: str, settings: list[str], size: str | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        check(network, settings, size)


def test_a_config_is_a_network_too() -> None:
    settings = ["network.options.widths=[2, 3]", "quant.weight_bits=3"]
    found = check("phantom", settings, "8")
    assert found["network"] == "paper" and any("weights 3-bit" in row["becomes"] for row in found["layers"])
