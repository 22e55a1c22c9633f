"""Where post-training quantisation starts: a run folder with a float stage, or a float checkpoint by itself."""

import shlex
from pathlib import Path
from typing import Any

from torch import nn

from .. import checkpoint as checkpoints
from .. import config as configs
from ..checkpoint import Checkpoint
from ..errors import CheckpointError
from ..experiment import Experiment
from ..nets import build_network
from ..runs import CONFIG, FLOAT, STAGES, checkpoint_path, network_record, read_experiment

REMEDY = "Train the float network first: unetq train CONFIG --weight-bits 32 --act-bits 32"


def load_source(path: Path) -> tuple[Experiment, Checkpoint, nn.Module]:
    """The experiment, the float checkpoint and its network in evaluation mode.

    Args:
        path: a run folder, or ``….safetensors`` of a float stage, in its run folder or anywhere.

    Raises:
        CheckpointError: missing, damaged, without a (finished) float stage, or of another network than its config.
    """
    if path.is_dir():
        experiment = read_experiment(path)
        file = checkpoint_path(path, FLOAT, "best")
        if not file.is_file():
            raise CheckpointError(
                f"{path} has no float stage ({file} is missing): a low-bit network is made from the float one. {REMEDY}"
            )
        last = checkpoint_path(path, FLOAT, "last")
        if last.is_file() and not checkpoints.state_of(checkpoints.load(last)).done:
            raise CheckpointError(
                f"{path} has not finished its float stage; resume it first "
                f"(unetq train --resume --out {shlex.quote(str(path))}), or name the checkpoint itself: {file}."
            )
        checkpoint = checkpoints.load(file)
    else:
        checkpoint = checkpoints.load(path)
        if checkpoint.info.get("stage") != FLOAT:
            raise CheckpointError(
                f"{path} is of the {checkpoint.info.get('stage')!r} stage, not of a float one: a low-bit network is "
                f"made from float weights. Name the run folder, or its {FLOAT}/best.safetensors."
            )
        checkpoints.state_of(checkpoint)
        folder = path.resolve().parent.parent
        inside = path.resolve().parent.name in STAGES and (folder / CONFIG).is_file()
        experiment = read_experiment(folder) if inside else _experiment_of(checkpoint)
    checkpoints.check_network(checkpoint, network_record(experiment), FLOAT)
    checkpoints.state_of(checkpoint)
    network = build_network(experiment.network.name, experiment.network.options)
    checkpoints.load_model(network, checkpoint)
    if not checkpoints.all_finite(network):
        raise CheckpointError(f"{checkpoint.path} holds NaN or infinity in its weights; use another checkpoint.")
    return experiment, checkpoint, network.eval()


def _experiment_of(checkpoint: Checkpoint) -> Experiment:
    """What a checkpoint says of itself, over the defaults."""
    info = checkpoint.info
    data = info.get("data")
    if not isinstance(data, dict):
        raise CheckpointError(
            f"{checkpoint.path} does not say which data it was trained on: it was written by an earlier version; "
            "name the run folder instead."
        )
    values: dict[str, Any] = {
        "network": info["network"],
        "data": {
            "name": info["dataset"],
            "options": data.get("options", {}),
            "dimensions": len(info["input"]) - 1,
            "preprocessing": data["preprocessing"],
        },
        "train": {"crop": [int(side) for side in info["input"][1:]]},
        "seed": int(info.get("seed", 0)),
    }
    return configs.build(values, f"the header of {checkpoint.path}")
