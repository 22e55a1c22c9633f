"""From ``train.sharpness`` to the step that a stage takes."""

import torch
from lightning_fabric import Fabric
from torch import nn

from ..errors import ConfigError
from ..experiment import Experiment, SharpnessConfig
from .descent import Descent, Objective
from .esam import Esam
from .looksam import LookSam
from .sam import Around, Sam


def check_sharpness(experiment: Experiment) -> None:
    """Refuse sharpness-aware steps for a stage that the run does not have.

    Raises:
        ConfigError: ``train.sharpness`` is on, and none of its stages takes place.
    """
    config, train = experiment.train.sharpness, experiment.train
    if config.method == "none":
        return
    told = f"train.sharpness.method = {config.method} with train.sharpness.stages = {config.stages}"
    if config.stages == "quant" and experiment.quant.is_float:
        raise ConfigError(
            f"{told}, and weights and activations have 32 bits: there is no low-bit stage. "
            "Set train.sharpness.stages=float, or quant.weight_bits."
        )
    no_float_stage = not experiment.quant.is_float and (train.from_run is not None or train.from_scratch)
    if config.stages == "float" and no_float_stage:
        key = "train.from_run" if train.from_run is not None else "train.from_scratch"
        raise ConfigError(f"{told}, and {key} leaves the float stage out. Set train.sharpness.stages=quant.")


def build_descent(
    config: SharpnessConfig,
    stage: str,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    fabric: Fabric,
    network: nn.Module,
    seed: int,
) -> Descent:
    """The step of ``stage`` ("float" or "quant"); the plain one where the config wants no other.

    Args:
        objective, optimizer: what Fabric wrapped. network: inside the objective's, on its device already.
    """
    if config.method == "none" or config.stages not in (stage, "both"):
        return Descent(objective, optimizer, fabric)
    case = 2 if config.method == "sam" else config.case
    around = Around(objective, optimizer, fabric, network, config.rho, case)
    if config.method == "esam":
        return Esam(around, config.beta, config.gamma, config.ascent, seed)
    if config.method == "looksam":
        return LookSam(around, config.every, config.alpha)
    return Sam(around)
