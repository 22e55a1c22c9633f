"""Checkpoints: round trip, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from unetq import checkpoint as checkpoints
from unetq.errors import CheckpointError

RECORD = {"name": "paper", "options": {}}


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    net(torch.randn(2, 2, 8, 8)).square().sum().backward()
    optimizer.step()
    return net, optimizer


def write(path: Path) -> nn.Module:
    net, optimizer = trained()
    checkpoints.save(path, net, {"stage": "float", "network": RECORD}, optimizer)
    return net


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    net, optimizer = trained()
    checkpoints.save(path, net, {"stage": "float", "network": RECORD, "x": 1}, optimizer)
    expected = torch.rand(3)
    loaded = checkpoints.load(path)
    assert loaded.info == json.loads(path.with_suffix(".json").read_text()) and loaded.info["x"] == 1
    twin = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)).to(
        memory_format=torch.channels_last
    )
    other = torch.optim.AdamW(twin.parameters(), lr=0.1)
    checkpoints.load_model(twin, loaded)
    checkpoints.restore_optimizer(other, loaded)
    checkpoints.restore_rng(loaded)
    assert torch.equal(torch.rand(3), expected)
    for a, b in zip(net.state_dict().values(), twin.state_dict().values(), strict=True):
        assert torch.equal(a, b) and a.stride() == b.stride()
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert optimizer.state[p].keys() == other.state[q].keys()
        for key, value in optimizer.state[p].items():
            assert torch.equal(value, other.state[q][key]) and value.stride() == other.state[q][key].stride()


def test_another_network_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write(path)
    loaded = checkpoints.load(path)
    with pytest.raises(CheckpointError, match=r"another network: 0\.weight is of shape \(4, 2, 3, 3\).*\(5, 2, 3, 3\)"):
        checkpoints.load_model(nn.Sequential(nn.Conv2d(2, 5, 3)), loaded)
    with pytest.raises(CheckpointError, match=r"another network: weight is missing"):
        checkpoints.load_model(nn.Conv2d(2, 4, 3), loaded)
    with pytest.raises(CheckpointError, match=r"network\.name"):
        checkpoints.check_network(loaded, {"name": "unet", "options": {}}, "float")
    with pytest.raises(CheckpointError, match="'quant' checkpoint is needed"):
        checkpoints.check_network(loaded, RECORD, "quant")
    checkpoints.check_network(loaded, RECORD, "float")


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write(path)
    whole = path.read_bytes()
    for cut in (0, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoints.load(path)
    path.write_bytes(b"not a checkpoint, whatever its name says")
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoints.load(path)
    with pytest.raises(CheckpointError, match="is missing"):
        checkpoints.load(tmp_path / "none.safetensors")


def test_safetensors_of_others_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    for metadata in (None, {"unetq": "{}"}, {"unetq": json.dumps({"schema": 99})}):
        save_file({"x": torch.zeros(2)}, path, metadata)
        with pytest.raises(CheckpointError, match="schema"):
            checkpoints.load(path)


def test_all_finite() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    assert checkpoints.all_finite(net)
    net[1].running_var.fill_(float("inf"))  # type: ignore[union-attr, operator]
    assert not checkpoints.all_finite(net)


WHOLE = {"stage": "float", "network": RECORD, "dataset": "em", "input": [1, 8, 8], "state": {"step": 3, "done": False}}


def test_a_whole_header_gives_the_state() -> None:
    state = checkpoints.state_of(checkpoints.Checkpoint(Path("a"), {}, WHOLE))
    assert state.step == 3 and not state.done


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("state", None),
        ("state", 12),
        ("state", {"step": "many"}),
        ("input", None),
        ("input", [1, 8]),
        ("input", [1, 8, 0]),
        ("network", "paper"),
        ("dataset", 3),
    ],
)
def test_a_damaged_header_is_named(key: str, value: object) -> None:
    info = {**WHOLE, key: value} if value is not None else {k: v for k, v in WHOLE.items() if k != key}
    with pytest.raises(CheckpointError, match=rf"damaged \(its header's {key}"):
        checkpoints.state_of(checkpoints.Checkpoint(Path("a"), {}, info))


def test_damaged_tensors_of_the_optimizer_and_the_generator_are_named(tmp_path: Path) -> None:
    _, optimizer = trained()
    for name in ("optimizer.x.step", "optimizer.1000.step", "optimizer"):
        key = name if "." in name else "optimizer."
        with pytest.raises(CheckpointError, match="another network"):
            checkpoints.restore_optimizer(optimizer, checkpoints.Checkpoint(tmp_path, {key: torch.zeros(1)}, {}))
    with pytest.raises(CheckpointError, match="random generator"):
        checkpoints.restore_rng(checkpoints.Checkpoint(tmp_path, {"rng.torch": torch.zeros(3)}, {}))


def test_shared_slices_are_found_by_their_pixels() -> None:
    made = checkpoints.Checkpoint(Path("a"), {}, {"data": {"digests": {"train": ["aa-01", "bb-02"]}}})
    assert checkpoints.shared_slice(made, ["cc-01", "bb-09"]) == 1
    assert checkpoints.shared_slice(made, ["cc-01"]) is None
    assert checkpoints.recorded_digests(made, "train") == ["aa-01", "bb-02"]
    for info in ({}, {"data": 3}, {"data": {"digests": [1]}}):
        assert checkpoints.recorded_digests(checkpoints.Checkpoint(Path("a"), {}, info), "train") is None
