"""Distillation: its terms, a frozen teacher, and runs that resume to the same bits."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from small_runs import assert_same_tensors, small, tensors

import unetq
from unetq import checkpoint as checkpoints
from unetq.distill import Distiller, feature_blocks, features_loss, logits_loss
from unetq.errors import ConfigError
from unetq.experiment import DistillConfig
from unetq.nets import build_network
from unetq.quant.network import QuantNet
from unetq.train import train

TAUGHT = {"distill": {"logits": 1.0, "features": 0.5, "temperature": 3.0}}


class Crash(Exception):
    """Stands for a killed process."""


def pair(seed: int = 0) -> tuple[QuantNet, QuantNet, torch.Tensor]:
    """A teacher, a student of other weights, and images."""
    torch.manual_seed(seed)
    images = torch.randn(2, 1, 16, 16)
    made = []
    for _ in range(2):
        q = unetq.quantize(build_network("paper", {"widths": [4, 8]}), 4, 6, example_input=images[:1])
        unetq.calibrate(q, [images])
        made.append(q)
    return made[0], made[1].train(), images


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_logits_term_is_the_divergence(temperature: float) -> None:
    generator = torch.Generator().manual_seed(1)
    s, t = (torch.randn(2, 3, 4, 4, generator=generator) * 3 for _ in range(2))
    p, q = F.softmax(t / temperature, 1), F.softmax(s / temperature, 1)
    expected = (p * (p / q).log()).sum(1).mean() * temperature**2
    torch.testing.assert_close(logits_loss(s, t, temperature), expected)
    one, other = s[:, :1], t[:, :1]
    a, b = torch.sigmoid(other / temperature), torch.sigmoid(one / temperature)
    soft = F.binary_cross_entropy(b, a) - F.binary_cross_entropy(a, a)
    torch.testing.assert_close(logits_loss(one, other, temperature), soft * temperature**2, rtol=1e-4, atol=1e-5)
    assert logits_loss(t, t, temperature) == 0.0


def test_logits_term_has_the_soft_gradient() -> None:
    s, t = torch.tensor([[[[0.3, 5.0]]]], requires_grad=True), torch.tensor([[[[-2.0, 4.0]]]])
    logits_loss(s, t, 2.0).backward()
    assert s.grad is not None
    torch.testing.assert_close(s.grad, (torch.sigmoid(s.detach() / 2) - torch.sigmoid(t / 2)) * 2 / 2)


def test_logits_term_stays_finite() -> None:
    s = torch.tensor([[[[1e4, -1e4]]]], requires_grad=True)
    value = logits_loss(s, -s.detach(), 1.0)
    value.backward()
    assert math.isfinite(value.item()) and s.grad is not None and s.grad.isfinite().all()


def test_features_term_is_relative() -> None:
    t = [torch.tensor([3.0, 4.0]), torch.tensor([10.0])]
    s = [torch.tensor([3.0, 9.0]), torch.tensor([10.0])]
    assert features_loss(s, t).item() == pytest.approx(0.5 * 25 / 25)
    assert features_loss([10 * v for v in s], [10 * v for v in t]).item() == pytest.approx(0.5)
    assert features_loss([torch.zeros(3)], [torch.zeros(3)]).item() == 0.0


def test_gradient_reaches_the_student_only() -> None:
    teacher, student, images = pair()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    for config in (DistillConfig(features=1.0), DistillConfig(logits=1.0)):
        distiller = Distiller(teacher, student, config, lambda: torch.autocast("cpu", enabled=False))
        student.zero_grad()
        value = distiller(images, student(images))
        assert value > 0
        value.backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in student.network_parameters())
        assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    after = teacher.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_weights_multiply_the_terms() -> None:
    teacher, student, images = pair()
    parts = []
    for config in (DistillConfig(logits=1.0), DistillConfig(features=1.0), DistillConfig(logits=2.0, features=3.0)):
        student.load_state_dict(pair()[1].state_dict())
        distiller = Distiller(teacher, student, config, lambda: torch.autocast("cpu", enabled=False))
        parts.append(distiller(images, student(images)).item())
    assert parts[2] == pytest.approx(2 * parts[0] + 3 * parts[1], rel=1e-5)


def test_features_are_the_ends_of_the_levels() -> None:
    _, student, _ = pair()
    assert feature_blocks(student, ()) == ("encoder.0.3", "encoder.1.3")
    assert feature_blocks(student, ("decoder.*",)) == ("decoder.0.0", "decoder.0.3")
    with pytest.raises(ConfigError, match=r"'nowhere' names no layer.*encoder\.0\.0"):
        feature_blocks(student, ("encoder.*", "nowhere"))


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(small(train=TAUGHT), tmp_path_factory.mktemp("taught") / "run")


@pytest.mark.parametrize("step", [1, 5])
def test_resume_gives_the_same_bits(taught: Path, tmp_path: Path, step: int) -> None:
    def crash(stage: str, done: int) -> None:
        if (stage, done) == ("quant", step):
            raise Crash

    out = tmp_path / "broken"
    with pytest.raises(Crash):
        train(small(train=TAUGHT), out, on_step=crash)
    train(small(train=TAUGHT), out, resume=True)
    for which in ("best", "last"):
        assert_same_tensors(tensors(taught, "quant", which), tensors(out, "quant", which))


def test_teaching_changes_the_run_and_is_recorded(taught: Path, tmp_path: Path) -> None:
    info = checkpoints.load(taught / "quant" / "best.safetensors").info
    assert info["train"]["distill"] == {**TAUGHT["distill"], "blocks": []}
    plain = train(small(train={"from_run": str(taught)}), tmp_path / "plain")
    a, b = tensors(taught, "quant", "last"), tensors(plain, "quant", "last")
    assert any(not torch.equal(a[name], b[name]) for name in a if name.startswith("model."))
    with pytest.raises(ConfigError, match=r"train\.distill\.logits was 1\.0, now 2\.0"):
        train(small(train={"distill": {**TAUGHT["distill"], "logits": 2.0}}), taught, resume=True)


def test_from_scratch_is_taught_by_another_run(taught: Path, tmp_path: Path) -> None:
    settings = {**TAUGHT, "from_scratch": True, "quant_steps": 2}
    run = train(small(train={**settings, "from_run": str(taught)}), tmp_path / "run")
    assert checkpoints.load(run / "quant" / "last.safetensors").info["state"]["done"]
    with pytest.raises(ConfigError, match="no float network to teach"):
        train(small(train=settings), tmp_path / "none")


def test_what_cannot_be_taught_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="no low-bit stage to teach"):
        train(small(train=TAUGHT, quant={"weight_bits": 32, "act_bits": 32}), out)
    with pytest.raises(ConfigError, match="'bottom' names no layer"):
        train(small(train={"distill": {"features": 1.0, "blocks": ["bottom"]}}), out)
    for key, value in (("temperature", 0.0), ("logits", -1.0), ("features", "much"), ("logit", 1.0)):
        with pytest.raises(ConfigError, match=rf"distill\.{key}"):
            small(train={"distill": {key: value}})
    assert not out.exists()
