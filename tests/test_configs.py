"""Every config in configs/ is one that training takes: its keys, its data set's options, its network, its bits."""

from pathlib import Path

import pytest
import torch

from unetq.config import load_experiment, shipped_configs
from unetq.distill import check_distillation
from unetq.nets import build_network
from unetq.progressive import phases
from unetq.runs import build_quantized, dataset_of
from unetq.scoring import check_classes, input_multiple, probe, spatial_axes
from unetq.tiling import check_window

NAMES = sorted(shipped_configs())


def test_they_are_all_there() -> None:
    folder = Path(__file__).resolve().parent.parent / "configs"
    assert sorted(path.stem for path in folder.glob("*.yaml")) == NAMES and {"em", "phantom"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_what_it_names_fits_together(name: str) -> None:
    experiment = load_experiment(name)
    spec, preprocessing = dataset_of(experiment)
    assert spec.name == experiment.data.name
    network = build_network(experiment.network.name, experiment.network.options).to("meta")  # shapes, no arithmetic
    assert spatial_axes(network) == experiment.data.dimensions
    channels = 1 + 2 * preprocessing.context
    check_classes(probe(network, channels, size=experiment.crop_size), spec.labels)
    multiple = input_multiple(network, channels)
    if preprocessing.window:
        check_window(preprocessing.window, (multiple,) * experiment.data.dimensions)
    check_distillation(experiment)
    assert phases(experiment)


@pytest.mark.parametrize("name", NAMES)
def test_its_low_bits_fit_its_network(name: str) -> None:
    experiment = load_experiment(name)
    _, preprocessing = dataset_of(experiment)
    channels = 1 + 2 * preprocessing.context
    network, shapes = (build_network(experiment.network.name, experiment.network.options) for _ in range(2))
    # The smallest input will do: what is refused is refused by layers and widths, not by sizes.
    side = 2 * input_multiple(shapes.to("meta"), channels)
    build_quantized(network, experiment, torch.zeros(1, channels, *(side,) * experiment.data.dimensions))
