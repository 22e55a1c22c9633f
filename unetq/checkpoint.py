"""Checkpoints as safetensors: tensors in the file, everything else as JSON in its header. No pickle.

One file holds the whole state, so that one rename replaces it; the ``.json`` beside it repeats the header for
people and other programs. Names inside: ``model.*``, ``optimizer.<parameter>.<key>``, ``rng.torch``, ``rng.cuda``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import safetensors.torch
import torch
from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from . import files
from .errors import CheckpointError
from .samples import image_part

SCHEMA = 1
_MODEL, _OPTIMIZER, _RNG = "model.", "optimizer.", "rng."


@dataclass
class State:
    """Where a stage stands; all of it is in a checkpoint's header."""

    step: int = 0
    validated: int = -1
    best: float | None = None
    best_step: int = -1
    since_best: int = 0
    loss: float | None = None
    seconds: float = 0.0
    done: bool = False


_Count = Annotated[int, Field(ge=1)]


class _Header(BaseModel):
    """What every checkpoint of a run says of itself; more may stand beside it."""

    stage: str
    network: dict[str, Any]
    dataset: str
    input: tuple[_Count, _Count, _Count] | tuple[_Count, _Count, _Count, _Count]
    state: State


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, on the CPU, and the JSON header."""

    path: Path
    tensors: dict[str, Tensor]
    info: dict[str, Any]

    def model(self) -> dict[str, Tensor]:
        """The network's state dict."""
        return {k.removeprefix(_MODEL): v for k, v in self.tensors.items() if k.startswith(_MODEL)}


def _portable(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state by parameter number, in the order of its groups."""
    tensors: dict[str, Tensor] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, parameter in enumerate(parameters):
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                tensors[f"{number}.{key}"] = torch.as_tensor(value)
    return tensors


def restore_optimizer(optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> None:
    """Put the saved state back, each tensor with its parameter's memory layout.

    The layout matters: a contiguous moment beside a channels-last weight takes another code path in torch,
    and the resumed run would differ in the last bit.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, value in checkpoint.tensors.items():
        if not name.startswith(_OPTIMIZER):
            continue
        number, _, key = name.removeprefix(_OPTIMIZER).partition(".")
        if not number.isdecimal() or int(number) >= len(parameters):
            raise CheckpointError(
                f"{checkpoint.path} holds state for parameter {number} of {len(parameters)}; it is of another network."
            )
        parameter = parameters[int(number)]
        if value.shape == parameter.shape and key != "step":
            state = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False)
            state.copy_(value)
        else:
            state = value.clone()
        optimizer.state[parameter][key] = state


def _rng_tensors() -> dict[str, Tensor]:
    tensors = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    return tensors


def restore_rng(checkpoint: Checkpoint) -> None:
    """Put torch's random generators back.

    Raises:
        CheckpointError: what was saved is no state of a generator.
    """
    try:
        if (state := checkpoint.tensors.get(f"{_RNG}torch")) is not None:
            torch.set_rng_state(state)
        if (state := checkpoint.tensors.get(f"{_RNG}cuda")) is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state)
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(
            f"{checkpoint.path} is damaged (random generator: {error}); use another checkpoint or train again."
        ) from None


def all_finite(model: nn.Module) -> bool:
    """False when a parameter or buffer holds NaN or infinity."""
    tensors = [t for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()]
    return all(bool(torch.isfinite(t).all()) for t in tensors)


def save(path: Path, model: nn.Module, info: Mapping[str, Any], optimizer: torch.optim.Optimizer | None = None) -> None:
    """Write ``path`` (``….safetensors``) and its ``.json``; with ``optimizer`` also its state and the generators'.

    Raises:
        OutputError: the disk is full or the folder missing; the old file stays.
    """
    tensors = {_MODEL + k: _portable(v) for k, v in model.state_dict().items()}
    if optimizer is not None:
        tensors.update({_OPTIMIZER + k: _portable(v) for k, v in optimizer_tensors(optimizer).items()})
        tensors.update({_RNG + k: _portable(v) for k, v in _rng_tensors().items()})
    header = {"schema": SCHEMA, **info}
    text = json.dumps(header, allow_nan=False)
    files.write_bytes(path, safetensors.torch.save(tensors, metadata={"unetq": text}))
    files.write_json(path.with_suffix(".json"), header)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint whole.

    Raises:
        CheckpointError: missing, damaged, or not written by this program.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; a run keeps its checkpoints there. Train first, or check the path.")
    try:
        with safe_open(path, framework="pt", device="cpu") as handle:
            text = (handle.metadata() or {}).get("unetq")
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118  # not a dict
        info = json.loads(text) if text else None
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); use another checkpoint or train again.") from None
    if not isinstance(info, dict) or info.get("schema") != SCHEMA:
        raise CheckpointError(f"{path} was not written by this version of unetq (schema {SCHEMA}); train again.")
    return Checkpoint(path, tensors, info)


def load_model(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Load the network's state, strictly.

    Raises:
        CheckpointError: names or shapes differ; the message names the first.
    """
    saved, own = checkpoint.model(), model.state_dict()
    for name in [*own, *saved]:
        if name == "settings_json":
            continue  # the network itself says what differs there
        have, want = saved.get(name), own.get(name)
        if have is None or want is None or have.shape != want.shape:
            found = "missing" if have is None else f"of shape {tuple(have.shape)}"
            rule = "does not have it" if want is None else f"has shape {tuple(want.shape)}"
            raise CheckpointError(
                f"{checkpoint.path} is of another network: {name} is {found}, "
                f"this network {rule}. Use the config it was trained with."
            )
    model.load_state_dict(saved)


def state_of(checkpoint: Checkpoint) -> State:
    """Where the stage stood; the whole header is checked.

    Raises:
        CheckpointError: a key is missing or of another type; the message names it.
    """
    try:
        return _Header.model_validate(checkpoint.info).state
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise CheckpointError(
            f"{checkpoint.path} is damaged (its header's {key}: {problem['msg'].lower()}); "
            "use another checkpoint or train again."
        ) from None


def recorded_digests(checkpoint: Checkpoint, split: str) -> list[str] | None:
    """The digests of the slices of ``split`` that the checkpoint was made with; None where it has no record."""
    found: Any = checkpoint.info
    for key in ("data", "digests", split):
        found = found.get(key) if isinstance(found, dict) else None
    return [str(item) for item in found] if isinstance(found, list) else None


def shared_slice(checkpoint: Checkpoint, digests: Sequence[str]) -> int | None:
    """The number of the first of ``digests`` whose pixels the checkpoint's network was trained on."""
    seen = {image_part(item) for item in recorded_digests(checkpoint, "train") or ()}
    return next((i for i, item in enumerate(digests) if image_part(item) in seen), None)


def check_network(checkpoint: Checkpoint, network: Mapping[str, Any], stage: str) -> None:
    """Refuse a checkpoint of another stage, network name or network options, or one whose header is damaged.

    Raises:
        CheckpointError: naming what differs.
    """
    if checkpoint.info.get("stage") != stage:
        raise CheckpointError(
            f"{checkpoint.path} is of the {checkpoint.info.get('stage')!r} stage; "
            f"a {stage!r} checkpoint is needed here. Choose that one."
        )
    saved = checkpoint.info.get("network")
    if saved != dict(network):
        raise CheckpointError(
            f"{checkpoint.path} is of network {saved}, this run asks for {dict(network)}; "
            "set network.name and network.options alike."
        )
